"""Whole runs with the real library; the command line, which reads the same files, is the oracle."""

import importlib
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import slicer

from .Utils import FlareTestCase, Run, command, flare13, labelsOf, load, model, needed, transform
from .SegmentationTestCase import ORGANS
from FlareLib import Library


class LogicTestCase(FlareTestCase):
    @classmethod
    def setUpClass(cls):
        import SimpleITK as sitk

        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.model = model()
        command("phantom", cls.folder)
        cls.phantom = (
            cls.folder / "imagesTr" / "phantom_0000_0000.nii.gz"
        )  # LPS, 118 x 118 x 124, 6 tiles
        cls.image = sitk.ReadImage(str(cls.phantom))[11:107, 11:107, 24:104]  # one tile
        cls.small = cls.folder / "small.nii.gz"
        sitk.WriteImage(cls.image, str(cls.small))

    def same(self, path, bundle, **parameter):
        """Slicer's labels are the command line's, voxel by voxel; gives the run."""
        out = self.folder / "labels.nii.gz"
        command("segment", "-m", bundle, path, out)
        node, want = load(path), load(out)
        run = Run().start(node, modelPath=bundle, **parameter).wait()
        self.assertEqual((run.ended, run.error), ("finished", ""))
        got, want = labelsOf(run.node, node), slicer.util.arrayFromVolume(want)
        self.assertGreater(np.count_nonzero(want), 1000)
        np.testing.assert_array_equal(got, want)
        return run

    def testOrientations(self):
        """Axial stacks as scanners and as archives store them; oblique and permuted."""
        import SimpleITK as sitk

        a = np.deg2rad(10)
        turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        oblique = sitk.Image(self.image)
        oblique.SetDirection((turn @ [[0, 0, -1], [-1, 0, 0], [0, 1, 0]]).ravel())
        images = {"LPS": self.image, "RAS": sitk.DICOMOrient(self.image, "RAS"), "oblique": oblique}
        for name, image in images.items():
            with self.subTest(name):
                path = self.folder / f"{name}.nii.gz"
                sitk.WriteImage(image, str(path))
                run = self.same(path, self.model)
                self.assertEqual(run.warnings, [])

    def testProgress(self):
        run = Run().start(load(self.phantom), modelPath=self.model).wait()
        fractions, phases = zip(*run.progress, strict=True)
        self.assertEqual(list(fractions), sorted(fractions))
        self.assertIn("Running the network", phases)
        segments = run.node.GetSegmentation()
        for i in range(segments.GetNumberOfSegments()):
            segment = segments.GetNthSegment(i)
            self.assertEqual(segment.GetName(), list(ORGANS)[segment.GetLabelValue() - 1])

    def testARealCT(self):
        path = needed("FLARE_DATA", "ct_totalsegmentator", "example_ct.nii.gz")
        self.same(path, flare13(self.folder))

    def testInAnotherProcess(self):
        run = self.same(self.small, self.model, separateProcess=True)
        self.assertIn("Running the network", [text for _, text in run.progress])

    def testUnderARigidTransform(self):
        """Labels belong to voxels: those of the volume without the transform."""
        node = load(self.small)
        want = labelsOf(Run().start(node, modelPath=self.model).wait().node, node)
        turn = np.eye(4)
        turn[:2, :2], turn[:3, 3] = [[0.8, -0.6], [0.6, 0.8]], (10, 20, 30)
        node.SetAndObserveTransformNodeID(transform(turn).GetID())
        run = Run().start(node, modelPath=self.model).wait()
        np.testing.assert_array_equal(labelsOf(run.node, node), want)

    def testCancelAndRunAgain(self):
        node = load(self.phantom)
        for separate in (False, True):
            with self.subTest(separate=separate):
                run = Run().start(node, modelPath=self.model, separateProcess=separate)
                run.until(lambda: any(text == "Running the network" for _, text in run.progress))
                run.logic.stopSegmentation()
                run.wait()
                self.assertEqual(run.ended, "cancelled")
                self.assertEqual(
                    slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0
                )
                run.start(load(self.small), modelPath=self.model, separateProcess=separate).wait()
                self.assertEqual(run.ended, "finished")
                slicer.mrmlScene.RemoveNode(run.node)

    def testCancelBeforeItBegins(self):
        run = Run().start(load(self.small), modelPath=self.model)
        run.logic.stopSegmentation()
        self.assertEqual(run.wait().ended, "cancelled")

    def testTheModelStaysOpen(self):
        node = load(self.small)
        Run().start(node, modelPath=self.model).wait()
        with Library.model(self.model, "auto", "exact") as first:
            pass
        Run().start(node, modelPath=self.model).wait()
        with Library.model(self.model, "auto", "exact") as again:
            self.assertIs(again, first)
        with Library.model(self.model, "cpu", "exact") as other:
            self.assertIsNot(other, first)
            self.assertIn("closed", repr(first))

    def testReloadingTheModuleKeepsLibraryAndModel(self):
        with Library.model(self.model, "auto", "exact") as first:
            pass
        with mock.patch.dict(sys.modules):
            for name in [name for name in sys.modules if name.partition(".")[0] == "FlareLib"]:
                del sys.modules[name]
            reloaded = importlib.import_module("FlareLib.Library")
            self.assertIsNot(reloaded, Library)
            with reloaded.model(self.model, "auto", "exact") as second:
                self.assertIs(second, first)
        maps = Path("/proc/self/maps")
        if maps.exists():
            files = {path for path in (line.split()[-1] for line in maps.read_text().splitlines()) if Path(path).name.startswith("libflare.")}
            self.assertEqual(len(files), 1)

    def testAModelThatIsReplacedIsOpenedAgain(self):
        copy = self.folder / "copy.onnx"
        copy.write_bytes(Path(self.model).read_bytes())
        with Library.model(str(copy), "auto", "exact") as first:
            pass
        (self.folder / "new.onnx").write_bytes(copy.read_bytes())
        (self.folder / "new.onnx").replace(copy)
        with Library.model(str(copy), "auto", "exact") as again:
            self.assertIsNot(again, first)

    def testFastMode(self):
        node = load(self.small)
        run = Run().start(node, modelPath=self.model, mode="fast").wait()
        self.assertEqual(run.ended, "finished")
