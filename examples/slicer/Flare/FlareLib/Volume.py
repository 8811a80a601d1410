"""From a volume node to what libflare takes: voxels and their geometry. Main thread only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
STRAIGHT = 1e-3  # how far libflare lets the axes be from right angles (dot products)

# What a DICOM import says of a volume: codes of DICOM's controlled terminology.
QUANTITIES = {"112031": "CT", "110852": "MR"}


class VolumeError(ValueError):
    """A volume that cannot be segmented; the message says why, and what to do."""


@dataclass
class Image:
    """The voxels of a volume, where they are, and their geometry.

    voxels is a view on VTK's memory, shape (z, y, x), and holds a reference to it: neither
    removing the node nor giving it other voxels frees the memory, as VTK does not resize an
    array that somebody else holds too.
    """

    voxels: np.ndarray
    spacing: tuple[float, ...]  # mm along x, y, z
    origin: tuple[float, ...]  # mm, LPS
    direction: tuple[float, ...]  # 3 x 3 row-major; column i is the LPS direction of axis i
    modality: str  # of DICOM, or "": not known
    scalars: Any  # the vtkDataArray that owns the voxels
    modified: int  # its modification time when it was read

    def changed(self, node: Any) -> bool:
        """Whether the node got other voxels since, or somebody wrote to them."""
        data = node.GetImageData()
        return (
            data is None
            or data.GetPointData().GetScalars() is not self.scalars
            or self.scalars.GetMTime() != self.modified
        )


def read(node: Any) -> Image:
    """The image of a scalar volume node, in world coordinates. Nothing is copied.

    Raises VolumeError for other nodes, several components, transforms that are not linear, and
    axes that are not at right angles.
    """
    if node is None:
        raise VolumeError("Choose a volume.")
    name = node.GetName()
    if node.IsA("vtkMRMLSequenceNode"):
        raise VolumeError(
            f"{name} is a sequence of volumes. Choose one of them: the volume that the "
            "Sequences module shows, which is segmented as it is when Apply is clicked."
        )
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        kind = (
            "a label map" if node.IsA("vtkMRMLLabelMapVolumeNode") else f"a {node.GetClassName()}"
        )
        raise VolumeError(f"{name} is {kind}. Choose a scalar volume: a CT, an MRI.")
    data = node.GetImageData()
    scalars = data.GetPointData().GetScalars() if data else None
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise VolumeError(f"{name} has no voxels.")
    if scalars.GetNumberOfComponents() != 1:
        raise VolumeError(
            f"{name} has {scalars.GetNumberOfComponents()} values in every voxel (colours, vectors, "
            "time points, diffusion). Make a scalar volume of one of them first: the module Vector "
            "to Scalar Volume, or import 4-D data as a sequence."
        )
    spacing, origin, direction = _geometry(node)
    return Image(
        voxels=vtk_to_numpy(scalars).reshape(data.GetDimensions()[::-1]),
        spacing=spacing,
        origin=origin,
        direction=direction,
        modality=_modality(node),
        scalars=scalars,
        modified=scalars.GetMTime(),
    )


def _geometry(node: Any) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing, origin and direction of a volume in the world, LPS."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    transform = node.GetParentTransformNode()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise VolumeError(
                f"{node.GetName()} is under {transform.GetName()}, a transform that is not linear. "
                "Harden it first (Data module, right click on the volume): that resamples the voxels."
            )
        world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(world)
        vtk.vtkMatrix4x4.Multiply4x4(world, matrix, matrix)
    rows = slicer.util.arrayFromVTKMatrix(matrix)
    axes = RAS_TO_LPS @ rows[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.all(np.isfinite(rows)) or abs(np.linalg.det(axes)) < 1e-9:
        raise VolumeError(f"{node.GetName()} has axes that span no volume: {axes.tolist()}.")
    direction = axes / lengths
    worst = np.abs(direction.T @ direction - np.eye(3)).max()
    if worst > STRAIGHT:
        raise VolumeError(
            f"{node.GetName()} has axes that are not at right angles (a tilted gantry, or a transform "
            f"with shear; the largest dot product is {worst:.3g}). Resample it first: the module "
            "Resample Scalar/Vector/DWI Volume, or Crop Volume with interpolation."
        )
    # The node's own spacing, digit for digit, where no transform scales it: nnU-Net rounds
    # sizes that are computed from it.
    own = np.array(node.GetSpacing())
    spacing = np.where(np.isclose(lengths, own, rtol=1e-6, atol=0), own, lengths)
    origin = RAS_TO_LPS @ rows[:3, 3]
    return tuple(spacing.tolist()), tuple(origin.tolist()), tuple(direction.ravel().tolist())


def _modality(node: Any) -> str:
    """DICOM's modality, where the node or its place in the subject hierarchy tells it."""
    quantity = node.GetVoxelValueQuantity()
    if quantity is not None and quantity.GetCodeValue() in QUANTITIES:
        return QUANTITIES[quantity.GetCodeValue()]
    scene = node.GetScene()
    tree = scene and slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = tree.GetItemByDataNode(node) if tree else 0  # 0: it has none
    key = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return tree.GetItemAttribute(item, key) if item else ""
