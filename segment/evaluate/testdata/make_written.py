"""Makes written/ and written.json: label maps as SimpleITK and nnU-Net write them, and their scores.

    python make_written.py DATA

in an environment with nnunetv2 2.8.1 and surface-distance 0.1 (google-deepmind/surface-distance); DATA is the folder with
nnunet_golden (labels that nnU-Net predicted) and msd_task04_hippocampus (the right ones).

written/reference.*  one label map, oblique, in several formats and types
written/NAME.*       a prediction for it, by SimpleITK and by nnU-Net's readers and writers
written.json         "written" and "hippocampus" (a list by case): {label: [DSC, NSD at 1 mm, ASSD, HD, HD95 by
                     surface-distance, |volume - reference| / reference and volume in ml by numpy]}
"""
import json
import pathlib
import sys

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from surface_distance import metrics

HERE = pathlib.Path(__file__).parent
OUT = HERE / "written"
CASES = ["hippocampus_024", "hippocampus_038", "hippocampus_106"]


def scores(prediction, reference, spacing):
    """Of each label, of arrays z, y, x and mm along these."""
    out = {}
    for label in np.unique(reference[reference > 0]):
        p, r = prediction == label, reference == label
        d = metrics.compute_surface_distances(r, p, spacing)
        distances = [d["distances_gt_to_pred"], d["distances_pred_to_gt"]]
        areas = [d["surfel_areas_gt"], d["surfel_areas_pred"]]
        assd = sum((x * a).sum() for x, a in zip(distances, areas)) / sum(a.sum() for a in areas)
        out[int(label)] = [float(v) for v in (
            2 * (p & r).sum() / (p.sum() + r.sum()), metrics.compute_surface_dice_at_tolerance(d, 1), assd,
            metrics.compute_robust_hausdorff(d, 100), metrics.compute_robust_hausdorff(d, 95),
            abs(int(p.sum()) - int(r.sum())) / r.sum(), p.sum() * np.prod(spacing) / 1000)]
    return out


def synthetic():
    z, y, x = np.mgrid[:16, :20, :24]
    def labels(shift):
        a = np.zeros((16, 20, 24), np.uint8)
        a[(x - 8 - shift) ** 2 / 20 + (y - 9) ** 2 / 30 + (z - 7) ** 2 / 9 < 1] = 1
        a[(x - 16) ** 2 / 9 + (y - 10 + shift) ** 2 / 16 + (z - 8) ** 2 / 16 < 1] = 2
        a[13 + shift, 4:16, 6:18] = 3
        return a
    def image(array):
        im = sitk.GetImageFromArray(array)
        im.SetSpacing((0.8, 1.1, 2.5))
        im.SetOrigin((-31.5, 12.25, 100))
        c, s = np.cos(0.3), np.sin(0.3)
        im.SetDirection((c, s, 0, s, -c, 0, 0, 0, -1))  # turned about z, and seen from the other side
        return im
    reference, prediction = labels(0), labels(1)
    for name, kind in (("reference.nii.gz", sitk.sitkUInt8), ("reference.nrrd", sitk.sitkInt16), ("reference.mha", sitk.sitkFloat64)):
        sitk.WriteImage(sitk.Cast(image(reference), kind), OUT / name, True)
    for name, kind in (("sitk.nii.gz", sitk.sitkUInt8), ("sitk_float.nii.gz", sitk.sitkFloat32), ("sitk.nrrd", sitk.sitkUInt16), ("sitk.mha", sitk.sitkInt32)):
        sitk.WriteImage(sitk.Cast(image(prediction), kind), OUT / name, True)
    for name, writer in (("nnunet.nii.gz", SimpleITKIO), ("nnunet.nrrd", SimpleITKIO), ("nnunet.mha", SimpleITKIO),
                         ("nibabel.nii.gz", NibabelIO), ("reoriented.nii.gz", NibabelIOWithReorient)):
        # As nnU-Net does: labels on the grid that the writer's class read the image on.
        seg, properties = writer().read_seg(str(OUT / "sitk.nii.gz"))
        writer().write_seg(seg[0].astype(np.uint8), str(OUT / name), properties)
    return scores(prediction, reference, (2.5, 1.1, 0.8))


def hippocampus(data):
    out = []
    for case in CASES:
        p = sitk.ReadImage(data / "nnunet_golden/hippocampus/labels_plain_fp32" / f"{case}.nii.gz")
        r = sitk.ReadImage(data / "msd_task04_hippocampus/labelsTr" / f"{case}.nii.gz")
        out.append(scores(sitk.GetArrayFromImage(p), sitk.GetArrayFromImage(r), r.GetSpacing()[::-1]))
    return dict(zip(CASES, out))


OUT.mkdir(exist_ok=True)
(HERE / "written.json").write_text(json.dumps({"written": synthetic(), "hippocampus": hippocampus(pathlib.Path(sys.argv[1]))}, indent=1) + "\n")
