"""What notebooks use: the bar of progress=True, and flare.show."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import missing

import flare
from flare import organs

CT = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
GEOMETRY: dict[str, Any] = {
    "spacing": (0.75, 1.25, 2.5),
    "origin": (-20.5, 12.25, 100),
    "direction": (0, -1, 0, 0, 0, 1, -1, 0, 0),
}


@pytest.fixture
def tqdm() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tqdm.auto
    except ImportError as error:
        missing(str(error))
    return tqdm.auto


def test_bar(fake: object, tqdm: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with flare.Model("echo") as model:
        model.segment(CT, (1, 1, 2), progress=True)
        model.segment_file("in.nii", "out.nii", progress=True)
        flare.evaluate_file("p", "r", progress=True)
        output = capfd.readouterr()
        assert output.err.count("network: 100%") == 2 and "evaluate: 100%" in output.err
        model.segment(CT, (1, 1, 2), progress=False)
        assert capfd.readouterr() == ("", "")


def test_bar_of_a_call_that_fails(fake: object, tqdm: Any, capfd: Any) -> None:
    """It is closed where it stands; a bar that cannot be drawn raises what hinders it."""
    with flare.Model("echo") as model, pytest.raises(flare.Error):
        model._library.flare_model_free(model._handle)
        model.segment(CT, (1, 1, 2), progress=True)
    assert not tqdm.tqdm._instances and "100%" not in capfd.readouterr().err


def test_bar_without_tqdm(fake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with flare.Model("echo") as model:
        with pytest.raises(ModuleNotFoundError, match="progress=True needs tqdm.*pip install tqdm"):
            model.segment(CT, (1, 1, 2), progress=True)


def test_show(real: str, model_path: Path, tmp_path: Path) -> None:
    try:
        import ipyniivue
        import nibabel
    except ImportError as error:
        missing(str(error))
    labels = (CT // 30).astype(np.uint8)
    labels[0, 0, 0] = 20  # a label that the model does not know
    with flare.Model(model_path) as model:
        view = flare.show(CT, labels, model, **GEOMETRY)
        names = {label["value"]: label["name"] for label in model.describe()["labels"]}
    assert isinstance(view, ipyniivue.NiiVue) and len(view.volumes) == 2
    geometry = np.reshape(GEOMETRY["direction"], (3, 3)) * GEOMETRY["spacing"]
    for volume, expected in zip(view.volumes, (CT, labels)):
        image = nibabel.Nifti1Image.from_bytes(volume.data)
        assert (np.asarray(image.dataobj).T == expected).all()
        assert image.get_data_dtype() == expected.dtype
        assert np.allclose(image.affine[:3, :3], np.diag([-1, -1, 1]) @ geometry)
        assert np.allclose(image.affine[:3, 3], np.array((20.5, -12.25, 100)))
    assert (view.volumes[0].cal_min, view.volumes[0].cal_max) == (-160, 240)
    table = view.volumes[1].colormap_label
    assert table.labels == [names.get(i, str(i)) for i in range(21)]
    assert table.lut[:8] == [*table.lut[:3], 0, *organs.colour(1, names[1]), 255]

    view = flare.show(image)  # an image has its geometry, and no labels need to be
    assert len(view.volumes) == 1 and view.volumes[0].cal_min is None
    with pytest.raises(flare.ArgumentError, match="labels has shape"):
        flare.show(CT, labels[1:], **GEOMETRY)


def test_show_without_ipyniivue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(ModuleNotFoundError, match="flare.show needs ipyniivue.*pip install"):
        flare.show(CT, **GEOMETRY)
