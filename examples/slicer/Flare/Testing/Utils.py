"""What the test cases share. They run in Slicer, and in a Python with slicer-core, numpy and libflare:
python -m unittest discover -s Testing -t . -p "*TestCase.py" in this module's folder.

FLARE_TEST_MODEL names a bundle, FLARE_CLI the program flare, FLARE_DATA a folder of test data.
Tests that lack one of them are skipped, or fail if FLARE_REQUIRE_DATA is 1.
"""

import os
import subprocess
import sys
import time
import types
import unittest
from pathlib import Path
from unittest import mock

import flare.modality  # these stay the real ones where FakeFlare stands in for flare
import flare.organs
import numpy as np
import slicer
import slicer.util
import vtk

try:
    import qt
except ImportError:
    from . import QtStandIn

    QtStandIn.install()
    import qt

MODULE = Path(__file__).resolve().parent.parent
if str(MODULE) not in sys.path:
    sys.path.insert(0, str(MODULE))
if not hasattr(slicer, "mrmlScene"):
    slicer.mrmlScene = slicer.vtkMRMLScene()
    vtk.vtkLogger.SetStderrVerbosity(
        vtk.vtkLogger.VERBOSITY_OFF
    )  # it misses colour tables and the like

from FlareLib.Parameter import Parameter  # noqa: E402
from FlareLib.SegmentationLogic import SegmentationLogic  # noqa: E402


def needed(variable: str, *parts: str) -> Path:
    """The path that an environment variable names, or one below it."""
    path = Path(os.environ.get(variable, ""), *parts)
    if variable in os.environ and path.exists():
        return path
    if os.environ.get("FLARE_REQUIRE_DATA") == "1":
        raise AssertionError(f"{variable} is {os.environ.get(variable)!r}: there is no {path}")
    raise unittest.SkipTest(f"{variable} names no {'/'.join(parts) or 'file'}")


def model() -> str:
    return str(needed("FLARE_TEST_MODEL").resolve())


def flare13(folder: Path) -> str:
    """The real 13-organ network as a bundle in a folder."""
    source, bundle = needed("FLARE_DATA", "model_flare13_onnx"), folder / "flare13.onnx"
    command("convert", "--onnx", source / "model.onnx", "--plans", source / "plans.json",
            "--configuration", "3d_lowres", "--orientation", "LPS", bundle)  # fmt: skip
    return str(bundle)


def command(*arguments: object) -> None:
    """Runs the command line of libflare."""
    subprocess.run(
        [str(needed("FLARE_CLI")), *map(str, arguments)], check=True, capture_output=True
    )


def load(path: Path):
    """The volume node that Slicer makes of a file."""
    logic = slicer.vtkSlicerVolumesLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    return logic.AddArchetypeVolume(str(path), path.name.partition(".")[0], 0)


def volume(voxels: np.ndarray, ijkToRas: np.ndarray | None = None, name: str = "volume"):
    """A scalar volume node of a (z, y, x) array."""
    return slicer.util.addVolumeFromArray(voxels, ijkToRas, name)


def transform(matrix: np.ndarray):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "transform")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def labelsOf(segmentation, volumeNode) -> np.ndarray:
    """The label map that Slicer exports of a segmentation onto the grid of a volume, with the
    values of libflare."""
    ids = vtk.vtkStringArray()
    segments = segmentation.GetSegmentation()
    values = [0]
    for i in range(segments.GetNumberOfSegments()):
        ids.InsertNextValue(segments.GetNthSegmentID(i))
        values.append(segments.GetNthSegment(i).GetLabelValue())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    export = slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode
    assert export(segmentation, ids, node, volumeNode)
    exported = slicer.util.arrayFromVolume(node)  # numbered from 1 in the segments' order
    return np.array(values)[exported]


class Run:
    """A logic and what its signals told."""

    def __init__(self) -> None:
        self.logic = SegmentationLogic()
        self.progress: list = []
        self.warnings: list[str] = []
        self.node = None
        self.error = ""
        self.ended = ""
        self.logic.progressInfo.connect(lambda *told: self.progress.append(told))
        self.logic.warningOccurred.connect(self.warnings.append)
        self.logic.inferenceFinished.connect(self._finished)
        self.logic.inferenceCancelled.connect(lambda: self._end("cancelled"))
        self.logic.errorOccurred.connect(self._failed)

    def start(self, node, **parameter) -> "Run":
        self.ended, self.node, self.error = "", None, ""
        self.logic.startSegmentation(Parameter(**parameter), node)
        return self

    def wait(self) -> "Run":
        return self.until(lambda: self.ended)

    def until(self, condition) -> "Run":
        until(condition)
        return self

    def _finished(self, node) -> None:
        self.node = node
        self._end("finished")

    def _failed(self, text: str) -> None:
        self.error = text
        self._end("error")

    def _end(self, how: str) -> None:
        self.ended += how


def until(condition, seconds: float = 120) -> None:
    """Lets the main thread's events happen until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not end"
        (qt if hasattr(qt, "processEvents") else slicer.app).processEvents()
        time.sleep(0.002)


class FlareTestCase(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def useFake(self, **changes) -> "FakeFlare":
        """Makes `import flare` give a libflare that waits to be told what to do."""
        fake = FakeFlare(**changes)
        self.enterContext(mock.patch.dict(sys.modules, {"flare": fake}))
        self.enterContext(mock.patch.dict(sys.modules))
        sys.modules.pop("_flare_slicer", None)
        return fake


class FakeFlare(types.ModuleType):
    """A libflare of one label, 1 = "liver", at voxels above 0. Its call begins at once, and ends
    when `go` is set or it is cancelled."""

    class RuntimeMissingError(RuntimeError):
        pass

    class VersionError(RuntimeError):
        pass

    class HandleError(RuntimeError):
        pass

    def __init__(self, **description) -> None:
        import threading

        super().__init__("flare")
        self.go, self.begun, self.opened, self.calls = threading.Event(), threading.Event(), [], []
        labels = [{"name": "background", "value": 0}, {"name": "liver", "value": 1}]
        self.description = {
            "labels": labels,
            "channels": ["CT"],
            "normalization": ["CTNormalization"],
            **description,
        }
        fake = self

        class Model:
            def __init__(self, path, device, mode):
                fake.opened.append((path, device, mode))
                self.stop = False

            def describe(self):
                return fake.description

            def cancel(self):
                self.stop = True

            def close(self):
                fake.opened.remove(fake.opened[0])

            def segment(self, voxels, spacing, origin, direction, out, progress):
                fake.calls.append((voxels, spacing, origin, direction))
                self.stop = False
                fake.begun.set()
                while not fake.go.wait(0.005):
                    if progress(0.5, "network") or self.stop:
                        raise RuntimeError("cancelled")
                out[:] = voxels > 0

        self.Model = Model

    def load(self) -> None:
        pass

    def devices(self) -> dict:
        return {
            "devices": [{"name": "ort", "available": True}, {"name": "cuda", "available": False}]
        }
