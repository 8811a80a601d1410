"""Segmentation nodes made of labels."""

import json
import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .Utils import FlareTestCase, labelsOf, transform, volume
from FlareLib import Segmentation, Terminology

# FLARE's organs: as FLARE's own models name them, as TotalSegmentator does, and their codes.
ORGANS = {
    "liver": ("liver", "10200004", ""),
    "right kidney": ("kidney_right", "64033007", "24028007"),
    "spleen": ("spleen", "78961009", ""),
    "pancreas": ("pancreas", "15776009", ""),
    "aorta": ("Aorta", "15825003", ""),
    "inferior vena cava": ("inferior_vena_cava", "64131007", ""),
    "right adrenal gland": ("adrenal_gland_right", "23451007", "24028007"),
    "left adrenal gland": ("adrenal_gland_left", "23451007", "7771000"),
    "gallbladder": ("gall bladder", "28231008", ""),
    "esophagus": ("Oesophagus", "32849002", ""),
    "stomach": ("stomach", "69695003", ""),
    "duodenum": ("duodenum", "38848004", ""),
    "left kidney": ("kidney_left", "64033007", "7771000"),
}


def vtkArray(labels):
    kind = {1: vtk.vtkUnsignedCharArray, 2: vtk.vtkUnsignedShortArray}[labels.dtype.itemsize]
    array = kind()
    array.SetNumberOfTuples(labels.size)
    vtk_to_numpy(array)[:] = labels.ravel()
    return array


class TerminologyTestCase(FlareTestCase):
    def testOrgans(self):
        colors = set()
        for name, (other, code, side) in ORGANS.items():
            entry = Terminology.entry(name, 1)
            self.assertEqual(entry, Terminology.entry(other, 2))
            context, category, organ, modifier, *region = entry.terminology.split("~")
            self.assertEqual(category, "SCT^123037004^Anatomical Structure")
            self.assertEqual(organ.split("^")[:2], ["SCT", code])
            self.assertEqual(modifier.split("^")[1], side)
            self.assertEqual(region, ["Anatomic codes - DICOM master list", "^^", "^^"])
            colors.add(entry.color)
        self.assertEqual(len(colors), len(ORGANS))

    def testSlicerReadsTheEntries(self):
        logic = slicer.vtkSlicerTerminologiesModuleLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        name = logic.LoadTerminologyFromFile(str(Terminology.FILE))
        content = json.loads(Terminology.FILE.read_text(encoding="utf-8"))
        self.assertEqual(name, content["SegmentationCategoryTypeContextName"])
        for label, (_, code, side) in ORGANS.items():
            made = Terminology.entry(label, 1)
            entry = slicer.vtkSlicerTerminologyEntry()
            self.assertTrue(logic.DeserializeTerminologyEntry(made.terminology, entry))
            if hasattr(logic, "UpdateEntryFromLoadedTerminologies"):  # a step of its own since 5.9
                self.assertTrue(logic.UpdateEntryFromLoadedTerminologies(entry, [], []))
            self.assertEqual(entry.GetTypeObject().GetCodeValue(), code)
            self.assertEqual(entry.GetTypeModifierObject().GetCodeValue() or "", side)
            rgb = (
                entry.GetTypeModifierObject() if side else entry.GetTypeObject()
            ).GetRecommendedDisplayRGBValue()
            np.testing.assert_allclose(np.array(rgb) / 255, made.color)

    def testOthersGetTheGenericEntry(self):
        entries = [
            Terminology.entry(name, value)
            for value, name in enumerate(["tumour", "", "liver vessels"], 1)
        ]
        self.assertEqual({entry.terminology for entry in entries}, {Terminology.GENERIC})
        self.assertEqual(len({entry.color for entry in entries}), 3)


class SegmentationTestCase(FlareTestCase):
    IJK_TO_RAS = np.array([[0, 0, 2.5, -4], [-0.7, 0, 0, 5], [0, 0.8, 0, 6], [0, 0, 0, 1.0]])

    def written(self, labels, names):
        node = volume(np.zeros(labels.shape, np.int16), self.IJK_TO_RAS, "ct")
        return node, Segmentation.write(node, vtkArray(labels), names)

    def testSegmentsAndVoxels(self):
        for dtype, values in ((np.uint8, (1, 7, 255)), (np.uint16, (1, 300, 65535))):
            with self.subTest(dtype.__name__):
                labels = np.random.default_rng(0).choice([0, *values], (9, 10, 11)).astype(dtype)
                names = dict(zip(values, ("liver", "left kidney", "tumour"), strict=True))
                node, segmentation = self.written(labels, names)
                segments = segmentation.GetSegmentation()
                self.assertEqual(segments.GetNumberOfLayers(), 1)
                for i, (value, name) in enumerate(names.items()):
                    segment, want = segments.GetNthSegment(i), Terminology.entry(name, value)
                    self.assertEqual((segment.GetName(), segment.GetLabelValue()), (name, value))
                    np.testing.assert_allclose(segment.GetColor(), want.color, atol=1e-6)
                    text = vtk.reference("")
                    self.assertTrue(
                        segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), text)
                    )
                    self.assertEqual(str(text), want.terminology)
                np.testing.assert_array_equal(labelsOf(segmentation, node), labels)
                self.assertEqual(segmentation.GetName(), "ct segmentation")
                self.assertIsNotNone(segmentation.GetDisplayNode())
                slicer.mrmlScene.Clear()

    def testLabelsAreTakenOver(self):
        node = volume(np.zeros((9, 10, 11), np.int16))
        array = vtkArray(np.ones((9, 10, 11), np.uint8))
        segment = Segmentation.write(node, array, {1: "liver"}).GetSegmentation().GetNthSegment(0)
        self.assertIs(
            segment.GetRepresentation("Binary labelmap").GetPointData().GetScalars(), array
        )

    def testFileKeepsAll(self):
        labels = np.random.default_rng(0).integers(0, 3, (9, 10, 11)).astype(np.uint8)
        node, segmentation = self.written(labels, {1: "liver", 2: "spleen"})
        with tempfile.TemporaryDirectory() as folder:
            storage = slicer.vtkMRMLSegmentationStorageNode()
            slicer.mrmlScene.AddNode(storage)
            storage.SetFileName(str(Path(folder) / "labels.seg.nrrd"))
            self.assertTrue(storage.WriteData(segmentation))
            read = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
            self.assertTrue(storage.ReadData(read))
        np.testing.assert_array_equal(labelsOf(read, node), labels)
        segment, text = read.GetSegmentation().GetNthSegment(1), vtk.reference("")
        self.assertEqual(segment.GetName(), "spleen")
        segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), text)
        self.assertIn("SCT^78961009^Spleen", str(text))

    def testEditingOneSegmentLeavesTheOthers(self):
        """Segments share a label map; Slicer's editing of one must know that."""
        labels = np.random.default_rng(0).integers(0, 3, (9, 10, 11)).astype(np.uint8)
        node, segmentation = self.written(labels, {1: "liver", 2: "spleen"})
        segmentation.GetSegmentation().RemoveSegment("Segment_1")
        np.testing.assert_array_equal(labelsOf(segmentation, node), np.where(labels == 2, 2, 0))

    def testItMovesWithTheVolume(self):
        node = volume(np.zeros((9, 10, 11), np.int16))
        node.SetAndObserveTransformNodeID(transform(np.diag([1.0, 2, 1, 1])).GetID())
        segmentation = Segmentation.write(
            node, vtkArray(np.ones((9, 10, 11), np.uint8)), {1: "liver"}
        )
        self.assertEqual(segmentation.GetTransformNodeID(), node.GetTransformNodeID())
        bounds = np.zeros(6)
        segmentation.GetRASBounds(bounds)
        np.testing.assert_allclose(bounds, (-0.5, 10.5, -1, 19, -0.5, 8.5))

    def testItStandsBesideTheVolumeInTheStudy(self):
        tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def added(scene, event, node):  # as Slicer's plugins do, which slicer-core has not
            if not tree.GetItemByDataNode(node):
                tree.CreateItem(tree.GetSceneItemID(), node)

        observer = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, added)
        self.addCleanup(slicer.mrmlScene.RemoveObserver, observer)
        study = tree.CreateStudyItem(tree.GetSceneItemID(), "study")
        node = volume(np.zeros((9, 10, 11), np.int16))
        tree.SetItemParent(tree.GetItemByDataNode(node), study)
        segmentation = Segmentation.write(
            node, vtkArray(np.ones((9, 10, 11), np.uint8)), {1: "liver"}
        )
        self.assertEqual(tree.GetItemParent(tree.GetItemByDataNode(segmentation)), study)
