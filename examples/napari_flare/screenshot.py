"""Segments a synthetic CT in napari and saves a picture of the window: slices and surfaces.

usage: screenshot.py OUT.png CT.nii.gz MODEL
"""

from __future__ import annotations

import sys

import napari
from qtpy.QtCore import QEventLoop, QTimer


def main(out: str, ct: str, model: str) -> None:
    viewer = napari.Viewer(title="napari")
    viewer.window.resize(1280, 800)
    viewer.open(ct, plugin="napari-flare")
    _, widget = viewer.window.add_plugin_dock_widget("napari-flare", "Segment (nnU-Net)")
    widget.model.setText(model)
    widget.run_button.click()
    while not widget.run_button.isEnabled():
        live(50)
    image, labels = viewer.layers
    viewer.dims.ndisplay = 3
    labels.rendering = "iso_categorical"
    labels.opacity = 1
    viewer.camera.angles = (0, -25, 115)
    live(2000)
    viewer.screenshot(out, canvas_only=False, flash=False)
    viewer.close()


def live(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


if __name__ == "__main__":
    main(*sys.argv[1:])
