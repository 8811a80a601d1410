"""Images of SimpleITK, ITK, nibabel and torchio: what reaches the library of them (seen from C,
fake_flare.c), and that labels come back in the same kind on the same grid. SimpleITK is the oracle.

torchio, which needs PyTorch, is tested where it is installed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import missing

import flare

SPACING, ORIGIN = (0.75, 1.25, 2.5), (-20.5, 12.25, 100.0)
# Not axial: axes permuted and flipped, and turned by 30 degrees.
TURNED = np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]]) @ np.array(
    [[np.sqrt(3) / 2, -0.5, 0], [0.5, np.sqrt(3) / 2, 0], [0, 0, 1]]
)
VOXELS = np.arange(120, dtype=np.int16).reshape(4, 5, 6)  # z, y, x; the fake's labels repeat them


def package(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return __import__(name)
    except ImportError as error:
        if name == "torchio":
            pytest.skip(str(error))
        missing(str(error))


@pytest.fixture
def sitk() -> Any:
    return package("SimpleITK")


@pytest.fixture
def expected(sitk: Any) -> Any:
    """The image as SimpleITK has it."""
    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(TURNED.ravel())
    return image


def same_grid(image: Any, other: Any, tolerance: float = 1e-5) -> None:
    for get in "GetSize", "GetSpacing", "GetOrigin", "GetDirection":
        assert np.allclose(getattr(image, get)(), getattr(other, get)(), atol=tolerance), get


def received(image: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    with flare.Model("echo") as model:
        labels = model.segment(image, **options)
        return labels, model.stats


def saved(sitk: Any, expected: Any, folder: Path, name: str = "image.nii") -> str:
    path = str(folder / name)
    sitk.WriteImage(expected, path)
    return path


def check_geometry(got: dict[str, Any]) -> None:
    assert got["size"] == [6, 5, 4]
    assert np.allclose(got["spacing"], SPACING, atol=1e-5)
    assert np.allclose(got["origin"], ORIGIN, atol=1e-4)
    assert np.allclose(got["direction"], TURNED.ravel(), atol=1e-6)


def test_simpleitk(fake: object, sitk: Any, expected: Any) -> None:
    labels, got = received(expected)
    assert got["data"] == sitk.GetArrayViewFromImage(expected).ctypes.data  # not a copy
    check_geometry(got)
    assert type(labels) is sitk.Image and labels.GetPixelID() == sitk.sitkUInt8
    same_grid(labels, expected, 0)
    assert (sitk.GetArrayViewFromImage(labels) == VOXELS).all()


def test_probabilities_come_beside(fake: object, sitk: Any, expected: Any) -> None:
    (labels, p), _ = received(expected, probabilities=True)
    assert type(labels) is sitk.Image
    assert type(p) is np.ndarray and p.shape == (2, 4, 5, 6)


def test_itk(fake: object, sitk: Any, expected: Any) -> None:
    itk = package("itk")
    image = itk.image_from_array(VOXELS)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(itk.matrix_from_array(TURNED))
    labels, got = received(image)
    assert got["data"] == itk.array_view_from_image(image).ctypes.data
    check_geometry(got)
    assert type(labels) is itk.Image[itk.UC, 3]
    assert (itk.array_view_from_image(labels) == VOXELS).all()
    assert got["labels"] == itk.array_view_from_image(labels).ctypes.data
    assert tuple(labels.GetSpacing()) == tuple(image.GetSpacing())
    assert tuple(labels.GetOrigin()) == tuple(image.GetOrigin())
    same = itk.array_from_matrix(labels.GetDirection()) == itk.array_from_matrix(
        image.GetDirection()
    )
    assert same.all()
    del got, image  # the labels need nobody else
    assert (itk.array_from_image(labels) == VOXELS).all()


def test_nibabel(fake: object, sitk: Any, expected: Any, tmp_path: Path) -> None:
    nibabel = package("nibabel")
    image = nibabel.load(saved(sitk, expected, tmp_path))
    image.get_fdata()  # and what that keeps is not taken
    labels, got = received(image)
    check_geometry(got)
    assert type(labels) is nibabel.Nifti1Image and labels.get_data_dtype() == np.uint8
    assert (labels.affine == image.affine).all()
    assert labels.header["sform_code"] == image.header["sform_code"]
    assert labels.header.get_xyzt_units() == image.header.get_xyzt_units()
    nibabel.save(labels, tmp_path / "labels.nii.gz")
    read = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    same_grid(read, expected)
    assert (sitk.GetArrayViewFromImage(read) == VOXELS).all()


@pytest.mark.parametrize("order", ["F", "C"])
def test_nibabel_of_arrays(fake: object, order: Any) -> None:
    nibabel = package("nibabel")
    array = np.array(VOXELS.T, order=order)
    labels, got = received(nibabel.Nifti1Image(array, np.diag([-1, -2, 3, 1])))
    assert (got["data"] == array.ctypes.data) == (order == "F")  # C order is copied
    assert np.allclose(got["spacing"], (1, 2, 3))
    assert np.allclose(got["direction"], np.eye(3).ravel())
    assert (np.asarray(labels.dataobj).T == VOXELS).all()


def test_nibabel_scaled_and_big_endian(fake: object, tmp_path: Path) -> None:
    nibabel = package("nibabel")
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(VOXELS.T, np.eye(4), header)
    image.header.set_slope_inter(2, 0)
    nibabel.save(image, tmp_path / "scaled.nii")
    labels, got = received(nibabel.load(tmp_path / "scaled.nii"))
    assert (np.asarray(labels.dataobj).T == 2 * VOXELS % 256).all()


@pytest.mark.parametrize("kind", ["ScalarImage", "Subject"])
def test_torchio(fake: object, sitk: Any, expected: Any, tmp_path: Path, kind: str) -> None:
    torchio = package("torchio")
    image = torchio.ScalarImage(saved(sitk, expected, tmp_path))
    given = image if kind == "ScalarImage" else torchio.Subject(ct=image, age=7)
    answer, got = received(given)
    check_geometry(got)
    labels = answer
    if kind == "Subject":
        assert type(answer) is torchio.Subject and answer["age"] == 7 and "labels" not in given
        assert answer["ct"].data.data_ptr() == given["ct"].data.data_ptr()
        labels = answer["labels"]
    assert type(labels) is torchio.LabelMap
    same_grid(labels.as_sitk(), expected)
    assert (sitk.GetArrayViewFromImage(labels.as_sitk()) == VOXELS).all()


def test_torchio_memory(fake: object) -> None:
    """z is fastest in what torchio reads, so it is copied; a view of an array is not."""
    torchio = package("torchio")
    image = torchio.ScalarImage(tensor=VOXELS.T[np.newaxis])
    assert received(image)[1]["data"] == image.data.data_ptr()
    image.set_data(image.data.contiguous())
    labels, got = received(image)
    assert got["data"] != image.data.data_ptr() and (labels.numpy()[0].T == VOXELS).all()


def test_torchio_channels(fake: object) -> None:
    torchio = package("torchio")
    channels = np.stack([VOXELS.T, -VOXELS.T])
    _, got = received(torchio.ScalarImage(tensor=channels))
    assert got["channels"] == 2 and got["size"] == [6, 5, 4]
    with pytest.raises(flare.ArgumentError, match=r"subject with 2 images\['a', 'b'\]"):
        one = torchio.ScalarImage(tensor=channels)
        received(torchio.Subject(a=one, b=copy.copy(one)))


def bad(name: str) -> Callable[[], Any]:
    def make() -> Any:
        library, _, what = name.partition(" ")
        module = package(library)
        if library == "SimpleITK":
            return {
                "2-D": lambda: module.Image([5, 6], module.sitkInt16),
                "4-D": lambda: module.Image([5, 6, 7, 2], module.sitkInt16),
                "RGB": lambda: module.Image([5, 6, 7], module.sitkVectorUInt8, 3),
            }[what]()
        if library == "itk":
            return {
                "2-D": lambda: module.image_from_array(np.zeros((5, 6), np.int16)),
                "RGB": lambda: module.Image[module.RGBPixel[module.UC], 3].New(),
                "mesh": lambda: module.PointSet[module.F, 3].New(),
            }[what]()
        if library == "nibabel":
            colours = np.zeros((5, 6, 7), [("R", "u1"), ("G", "u1"), ("B", "u1")])
            return {
                "2-D": lambda: module.Nifti1Image(np.zeros((5, 6), np.int16), np.eye(4)),
                "4-D": lambda: module.Nifti1Image(np.zeros((5, 6, 7, 2), np.int16), np.eye(4)),
                "RGB": lambda: module.Nifti1Image(colours, np.eye(4)),
            }[what]()
        raise AssertionError(name)

    return make


@pytest.mark.parametrize(
    "name, says",
    [
        ("SimpleITK 2-D", "a SimpleITK Image of 2 dimensions; expected 3"),
        ("SimpleITK 4-D", "a SimpleITK Image of 4 dimensions; expected 3"),
        ("SimpleITK RGB", "a SimpleITK Image with 3 numbers in a voxel"),
        ("itk 2-D", "itkImageSS2 of 2 dimensions"),
        ("itk RGB", "with 3 numbers in a voxel"),
        ("itk mesh", "expected an image"),
        ("nibabel 2-D", r"Nifti1Image of shape \(5, 6\)"),
        ("nibabel 4-D", r"of shape \(5, 6, 7, 2\).*image.slicer"),
        ("nibabel RGB", "of colours"),
    ],
)
def test_images_that_are_no_volumes(fake: object, name: str, says: str) -> None:
    with pytest.raises((flare.ArgumentError, TypeError), match=says):
        received(bad(name)())


def test_shear_is_refused(real: str, model_path: Path) -> None:
    """By the library, which tells why."""
    nibabel = package("nibabel")
    affine = np.diag([1.0, 1, 2, 1])
    affine[0, 2] = 0.5
    with flare.Model(model_path) as model:
        with pytest.raises(flare.ArgumentError, match="axes x and z, must be at right angles"):
            model.segment(nibabel.Nifti1Image(VOXELS.T, affine))


def test_arguments_that_images_have_themselves(fake: object, expected: Any) -> None:
    for given in {"spacing": (1, 1, 1)}, {"origin": (0, 0, 0)}, {"direction": np.eye(3)}:
        with pytest.raises(flare.ArgumentError, match="SimpleITK Image and has its own"):
            received(expected, **given)
    with pytest.raises(flare.ArgumentError, match="out is for arrays"):
        received(expected, out=np.zeros(VOXELS.shape, np.uint8))
    for array in VOXELS, VOXELS.tolist(), "ct.nii.gz":
        with pytest.raises(flare.ArgumentError, match="expected spacing"):
            received(array)


def test_nothing_is_imported_that_is_not_there() -> None:
    from test_loading import python

    code = "import sys, flare; print([m for m in %r if m in sys.modules])"
    names = ["SimpleITK", "itk", "nibabel", "torchio", "torch", "tqdm", "ipyniivue", "highdicom"]
    assert python(code % names) == "[]"


def test_previous_and_other_grids(real: str, sitk: Any, expected: Any) -> None:
    from conftest import REPOSITORY

    stage = sitk.Cast(expected > 60, sitk.sitkUInt8)
    with flare.Model(REPOSITORY / "capi" / "test" / "cascade.onnx") as model:
        labels = model.segment(expected, previous=stage)
        assert (sitk.GetArrayFromImage(labels) == sitk.GetArrayFromImage(stage)).all()
        assert model.segment(expected, previous=VOXELS > 60).GetSize() == expected.GetSize()
        stage.SetOrigin((0, 0, 0))
        with pytest.raises(flare.ArgumentError, match="previous lies elsewhere.*origin"):
            model.segment(expected, previous=stage)


def test_kinds_agree(real: str, model_path: Path, sitk: Any, tmp_path: Path) -> None:
    """A real network gives the same labels, whichever package brings the image."""
    random = np.random.default_rng(3)
    blocks = random.integers(-300, 300, (6, 7, 8)).astype(np.int16)
    voxels = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.5, 1.5, 2))
    image.SetDirection(TURNED.ravel())
    path = saved(sitk, image, tmp_path)
    itk, nibabel = package("itk"), package("nibabel")
    with flare.Model(model_path) as model:
        plain = model.segment(voxels, (1.5, 1.5, 2), direction=TURNED)
        assert len(np.unique(plain)) > 2
        assert (sitk.GetArrayFromImage(model.segment(image)) == plain).all()
        same = itk.image_from_array(voxels)
        same.SetSpacing((1.5, 1.5, 2))
        same.SetDirection(itk.matrix_from_array(TURNED))
        assert (itk.array_from_image(model.segment(same)) == plain).all()
        others = [np.asarray(model.segment(nibabel.load(path)).dataobj).T]
        try:
            torchio = package("torchio")
        except pytest.skip.Exception:
            pass
        else:
            others.append(model.segment(torchio.ScalarImage(path)).numpy()[0].T)
        model.segment_file(path, tmp_path / "labels.nii")
        file = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels.nii")))
        for other in others:  # a float32 affine has moved the grid by 1e-7
            assert (other == file).all()
            assert (other != plain).mean() < 1e-3


def test_training_and_evaluating(real: str, model_path: Path, sitk: Any) -> None:
    """What takes images beside Model: the numbers are those of the arrays."""
    truth = np.zeros((20, 40, 50), np.uint8)
    truth[5:15, 10:30, 10:30] = 1
    moved = np.roll(truth, 1, 0)
    images = [sitk.GetImageFromArray(a) for a in (moved, truth)]
    for image in images:
        image.SetSpacing((1.5, 1.5, 3))
    scores = flare.evaluate(moved, truth, (1.5, 1.5, 3))
    assert flare.evaluate(*images) == scores and flare.evaluate(moved, images[1]) == scores
    with pytest.raises(flare.ArgumentError, match="expected spacing"):
        flare.evaluate(moved, truth)
    images[0].SetSpacing((1, 1, 3))
    with pytest.raises(flare.ArgumentError, match="prediction lies elsewhere.*spacing"):
        flare.evaluate(*images)

    ct = sitk.GetImageFromArray(truth * np.int16(300))
    ct.SetSpacing((3, 3, 3))
    labels = sitk.GetImageFromArray(truth)
    losses = []
    for arrays in False, True:
        with flare.Trainer(model_path, batch=1, patch=(16, 32, 32), threads=2) as trainer:
            if arrays:
                trainer.add_case("case", truth * np.int16(300), truth, (3, 3, 3))
            else:
                with pytest.raises(flare.ArgumentError, match="labels lies elsewhere"):
                    trainer.add_case("case", ct, labels)
                labels.SetSpacing((3, 3, 3))
                trainer.add_case("case", ct, labels)
            losses.append(trainer.step().loss)
    assert losses[0] == losses[1]
