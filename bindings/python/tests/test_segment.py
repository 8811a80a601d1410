"""The real library: segmenting random volumes with the bundle that FLARE_TEST_MODEL names."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from helpers import in_child, in_fork, read_nifti, write_nifti

import flare

SPACING = (1.5, 1.5, 2.0)
ORIGIN = (-20.0, 12.5, 100.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@pytest.fixture
def model(model_path: Path) -> Iterator[flare.Model]:
    with flare.Model(model_path, threads=2) as opened:
        yield opened


@pytest.fixture
def ct(model: flare.Model) -> Any:
    """Small, so that it is one tile or a few, and random in blocks, so that labels differ."""
    random = np.random.default_rng(3)
    blocks = random.integers(-300, 300, (6, 7, 8)).astype(np.int16)
    voxels = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    channels = len(model.describe()["channels"])
    return voxels if channels == 1 else np.stack([voxels] * channels)


@pytest.fixture
def long_call(model: flare.Model, ct: Any) -> dict[str, Any]:
    """125 tiles in all mirror flips: much longer than a test that cancels it may take."""
    described = model.describe()
    shape = [3 * n for n in described["patch_size"]]
    voxels = np.resize(ct, (*ct.shape[:-3], *shape))
    return {"array": voxels, "spacing": described["spacing_mm"][::-1], "mirror": True}


def test_labels(model: flare.Model, ct: Any, capfd: pytest.CaptureFixture[str]) -> None:
    before = ct.copy()
    ct.flags.writeable = False
    told: list[tuple[float, str]] = []
    labels = model.segment(ct, SPACING, progress=lambda *call: told.append(call))
    described = model.describe()
    assert labels.shape == ct.shape[-3:]
    assert set(np.unique(labels)) <= {label["value"] for label in described["labels"]}
    highest = max(label["value"] for label in described["labels"])
    assert labels.dtype == (np.uint8 if highest < 256 else np.uint16)
    assert (ct == before).all()
    assert told and {phase for _, phase in told} <= {"preprocess", "network", "export"}
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and 0 <= fractions[0] and fractions[-1] <= 1
    assert (model.segment(ct, SPACING) == labels).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64", "int64", ">i2"])
def test_dtype_does_not_matter(model: flare.Model, ct: Any, dtype: str) -> None:
    assert (model.segment(ct.astype(dtype), SPACING) == model.segment(ct, SPACING)).all()


def test_out_and_layout(model: flare.Model, ct: Any) -> None:
    expected = model.segment(ct, SPACING)
    out = np.full(ct.shape[-3:], 77, np.uint16)
    assert model.segment(np.asfortranarray(ct), SPACING, out=out) is out
    assert (out == expected).all()


def test_probabilities(model: flare.Model, ct: Any) -> None:
    labels, p = model.segment(ct, SPACING, probabilities=True)
    described = model.describe()
    assert p.shape == (described["heads"], *labels.shape) and p.dtype == np.float32
    assert (labels == model.segment(ct, SPACING)).all()
    if described["heads"] == len(described["labels"]):  # not region-based
        assert np.abs(p.sum(0) - 1).max() < 1e-5
        assert (p.argmax(0) == labels).mean() > 0.999  # ties


def test_mirror(model: flare.Model, ct: Any) -> None:
    model.segment(ct, SPACING)
    tiles = model.stats["tiles"]
    model.segment(ct, SPACING, mirror=True)
    assert model.stats["tiles"] >= tiles


@pytest.mark.parametrize("direction", [np.eye(3), FLIPPED], ids=["identity", "flipped"])
def test_file_gives_the_same(model: flare.Model, ct: Any, tmp_path: Path, direction: Any) -> None:
    if ct.ndim == 4:
        pytest.skip("the model wants several channels")
    source, target, p_file = tmp_path / "ct.nii.gz", tmp_path / "é.nii.gz", tmp_path / "p.nii.gz"
    write_nifti(source, ct, SPACING, ORIGIN, direction)
    phases = set()
    model.segment_file(
        source, str(target), probabilities=p_file, progress=lambda _, phase: phases.add(phase)
    )
    labels, p = model.segment(ct, SPACING, ORIGIN, direction, probabilities=True)
    assert (read_nifti(target) == labels).all()
    assert np.abs(read_nifti(p_file) - p).max() < 1e-5
    assert phases and phases <= {"read", "preprocess", "network", "export", "write"}
    assert sorted(os.listdir(tmp_path)) == ["ct.nii.gz", "p.nii.gz", "é.nii.gz"]


def test_stats(model: flare.Model, ct: Any) -> None:
    model.segment(ct, SPACING)
    stats = model.stats
    assert set(stats) == {
        "seconds", "tiles", "tiles_skipped", "peak_memory_bytes", "device", "precision", "threads",
        "mode", "body", "notes", "organs",
    }  # fmt: skip
    assert (stats["mode"], stats["precision"], stats["body"]) == ("exact", "fp32", 1)
    assert stats["notes"] == [] and stats["tiles_skipped"] == 0
    phases = {"open", "read", "preprocess", "network", "export", "write", "total"}
    assert set(stats["seconds"]) == phases
    assert 0 < stats["seconds"]["network"] <= stats["seconds"]["total"]
    assert stats["tiles"] >= 1 and stats["threads"] == 2 and stats["peak_memory_bytes"] > 1e6


def test_organs(model: flare.Model, ct: Any) -> None:
    labels = model.segment(ct, SPACING)
    organs = model.stats["organs"]
    expected = [(label["value"], label["name"]) for label in model.describe()["labels"]]
    assert [(organ["label"], organ["name"]) for organ in organs] == expected[1:]
    for organ in organs:
        mask = labels == organ["label"]
        assert organ["voxels"] == mask.sum()
        if mask.any():
            values = ct.reshape(-1, *labels.shape)[:, mask].astype(float)
            assert organ["volume_ml"] == pytest.approx(mask.sum() * np.prod(SPACING) / 1000)
            assert organ["mean"] == pytest.approx(values.mean(1))
            assert organ["sd"] == pytest.approx(values.std(1), abs=1e-6)
            x, y, z = organ["centre"]
            assert mask[z, y, x]


def test_report(model: flare.Model, ct: Any, tmp_path: Path) -> None:
    if ct.ndim == 4:
        pytest.skip("the model wants several channels")
    source, target, page = tmp_path / "ct.nii.gz", tmp_path / "out.nii.gz", tmp_path / "é.html"
    write_nifti(source, ct, SPACING, ORIGIN, np.eye(3))
    model.segment_file(source, target, report=page)
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    for wrong in source, target, tmp_path / "page.txt":
        with pytest.raises(flare.ArgumentError, match="ends in .html"):
            model.segment_file(source, target, report=wrong)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        model.segment_file(source, target, report=tmp_path / "nowhere" / "page.html")


def test_bounds(model: flare.Model, ct: Any) -> None:
    z, y, x = ct.shape
    whole = model.segment(ct, SPACING)
    part = model.segment(ct, SPACING, box=(2, 3, 4, x - 5, y, z - 1))
    assert (part[4:-1, 3:, 2:-5] == whole[4:-1, 3:, 2:-5]).all()
    part[4:-1, 3:, 2:-5] = 0
    assert not part.any()
    organ = int(whole.max())
    assert organ > 0
    only = model.segment(ct, SPACING, roi=[organ])
    assert set(np.unique(only)) <= {0, organ}
    assert model.stats["notes"]
    for bad, text in [
        ({"box": (0, 0, 0, x + 1, y, z)}, "box from"),
        ({"box": (0, 0, 0, 0, 0, 0)}, "box is empty"),
        ({"box": (1, 2, 3)}, "3 numbers"),
        ({"roi": [99]}, "no label 99"),
        ({"roi": [2**40]}, "roi holds"),
        ({"max_memory_bytes": -1}, "max_memory_bytes is -1"),
    ]:
        with pytest.raises(flare.ArgumentError, match=text):
            model.segment(ct, SPACING, **bad)
    with pytest.raises(flare.OutOfMemoryError, match="needs [0-9]+ bytes"):
        model.segment(ct, SPACING, max_memory_bytes=1000)


def test_fast(model_path: Path, model: flare.Model, ct: Any, tmp_path: Path) -> None:
    with pytest.raises(flare.ArgumentError, match="mode \"nonsense\" is not one of exact, fast"):
        flare.Model(model_path, mode="nonsense")
    whole = model.segment(ct, SPACING)
    for _ in range(2):
        with flare.Model(model_path, threads=2, mode="fast", cache_dir=tmp_path / "cache") as fast:
            labels = fast.segment(ct, SPACING)
            assert fast.stats["mode"] == "fast" and fast.stats["precision"] in ("fp32", "bf16")
        assert (labels != whole).mean() < 0.02


def test_read_ahead(model_path: Path, model: flare.Model, ct: Any, tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    write_nifti(path, ct, SPACING, ORIGIN, np.eye(3))
    model.segment_file(path, tmp_path / "expected.nii.gz")
    with flare.Model(model_path, read_ahead=path) as eager:
        eager.segment_file(path, tmp_path / "labels.nii.gz")
    assert (tmp_path / "labels.nii.gz").read_bytes() == (tmp_path / "expected.nii.gz").read_bytes()


@pytest.mark.parametrize("how", ["cancel", "interrupt", "answer", "raise", "close"])
def test_cancelling(model: flare.Model, ct: Any, long_call: dict[str, Any], how: str) -> None:
    running = threading.Event()
    done: list[float] = []  # fractions of the call
    stopped: list[float] = []

    def progress(fraction: float, phase: str) -> bool:
        if phase == "network":
            done.append(fraction)
            running.set()
            if how == "raise":
                raise LookupError("mine")
        return how == "answer" and phase == "network"

    def stop() -> None:
        running.wait(60)
        stopped.append(done[-1])
        if how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        elif how in ("cancel", "close"):
            getattr(model, how)()

    expected = {"interrupt": KeyboardInterrupt, "raise": LookupError}.get(how, flare.Cancelled)
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(expected):
        model.segment(**long_call, progress=progress)
    thread.join()
    assert done[-1] - stopped[0] < 0.3  # one tile of many
    if how != "close":
        assert model.segment(ct, SPACING).shape == ct.shape[-3:]


def test_threads(model: flare.Model, ct: Any) -> None:
    expected = model.segment(ct, SPACING)
    same: list[bool] = []

    def work() -> None:
        same.append(bool((model.segment(ct, SPACING) == expected).all()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 4


def test_fork_spawn_forkserver(real: str, model: flare.Model, model_path: Path, ct: Any) -> None:
    assert in_fork(lambda: model.segment(ct, SPACING)).startswith("ForkedError")
    assert in_fork(lambda: flare.Model(model_path)).startswith("ForkedError")
    for method in "spawn", "forkserver":
        with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            labels = pool.submit(in_child, real, str(model_path), ct).result(60)
        assert (labels == model.segment(ct, SPACING)).all()


@pytest.mark.parametrize(
    "spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (1, 1, float("inf"))]
)
def test_wrong_spacing(model: flare.Model, ct: Any, spacing: Any) -> None:
    with pytest.raises(flare.ArgumentError, match="spacing"):
        model.segment(ct, spacing)


def test_singular_direction(model: flare.Model, ct: Any) -> None:
    with pytest.raises(flare.ArgumentError, match="direction"):
        model.segment(ct, SPACING, direction=(1, 0, 0, 1, 0, 0, 0, 0, 1))


def test_wrong_number_of_channels(model: flare.Model, ct: Any) -> None:
    with pytest.raises(flare.ModelError, match="channel"):
        model.segment(np.stack([ct.reshape(-1, *ct.shape[-2:])] * 5), SPACING)


def test_stale_handle(model: flare.Model, ct: Any) -> None:
    model._library.flare_model_free(model._handle)
    model._library.flare_model_free(model._handle)
    with pytest.raises(flare.HandleError):
        model.segment(ct, SPACING)


def test_wrong_files(model: flare.Model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        model.segment_file(tmp_path / "no.nii.gz", tmp_path / "out.nii.gz")
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(flare.FormatError, match="empty.nii.gz"):
        model.segment_file(tmp_path / "empty.nii.gz", tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()


def test_previous_for_a_model_that_takes_none(model: flare.Model, ct: Any, tmp_path: Path) -> None:
    stage = np.zeros(ct.shape[-3:], np.uint8)
    with pytest.raises(flare.ArgumentError, match="no labels of a previous stage"):
        model.segment(ct, SPACING, previous=stage)
    if ct.ndim == 3:
        source = tmp_path / "ct.nii.gz"
        write_nifti(source, ct, SPACING, ORIGIN, np.eye(3))
        with pytest.raises(flare.ArgumentError, match="no labels of a previous stage"):
            model.segment_file(source, tmp_path / "out.nii.gz", previous=source)
        assert not (tmp_path / "out.nii.gz").exists()


def test_cascade(real: str, tmp_path: Path) -> None:
    """A second stage that gives the labels of the first; its post-processing keeps the largest
    component of label 1 (capi/cascade_test.go)."""
    image = np.full((16, 18, 20), 40, np.int16)
    stage = np.zeros(image.shape, np.int64)
    stage[3:9, 4:12, 5:15], stage[12:, :2], stage[1, 1, 1] = 1, 2, 1
    kept = stage.copy()
    kept[1, 1, 1] = 0
    files = [tmp_path / f"{name}.nii.gz" for name in ("image", "stage", "labels")]
    write_nifti(files[0], image, SPACING, ORIGIN, np.eye(3))
    write_nifti(files[1], stage, SPACING, ORIGIN, np.eye(3))
    with flare.Model(REPOSITORY / "capi" / "test" / "cascade.onnx") as model:
        assert model.describe()["previous_stage"] == "first"
        with pytest.raises(flare.ArgumentError, match="second stage"):
            model.segment(image, SPACING)
        for dtype in "int64", "uint8", "float32", ">i4", "float16":
            labels = model.segment(image, SPACING, previous=stage.astype(dtype))
            assert (labels == stage).all()
        assert (model.segment(image, SPACING, previous=stage.T.copy().T) == stage).all()
        assert (model.segment(image, SPACING, previous=stage, postprocess=True) == kept).all()
        with pytest.raises(flare.ArgumentError, match="second stage"):
            model.segment_file(files[0], files[2])
        with pytest.raises(FileNotFoundError, match="no.nii.gz"):
            model.segment_file(files[0], files[2], previous=tmp_path / "no.nii.gz")
        assert not files[2].exists()
        model.segment_file(files[0], files[2], previous=files[1])
        assert (read_nifti(files[2]) == stage).all()
        model.segment_file(files[0], files[2], previous=files[1], postprocess=True)
        assert (read_nifti(files[2]) == kept).all()


def test_postprocess(model: flare.Model, ct: Any) -> None:
    try:
        labels = model.segment(ct, SPACING, postprocess=True)
    except flare.ArgumentError as error:  # the model stores none
        assert "stores no post-processing" in str(error)
    else:
        assert labels.shape == ct.shape[-3:]


def test_wrong_models(real: str, tmp_path: Path) -> None:
    with pytest.raises(flare.NotFoundError, match="no.onnx"):
        flare.Model(tmp_path / "no.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(flare.FormatError, match="bad.onnx"):
        flare.Model(tmp_path / "bad.onnx")


def test_devices(real: str) -> None:
    found = flare.devices()
    available = {device["name"] for device in found["devices"] if device["available"]}
    assert found["runtime"] and found["runtime_version"] and "ort" in available
    with pytest.raises(flare.RuntimeMissingError, match="/nowhere"):
        flare.devices("/nowhere")


def test_version(real: str) -> None:
    assert flare.version()[0].isdigit()
