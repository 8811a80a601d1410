"""Volume nodes as libflare sees them; SimpleITK, which reads the same files, is the oracle."""

import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk

from .Utils import FlareTestCase, load, transform, volume
from FlareLib import Volume

AXIAL_LPS = np.eye(3)
AXIAL_RAS = np.diag([-1.0, -1.0, 1.0])
# A coronal stack, turned by 20 degrees about the first axis; and with the last axis turned round,
# which Slicer undoes when it reads: its axes are always right-handed.
a = np.deg2rad(20)
TURN = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
OBLIQUE = TURN @ np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])
DIRECTIONS = {
    "LPS": AXIAL_LPS,
    "RAS": AXIAL_RAS,
    "oblique, permuted": OBLIQUE,
    "left-handed": OBLIQUE * (1, 1, -1),
}


def voxels(shape=(5, 6, 7)):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


class VolumeTestCase(FlareTestCase):
    def testGeometryIsThatOfTheFile(self):
        try:
            import SimpleITK as sitk
        except ImportError:
            self.skipTest("SimpleITK is missing")
        for name, direction in DIRECTIONS.items():
            for ending in ("nii.gz", "nrrd"):
                with self.subTest(name, ending=ending), tempfile.TemporaryDirectory() as folder:
                    image = sitk.GetImageFromArray(voxels())
                    image.SetSpacing((0.7, 0.8, 2.5))
                    image.SetOrigin((11.0, -20.0, 30.5))
                    image.SetDirection(direction.ravel())
                    path = Path(folder) / f"image.{ending}"
                    sitk.WriteImage(image, str(path))
                    image = sitk.ReadImage(str(path))
                    got = Volume.read(load(path))
                    np.testing.assert_allclose(got.spacing, image.GetSpacing(), rtol=1e-12)
                    if name != "left-handed":
                        np.testing.assert_array_equal(got.voxels, voxels())
                        np.testing.assert_allclose(got.origin, image.GetOrigin(), atol=1e-9)
                        np.testing.assert_allclose(got.direction, image.GetDirection(), atol=1e-9)
                    axes = np.reshape(got.direction, (3, 3)) * got.spacing
                    for z, y, x in np.ndindex(got.voxels.shape):  # every voxel is where it was
                        point = got.origin + axes @ (x, y, z)
                        index = image.TransformPhysicalPointToIndex(point.tolist())
                        self.assertEqual(got.voxels[z, y, x], image.GetPixel(index))

    def testVoxelsAreNotCopied(self):
        for dtype in ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8"):
            node = volume(voxels().astype(dtype))
            got = Volume.read(node)
            self.assertEqual(got.voxels.dtype, np.dtype(dtype))
            self.assertTrue(np.shares_memory(got.voxels, slicer.util.arrayFromVolume(node)))

    def testVoxelsOutliveTheNode(self):
        """Whatever happens to the node, the memory stays as it was, and changed() tells."""

        def remove(node):
            slicer.mrmlScene.RemoveNode(node)

        def resize(node):  # in place: VTK reuses memory that is nobody else's
            node.GetImageData().SetDimensions(40, 40, 40)
            node.GetImageData().AllocateScalars(vtk.VTK_SHORT, 1)

        def replace(node):
            slicer.util.updateVolumeFromArray(node, np.zeros((9, 9, 9), np.int16))

        def empty(node):
            node.SetAndObserveImageData(None)

        for change in (remove, resize, replace, empty):
            with self.subTest(change.__name__):
                node = volume(voxels())
                got = Volume.read(node)
                self.assertFalse(got.changed(node))
                change(node)
                self.assertEqual(got.changed(node), change is not remove)
                del node
                for _ in range(20):  # of the same size: they would get freed memory
                    volume(np.full((5, 6, 7), -1, np.int16))
                np.testing.assert_array_equal(got.voxels, voxels())

    def testWritingToTheVoxelsIsSeen(self):
        node = volume(voxels())
        got = Volume.read(node)
        node.GetImageData().GetScalarRange()  # computes and keeps something; changes no voxel
        self.assertFalse(got.changed(node))
        slicer.util.arrayFromVolume(node)[0] = 7
        slicer.util.arrayFromVolumeModified(node)
        self.assertTrue(got.changed(node))

    def testLinearTransformsMoveAndScale(self):
        """A volume under two transforms has the geometry of the same volume with both hardened."""
        turn = np.eye(4)
        turn[:3, :3], turn[:3, 3] = TURN, (5, 6, 7)
        scale = np.diag([2.0, 1, 1, 1])
        ijkToRas = np.array([[-0.7, 0, 0, 1], [0, -0.8, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])
        node, hardened = volume(voxels(), ijkToRas), volume(voxels(), turn @ scale @ ijkToRas)
        inner, outer = transform(scale), transform(turn)
        inner.SetAndObserveTransformNodeID(outer.GetID())
        node.SetAndObserveTransformNodeID(inner.GetID())
        got, want = Volume.read(node), Volume.read(hardened)
        np.testing.assert_allclose(got.spacing, (1.4, 0.8, 2.5), atol=1e-12)
        np.testing.assert_allclose(got.spacing, want.spacing, atol=1e-12)
        np.testing.assert_allclose(got.origin, want.origin, atol=1e-12)
        np.testing.assert_allclose(got.direction, want.direction, atol=1e-12)

    def testARigidTransformLeavesTheSpacingDigitForDigit(self):
        turn = np.eye(4)
        turn[:3, :3] = TURN
        node = volume(voxels(), np.diag([0.7, 0.3, 1.1, 1]))
        node.SetAndObserveTransformNodeID(transform(turn).GetID())
        self.assertEqual(Volume.read(node).spacing, (0.7, 0.3, 1.1))

    def testModalityOfADicomImport(self):
        node = volume(voxels())
        self.assertEqual(Volume.read(node).modality, "")
        code = slicer.vtkCodedEntry()
        code.SetValueSchemeMeaning("112031", "DCM", "Attenuation Coefficient")
        node.SetVoxelValueQuantity(code)
        self.assertEqual(Volume.read(node).modality, "CT")
        other = volume(voxels())
        tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        item = tree.CreateItem(tree.GetSceneItemID(), other)
        tree.SetItemAttribute(item, "DICOM.Modality", "PT")
        self.assertEqual(Volume.read(other).modality, "PT")


class RefusedVolumeTestCase(FlareTestCase):
    def refused(self, node, *words):
        with self.assertRaises(Volume.VolumeError) as caught:
            Volume.read(node)
        for word in words:
            self.assertIn(word, str(caught.exception))

    def testNothing(self):
        self.refused(None, "Choose a volume")

    def testWithoutVoxels(self):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        self.refused(node, "empty", "no voxels")

    def testOtherNodes(self):
        scene = slicer.mrmlScene
        self.refused(scene.AddNewNodeByClass("vtkMRMLSequenceNode", "beats"), "beats", "sequence")
        self.refused(
            scene.AddNewNodeByClass("vtkMRMLModelNode", "bone"), "bone", "vtkMRMLModelNode"
        )
        labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        slicer.util.updateVolumeFromArray(labels, voxels())
        self.refused(labels, "labels", "label map")

    def testColoursAndVectors(self):
        for kind in (
            "vtkMRMLVectorVolumeNode",
            "vtkMRMLScalarVolumeNode",
            "vtkMRMLDiffusionWeightedVolumeNode",
        ):
            data = vtk.vtkImageData()
            data.SetDimensions(4, 5, 6)
            data.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
            node = slicer.mrmlScene.AddNewNodeByClass(kind, "photo")
            node.SetAndObserveImageData(data)
            self.refused(node, "photo", "3 values in every voxel")

    def testA4DFile(self):
        try:
            import SimpleITK as sitk
        except ImportError:
            self.skipTest("SimpleITK is missing")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "beats.nrrd"
            image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 2), np.int16), isVector=True)
            sitk.WriteImage(image, str(path))
            node = load(path)
            self.refused(node, "beats", "2 values in every voxel")

    def testShear(self):
        sheared = np.eye(4)
        sheared[1, 2] = 0.1  # a gantry tilted by 6 degrees
        self.refused(volume(voxels(), sheared, "tilted"), "tilted", "right angles", "Resample")
        node = volume(voxels(), name="moved")
        node.SetAndObserveTransformNodeID(transform(sheared).GetID())
        self.refused(node, "moved", "right angles")

    def testFlatAxes(self):
        node = volume(voxels(), name="flat")
        node.SetAndObserveTransformNodeID(transform(np.diag([1.0, 1, 0, 1])).GetID())
        self.refused(node, "flat", "span no volume")

    def testTransformsThatAreNotLinear(self):
        for kind in ("vtkMRMLGridTransformNode", "vtkMRMLBSplineTransformNode"):
            warp = slicer.mrmlScene.AddNewNodeByClass(kind, "warp")
            if kind == "vtkMRMLGridTransformNode":
                grid = slicer.vtkOrientedGridTransform()
                field = vtk.vtkImageData()
                field.SetDimensions(3, 3, 3)
                field.AllocateScalars(vtk.VTK_DOUBLE, 3)
                grid.SetDisplacementGridData(field)
                warp.SetAndObserveTransformToParent(grid)
            else:
                warp.SetAndObserveTransformToParent(slicer.vtkOrientedBSplineTransform())
            node = volume(voxels(), name="breath")
            node.SetAndObserveTransformNodeID(warp.GetID())
            self.refused(node, "breath", "warp", "not linear", "Harden")
