"""Segments a CT in napari and saves two pictures of the window: a slice, and the organs' surfaces
before the bones.

usage: screenshot.py SLICE.png SURFACES.png CT MODEL
"""

from __future__ import annotations

import sys

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QEventLoop, QTimer


def main(slice_png: str, surfaces_png: str, ct: str, model: str) -> None:
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open(ct, plugin="napari-flare")
    _, widget = viewer.window.add_plugin_dock_widget("napari-flare", "Segment (nnU-Net)")
    widget.model.setText(model)
    widget.run_button.click()
    while widget.organs.topLevelItemCount() == 0:
        live(50)
    image, labels = viewer.layers

    # The slice with most organs, and the name of what is in the middle of the liver's part.
    best = max(range(len(labels.data)), key=lambda z: len(np.unique(labels.data[z])))
    liver = np.argwhere(labels.data[best] == 1)
    viewer.dims.set_point(0, labels.data_to_world((best, 0, 0))[0])
    viewer.camera.zoom *= 1.15
    labels.opacity = 0.55
    live(500)
    at = labels.data_to_world((best, *liver[len(liver) // 2]))
    viewer.status = labels.get_status(at, world=True)
    save(viewer, slice_png)

    viewer.dims.ndisplay = 3
    viewer.status = ""
    labels.opacity = 1
    image.contrast_limits_range = image.contrast_limits = (100, 900)
    viewer.camera.set_view_direction(view_direction=(-0.15, 1, 0.4), up_direction=(1, 0, 0))
    live(2000)
    save(viewer, surfaces_png)
    viewer.close()


def save(viewer: napari.Viewer, path: str) -> None:
    """256 colours are enough for grey, organs and the window, and make a small file."""
    pixels = viewer.screenshot(canvas_only=False, flash=False)
    Image.fromarray(pixels).convert("RGB").quantize(
        256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    ).save(path, optimize=True)


def live(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


if __name__ == "__main__":
    main(*sys.argv[1:])
