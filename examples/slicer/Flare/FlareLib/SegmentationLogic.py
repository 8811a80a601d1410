"""Segments a volume of the scene while Slicer stays usable."""

from collections.abc import Callable
from typing import Any

from . import Segmentation, Volume
from .Parameter import Parameter
from .Signal import Signal
from .Task import DeviceSearch, Task

INTERVAL = 50  # ms between two looks at the task

PHASES = {
    "open": "Opening the model",
    "read": "Reading the volume",
    "preprocess": "Preparing the volume",
    "network": "Running the network",
    "export": "Making labels",
}


def qtTimer(function: Callable[[], None]) -> Any:
    """A timer that calls a function on the main thread between start() and stop()."""
    import qt

    timer = qt.QTimer()
    timer.setInterval(INTERVAL)
    timer.connect("timeout()", function)
    return timer


class SegmentationLogic:
    """One segmentation at a time, on a thread of its own; the scene is touched on the main thread
    alone, where all methods are called and all signals come."""

    def __init__(self, makeTimer: Callable[[Callable[[], None]], Any] = qtTimer) -> None:
        self.progressInfo = Signal()  # fraction 0..1, what is being done
        self.warningOccurred = Signal()  # text
        self.inferenceFinished = Signal()  # the new segmentation node
        self.inferenceCancelled = Signal()
        self.errorOccurred = Signal()  # text; ends a run, as the two above do
        self.devicesFound = Signal()  # names
        self._task: Task | None = None
        self._search: DeviceSearch | None = None
        self._volume: Any = None
        self._told: object = None
        self._timer = makeTimer(self.tick)

    @property
    def running(self) -> bool:
        return self._task is not None

    def startSegmentation(self, parameter: Parameter, volume: Any) -> None:
        """Begins to segment a volume node. What is wrong with either is told by errorOccurred."""
        if self.running:
            self.errorOccurred.emit("A segmentation is running. Cancel it, or wait for its end.")
            return
        if not parameter.modelPath:
            self.errorOccurred.emit(
                "Choose a model: a bundle (.onnx), an nnU-Net results folder, or a list (.json)."
            )
            return
        try:
            image = Volume.read(volume)
        except Volume.VolumeError as error:
            self.errorOccurred.emit(str(error))
            return
        self._volume, self._told = volume, None
        self._task = Task(image, parameter)
        self._task.start()
        self._timer.start()

    def stopSegmentation(self) -> None:
        """Cancels the run; inferenceCancelled tells when it has ended, within a network tile."""
        if self._task is not None:
            self._task.cancel()

    def findDevices(self, separateProcess: bool) -> None:
        """Looks for devices; devicesFound tells which there are."""
        self._search = DeviceSearch(separateProcess)
        self._timer.start()

    def cleanup(self) -> None:
        """Cancels the run without waiting for its end, and tells nothing any more."""
        self._timer.stop()
        if self._task is not None:
            self._task.cancel()
        self._task = self._search = self._volume = None

    def tick(self) -> None:
        """Looks at what the threads have done. The timer's."""
        if self._search is not None and self._search.finished:
            search, self._search = self._search, None
            self.devicesFound.emit(search.names)
        if self._task is not None:
            self._look(self._task)
        if self._task is None and self._search is None:
            self._timer.stop()

    def _look(self, task: Task) -> None:
        gone = self._volume.GetScene() is None
        if not task.finished:
            if gone or task.cancelled:
                task.cancel()
            if task.progress != self._told:
                self._told = fraction, phase = task.progress
                self.progressInfo.emit(
                    fraction, "Cancelling" if task.cancelled else PHASES.get(phase, phase)
                )
            return
        volume, self._task, self._volume = self._volume, None, None
        if gone:
            self.errorOccurred.emit(
                f"{volume.GetName()} was removed while it was segmented: there is no result."
            )
        elif task.cancelled:
            self.inferenceCancelled.emit()
        elif task.error:
            self.errorOccurred.emit(task.error)
        else:
            self._finish(task, volume)

    def _finish(self, task: Task, volume: Any) -> None:
        data = volume.GetImageData()
        if data is None or data.GetDimensions()[::-1] != task.image.voxels.shape:
            self.errorOccurred.emit(
                f"{volume.GetName()} got voxels of another size while it was segmented: there is no result."
            )
            return
        warnings = list(task.result.warnings)
        if task.image.changed(volume):
            warnings.append(
                f"The voxels of {volume.GetName()} were changed while it was segmented."
            )
        if not task.result.names:
            warnings.append("The model found nothing in this volume.")
        node = Segmentation.write(volume, task.labels, task.result.names)
        for text in warnings:
            self.warningOccurred.emit(text)
        self.inferenceFinished.emit(node)
