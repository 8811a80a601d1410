"""Codes and colours of labels, by their names."""

import colorsys
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).resolve().parent.parent / "Resources" / "Flare.term.json"

# Slicer's own entry for what it knows nothing else of.
GENERIC = (
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Anatomic codes - DICOM master list~^^~^^"
)

# Other spellings that models use: FLARE, AMOS, BTCV.
SPELLINGS = {
    "gall bladder": "gallbladder",
    "ivc": "inferior vena cava",
    "oesophagus": "esophagus",
    "postcava": "inferior vena cava",
}


class Entry(NamedTuple):
    terminology: str  # as vtkSegment's terminology tag has it
    color: tuple[float, float, float]  # red, green, blue, 0..1


def entry(name: str, value: int) -> Entry:
    """The entry of an organ that Resources/Flare.term.json knows, or the generic one, coloured by
    the label's value so that neighbouring values differ."""
    known = _organs().get(_key(name))
    if known:
        return known
    red, green, blue = colorsys.hsv_to_rgb(value * 137.508 / 360 % 1, 0.65, 1)  # golden angle
    return Entry(GENERIC, (red, green, blue))


def _key(name: str) -> frozenset[str]:
    """The words of a name: "kidney_right" is "Right kidney"."""
    text = " ".join(re.findall(r"[a-z0-9]+", name.lower()))
    for other, usual in SPELLINGS.items():
        text = re.sub(rf"\b{other}\b", usual, text)
    return frozenset(text.split())


@lru_cache(maxsize=1)
def _organs() -> dict[frozenset[str], Entry]:
    content = json.loads(FILE.read_text(encoding="utf-8"))
    context = content["SegmentationCategoryTypeContextName"]
    found = {}
    for category in content["SegmentationCodes"]["Category"]:
        for organ in category["Type"]:
            for side in [None, *organ.get("Modifier", [])]:
                codes = [_code(category), _code(organ), _code(side) if side else "^^"]
                text = "~".join([context, *codes, "Anatomic codes - DICOM master list", "^^", "^^"])
                name = f"{side['CodeMeaning'] if side else ''} {organ['CodeMeaning']}"
                rgb = (side or organ)["recommendedDisplayRGBValue"]
                found[_key(name)] = Entry(text, tuple(c / 255 for c in rgb))
    return found


def _code(item: dict[str, str]) -> str:
    return f"{item['CodingSchemeDesignator']}^{item['CodeValue']}^{item['CodeMeaning']}"
