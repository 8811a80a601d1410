"""The widget's threads."""

from __future__ import annotations

from typing import Any

import flare
import numpy as np
from flare.organs import colour
from napari.layers import Labels
from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from ._geometry import METADATA
from ._segmenter import Job, Segmenter


def prepare() -> dict[str, Any]:
    """Loads the library and what napari loads with its first labels, of which the window would
    stand still; returns the devices."""
    Labels(np.zeros((1, 1, 1), np.uint8), features={"index": [0], "name": [""]})
    return flare.devices()


def colormap(names: dict[int, str]) -> dict[int | None, tuple[float, ...]]:
    """napari's direct colormap of labels; the background is not seen."""
    unseen = (0.0, 0.0, 0.0, 0.0)
    colours: dict[int | None, tuple[float, ...]] = {None: unseen, 0: unseen}
    for value, name in names.items():
        if value:
            colours[value] = (*(part / 255 for part in colour(value, name)), 1.0)
    return colours


class Signals(WorkerBaseSignals):
    progress = Signal(float, str)  # fraction of the whole, phase
    doubted = Signal(str)  # why the labels may be worthless
    segmented = Signal(object)  # the labels layer


class Worker(WorkerBase):
    """Runs a job on one of napari's threads and makes a layer of its result, which goes to where
    the arguments say. Its signals arrive on the window's thread."""

    def __init__(self, segmenter: Segmenter, job: Job, where: dict[str, Any]) -> None:
        super().__init__(SignalsClass=Signals)
        self._segmenter, self.job, self._where = segmenter, job, where

    def work(self) -> Any:
        signals = self.signals
        result = self._segmenter.run(
            self.job,
            signals.progress.emit,
            signals.doubted.emit,
            lambda: bool(self.abort_requested),
        )
        names = result.names
        layer = Labels(
            result.labels,
            name=f"{self.job.layer} labels",
            features={"index": list(names), "name": list(names.values())},
            colormap=colormap(names),
            metadata={METADATA: {"model": result.description, "stats": result.stats}},
            **self._where,
        )
        if not self.abort_requested:
            signals.segmented.emit(layer)

    def quit(self) -> None:
        """Cancels, also when napari asks all its workers to end."""
        super().quit()
        self._segmenter.cancel()
