"""What napari adds to the library's call, and how long its window does not answer.

usage: overhead.py MODEL [FLARE]      FLARE: the command line, which makes the CT

Opens a synthetic CT of 512 x 512 x 168 voxels, and clicks Run three times. Overhead is the time
from the click to the labels layer in the viewer, less the time of the call itself
(flare_model_stats: total), and less that of opening the model. Frozen is the longest time that a
timer of the window, due every 5 ms, waited.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
from flare import _arrays
from napari.layers import Labels
from qtpy.QtCore import QEventLoop, QTimer


def main(model: str, cli: str = "flare") -> None:
    seen: list[int] = []
    volume = _arrays.volume

    def spy(voxels: Any, *rest: Any) -> Any:
        made = volume(voxels, *rest)
        seen.append(made.data)
        return made

    _arrays.volume = spy  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cli, "phantom", folder, "--size", "clinical"], check=True)
        (ct,) = (Path(folder) / "imagesTr").iterdir()
        viewer = napari.Viewer()
        start = time.perf_counter()
        (image,) = viewer.open(ct, plugin="napari-flare")
        print(
            f"{image.data.shape} {image.data.dtype}; opened in {time.perf_counter() - start:.2f} s"
        )
    _, widget = viewer.window.add_plugin_dock_widget("napari-flare", "Segment (nnU-Net)")
    widget.model.setText(model)
    live(lambda: widget.device.count() > 1)

    for run in range(3):
        added: list[float] = []
        viewer.layers.events.inserted.connect(lambda: added.append(time.perf_counter()))
        start = time.perf_counter()
        widget.run_button.click()
        frozen = live(widget.run_button.isEnabled)
        (labels,) = (layer for layer in viewer.layers if isinstance(layer, Labels))
        seconds = labels.metadata["flare"]["stats"]["seconds"]
        opening = seconds["open"] if run == 0 else 0.0
        elapsed = added[0] - start
        print(
            f"run {run + 1}: {elapsed:.3f} s from click to labels; opening the model {opening:.3f} s, "
            f"the call {seconds['total']:.3f} s; overhead {elapsed - opening - seconds['total']:.3f} s; "
            f"window frozen for {1000 * frozen:.0f} ms at most"
        )
        if run < 2:
            viewer.layers.remove(labels)
            live(lambda end=time.perf_counter() + 1: time.perf_counter() > end)
    same = set(seen) == {image.data.ctypes.data} and len(np.unique(labels.data)) > 10
    print("the call read the layer's own voxels" if same else "FAILED: the voxels were copied")

    widget.run_button.click()
    live(lambda: widget.bar.value() > 200)
    start = time.perf_counter()
    widget.cancel_button.click()
    live(widget.run_button.isEnabled)
    print(f"cancelled in {time.perf_counter() - start:.2f} s: {widget.status.text()}")
    viewer.close()
    sys.exit(not same)


def live(until: Any) -> float:
    """Lets the window live until something is so; returns the longest time in seconds that it
    did not answer."""
    loop = QEventLoop()
    last, longest = time.perf_counter(), 0.0

    def beat() -> None:
        nonlocal last, longest
        now = time.perf_counter()
        last, longest = now, max(longest, now - last)
        if until():
            loop.quit()

    timer = QTimer()
    timer.timeout.connect(beat)
    timer.start(5)
    loop.exec()
    return longest


if __name__ == "__main__":
    main(*sys.argv[1:])
