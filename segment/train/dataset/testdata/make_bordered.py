"""What nnU-Net 2.8.1 makes of a small case with a border of zeros when it preprocesses it.

python make_bordered.py SHARED_DATA: writes bordered_image.nii.gz, bordered_label.nii.gz,
bordered_plans.json and, made of them, bordered_image.npy (float32), bordered_labels.npy
(int16, z,y,x) and bordered_locations.npy (int32, n x 3: of label 1, then of label 2).
"""
import json, os, sys
import numpy as np
import SimpleITK as sitk
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

data, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
model = os.path.join(data, "nnunet_golden/hippocampus/model")


def preprocess(plans, image, labels, name):
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    with open(os.path.join(model, "dataset.json")) as f:
        dataset = json.load(f)
    out, seg, properties = DefaultPreprocessor(verbose=False).run_case([image], labels, manager, configuration, dataset)
    np.save(os.path.join(here, name + "_labels.npy"), seg[0].astype(np.int16))
    locations = np.concatenate([np.asarray(properties["class_locations"][k]).reshape(-1, 4)[:, 1:] for k in (1, 2)])
    np.save(os.path.join(here, name + "_locations.npy"), locations.astype(np.int32))
    return out, properties


with open(os.path.join(model, "plans.json")) as f:
    plans = json.load(f)
random = np.random.RandomState(0)
image = np.zeros((10, 24, 20), np.int16)
image[2:9, 3:20, 4:18] = random.randint(1, 200, (7, 17, 14))
image[2:4, 3:8, 4:9] = 0  # a corner outside the nonzero mask
image[5, 10:12, 10:12] = 0  # a hole, inside
labels = np.zeros(image.shape, np.uint8)
labels[3:7, 6:15, 6:12] = 1
labels[5:8, 10:17, 9:16] = 2
for array, name in (image, "bordered_image"), (labels, "bordered_label"):
    v = sitk.GetImageFromArray(array)
    v.SetSpacing((1.1, 0.9, 2.0))
    sitk.WriteImage(v, os.path.join(here, name + ".nii.gz"))
c = plans["configurations"]["3d_fullres"]
c["spacing"], c["use_mask_for_norm"] = [1.5, 0.8, 1.2], [True]
plans["transpose_forward"], plans["transpose_backward"] = [1, 0, 2], [1, 0, 2]
plans["configurations"] = {"3d_fullres": c}
with open(os.path.join(here, "bordered_plans.json"), "w") as f:
    json.dump(plans, f)
out, properties = preprocess(plans, os.path.join(here, "bordered_image.nii.gz"), os.path.join(here, "bordered_label.nii.gz"), "bordered")
np.save(os.path.join(here, "bordered_image.npy"), out.astype(np.float32))
print(properties["bbox_used_for_cropping"], out.shape)
