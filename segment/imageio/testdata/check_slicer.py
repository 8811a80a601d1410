"""Opens the .seg.nrrd files that TestFormatsForSimpleITK left in a folder (go test -artifacts)
with 3D Slicer's own reader and compares segments and geometry with want.json there.

    check_slicer.py FOLDER

Needs slicer-core and numpy.
"""
import json
import sys
from pathlib import Path

import numpy as np
import vtk
from slicer import vtkMRMLScene, vtkMRMLSegmentationNode, vtkMRMLSegmentationStorageNode
from vtkmodules.util.numpy_support import vtk_to_numpy


def opened(path):
    """Returns the segments of a file, by label value name and number of voxels, and the voxel-to-RAS matrix."""
    scene = vtkMRMLScene()
    node, storage = scene.AddNode(vtkMRMLSegmentationNode()), scene.AddNode(vtkMRMLSegmentationStorageNode())
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        sys.exit(f"Slicer does not read {path}")
    segments = {}
    for i in range(node.GetSegmentation().GetNumberOfSegments()):
        s = node.GetSegmentation().GetNthSegment(i)
        image = s.GetRepresentation("Binary labelmap")
        voxels = vtk_to_numpy(image.GetPointData().GetScalars())
        segments[s.GetLabelValue()] = (s.GetName(), int((voxels == s.GetLabelValue()).sum()), tuple(s.GetColor()))
    m = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(m)
    return segments, np.array([[m.GetElement(i, j) for j in range(4)] for i in range(4)])


def main(folder):
    checked = bad = 0
    for w in json.loads((folder / "want.json").read_text()):
        if not w["file"].endswith("labels.seg.nrrd"):
            continue
        segments, matrix = opened(folder / w["file"])
        labels = np.arange(np.prod(w["size"])) % 14  # as the test fills them
        if w["dtype"] == "uint16":
            pair = np.arange(2 * np.prod(w["size"])) % 14
            labels = pair[::2] + 256 * pair[1::2]
        values, counts = np.unique(labels[labels > 0], return_counts=True)
        want = np.diag([-1, -1, 1]) @ np.column_stack([np.reshape(w["direction"], (3, 3)) * w["spacing"], w["origin"]])
        named = {v: "liver" if v == 1 else f"Segment_{v}" for v in values}
        checked += 1
        if ({v: s[:2] for v, s in segments.items()} != {v: (named[v], c) for v, c in zip(values.tolist(), counts.tolist())}
                or len({s[2] for s in segments.values()}) != len(segments) or not np.allclose(matrix[:3], want, rtol=1e-12, atol=1e-12)):
            bad += 1
            print("differs:", w["file"], segments, matrix, want)
    print(checked, "files checked,", bad, "differ")
    sys.exit(bad > 0 or not checked)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
