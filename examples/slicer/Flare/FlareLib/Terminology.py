"""Slicer's terminology of labels and their colours, by their names, which libflare knows."""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).resolve().parent.parent / "Resources" / "Flare.term.json"

# Slicer's own entry for what it knows nothing else of.
GENERIC = (
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Anatomic codes - DICOM master list~^^~^^"
)


class Entry(NamedTuple):
    terminology: str  # as vtkSegment's terminology tag has it
    color: tuple[float, ...]  # red, green, blue, 0..1


def entry(name: str, value: int) -> Entry:
    """The entry that Resources/Flare.term.json has for an organ, in the colour that Slicer gives
    it; or the generic one, in the colour that libflare gives the label."""
    from flare.organs import colour, organ  # here, where libflare is known to be there

    known = organ(name)
    rgb = colour(value, name)
    return _organs().get((known.code, known.side)) or Entry(GENERIC, tuple(c / 255 for c in rgb))


@lru_cache(maxsize=1)
def _organs() -> dict[tuple[str, str], Entry]:
    """The file's entries by the code of the organ and the side."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    context = content["SegmentationCategoryTypeContextName"]
    found = {}
    for category in content["SegmentationCodes"]["Category"]:
        for organ in category["Type"]:
            for side in [None, *organ.get("Modifier", [])]:
                codes = [_code(category), _code(organ), _code(side) if side else "^^"]
                text = "~".join([context, *codes, "Anatomic codes - DICOM master list", "^^", "^^"])
                rgb = (side or organ)["recommendedDisplayRGBValue"]
                key = organ["CodeValue"], side["CodeMeaning"] if side else ""
                found[key] = Entry(text, tuple(c / 255 for c in rgb))
    return found


def _code(item: dict[str, str]) -> str:
    return f"{item['CodingSchemeDesignator']}^{item['CodeValue']}^{item['CodeMeaning']}"
