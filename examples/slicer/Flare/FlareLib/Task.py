"""What runs beside Slicer's main thread. Nothing here touches the scene."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from . import Engine, Library
from .Parameter import Parameter
from .Volume import Image

CHILD = Path(__file__).with_name("Child.py")


class Cancelled(Exception):
    pass


class Task:
    """A thread that segments an image. The main thread looks at progress and finished from time
    to time, and may call cancel; afterwards error or labels and result tell what came out."""

    def __init__(self, image: Image, parameter: Parameter) -> None:
        self.image = image  # held here too, so that no thread but the main one gives it up
        self.parameter = parameter
        self.progress = (0.0, "open")
        self.labels: Any = None  # a vtkDataArray with the label of every voxel
        self.result = Engine.Result({}, [])
        self.error = ""
        self._stop = threading.Event()
        self._model: Any = None
        self._process: Any = None
        self._thread = threading.Thread(target=self._run, name="Flare segmentation")

    def start(self) -> None:
        self._thread.start()

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ends it within a network tile; returns at once. May be called again: the model's cancel
        reaches only a call that has begun."""
        self._stop.set()
        model, process = self._model, self._process
        if model is not None:
            Library.cancel(model)
        if process is not None:
            process.kill()

    def _run(self) -> None:
        try:
            self._check()
            self.result = self._inOtherProcess() if self.parameter.separateProcess else self._here()
        except (Cancelled, Library.LibraryError) as error:
            self.error = str(error)
        except Exception as error:
            known = type(error).__module__.split(".")[0] == "flare"  # its messages say all
            self.error = str(error) if known else traceback.format_exc()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Cancelled

    def _report(self, fraction: float, phase: str) -> bool:
        self.progress = (fraction, phase)
        return self._stop.is_set()

    def _allocate(self, dtype: type) -> np.ndarray:
        """Memory for labels that VTK owns."""
        scalars = vtk.vtkUnsignedCharArray() if dtype == np.uint8 else vtk.vtkUnsignedShortArray()
        scalars.SetName("labels")
        scalars.SetNumberOfTuples(self.image.voxels.size)
        self.labels = scalars
        return vtk_to_numpy(scalars).reshape(self.image.voxels.shape)

    def _here(self) -> Engine.Result:
        image, p = self.image, self.parameter
        geometry = image.spacing, image.origin, image.direction
        with Library.model(p.modelPath, p.device, p.mode) as model:
            self._model = model
            try:
                self._check()
                return Engine.segment(
                    model, image.voxels, *geometry, image.modality, self._allocate, self._report
                )
            finally:
                self._model = None  # the next user's calls are not ours to cancel

    def _inOtherProcess(self) -> Engine.Result:
        image, p = self.image, self.parameter
        with tempfile.TemporaryDirectory(prefix="flare-") as name:
            folder = Path(name)
            np.save(folder / "voxels.npy", image.voxels)
            task = {
                "model": [p.modelPath, p.device, p.mode],
                "geometry": [image.spacing, image.origin, image.direction],
                "modality": image.modality,
            }
            (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
            answer = self._converse(str(folder))
            labels = np.load(folder / "labels.npy", mmap_mode="r")
            self._allocate(labels.dtype.type)[:] = labels
            del labels  # Windows removes no mapped file
        names = {int(value): name for value, name in answer["names"].items()}
        return Engine.Result(names, answer["warnings"])

    def _converse(self, argument: str) -> dict[str, Any]:
        """Runs the child to its end; gives its last line."""
        answer: dict[str, Any] = {}
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [python(), str(CHILD), argument], stdout=subprocess.PIPE, stderr=errors, text=True
            )
            with self._process as process:
                if self._stop.is_set():
                    process.kill()
                for line in process.stdout:
                    answer = json.loads(line)
                    if "progress" in answer:
                        self.progress = tuple(answer["progress"])
            self._check()
            if "error" in answer:
                raise Library.LibraryError(answer["error"])
            if process.returncode or "names" not in answer:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace")[-2000:]
                raise Library.LibraryError(
                    f"The process of libflare ended by itself, with status {process.returncode}.\n{said}"
                )
        return answer


class DeviceSearch:
    """A thread that asks libflare for the devices: names, or none where it is missing; Apply
    tells more then."""

    def __init__(self, separateProcess: bool) -> None:
        self.names: list[str] = []
        self._separate = separateProcess
        self._thread = threading.Thread(target=self._run, name="Flare devices", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            if self._separate:
                command = [python(), str(CHILD), "devices"]
                answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
                self.names = json.loads(answer.stdout)["devices"]
            else:
                self.names = Library.devices()
        except Exception:
            self.names = []


def python() -> str:
    """Slicer's Python as a program."""
    return shutil.which("PythonSlicer") or sys.executable
