"""The dock widget in a real window: a click on Run to labels, Cancel, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import flare
import napari
import numpy as np
import pytest
from conftest import MODEL, finished, flare_cli, told, wait
from napari.layers import Labels

from napari_flare._widget import SegmentWidget
from napari_flare._worker import colormap


def open_ct(viewer: napari.Viewer, phantom: tuple[Path, Path]) -> Any:
    (layer,) = viewer.open(phantom[0], plugin="napari-flare")
    return layer


def long_image(viewer: napari.Viewer) -> Any:
    """Many tiles: much longer than a test that cancels may take."""
    voxels = np.full((300, 300, 300), 40, np.int16)
    voxels[0] = -1000
    return viewer.add_image(voxels, name="long", scale=(3, 3, 3), units=["mm"] * 3)


def labels_of(viewer: napari.Viewer) -> list[Labels]:
    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


@pytest.fixture
def read_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Addresses of the volumes that the library was given."""
    from flare import _arrays

    seen: list[int] = []
    volume = _arrays.volume

    def spy(voxels: Any, *rest: Any) -> Any:
        made = volume(voxels, *rest)
        seen.append(made.data)
        return made

    monkeypatch.setattr(_arrays, "volume", spy)
    return seen


def test_run_gives_the_labels_of_the_command_line(
    viewer: napari.Viewer,
    widget: SegmentWidget,
    phantom: tuple[Path, Path],
    read_at: list[int],
) -> None:
    ct = open_ct(viewer, phantom)
    widget.run_button.click()
    assert not widget.run_button.isEnabled() and widget.cancel_button.isEnabled()
    wait(finished(widget))
    (layer,) = labels_of(viewer)
    expected = flare.read(phantom[1])
    assert layer.data.dtype == np.uint8 and (layer.data == expected.array).all()
    assert read_at == [ct.data.ctypes.data]  # not copied
    assert (layer.scale == ct.scale).all() and (layer.translate == ct.translate).all()
    assert (layer.affine.affine_matrix == ct.affine.affine_matrix).all()
    assert layer.units == ct.units

    names = dict(zip(layer.features["index"], layer.features["name"], strict=True))
    assert names[1] == "liver" and names[13] == "left kidney"
    index = tuple(np.argwhere(layer.data == 1)[0])
    status = layer.get_status(layer.data_to_world(index), world=True)
    assert "liver" in status["coordinates"]
    for value, colour in colormap(names).items():
        np.testing.assert_allclose(layer.colormap.color_dict[value], colour, atol=1e-6)

    organs = widget.organs
    wait(organs.topLevelItemCount)
    found = [organs.topLevelItem(i).text(0) for i in range(organs.topLevelItemCount())]
    assert found == [names[value] for value in np.unique(expected.array) if value]
    assert len(found) > 8
    ml = (expected.array == 1).sum() * np.prod(expected.spacing) / 1000
    assert f"{ml:.0f} ml" == organs.topLevelItem(0).text(1)
    widget._organ_clicked(organs.topLevelItem(2))
    assert layer.selected_label == 3
    assert told() == []


def test_oblique_image_gets_the_labels_of_the_command_line(
    viewer: napari.Viewer, widget: SegmentWidget, phantom: tuple[Path, Path], tmp_path: Path
) -> None:
    image = flare.read(phantom[0])
    turned = (0.0, -0.6, 0.8, 1.0, 0.0, 0.0, 0.0, 0.8, 0.6)
    path = tmp_path / "ct.nrrd"
    flare.write(path, image.array, image.spacing, (3.5, -7.25, 11.0), turned)
    flare_cli("segment", path, tmp_path / "labels.nrrd", "--model", MODEL)
    (ct,) = viewer.open(path, plugin="napari-flare")
    widget.run_button.click()
    wait(finished(widget))
    (layer,) = labels_of(viewer)
    assert (layer.data == flare.read(tmp_path / "labels.nrrd").array).all()
    assert (layer.affine.affine_matrix == ct.affine.affine_matrix).all()


def test_progress_and_cancel(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    long_image(viewer)
    widget.run_button.click()
    wait(lambda: widget.bar.value() > 10 and widget.status.text() == "Network…")
    start = time.monotonic()
    widget.cancel_button.click()
    assert widget.status.text() == "Cancelling…"
    wait(finished(widget), 30)
    assert time.monotonic() - start < 20  # one tile of hundreds
    assert widget.status.text() == "Cancelled." and not labels_of(viewer)
    assert told() == []

    viewer.layers.clear()
    small = np.full((20, 30, 30), 40, np.int16)
    viewer.add_image(small, scale=(3, 3, 3), units=["mm"] * 3)
    widget.run_button.click()  # the model is still of use
    wait(finished(widget))
    assert labels_of(viewer)[0].data.shape == small.shape


def test_removed_layer_still_gets_its_labels(
    viewer: napari.Viewer, widget: SegmentWidget, phantom: tuple[Path, Path]
) -> None:
    ct = open_ct(viewer, phantom)
    widget.run_button.click()
    viewer.layers.remove(ct)
    del ct
    wait(finished(widget))
    (layer,) = labels_of(viewer)
    assert (layer.data == flare.read(phantom[1]).array).all()
    assert "removed meanwhile" in told()[0]


def test_closing_the_widget_cancels(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    long_image(viewer)
    widget.run_button.click()
    worker = widget._worker
    assert worker is not None
    wait(lambda: widget.bar.value() > 0)
    ended: list[bool] = []
    worker.finished.connect(lambda: ended.append(True))
    widget.deleteLater()  # as napari does with what is closed
    wait(lambda: ended, 30)
    assert worker.abort_requested
    viewer.layers.clear()  # of which a widget that is gone must not hear
    assert told() == []


def test_surfaces_are_no_mirror_images(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    """Of the axes z, y, x of LPS, a left-handed triple, as napari counts."""
    assert str(viewer.camera.handedness) == "left"


def test_chosen_layer_stays_chosen(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    for name in "abc":
        viewer.add_image(np.zeros((3, 4, 5), np.int16), name=name)
    widget.layer.setCurrentIndex(1)
    viewer.layers[1].name = "B"
    viewer.layers.remove("a")
    viewer.add_labels(np.zeros((3, 4, 5), np.uint8))
    assert [widget.layer.itemText(i) for i in range(widget.layer.count())] == ["B", "c"]
    assert widget.layer.currentText() == "B"


@pytest.mark.parametrize(
    ("data", "arguments", "says"),
    [
        (np.zeros((5, 6, 7, 3), np.uint8), {"rgb": True}, "colour picture"),
        (np.zeros((9, 5, 6, 7), np.int16), {}, "9 channels; the model takes 1: CT. Split"),
        (np.zeros((2, 9, 5, 6, 7), np.int16), {}, "5 axes"),
        (np.zeros((6, 7), np.int16), {}, "2 axes"),
        (np.zeros((5, 6, 7), np.int16), {"shear": (0.5, 0, 0)}, "sheared"),
        (np.full((5, 6, 7), 2**60, np.int64), {}, "do not fit"),
    ],
)
def test_unfit_images_say_why(
    viewer: napari.Viewer, widget: SegmentWidget, data: Any, arguments: Any, says: str
) -> None:
    viewer.add_image(data, **arguments)
    widget.run_button.click()
    wait(lambda: finished(widget)() and told())
    assert says in widget.status.text() and any(says in text for text in told())
    assert not labels_of(viewer)


@pytest.mark.parametrize(
    ("model", "says"),
    [("", "No model"), ("/none/bäuch.onnx", "bäuch.onnx"), (__file__, "test_widget.py")],
)
def test_unfit_models_say_why(
    viewer: napari.Viewer, widget: SegmentWidget, model: str, says: str
) -> None:
    viewer.add_image(np.zeros((5, 6, 7), np.int16), units=["mm"] * 3)
    widget.model.setText(model)
    widget.run_button.click()
    wait(lambda: finished(widget)() and told())
    assert says in widget.status.text() and says in told()[0]


def test_no_image_says_so(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    widget.run_button.click()
    assert "No image" in widget.status.text() and "No image" in told()[0]


def test_other_modality_is_doubted(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    viewer.add_image(np.full((20, 30, 30), 200, np.uint8), scale=(3, 3, 3))
    widget.run_button.click()
    wait(finished(widget))
    assert "no units" in told()[0]  # of a layer that knows no millimetres
    assert "Is it a CT?" in told()[1] and labels_of(viewer)


def test_missing_library_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """In a process of its own, as the library stays loaded."""
    code = """
import napari, numpy
from conftest import finished, told, wait
viewer = napari.Viewer()
_, widget = viewer.window.add_plugin_dock_widget("napari-flare", "Segment (nnU-Net)")
wait(lambda: "nowhere" in widget.status.text())
viewer.add_image(numpy.zeros((5, 6, 7)))
widget.model.setText("model.onnx")
widget.run_button.click()
wait(finished(widget))
assert "nowhere" in widget.status.text() and any("nowhere" in text for text in told()), told()
viewer.close()
print("good")
"""
    environment = {**os.environ, "FLARE_LIBRARY": str(tmp_path / "nowhere.so")}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("good\n"), done.stderr
