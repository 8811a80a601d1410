"""One segmentation by libflare. Knows nothing of Slicer: it runs on a thread of Slicer's, or in a
process of its own (Child.py)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

@dataclass
class Result:
    names: dict[int, str]  # of the labels that were found, by value
    warnings: list[str]


def segment(
    model: Any,
    voxels: np.ndarray,
    spacing: Iterable[float],
    origin: Iterable[float],
    direction: Iterable[float],
    modality: str,
    allocate: Callable[[type], np.ndarray],
    progress: Callable[[float, str], object],
) -> Result:
    """Segments voxels (z, y, x) with an open flare.Model into what allocate(dtype) gives, an array
    of the same shape. progress is called as flare.Model.segment says; what that raises, this
    raises."""
    from flare.modality import doubt  # here, where libflare is known to be there

    description = model.describe()
    names = {label["value"]: label["name"] for label in description["labels"] if label["value"]}
    warning = doubt(description, voxels, modality)
    labels = allocate(np.uint8 if max(names, default=0) < 256 else np.uint16)
    model.segment(
        voxels, list(spacing), list(origin), list(direction), out=labels, progress=progress
    )
    seen = {value: names[value] for value in found(labels, names)}
    return Result(seen, [warning] if warning else [])


def found(labels: np.ndarray, values: Iterable[int]) -> list[int]:
    """Those of the values that occur, in their order. Plane by plane, so that a value that was
    seen costs no more."""
    values, left = list(values), set(values)
    for plane in labels:
        left -= {value for value in left if (plane == value).any()}
        if not left:
            break
    return [value for value in values if value not in left]
