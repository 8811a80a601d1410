"""Image files by libflare: a reader of volumes, a writer of labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import flare

from ._geometry import METADATA, Geometry, geometry_of, place

Layers = list[tuple[Any, dict[str, Any], str]]

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
AIR, SOFT_TISSUE = -500, (-160.0, 240.0)  # HU: below AIR is air, which only a CT has


def reader(path: str | list[str]) -> Callable[[str | list[str]], Layers] | None:
    """What reads these files, or None where one is of another format."""
    paths = [path] if isinstance(path, str) else path
    return read if all(p.lower().endswith(ENDINGS) for p in paths) else None


def read(path: str | list[str]) -> Layers:
    """A layer for each file: an image, or of .seg.nrrd labels. Arrays are the library's memory."""
    return [_layer(p) for p in ([path] if isinstance(path, str) else path)]


def _layer(path: str) -> tuple[Any, dict[str, Any], str]:
    image = flare.read(path)
    channels = image.array.ndim == 4
    geometry = Geometry(image.spacing, image.origin, image.direction)
    arguments = {
        **place(geometry, channels),
        "name": _stem(path),
        "metadata": {METADATA: {"path": path, "geometry": geometry}},
    }
    if path.lower().endswith(".seg.nrrd") and not channels:
        return image.array, arguments, "labels"
    if image.array.dtype.kind in "if" and image.array.min() < AIR:
        arguments["contrast_limits"] = SOFT_TISSUE
    return image.array, arguments, "image"


def _stem(path: str) -> str:
    name = os.path.basename(path)
    for ending in (".seg.nrrd", ".nii.gz"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return os.path.splitext(name)[0]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Writes a labels layer where it is; .seg.nrrd keeps the names of its features."""
    from napari.layers import Labels

    layer = Labels(data, **attributes)
    if layer.ndim != 3:
        raise ValueError(f"{layer.name!r} has {layer.ndim} axes; an image file takes z, y, x")
    geometry = geometry_of(layer)
    flare.write(
        path,
        data,
        geometry.spacing,
        geometry.origin,
        geometry.direction,
        labels=_names(layer.features),
    )
    return [path]


def _names(features: Any) -> dict[str, int]:
    """The names of labels that a layer's features hold in their columns index and name."""
    if not {"index", "name"} <= set(features.columns):
        return {}
    return {str(name): int(v) for v, name in zip(features["index"], features["name"], strict=True)}
