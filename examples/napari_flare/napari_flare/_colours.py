"""Colours of labels: those that atlases give organs, for others hues that differ."""

from __future__ import annotations

import colorsys

Colour = tuple[float, float, float]

# By words of the name, the first that fits; red, green, blue from 0 to 255.
_ORGANS = {
    "liver": (178, 92, 74),
    "right kidney": (228, 176, 84),
    "left kidney": (214, 150, 60),
    "kidney": (221, 163, 72),
    "spleen": (149, 96, 168),
    "pancreas": (240, 214, 130),
    "aorta": (222, 66, 66),
    "vena cava": (66, 120, 200),
    "portal": (90, 160, 220),
    "right adrenal": (120, 200, 140),
    "left adrenal": (84, 172, 120),
    "adrenal": (102, 186, 130),
    "gallbladder": (122, 178, 66),
    "esophagus": (206, 146, 130),
    "stomach": (230, 130, 160),
    "duodenum": (250, 180, 130),
    "colon": (204, 168, 143),
    "bowel": (232, 190, 160),
    "bladder": (222, 200, 100),
    "lung": (150, 190, 220),
    "heart": (200, 70, 90),
    "tumor": (70, 220, 220),
    "tumour": (70, 220, 220),
    "lesion": (70, 220, 220),
}


def colour(value: int, name: str) -> Colour:
    """The colour of a label."""
    for words, rgb in _ORGANS.items():
        if words in name.lower().replace("_", " ").replace("oesophagus", "esophagus"):
            r, g, b = rgb
            return r / 255, g / 255, b / 255
    # Hues go round by the golden angle, so that neighbouring numbers differ.
    return colorsys.hsv_to_rgb(value * 137.508 % 360 / 360, 0.65, 1.0)


def colormap(names: dict[int, str]) -> dict[int | None, tuple[float, ...]]:
    """napari's direct colormap of labels; the background is not seen."""
    colours: dict[int | None, tuple[float, ...]] = {None: (0.0, 0.0, 0.0, 0.0)}
    for value, name in names.items():
        colours[value] = (*colour(value, name), 1.0) if value else (0.0, 0.0, 0.0, 0.0)
    return colours
