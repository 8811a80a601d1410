"""One segmentation by libflare. Knows nothing of Slicer: it runs on a thread of Slicer's, or in a
process of its own (Child.py)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

AIR = -200  # HU: every CT that shows some air or lung has voxels below


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
    description = model.describe()
    names = {label["value"]: label["name"] for label in description["labels"] if label["value"]}
    warnings = check(description, voxels, modality)
    labels = allocate(np.uint8 if max(names, default=0) < 256 else np.uint16)
    model.segment(
        voxels, list(spacing), list(origin), list(direction), out=labels, progress=progress
    )
    return Result({value: names[value] for value in found(labels, names)}, warnings)


def found(labels: np.ndarray, values: Iterable[int]) -> list[int]:
    """Those of the values that occur, in their order. Plane by plane, so that a value that was
    seen costs no more."""
    values, left = list(values), set(values)
    for plane in labels:
        left -= {value for value in left if (plane == value).any()}
        if not left:
            break
    return [value for value in values if value not in left]


def check(description: dict[str, Any], voxels: np.ndarray, modality: str) -> list[str]:
    """Warnings where the model seems to be made for images of another kind."""
    channels = description["channels"]
    for_ct = "CTNormalization" in description["normalization"] or any(
        re.fullmatch(r"ct\b.*", name.lower()) for name in channels
    )
    for_mr = any(re.match(r"mr|t1|t2|flair|dwi|adc", name.lower()) for name in channels)
    low = float(voxels.min()) if for_ct or for_mr else 0
    if for_ct and modality not in ("", "CT"):
        return [f"The model is made for CT, but the volume's modality is {modality}."]
    if for_ct and not modality and not low < AIR:
        return [
            f"The model is made for CT, but the volume's lowest value is {low:g}; a CT in Hounsfield "
            f"units has air, below {AIR}. Is it a CT?"
        ]
    if for_mr and (modality == "CT" or not modality and low < AIR):
        return [f"The model is made for {', '.join(channels)}, but the volume seems to be a CT."]
    return []
