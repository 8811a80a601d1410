"""Makes the small raw datasets of this folder and nnU-Net's fingerprint of each.

Run in an environment with nnunetv2 2.8.1:

    python make_fingerprint_goldens.py
"""
import json
import os
import pathlib
import shutil
import tempfile

HERE = pathlib.Path(__file__).parent
work = tempfile.mkdtemp()
os.environ["nnUNet_raw"], os.environ["nnUNet_preprocessed"], os.environ["nnUNet_results"] = str(HERE), work, work

import numpy as np
import SimpleITK as sitk
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

LABELS = {"background": 0, "a": 1, "b": 2}


def write(path, array, spacing, direction=None):
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing(spacing[::-1])
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path), True)


def dataset(name, cases, channels=("MRI",), direction=None, **more):
    """cases: name -> (list of channel arrays, labels, spacing)"""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    for case, (images, labels, spacing) in cases.items():
        for c, image in enumerate(images):
            write(folder / "imagesTr" / f"{case}_{c:04d}.nii.gz", image, spacing, direction)
        d = labels.ndim
        write(folder / "labelsTr" / f"{case}.nii.gz", labels, spacing[-d:], direction)
    info = {"channel_names": {str(i): c for i, c in enumerate(channels)}, "labels": LABELS,
            "numTraining": len(cases), "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(info, indent=1))


def blob(rng, shape, dtype=np.float32, border=0, scale=100):
    """Noise with a border of zeros, and labels of which some lie in the border."""
    image = (rng.normal(20, scale, shape)).astype(dtype)
    for axis in range(len(shape)):
        if border and shape[axis] > 4 * border:
            where = [slice(None)] * len(shape)
            where[axis] = slice(0, border)
            image[tuple(where)] = 0
            where[axis] = slice(-border - 1, None)
            image[tuple(where)] = 0
    labels = rng.integers(0, 3, shape).astype(np.uint8)
    labels[..., : shape[-1] // 2] = 0
    return image, labels


def main():
    rng = np.random.default_rng(0)

    # Two channels of different types, zeros around, one case without foreground.
    cases = {}
    for i, shape in enumerate([(9, 12, 14), (8, 13, 11), (10, 10, 12)]):
        first, labels = blob(rng, shape, np.float32, 1)
        second, _ = blob(rng, shape, np.int16, 1)
        cases[f"case_{i}"] = ([first, second], labels * (i != 1), (2.0 + 0.1 * i, 0.9, 0.7))
    dataset("Dataset001_Channels", cases, ("T1", "T2"))

    # 2-D, three channels, four cases.
    cases = {}
    for i in range(4):
        image, labels = blob(rng, (17 + i, 20), np.uint8, 0, 20)
        cases[f"slice{i}"] = ([image, 255 - image, image // 2], labels, (0.5, 0.25 + 0.125 * i))
    dataset("Dataset002_Flat", cases, ("rgb_to_0_1",) * 3)

    # One case, turned to RAS by the reader.
    image, labels = blob(rng, (7, 9, 12), np.float64, 1)
    dataset("Dataset003_Turned", {"only": ([image], labels, (3.0, 1.0, 2.0))}, ("CT",),
            direction=(0, 0, 1, 1, 0, 0, 0, -1, 0), overwrite_image_reader_writer="SimpleITKIOWithReorient")

    # Channels in the 4th axis of one file, labels of one voxel.
    image = rng.normal(-5, 3, (2, 6, 7, 8)).astype(np.float32)
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[3, 3, 3] = 1
    full = rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    dataset("Dataset004_Stacked", {"one_voxel": ([image], labels, (1.0, 1.25, 0.8, 0.8)),
                                   "many": ([2 * image], full, (1.0, 1.5, 0.8, 0.8))}, ("T1", "T2"))

    for folder in sorted(HERE.glob("Dataset*")):
        e = DatasetFingerprintExtractor(folder.name, 1)
        e.run(overwrite_existing=True)
        shutil.copy(pathlib.Path(work, folder.name, "dataset_fingerprint.json"), folder)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
