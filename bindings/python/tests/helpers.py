"""What several tests use, and what child processes import."""

from __future__ import annotations

import gzip
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import flare

DATATYPES = {2: np.uint8, 4: np.int16, 16: np.float32, 512: np.uint16}


def write_nifti(path: Path, voxels: Any, spacing: Any, origin: Any, direction: Any) -> None:
    """A NIfTI-1 file of an int16 z,y,x array; the geometry is LPS, the file's RAS."""
    nz, ny, nx = voxels.shape
    affine = np.asarray(direction, float).reshape(3, 3) * np.asarray(spacing)
    affine = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([affine, origin])
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, nx, ny, nz, 1, 1, 1, 1)  # dim
    struct.pack_into("<2h", header, 70, 4, 16)  # datatype int16, bitpix
    struct.pack_into("<4f", header, 76, 1, *spacing)  # pixdim
    struct.pack_into("<3f", header, 108, 352, 1, 0)  # vox_offset, scl_slope, scl_inter
    header[123] = 2  # xyzt_units: mm
    struct.pack_into("<2h", header, 252, 0, 1)  # qform_code, sform_code
    struct.pack_into("<12f", header, 280, *affine.ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    path.write_bytes(gzip.compress(bytes(header) + voxels.astype("<i2").tobytes(), 1))


def read_nifti(path: Path) -> Any:
    """The voxels of a NIfTI-1 file: z,y,x, or t,z,y,x."""
    data = gzip.decompress(path.read_bytes())
    dims = struct.unpack_from("<8h", data, 40)
    (datatype,) = struct.unpack_from("<h", data, 70)
    (offset,) = struct.unpack_from("<f", data, 108)
    shape = dims[1 : dims[0] + 1][::-1]
    voxels = np.frombuffer(data, DATATYPES[datatype], int(np.prod(shape)), int(offset))
    return voxels.reshape(shape)


def in_fork(function: Callable[[], object]) -> str:
    """What function raises in a child of os.fork(): the class and the message."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = f"returned {function()!r}"
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode()[:4000])
        os._exit(0)
    os.close(write)
    for _ in range(1000):
        if os.waitpid(child, os.WNOHANG)[0]:
            with os.fdopen(read, "rb") as pipe:
                return pipe.read().decode()
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def in_child(library: str, path: str, voxels: Any) -> Any:
    """Labels of voxels, made in a process of its own."""
    flare.load(library)
    with flare.Model(path) as model:
        return model.segment(voxels, (1.5, 1.5, 2.0))
