"""Whether an image is of the kind that a model is made for, as far as that can be told; for programs
that let users choose both."""

from __future__ import annotations

import re
from typing import Any

AIR = -200  # HU: every CT that shows some air, lung or bowel gas has voxels below


def doubt(description: dict[str, Any], voxels: Any, modality: str = "") -> str:
    """Why the labels may be worthless, a sentence or two for the user, or "".

    description    what Model.describe gave
    voxels         an array
    modality       DICOM's ("CT", "MR", ...); "": not known, and the values must tell
    """
    channels = [str(name) for name in description["channels"]]
    for_ct = "CTNormalization" in description["normalization"] or any(
        re.fullmatch(r"ct\b.*", name.lower()) for name in channels
    )
    for_mr = any(re.match(r"mr|t1|t2|flair|dwi|adc", name.lower()) for name in channels)
    if modality:
        if for_ct and modality != "CT":
            return f"The model is for CT, but the image's modality is {modality}."
        return _not_a_ct(channels) if for_mr and not for_ct and modality == "CT" else ""
    if not for_ct and not for_mr:
        return ""
    lowest = float(voxels.min())
    if for_ct and lowest >= AIR:
        return (
            f"The model is for CT in Hounsfield units, where air is about -1000; the lowest value of "
            f"the image is {lowest:g}. Is it a CT?"
        )
    return _not_a_ct(channels) if not for_ct and lowest < AIR else ""


def _not_a_ct(channels: list[str]) -> str:
    return f"The model is for {', '.join(channels)}, but the image seems to be a CT."
