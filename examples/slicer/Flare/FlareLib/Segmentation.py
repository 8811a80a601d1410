"""From labels to a segmentation node. Main thread only."""

from typing import Any

import slicer
import vtk

from .Terminology import entry


def write(volume: Any, labels: Any, names: dict[int, str]) -> Any:
    """Adds a segmentation on a volume's grid to its scene and returns the node.

    labels is a vtkDataArray with a value for every voxel, names those to make segments of. All
    segments share the one label map, which is taken over and not copied: the usual import copies
    the box round each label, half a second of a CT with 13 organs.
    """
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(volume.GetImageData().GetDimensions())
    image.GetPointData().SetScalars(labels)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)

    segmentation = slicer.vtkSegmentation()
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation.SetSourceRepresentationName(binary)
    for value, name in names.items():
        known = entry(name, value)
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetColor(*known.color)
        segment.SetLabelValue(value)
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), known.terminology)
        segment.AddRepresentation(binary, image)
        segmentation.AddSegment(segment, f"Segment_{value}")

    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(volume.GetScene().GenerateUniqueName(f"{volume.GetName()} segmentation"))
    node.SetAndObserveSegmentation(segmentation)
    volume.GetScene().AddNode(node)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())  # it moves with the volume
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volume.GetScene())
    items = [tree.GetItemByDataNode(n) for n in (volume, node)] if tree else [0]
    if all(items):
        tree.SetItemParent(items[1], tree.GetItemParent(items[0]))  # of the same study
    return node
