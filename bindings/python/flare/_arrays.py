"""numpy arrays and geometry to a flare_volume and back, without copies where C allows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _abi
from ._errors import ArgumentError

Array = npt.NDArray[Any]
Vector = Sequence[float] | Array
Matrix = Sequence[float] | Sequence[Sequence[float]] | Array

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# What the library reads as it is.
_CODES: dict[np.dtype[Any], int] = {
    np.dtype(np.uint8): _abi.UINT8,
    np.dtype(np.int16): _abi.INT16,
    np.dtype(np.uint16): _abi.UINT16,
    np.dtype(np.int32): _abi.INT32,
    np.dtype(np.float32): _abi.FLOAT32,
    np.dtype(np.float64): _abi.FLOAT64,
}

# What it reads after a conversion that loses nothing; wide integers: _narrow.
_CONVERSIONS: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.bool_): np.dtype(np.uint8),
    np.dtype(np.int8): np.dtype(np.int16),
    np.dtype(np.float16): np.dtype(np.float32),
}


def image(array: npt.ArrayLike) -> Array:
    """The array as the library can read it: itself, or one converted copy.

    The copy is made of arrays that are non-contiguous, unaligned, byte-swapped, or of dtype
    bool, int8, float16 or a wide integer.
    """
    given = _plain(array)
    if given.ndim not in (3, 4):
        hint = "; a single slice is array[numpy.newaxis]" if given.ndim == 2 else ""
        raise ArgumentError(
            f"an array of {given.ndim} dimensions, shape {given.shape}; "
            f"expected (z, y, x) or (channels, z, y, x){hint}"
        )
    if 0 in given.shape:
        raise ArgumentError(f"an array without voxels, shape {given.shape}")
    return _readable(given)


def on_grid(name: str, array: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    """Labels on the grid of an image as the library can read them, like image()."""
    given = _plain(array)
    if given.shape != shape:
        raise ArgumentError(
            f"{name} has shape {given.shape}; expected {shape}, that of the image without channels"
        )
    return _readable(given)


def label_map(array: npt.ArrayLike) -> Array:
    """Labels as files hold them: uint8 or uint16, the array itself or one copy."""
    given = _plain(array)
    if given.dtype.kind not in "biu":
        raise TypeError(f"labels of dtype {given.dtype}; expected integers")
    if given.dtype in (np.uint8, np.uint16):
        return given
    low, high = (int(given.min()), int(given.max())) if given.size else (0, 0)
    if low < 0 or high > 65535:
        raise ArgumentError(f"labels from {low} to {high}; expected 0 to 65535")
    return given.astype(np.uint8 if high < 256 else np.uint16)


def floats(name: str, array: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Numbers as float32: the array itself, or one converted copy."""
    given = _plain(array)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {given.dtype}; expected numbers")
    return np.require(given, np.float32, ["C_CONTIGUOUS", "ALIGNED"])


def _plain(array: npt.ArrayLike) -> Array:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("a masked array: say what stands at masked voxels with array.filled(value)")
    return np.asarray(array)


def _readable(given: Array) -> Array:
    """The array itself if the library can read it, else one converted copy."""
    native = given.dtype.newbyteorder("=")
    target = native
    if native not in _CODES:
        target = _CONVERSIONS[native] if native in _CONVERSIONS else _narrow(given)
    return np.require(given, target, ["C_CONTIGUOUS", "ALIGNED"])


def _narrow(array: Array) -> np.dtype[Any]:
    """The dtype that holds the values of a wide integer array exactly."""
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"cannot segment an array of dtype {array.dtype}; give integers or floats of at most "
            f"64 bits"
        )
    low, high = int(array.min()), int(array.max())
    if -(2**31) <= low and high < 2**31:
        return np.dtype(np.int32)
    if -(2**53) <= low and high <= 2**53:
        return np.dtype(np.float64)
    raise ArgumentError(
        f"values {low} to {high} of dtype {array.dtype} do not fit a float64 exactly"
    )


def volume(
    voxels: Array,
    spacing: Vector,
    origin: Vector,
    direction: Matrix,
) -> _abi.Volume:
    """A flare_volume that looks at voxels, which image() gave, and keeps them alive."""
    *channels, nz, ny, nx = voxels.shape
    result = _abi.Volume(
        data=voxels.ctypes.data,
        dtype=_CODES[voxels.dtype],
        channels=channels[0] if channels else 1,
        size=(nx, ny, nz),
        spacing=_numbers("spacing", spacing, 3),
        origin=_numbers("origin", origin, 3),
        direction=_numbers("direction", direction, 9),
    )
    if not any(result.direction):  # in C this means the default
        raise ArgumentError("direction is all zero")
    result.owner = voxels
    return result


def _numbers(name: str, values: Any, count: int) -> tuple[float, ...]:
    order = "numbers, x, y, z" if count == 3 else "numbers, row-major, or 3 x 3"
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} is {values!r}; expected {count} {order}") from None
    if array.shape != (count,) and not (count == 9 and array.shape == (3, 3)):
        raise ArgumentError(f"{name} has shape {array.shape}; expected {count} {order}")
    return tuple(float(v) for v in array.flat)


def labels(
    out: Array | None,
    voxels: Array,
    dtype: type[np.unsignedinteger[Any]],
    stage: Array | None = None,
) -> Array:
    """The array to fill: a new one of dtype, or the caller's after a look at it."""
    shape = voxels.shape[-3:]
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is of type {type(out).__name__}; expected a numpy array")
    if out.shape != shape:
        raise ArgumentError(f"out has shape {out.shape}; expected {shape}, that of the image")
    if out.dtype not in (np.uint8, np.uint16) or out.dtype.itemsize < np.dtype(dtype).itemsize:
        raise ArgumentError(f"out has dtype {out.dtype}; this model needs {np.dtype(dtype)}")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise ArgumentError("out must be C-contiguous, aligned and writeable")
    if np.may_share_memory(out, voxels):
        raise ArgumentError("out overlaps the image")
    if stage is not None and np.may_share_memory(out, stage):
        raise ArgumentError("out overlaps previous")
    return out


def probabilities(heads: int, voxels: Array) -> npt.NDArray[np.float32]:
    """The array to fill with probabilities: heads, z, y, x."""
    shape = (heads, *voxels.shape[-3:])
    try:
        return np.empty(shape, np.float32)
    except MemoryError:
        gib = 4 * math.prod(shape) / 2**30
        raise MemoryError(f"probabilities of shape {shape} take {gib:.1f} GiB") from None


def code(array: Array) -> int:
    """The FLARE_UINT8 ... of an array's dtype."""
    return _CODES[array.dtype]
