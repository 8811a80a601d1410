"""A view of an image and its labels in a notebook."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from . import _abi, _arrays, _images, _optional, organs
from ._model import Model

_NIFTI_TYPES = {  # what NIfTI-1 calls the types of voxels, and their bits
    _abi.UINT8: (2, 8),
    _abi.INT16: (4, 16),
    _abi.UINT16: (512, 16),
    _abi.INT32: (8, 32),
    _abi.FLOAT32: (16, 32),
    _abi.FLOAT64: (64, 64),
}


def show(
    image: Any,
    labels: Any = None,
    model: Model | None = None,
    *,
    spacing: Any = None,
    origin: Any = None,
    direction: Any = None,
) -> Any:
    """A view of an image, with its labels in colours over it, for a notebook: a widget of
    ipyniivue (pip install ipyniivue).

    image, labels  images or arrays, as for Model.segment, on the same grid
    model          the model that made the labels: its names for them, and if it is for CT the
                   window of soft tissue
    spacing, origin, direction   for arrays, as for Model.segment

    The widget is a NiiVue with two volumes: view.volumes[1].opacity = 0.3, and so on.
    """
    ipyniivue = _optional.module("ipyniivue", "flare.show", "notebook")
    given = _images.opened("image", image, spacing, origin, direction)
    voxels = _arrays.image(given.voxels)
    described = model.describe() if model else {"channels": [], "labels": []}
    window = {"cal_min": -160.0, "cal_max": 240.0} if described["channels"] == ["CT"] else {}
    volumes = [ipyniivue.Volume(data=_nifti(voxels, given), name="image.nii", **window)]
    if labels is not None:
        over = _images.labels_on("labels", labels, given)
        over = _arrays.on_grid("labels", over, voxels.shape[-3:])
        volume = ipyniivue.Volume(data=_nifti(over, given), name="labels.nii", opacity=0.5)
        volume.set_colormap_label(_colours(over, described["labels"]))
        volumes.append(volume)
    view = ipyniivue.NiiVue(height=480)
    view.load_volumes(volumes)
    return view


def _colours(labels: Any, names: list[dict[str, Any]]) -> dict[str, Any]:
    """A colour and a name for each value up to the highest."""
    known = {int(label["value"]): str(label["name"]) for label in names}
    values = range(max([int(labels.max()), 1, *known]) + 1)
    colours = [organs.colour(value, known.get(value, "")) for value in values]
    return {
        "R": [red for red, _, _ in colours],
        "G": [green for _, green, _ in colours],
        "B": [blue for _, _, blue in colours],
        "A": [0 if value == 0 else 255 for value in values],
        "I": list(values),
        "labels": [known.get(value, str(value)) for value in values],
    }


def _nifti(voxels: Any, image: _images.Image) -> bytes:
    """A NIfTI-1 file of the (first channel's) voxels."""
    first = voxels if voxels.ndim == 3 else voxels[0]
    nz, ny, nx = first.shape
    spacing, origin = (np.asarray(v, np.float64) for v in (image.spacing, image.origin))
    direction = np.reshape(np.asarray(image.direction, np.float64), (3, 3))
    to_ras = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([direction * spacing, origin])
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, nx, ny, nz, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, *_NIFTI_TYPES[_arrays.code(first)])
    struct.pack_into("<4f", header, 76, 1, *spacing)
    struct.pack_into("<2f", header, 108, 352, 1)  # where the voxels begin; their slope
    struct.pack_into("<2h", header, 252, 0, 2)  # the sform is what places them
    struct.pack_into("<12f", header, 280, *to_ras.ravel())
    header[123], header[344:347] = 2, b"n+1"  # mm
    little: bytes = first.astype(first.dtype.newbyteorder("<"), copy=False).tobytes()
    return bytes(header) + little
