"""The widget's thread."""

from __future__ import annotations

from typing import Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from ._segmenter import Job, Segmenter, volumes


class Signals(WorkerBaseSignals):
    progress = Signal(float, str)  # fraction of the whole, phase
    doubted = Signal(str)  # why the labels may be worthless
    segmented = Signal(object)  # a Result
    measured = Signal(dict)  # millilitres by label


class Worker(WorkerBase):
    """Runs a job on one of napari's threads. Its signals arrive on the window's."""

    def __init__(self, segmenter: Segmenter, job: Job) -> None:
        super().__init__(SignalsClass=Signals)
        self._segmenter, self._job = segmenter, job

    def work(self) -> Any:
        signals = self.signals
        result = self._segmenter.run(
            self._job,
            signals.progress.emit,
            signals.doubted.emit,
            lambda: bool(self.abort_requested),
        )
        if not self.abort_requested:
            signals.segmented.emit(result)
            signals.measured.emit(volumes(result.labels, self._job.geometry))

    def quit(self) -> None:
        """Cancels, also when napari asks all its workers to end."""
        super().quit()
        self._segmenter.cancel()
