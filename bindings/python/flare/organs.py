"""What labels are, for other programs: SNOMED CT codes of organs, and a colour for each label."""

from __future__ import annotations

import math
import re
from typing import NamedTuple


class Organ(NamedTuple):
    """A concept of SNOMED CT, and its side: "Right", "Left" or ""."""

    code: str
    meaning: str
    side: str = ""


SIDES = {"Right": "24028007", "Left": "7771000"}
TISSUE = Organ("85756007", "Tissue")  # what is not known here

# By the words of a label's name, in any order, without "gland".
_ORGANS = {
    "liver": Organ("10200004", "Liver"),
    "kidney": Organ("64033007", "Kidney"),
    "spleen": Organ("78961009", "Spleen"),
    "pancreas": Organ("15776009", "Pancreas"),
    "aorta": Organ("15825003", "Aorta"),
    "inferior vena cava": Organ("64131007", "Inferior vena cava"),
    "adrenal": Organ("23451007", "Adrenal gland"),
    "gallbladder": Organ("28231008", "Gallbladder"),
    "esophagus": Organ("32849002", "Esophagus"),
    "stomach": Organ("69695003", "Stomach"),
    "duodenum": Organ("38848004", "Duodenum"),
}
_OTHER_NAMES = {
    "gall bladder": "gallbladder",
    "oesophagus": "esophagus",
    "postcava": "inferior vena cava",
    "ivc": "inferior vena cava",
}
_PAIRED = {"64033007", "23451007"}  # the codes of those that have a side
_BY_WORDS = {frozenset(name.split()): organ for name, organ in _ORGANS.items()} | {
    frozenset(other.split()): _ORGANS[name] for other, name in _OTHER_NAMES.items()
}


def organ(name: str) -> Organ:
    """The organ that a label is named after, as nnU-Net's datasets name them: "right kidney",
    "kidney_right", "Right Kidney"; TISSUE if it is not known."""
    words = set(re.findall(r"[^\W_]+", name.lower())) - {"gland"}
    sides = [side for side in SIDES if side.lower() in words]
    found = _BY_WORDS.get(frozenset(words - {side.lower() for side in sides}))
    if found is None or len(sides) > (found.code in _PAIRED):
        return TISSUE
    return found._replace(side="".join(sides))


# As segment/imageio/colour.go has them, by name and side.
_COLOURS = {
    "liver": (178, 92, 74),
    "kidney": (221, 163, 72),
    "right kidney": (228, 176, 84),
    "left kidney": (214, 150, 60),
    "spleen": (149, 96, 168),
    "pancreas": (240, 214, 130),
    "aorta": (222, 66, 66),
    "inferior vena cava": (66, 120, 200),
    "adrenal": (102, 186, 130),
    "right adrenal": (120, 200, 140),
    "left adrenal": (84, 172, 120),
    "gallbladder": (122, 178, 66),
    "esophagus": (206, 146, 130),
    "stomach": (230, 130, 160),
    "duodenum": (250, 180, 130),
}
_BY_ORGAN = {organ(name): rgb for name, rgb in _COLOURS.items()}


def colour(label: int, name: str = "") -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a label and its name: those of the segmentations that the
    library writes for 3D Slicer, and of its reports. What is not a known organ gets hues that go
    round by the golden angle."""
    known = _BY_ORGAN.get(organ(name))
    if known:
        return known
    hue = math.fmod(label * 137.508, 360) / 60
    parts = (math.fmod(n + hue, 6) for n in (5, 3, 1))
    red, green, blue = (
        round(255 * (1 - 0.65 * max(0.0, min(part, 4 - part, 1.0)))) for part in parts
    )
    return red, green, blue
