"""Image files in memory: read and write."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _abi, _arrays, _call, _images
from ._arrays import Matrix, Vector

_DTYPES = {code: dtype for dtype, code in _arrays._CODES.items()}


@dataclass(frozen=True, eq=False)
class Image:
    """What an image file holds, as read gives it; labels that Model.segment makes of it, too.

    array      voxels, shape (z, y, x) or (channels, z, y, x); they lie in the library's memory,
               which goes back with the last array that looks at it
    spacing    mm along x, y, z: the reverse order of the array's axes
    origin     position of voxel 0 in mm, x, y, z, LPS
    direction  9 numbers row-major; column i is the LPS direction of axis i (x, y, z)
    """

    array: npt.NDArray[Any]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, float, float, float, float, float, float, float, float]

    def __repr__(self) -> str:
        return f"<flare.Image {self.array.shape} {self.array.dtype}, spacing {self.spacing} mm>"


class _Memory:
    """An open flare_image; arrays that look at its voxels hold it."""

    def __init__(self, path: _abi.Path) -> None:
        self._library, self.handle = _abi.library(), ctypes.c_void_p()
        _abi.check(
            self._library.flare_image_open(ctypes.byref(self.handle), _abi.c_path("path", path))
        )

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._library.flare_image_free(self.handle)


def read(path: _abi.Path) -> Image:
    """Reads an image file: NIfTI (.nii.gz, .nii), NRRD (.nrrd, .nhdr, .seg.nrrd) or MetaImage
    (.mha, .mhd).

    Voxels keep the type they are stored in. int8 becomes int16, wide integers int32 or float64,
    scaled values float32; NaN and infinite ones become 0. Nothing is copied after reading.

        labels = model.segment(flare.read("ct.nii.gz"))  # another Image
        flare.write("labels.nii.gz", labels, labels={"liver": 1})
    """
    _call.refuse_in_callback()
    memory, volume = _Memory(path), _abi.Volume()
    _abi.check(memory._library.flare_image_volume(ctypes.byref(volume), memory.handle))
    dtype, (nx, ny, nz) = _DTYPES[volume.dtype], volume.size
    shape = (nz, ny, nx) if volume.channels == 1 else (volume.channels, nz, ny, nx)
    size = int(np.prod(shape)) * dtype.itemsize
    raw: Any = (ctypes.c_uint8 * size).from_address(volume.data)
    raw.memory = memory
    array = np.frombuffer(raw, dtype).reshape(shape)
    return Image(array, tuple(volume.spacing), tuple(volume.origin), tuple(volume.direction))


def write(
    path: _abi.Path,
    image: _images.Known | npt.ArrayLike,
    spacing: Vector | None = None,
    origin: Vector | None = None,
    direction: Matrix | None = None,
    *,
    labels: Mapping[str, int] | None = None,
) -> None:
    """Writes an image file of one of read's formats, whole or not at all.

    image      what read gave, an image that Model.segment takes, or an array, (z, y, x) or
               (channels, z, y, x), with its spacing and place as Model.segment takes them
    labels     None: an image; or it is a label map with integers from 0 to 65535, and these are
               its names, {"liver": 1}, or {}. .seg.nrrd keeps them, as segments of 3D Slicer

    >>> import flare, numpy
    >>> flare.write("liver.seg.nrrd", numpy.ones((4, 5, 6), "uint8"), (1, 1, 3), labels={"liver": 1})
    """
    given = _images.opened("image", image, spacing, origin, direction)
    voxels = _arrays.image(given.voxels if labels is None else _arrays.label_map(given.voxels))
    volume = _arrays.volume(voxels, given.spacing, given.origin, given.direction)
    options = _abi.WriteOptions()
    if labels is not None:
        options.labels = json.dumps({str(name): int(v) for name, v in labels.items()}).encode()
    _call.refuse_in_callback()
    _abi.check(
        _abi.library().flare_image_write(
            _abi.c_path("path", path), ctypes.byref(volume), ctypes.byref(options)
        )
    )
