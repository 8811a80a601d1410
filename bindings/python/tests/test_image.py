"""Image files: read and write, against SimpleITK and against each other."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_nifti

import flare

SPACING = (0.75, 1.5, 2.5)
ORIGIN = (-20.5, 12.25, 100.0)
TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ENDINGS = [".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"]


@pytest.fixture
def voxels(real: str) -> Any:
    return np.random.default_rng(1).integers(-(2**15), 2**15, (3, 4, 5)).astype(np.int16)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_what_is_written_is_read(voxels: Any, tmp_path: Path, ending: str, dtype: str) -> None:
    path = tmp_path / f"bäuch{ending}"
    given = voxels.astype(dtype)
    flare.write(path, given, SPACING, ORIGIN, TURNED)
    image = flare.read(path)
    assert image.array.dtype == given.dtype and (image.array == given).all()
    assert (image.spacing, image.origin, image.direction) == (SPACING, ORIGIN, TURNED)
    flare.write(tmp_path / f"again{ending}", image)
    assert (flare.read(tmp_path / f"again{ending}").array == given).all()


@pytest.mark.parametrize("ending", ENDINGS)
def test_simpleitk_sees_the_same(voxels: Any, tmp_path: Path, ending: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    ours, theirs = tmp_path / f"ours{ending}", tmp_path / f"theirs{ending}"
    flare.write(ours, voxels, SPACING, ORIGIN, TURNED)
    seen = sitk.ReadImage(str(ours))
    assert (sitk.GetArrayFromImage(seen) == voxels).all()
    np.testing.assert_allclose(seen.GetSpacing(), SPACING, atol=1e-6)
    np.testing.assert_allclose(seen.GetOrigin(), ORIGIN, atol=1e-5)
    np.testing.assert_allclose(seen.GetDirection(), TURNED, atol=1e-6)

    sitk.WriteImage(seen, str(theirs))
    image = flare.read(theirs)
    assert image.array.dtype == np.int16 and (image.array == voxels).all()
    np.testing.assert_allclose(image.spacing, SPACING, atol=1e-6)
    np.testing.assert_allclose(image.origin, ORIGIN, atol=1e-5)
    np.testing.assert_allclose(image.direction, TURNED, atol=1e-6)


def test_images_of_files_are_segmented(model_path: Path, voxels: Any, tmp_path: Path) -> None:
    flare.write(tmp_path / "ct.nrrd", voxels, (3, 3, 3), ORIGIN, TURNED)
    ct = flare.read(tmp_path / "ct.nrrd")
    with flare.Model(model_path) as model:
        labels = model.segment(ct)
        expected = model.segment(voxels, (3, 3, 3), ORIGIN, TURNED)
    assert isinstance(labels, flare.Image) and (labels.array == expected).all()
    assert labels.origin == ORIGIN and labels.direction == TURNED
    flare.write(tmp_path / "labels.nrrd", labels, labels={})
    assert (flare.read(tmp_path / "labels.nrrd").array == expected).all()


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_images_of_simpleitk_are_written(voxels: Any, tmp_path: Path, ending: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(TURNED)
    flare.write(tmp_path / f"a{ending}", image)
    read = flare.read(tmp_path / f"a{ending}")
    assert (read.array == voxels).all() and read.spacing == SPACING
    assert read.origin == ORIGIN and read.direction == TURNED


def test_channels(voxels: Any, tmp_path: Path) -> None:
    stacked = np.stack([voxels, voxels[::-1]])
    flare.write(tmp_path / "a.nrrd", stacked, SPACING)
    assert (flare.read(tmp_path / "a.nrrd").array == stacked).all()


def test_array_outlives_the_image_and_may_be_written(voxels: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    write_nifti(path.with_suffix(".nii.gz"), voxels, SPACING, ORIGIN, TURNED)
    slices = flare.read(path.with_suffix(".nii.gz")).array[1:]
    gc.collect()
    assert (slices == voxels[1:]).all()
    slices += 1
    assert (slices == voxels[1:] + 1).all()


def test_memory_goes_back(voxels: Any, tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc")
    path = tmp_path / "a.nii"
    flare.write(path, np.ones((64, 256, 256), np.int16), SPACING)  # 8 MiB
    flare.read(path)
    before = resident()
    for _ in range(40):
        assert flare.read(path).array.any()
    assert resident() - before < 80 << 20  # of the 320 MiB that were read


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "int64"])
def test_labels_of_any_integers(voxels: Any, tmp_path: Path, dtype: str) -> None:
    labels = (voxels > 0).astype(dtype)
    flare.write(tmp_path / "a.seg.nrrd", labels, SPACING, labels={"léber": 1, "background": 0})
    read = flare.read(tmp_path / "a.seg.nrrd").array
    assert read.dtype == (np.uint16 if dtype == "uint16" else np.uint8) and (read == labels).all()
    header = (tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert "Segment0_Name:=léber\n" in header and "Segment1" not in header


def test_mistakes(voxels: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    with pytest.raises(flare.NotFoundError, match="a.nii.gz"):
        flare.read(path)
    with pytest.raises(flare.UnsupportedError, match=".png"):
        flare.write(tmp_path / "a.png", voxels, SPACING)
    with pytest.raises(flare.ArgumentError, match="spacing"):
        flare.write(path, voxels)
    with pytest.raises(flare.ArgumentError, match="-1 to"):
        flare.write(path, voxels.clip(-1), SPACING, labels={})
    with pytest.raises(TypeError, match="float32"):
        flare.write(path, voxels.astype("float32"), SPACING, labels={})
    with pytest.raises(flare.ArgumentError, match="70000"):
        flare.write(path, voxels > 0, SPACING, labels={"liver": 70000})
    assert not os.listdir(tmp_path)
    flare.write(path, voxels, SPACING)
    with pytest.raises(flare.ArgumentError, match="its own"):
        flare.write(path, flare.read(path), SPACING)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(flare.FormatError, match="a.nii.gz"):
        flare.read(path)
