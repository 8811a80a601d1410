"""What napari adds to the library's call, and how long its window does not answer.

usage: overhead.py MODEL [FLARE]      FLARE: the command line, which makes the CT

Opens a synthetic CT with slices of 512 x 512, and clicks Run three times, then once more and
Cancel. Overhead is the time from the click to the labels in the viewer, less that of the call
itself (flare_model_stats: total) and of opening the model. Frozen is the longest time that a
timer of the window, due every 5 ms, waited; where napari takes the new layer, it is given apart.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import napari
import numpy as np
from flare import _arrays
from qtpy.QtCore import QEventLoop, QTimer


def main(model: str, cli: str = "flare") -> None:
    read_at: list[int] = []
    volume = _arrays.volume

    def spy(voxels: Any, *rest: Any) -> Any:
        made = volume(voxels, *rest)
        read_at.append(made.data)
        return made

    _arrays.volume = spy  # type: ignore[assignment]
    viewer = napari.Viewer()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cli, "phantom", folder, "--size", "clinical"], check=True)
        (ct,) = (Path(folder) / "imagesTr").iterdir()
        start = time.perf_counter()
        (image,) = viewer.open(ct, plugin="napari-flare")
        print(
            f"{image.data.shape} {image.data.dtype}, opened in {time.perf_counter() - start:.2f} s"
        )
    _, widget = viewer.window.add_plugin_dock_widget("napari-flare", "Segment (nnU-Net)")
    widget.model.setText(model)
    live(lambda: widget.device.count() > 1)
    rest(1)

    taken: list[float] = []  # when the viewer began to take a layer, and had it
    viewer.layers.events.inserting.connect(lambda: taken.append(time.perf_counter()))
    viewer.layers.events.inserted.connect(lambda: taken.append(time.perf_counter()))
    for run in range(3):
        taken.clear()
        start = time.perf_counter()
        widget.run_button.click()
        beats = live(lambda: widget.organs.topLevelItemCount() > 0)
        labels = viewer.layers[-1]
        seconds = labels.metadata["flare"]["stats"]["seconds"]
        opening = seconds["open"] if run == 0 else 0.0
        elapsed, call = taken[1] - start, seconds["total"]
        adding = max(b - a for a, b in pairwise(beats) if a <= taken[1] and taken[0] <= b)
        frozen = max(b - a for a, b in pairwise(beats) if not (a <= taken[1] and taken[0] <= b))
        print(
            f"run {run + 1}: {elapsed:.3f} s from click to labels, the call {call:.3f} s, opening "
            f"the model {opening:.3f} s: overhead {elapsed - opening - call:.3f} s; frozen for "
            f"{1000 * frozen:.0f} ms at most, and {1000 * adding:.0f} ms as napari takes the layer"
        )
        if run < 2:
            viewer.layers.remove(labels)
            widget.organs.clear()
            rest(1)
    same = set(read_at) == {image.data.ctypes.data} and len(np.unique(labels.data)) > 10
    print("the call read the layer's own voxels" if same else "FAILED: the voxels were copied")

    widget.run_button.click()
    live(lambda: widget.bar.value() > 200)
    start = time.perf_counter()
    widget.cancel_button.click()
    live(widget.run_button.isEnabled)
    print(f"cancelled in {time.perf_counter() - start:.2f} s: {widget.status.text()}")
    viewer.close()
    sys.exit(not same)


def live(until: Callable[[], bool]) -> list[float]:
    """Lets the window live until something is so; returns when it answered."""
    loop, timer, beats = QEventLoop(), QTimer(), [time.perf_counter()]

    def beat() -> None:
        beats.append(time.perf_counter())
        if until():
            loop.quit()

    timer.timeout.connect(beat)
    timer.start(5)
    loop.exec()
    return beats


def rest(seconds: float) -> None:
    end = time.perf_counter() + seconds
    live(lambda: time.perf_counter() > end)


if __name__ == "__main__":
    main(*sys.argv[1:])
