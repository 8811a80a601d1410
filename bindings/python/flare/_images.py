"""Images of other packages as arrays with their geometry, and labels back in the same kind.

SimpleITK, ITK, nibabel, torchio and flare.read's are known by the names of their classes. None is needed, and
one is imported only when an object of it comes along, so its import costs nothing more.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import _arrays
from ._errors import ArgumentError

Array = _arrays.Array


class _Spaced(Protocol):  # SimpleITK, ITK
    def GetSpacing(self) -> Any: ...


class _Placed(Protocol):  # nibabel, torchio
    @property
    def affine(self) -> Any: ...


class _Read(Protocol):  # flare.read
    @property
    def array(self) -> Any: ...


class _Held(Protocol):  # torchio's subjects
    def get_images_dict(self) -> Any: ...


Known = _Spaced | _Placed | _Read | _Held
"""What type checkers take for an image of a package that is known here."""


class Image(NamedTuple):
    """Voxels, index order (z, y, x) or (channels, z, y, x), and where they lie: mm, LPS, as for
    Model.segment. like makes an object of the caller's kind of labels (z, y, x)."""

    voxels: Any
    spacing: Any
    origin: Any
    direction: Any
    like: Callable[[Array], Any]
    kind: str = "array"


def opened(name: str, given: Any, spacing: Any, origin: Any = None, direction: Any = None) -> Image:
    """The caller's image: an object of a package that is known, or an array with the geometry
    that was given with it. name is the argument's."""
    read = _reader(given)
    if read is not None:
        for other, value in ("spacing", spacing), ("origin", origin), ("direction", direction):
            if value is not None:
                raise ArgumentError(
                    f"{other} is given, but {name} is {_kind(given)} and has its own"
                )
        return read(name, given)
    if spacing is None:
        raise ArgumentError(
            f"{name} is {_kind(given)}, without a geometry of its own; expected spacing with it"
        )
    return Image(
        given,
        spacing,
        (0.0, 0.0, 0.0) if origin is None else origin,
        _arrays.IDENTITY if direction is None else direction,
        lambda labels: labels,
    )


def refuse_array(name: str, given: Any) -> None:
    """Refuses what does not tell itself where it lies."""
    if _reader(given) is None:
        raise ArgumentError(
            f"{name} is {_kind(given)}, which does not tell where it lies; expected an image"
        )


def labels_on(name: str, given: Any, image: Image) -> Any:
    """The array of labels that belong to an image. Where both know their geometry it must be the
    same; shape and values are the caller's to check."""
    read = _reader(given)
    if read is None:
        return given
    labels = read(name, given)
    if image.kind != "array":
        for what in "spacing", "origin", "direction":
            ours, theirs = (np.ravel(getattr(i, what)) for i in (labels, image))
            if not np.allclose(ours, theirs, rtol=0, atol=1e-3):
                raise ArgumentError(
                    f"{name} lies elsewhere than the image: {what} {ours.tolist()}, the image's is "
                    f"{theirs.tolist()}; expected the same grid"
                )
    return labels.voxels


# ------------------------------------------------------------------------ files ----------


def _file(name: str, given: Any) -> Image:
    """What flare.read gave: voxels where they are; so are the labels."""
    return Image(
        given.array,
        given.spacing,
        given.origin,
        given.direction,
        lambda labels: dataclasses.replace(given, array=labels),
        "flare.read",
    )


# ------------------------------------------------------------------- SimpleITK, ITK ------


def _simpleitk(name: str, given: Any) -> Image:
    """Voxels where they are; the labels are copied into their image."""
    sitk = importlib.import_module("SimpleITK")
    _scalar(name, given, given.GetDimension(), given.GetNumberOfComponentsPerPixel())

    def like(labels: Array) -> Any:
        result = sitk.GetImageFromArray(labels)
        result.CopyInformation(given)
        return result

    return Image(
        sitk.GetArrayViewFromImage(given),
        given.GetSpacing(),
        given.GetOrigin(),
        given.GetDirection(),
        like,
        "SimpleITK",
    )


def _itk(name: str, given: Any) -> Image:
    """Voxels where they are; so are the labels in their image."""
    itk = importlib.import_module("itk")
    if not hasattr(given, "GetImageDimension"):
        raise TypeError(f"{name} is {_kind(given)}; expected an image")
    _scalar(name, given, given.GetImageDimension(), given.GetNumberOfComponentsPerPixel())

    def like(labels: Array) -> Any:
        result = itk.image_view_from_array(labels)
        result.SetSpacing(given.GetSpacing())
        result.SetOrigin(given.GetOrigin())
        result.SetDirection(given.GetDirection())
        return result

    return Image(
        itk.array_view_from_image(given),
        tuple(given.GetSpacing()),
        tuple(given.GetOrigin()),
        itk.array_from_matrix(given.GetDirection()),
        like,
        "ITK",
    )


def _scalar(name: str, given: Any, dimensions: int, components: int) -> None:
    if dimensions != 3:
        raise ArgumentError(f"{name} is {_kind(given)} of {dimensions} dimensions; expected 3")
    if components != 1:
        raise ArgumentError(
            f"{name} is {_kind(given)} with {components} numbers in a voxel (colours, or a vector); "
            "expected one. Channels go in as an array (channels, z, y, x)"
        )


# ---------------------------------------------------------------- nibabel, torchio ------


def _nibabel(name: str, given: Any) -> Image:
    """Voxels where they are if they lie as in a file, x fastest (Fortran order); an image made of
    a C-ordered array is copied once. Scaled ones (scl_slope) become float64, as nibabel reads
    them. The labels are not copied."""
    voxels = np.asanyarray(given.dataobj)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3:
        raise ArgumentError(
            f"{name} is {_kind(given)} of shape {voxels.shape}; expected (x, y, z). One volume of a "
            "series is image.slicer[..., 0]"
        )
    if voxels.dtype.names:
        raise ArgumentError(f"{name} is {_kind(given)} of colours; expected one number in a voxel")
    if given.affine is None:
        raise ArgumentError(f"{name} is {_kind(given)} without an affine")

    def like(labels: Array) -> Any:
        header = given.header.copy()
        header.set_data_dtype(labels.dtype)
        for window in "cal_min", "cal_max":
            if window in header:
                header[window] = 0
        return given.__class__(labels.T, given.affine, header)

    return Image(voxels.T, *_from_ras(given.affine), like, "nibabel")


def _torchio(name: str, given: Any) -> Image:
    """Voxels where they are if x is fastest in them; what torchio has read is copied once, as z is
    fastest there. Labels come as a LabelMap."""
    torchio = importlib.import_module("torchio")
    voxels = np.asarray(given.data).transpose(0, 3, 2, 1)

    def like(labels: Array) -> Any:
        return torchio.LabelMap(tensor=labels.T[np.newaxis], affine=given.affine)

    return Image(
        voxels[0] if len(voxels) == 1 else voxels, *_from_ras(given.affine), like, "torchio"
    )


def _subject(name: str, given: Any) -> Image:
    """The one image of a torchio subject. Labels come as a subject that has them, too, as
    "labels"."""
    images = given.get_images_dict(intensity_only=True)
    if len(images) != 1:
        raise ArgumentError(
            f"{name} is a torchio subject with {len(images)} images{sorted(images) or ''}; expected "
            "one. Give the image itself; channels are those of one image"
        )
    (image,) = images.values()
    read = _torchio(name, image)
    return read._replace(
        like=lambda labels: given.__class__({**given, "labels": read.like(labels)})
    )


def _from_ras(affine: Any) -> tuple[Array, Array, Array]:
    """Spacing, origin and direction in LPS of an affine matrix to RAS. A sheared one becomes a
    direction that the library refuses."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ np.asarray(affine, np.float64)[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    return spacing, lps[:, 3], lps[:, :3] / np.where(spacing == 0, 1, spacing)


_READERS: dict[tuple[str, str], Callable[[str, Any], Image]] = {
    ("flare", "Image"): _file,
    ("SimpleITK", "Image"): _simpleitk,
    ("itk", "itkDataObject"): _itk,
    ("nibabel", "SpatialImage"): _nibabel,
    ("torchio", "Image"): _torchio,
    ("torchio", "Subject"): _subject,
}


def _reader(given: Any) -> Callable[[str, Any], Image] | None:
    """What reads the object: by package and name of its class, or of one that this is made of."""
    for cls in type(given).__mro__:
        read = _READERS.get((cls.__module__.partition(".")[0], cls.__name__))
        if read is not None:
            return read
    return None


def _kind(given: Any) -> str:
    cls = type(given)
    package = cls.__module__.partition(".")[0]
    return f"a {cls.__name__}" if package == "builtins" else f"a {package} {cls.__name__}"
