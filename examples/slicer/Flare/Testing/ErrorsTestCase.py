"""What goes wrong is told, and leaves everything usable."""

import importlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import slicer
import vtk

from .Utils import MODULE, FlareTestCase, Run, model, until, volume


def ct(shape=(4, 5, 6)):
    """A volume that is air but for one voxel."""
    voxels = np.full(shape, -1000, np.int16)
    voxels[1, 1, 1] = 50
    return voxels


class ErrorsTestCase(FlareTestCase):
    def told(self, node, *words, **parameter):
        run = Run().start(node, **parameter).wait()
        self.assertEqual(run.ended, "error")
        for word in words:
            self.assertIn(word, run.error)
        self.assertFalse(run.logic.running)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def testNothingChosen(self):
        self.told(volume(ct()), "Choose a model")
        self.told(None, "Choose a volume", modelPath="any.onnx")

    def testVolumesThatAreRefused(self):
        sheared = np.eye(4)
        sheared[1, 2] = 0.1
        self.told(volume(ct(), sheared, "tilted"), "tilted", "right angles", modelPath="any.onnx")

    def testModelsThatAreNone(self):
        node = volume(ct())
        with tempfile.TemporaryDirectory() as folder:
            missing, broken = Path(folder) / "Lebermodell ä.onnx", Path(folder) / "broken.onnx"
            broken.write_bytes(b"no network")
            for separate in (False, True):
                self.told(node, str(missing), modelPath=str(missing), separateProcess=separate)
                self.told(node, str(broken), modelPath=str(broken), separateProcess=separate)
                self.told(node, folder, modelPath=folder, separateProcess=separate)

    def testANonASCIIPath(self):
        with tempfile.TemporaryDirectory(prefix="Größe 肝臓 ") as folder:
            path = Path(folder) / "модель.onnx"
            path.write_bytes(Path(model()).read_bytes())
            for separate in (False, True):
                run = (
                    Run()
                    .start(volume(ct((9, 10, 11))), modelPath=str(path), separateProcess=separate)
                    .wait()
                )
                self.assertEqual((run.ended, run.error), ("finished", ""))

    def testADeviceThatIsNotThere(self):
        self.told(volume(ct()), "tpu", modelPath=model(), device="tpu")

    def testAModelOfSeveralChannels(self):
        class TwoChannels(Exception):
            pass

        TwoChannels.__module__ = "flare"
        fake = self.useFake()
        fake.Model.segment = mock.Mock(side_effect=TwoChannels("the model takes 2 channels"))
        self.told(volume(ct()), "the model takes 2 channels", modelPath="two.onnx")

    def testADefectIsToldWithItsPlace(self):
        fake = self.useFake()
        fake.Model.segment = mock.Mock(side_effect=ZeroDivisionError("oops"))
        self.told(volume(ct()), "Traceback", "ZeroDivisionError: oops", modelPath="any.onnx")

    def testCancelOfAModelThatIsClosed(self):
        fake = self.useFake()
        fake.Model.cancel = mock.Mock(side_effect=fake.HandleError("the model is closed"))
        run = Run().start(volume(ct()), modelPath="any.onnx").until(fake.begun.is_set)
        run.logic.stopSegmentation()
        self.assertEqual(run.wait().ended, "cancelled")

    def testOneAtATime(self):
        fake = self.useFake()
        run, node = Run(), volume(ct())
        run.start(node, modelPath="any.onnx").start(node, modelPath="any.onnx")
        self.assertEqual((run.ended, "running" in run.error), ("error", True))
        fake.go.set()
        until(lambda: not run.logic.running)
        self.assertIsNotNone(run.node)


class ModalityTestCase(FlareTestCase):
    def warnings(self, voxels, modality="", **description):
        self.useFake(**description).go.set()
        node = volume(voxels)
        if modality:
            code = slicer.vtkCodedEntry()
            code.SetValueSchemeMeaning({"CT": "112031", "MR": "110852"}[modality], "DCM", "")
            node.SetVoxelValueQuantity(code)
        run = Run().start(node, modelPath="any.onnx").wait()
        self.assertEqual(run.ended, "finished")  # they are only warnings
        return " ".join(run.warnings)

    def testTheModalityIsTold(self):
        """As DICOM has it, or by the values; flare.modality's own tests have the rules."""
        self.assertEqual(self.warnings(ct()), "")
        self.assertIn("lowest value of the image is 0", self.warnings(np.maximum(ct(), 0)))
        self.assertEqual(self.warnings(np.maximum(ct(), 0), "CT"), "")
        self.assertIn("modality is MR", self.warnings(ct(), "MR"))
        mr = {"channels": ["T2"], "normalization": ["ZScoreNormalization"]}
        self.assertIn("seems to be a CT", self.warnings(np.maximum(ct(), 0), "CT", **mr))


class WhileRunningTestCase(FlareTestCase):
    def setUp(self):
        super().setUp()
        self.fake = self.useFake()
        self.node = volume(ct(), name="ct")
        self.run_ = Run().start(self.node, modelPath="any.onnx").until(self.fake.begun.is_set)

    def end(self):
        self.fake.go.set()
        return self.run_.wait()

    def testAVolumeThatIsRemoved(self):
        slicer.mrmlScene.RemoveNode(self.node)
        self.run_.wait()  # it is cancelled
        self.assertIn("ct was removed", self.run_.error)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def testASceneThatIsClosed(self):
        slicer.mrmlScene.Clear()
        self.assertIn("ct was removed", self.run_.wait().error)

    def testAVolumeThatGetsAnotherSize(self):
        slicer.util.updateVolumeFromArray(self.node, ct((9, 9, 9)))
        self.assertIn("another size", self.end().error)
        self.assertEqual(self.run_.ended, "error")

    def testAVolumeThatLosesItsVoxels(self):
        self.node.SetAndObserveImageData(None)
        self.assertIn("another size", self.end().error)

    def testVoxelsThatChange(self):
        slicer.util.updateVolumeFromArray(self.node, ct())
        self.end()
        self.assertEqual(self.run_.ended, "finished")
        self.assertIn("were changed", " ".join(self.run_.warnings))

    def testAVolumeThatIsMoved(self):
        """The segmentation is where the volume is when it ends."""
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 100)
        self.node.SetIJKToRASMatrix(matrix)
        bounds = np.zeros(6)
        self.end().node.GetRASBounds(bounds)
        np.testing.assert_allclose(bounds, (99.5, 105.5, -0.5, 4.5, -0.5, 3.5))
        self.assertEqual(self.run_.warnings, [])

    def testTheModuleIsReloaded(self):
        """New code takes over: the old run ends without a word, libflare and the model stay."""
        kept = sys.modules["_flare_slicer"]
        old = {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] == "FlareLib"
        }
        self.run_.logic.cleanup()
        with mock.patch.dict(sys.modules):
            for name in old:
                del sys.modules[name]
            reloaded = importlib.import_module("FlareLib.SegmentationLogic")
            self.assertIsNot(reloaded, old["FlareLib.SegmentationLogic"])
            parameter = importlib.import_module("FlareLib.Parameter").Parameter(
                modelPath="any.onnx"
            )
            logic, nodes = reloaded.SegmentationLogic(), []
            logic.inferenceFinished.connect(nodes.append)
            self.fake.go.set()
            logic.startSegmentation(parameter, self.node)
            until(lambda: nodes)
            self.assertIs(importlib.import_module("FlareLib.Library")._kept(), kept)
        self.assertEqual(self.fake.opened, [("any.onnx", "auto", "exact")])  # once
        self.assertEqual(self.run_.ended, "")

    def testNothingIsCopied(self):
        voxels = self.fake.calls[0][0]
        self.assertTrue(np.shares_memory(voxels, slicer.util.arrayFromVolume(self.node)))
        self.end()


class LibraryTestCase(FlareTestCase):
    """In processes of their own, as libflare is loaded once."""

    def message(self, before, **environment):
        code = f"""
import os, sys
sys.path[:0] = [{str(MODULE)!r}]
{before}
from FlareLib import Library
try:
    Library.load()
except Library.LibraryError as error:
    print(error)
"""
        environment = {**os.environ, **environment}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def testThePackageIsMissing(self):
        text = self.message("sys.modules['flare'] = None")
        self.assertIn("libflare is missing in Slicer's Python", text)
        self.assertIn('slicer.util.pip_install("/path/to/libflare', text)

    def testThePythonIsTooOld(self):
        text = self.message("sys.modules['flare'] = None; sys.version_info = (3, 9)")
        self.assertIn("Slicer 5.10", text)

    def testTheLibraryIsMissing(self):
        text = self.message("", FLARE_LIBRARY="/nowhere/libflare.so.1")
        self.assertIn("/nowhere/libflare.so.1", text)
        self.assertIn("slicer.util.pip_install", text)

    def testTheLibraryIsAnother(self):
        import _ctypes  # any shared library without libflare's functions

        text = self.message("", FLARE_LIBRARY=_ctypes.__file__)
        self.assertIn("is no libflare that fits", text)

    def testTheWidgetsRunTellsIt(self):
        with mock.patch.dict(sys.modules, {"flare": None}):
            run = Run().start(volume(ct()), modelPath="any.onnx").wait()
        self.assertIn("libflare is missing", run.error)


class ProcessTestCase(FlareTestCase):
    """The separate process, where it goes wrong."""

    def run_(self, child):
        """A run with another program as the child."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "Child.py"
            path.write_text(child)
            with mock.patch("FlareLib.Task.CHILD", path):
                return Run().start(volume(ct()), modelPath="any.onnx", separateProcess=True).wait()

    def testItDies(self):
        run = self.run_("import os, sys; print('boom', file=sys.stderr, flush=True); os.abort()")
        self.assertIn("status -6", run.error)
        self.assertIn("boom", run.error)

    def testItEndsWithoutAnAnswer(self):
        self.assertIn("status 0", self.run_("").error)

    def testItIsKilledWithTheRun(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "Child.py"
            path.write_text(
                'import time; print(\'{"progress": [0.5, "network"]}\', flush=True); time.sleep(600)'
            )
            with mock.patch("FlareLib.Task.CHILD", path):
                run = Run().start(volume(ct()), modelPath="any.onnx", separateProcess=True)
                run.until(lambda: run.progress and run.progress[-1] == (0.5, "Running the network"))
                run.logic.stopSegmentation()
                self.assertEqual(run.wait().ended, "cancelled")

    def testNoThreadIsLeft(self):
        self.run_("")
        self.assertNotIn("Flare segmentation", [thread.name for thread in threading.enumerate()])
