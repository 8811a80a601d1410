"""Where voxels are: the library's geometry and napari's transforms.

The world of layers that this plugin makes is LPS in millimetres in the order of napari's axes,
z, y, x: down the screen is to the back of the patient, right to the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

METADATA = "flare"  # the key under which a layer keeps the geometry of its file


class Unfit(ValueError):
    """A layer that cannot be segmented; the text is for the user."""


@dataclass(frozen=True)
class Geometry:
    """As flare.Image has it: spacing and origin x, y, z; direction row-major, column i that of
    axis i (x, y, z)."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    def matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """Linear part and translation from voxel indices to the world, both z, y, x."""
        direction = np.reshape(self.direction, (3, 3))
        return (direction * self.spacing)[::-1, ::-1], np.array(self.origin)[::-1]


def place(geometry: Geometry, channels: bool = False) -> dict[str, Any]:
    """The arguments that put a layer where the geometry says: of a volume z, y, x, or channels
    first. Axes that follow the world's need no more than scale and translate."""
    lead = int(channels)
    where: dict[str, Any] = {
        "scale": (1.0,) * lead + geometry.spacing[::-1],
        "units": ("pixel",) * lead + ("mm",) * 3,
        "axis_labels": ("channel",) * lead + ("z", "y", "x"),
    }
    direction = np.reshape(geometry.direction, (3, 3))
    if (direction == np.eye(3)).all():
        where["translate"] = (0.0,) * lead + geometry.origin[::-1]
    else:
        affine = np.eye(4 + lead)
        affine[lead:-1, lead:-1] = direction[::-1, ::-1]
        affine[lead:-1, -1] = geometry.origin[::-1]
        where["affine"] = affine
    return where


def geometry_of(layer: Any) -> Geometry:
    """Where a layer's volume is, its last three axes: what its file said, as long as the layer's
    transform still agrees with that to rounding, else the transform itself."""
    corner = np.array(layer.data_to_world((0,) * layer.ndim))
    unit = np.eye(layer.ndim)
    linear = np.stack([np.array(layer.data_to_world(axis)) - corner for axis in unit], axis=1)
    if layer.ndim > 3 and (linear[:-3, -3:].any() or linear[-3:, :-3].any()):
        raise Unfit(f"The transform of {layer.name!r} mixes its channels with its axes in space.")
    mm = [_millimetres(u) for u in layer.units[-3:]]
    linear, corner = linear[-3:, -3:] * np.reshape(mm, (3, 1)), corner[-3:] * mm
    spacing = np.linalg.norm(linear, axis=0)
    if not spacing.all():
        raise Unfit(f"The transform of {layer.name!r} leaves its axes no length.")
    direction = linear / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise Unfit(f"{layer.name!r} is sheared: its axes are not at right angles. Resample it.")
    stored = layer.metadata.get(METADATA, {}).get("geometry")
    if isinstance(stored, Geometry):
        same, at = stored.matrix()
        if np.allclose(same, linear, 0, 1e-6) and np.allclose(at, corner, 0, 1e-6):
            return stored
    return Geometry(
        tuple(float(v) for v in spacing[::-1]),
        tuple(float(v) for v in corner[::-1]),
        tuple(float(v) for v in direction[::-1, ::-1].flat),
    )


def has_millimetres(layer: Any) -> bool:
    """Whether the layer knows its lengths, from its units or from a file of this plugin."""
    return METADATA in layer.metadata or all(str(u) != "pixel" for u in layer.units[-3:])


def _millimetres(unit: Any) -> float:
    """Millimetres in a layer's unit (pint's); what is no length counts as one."""
    if not unit.is_compatible_with("mm"):
        return 1.0
    return float((1 * unit).to("mm").magnitude)
