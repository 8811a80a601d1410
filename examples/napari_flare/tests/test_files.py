"""The reader and the writer, through napari."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flare
import napari
import numpy as np
import pytest
from conftest import told

from napari_flare._files import reader
from napari_flare._geometry import Unfit, geometry_of

SPACING = (0.75, 1.5, 2.5)
ORIGIN = (-20.5, 12.25, 100.0)
IDENTITY = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
FLIPPED = (-1.0, 0, 0, 0, -1, 0, 0, 0, 1)
TURNED = (0.0, -1, 0, 1, 0, 0, 0, 0, -1)
OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)


def volume(shape: Any = (4, 5, 6)) -> Any:
    return np.random.default_rng(2).integers(0, 900, shape).astype(np.int16)


@pytest.mark.parametrize(
    ("ending", "direction"),
    [
        (".nii.gz", IDENTITY),
        (".nii.gz", FLIPPED),
        (".nii", TURNED),
        (".nrrd", OBLIQUE),
        (".mha", OBLIQUE),
    ],
)
def test_voxels_stand_where_the_file_says(
    viewer: napari.Viewer, tmp_path: Path, ending: str, direction: Any
) -> None:
    path = tmp_path / f"bäuch{ending}"
    flare.write(path, volume(), SPACING, ORIGIN, direction)
    (layer,) = viewer.open(path, plugin="napari-flare")
    assert layer.name == "bäuch" and layer.data.dtype == np.int16 and (layer.data == volume()).all()
    for index in [(0, 0, 0), (3, 4, 5), (1, 0, 2)]:  # z, y, x
        lps = np.reshape(direction, (3, 3)) @ (np.array(SPACING) * index[::-1]) + ORIGIN
        np.testing.assert_allclose(layer.data_to_world(index), lps[::-1], atol=1e-4)
    assert [str(u) for u in layer.units] == ["millimeter"] * 3

    geometry, image = geometry_of(layer), flare.read(path)
    assert geometry.spacing == image.spacing  # bit by bit, so that labels are the command line's
    assert geometry.origin == image.origin and geometry.direction == image.direction
    if direction is IDENTITY:
        assert (layer.affine.affine_matrix == np.eye(4)).all()


def test_voxels_are_not_copied(viewer: napari.Viewer, tmp_path: Path) -> None:
    flare.write(tmp_path / "ct.nii", volume(), SPACING)
    ((array, arguments, kind),) = reader(str(tmp_path / "ct.nii"))(str(tmp_path / "ct.nii"))  # type: ignore[misc]
    layer = viewer.add_image(array, **arguments)
    assert kind == "image" and np.shares_memory(layer.data, array) and not array.flags.owndata


def test_channels_come_first(viewer: napari.Viewer, tmp_path: Path) -> None:
    flare.write(tmp_path / "mr.nrrd", volume((2, 4, 5, 6)), SPACING, ORIGIN, TURNED)
    (layer,) = viewer.open(tmp_path / "mr.nrrd", plugin="napari-flare")
    assert layer.data.shape == (2, 4, 5, 6)
    geometry = geometry_of(layer)
    assert (geometry.spacing, geometry.origin, geometry.direction) == (SPACING, ORIGIN, TURNED)


def test_what_the_user_moves_is_moved(viewer: napari.Viewer, tmp_path: Path) -> None:
    flare.write(tmp_path / "ct.nrrd", volume(), SPACING, ORIGIN)
    (layer,) = viewer.open(tmp_path / "ct.nrrd", plugin="napari-flare")
    layer.translate = (100, 20, 30)
    layer.scale = (5, 1.5, 0.75)
    geometry = geometry_of(layer)
    np.testing.assert_allclose(geometry.spacing, (0.75, 1.5, 5))
    np.testing.assert_allclose(geometry.origin, (30, 20, 100))
    layer.shear = (0.3, 0, 0)
    with pytest.raises(Unfit, match="sheared"):
        geometry_of(layer)


def test_units_become_millimetres(viewer: napari.Viewer) -> None:
    layer = viewer.add_image(volume(), scale=(500, 250, 250), units=("um", "um", "um"))
    np.testing.assert_allclose(geometry_of(layer).spacing, (0.25, 0.25, 0.5))


def test_reader_is_for_its_formats() -> None:
    assert reader("a.NII.GZ") and reader(["a.nrrd", "b.mha"])
    assert reader("a.png") is None and reader(["a.nrrd", "b.tif"]) is None


def test_damaged_file_says_so(viewer: napari.Viewer, tmp_path: Path) -> None:
    (tmp_path / "ct.nii.gz").write_bytes(b"no image")
    with pytest.raises(flare.FormatError, match="ct.nii.gz"):
        viewer.open(tmp_path / "ct.nii.gz", plugin="napari-flare")


def test_folder_that_is_read_only_says_so(viewer: napari.Viewer) -> None:
    """/proc is so for root, too."""
    labels = viewer.add_labels(np.ones((5, 6, 7), np.uint8), units=["mm"] * 3)
    with pytest.raises((flare.FileError, flare.NotFoundError), match="/proc/labels.nii.gz"):
        labels.save("/proc/labels.nii.gz", plugin="napari-flare")


@pytest.mark.parametrize(
    ("ending", "dtype"),
    [
        (".nii.gz", "uint8"),
        (".nii", "uint16"),
        (".seg.nrrd", "uint8"),
        (".seg.nrrd", "int64"),
        (".nrrd", "int64"),
        (".mha", "uint8"),
    ],
)
def test_labels_are_saved_where_they_are(
    viewer: napari.Viewer, tmp_path: Path, ending: str, dtype: str
) -> None:
    flare.write(tmp_path / "ct.nrrd", volume(), SPACING, ORIGIN, OBLIQUE)
    (layer,) = viewer.open(tmp_path / "ct.nrrd", plugin="napari-flare")
    values = (layer.data > 500).astype(dtype)
    labels = viewer.add_labels(
        values,
        scale=layer.scale,
        affine=layer.affine,
        units=layer.units,
        features={"index": [0, 1], "name": ["background", "Lëber"]},
    )
    path = tmp_path / f"labels{ending}"
    assert labels.save(str(path), plugin="napari-flare") == [str(path)]
    saved = flare.read(path)
    assert saved.array.dtype == np.dtype(dtype if dtype != "int64" else "uint8")
    assert (saved.array == values).all()
    np.testing.assert_allclose(saved.spacing, SPACING, atol=1e-6)
    np.testing.assert_allclose(saved.origin, ORIGIN, atol=1e-4)
    np.testing.assert_allclose(saved.direction, OBLIQUE, atol=1e-6)
    if ending == ".seg.nrrd":
        assert "Name:=Lëber\n".encode() in path.read_bytes()
        (again,) = viewer.open(path, plugin="napari-flare")
        assert isinstance(again, napari.layers.Labels)
    assert told() == []
