"""Segments phantoms with nnU-Net itself and prints the Dice of every organ as a table.

    python validate.py RESULTS_FOLDER DATA_DIR

DATA_DIR is what `flare phantom` writes, with another seed than the training's. Labels are compared on the phantoms'
own grid.
"""
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def dice(prediction, reference, organ):
    a, b = prediction == organ, reference == organ
    total = a.sum() + b.sum()
    return 2 * (a & b).sum() / total if total else 1.0


def main():
    folder, data = Path(sys.argv[1]), Path(sys.argv[2])
    predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"),
                                allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
    organs = list(predictor.dataset_json["labels"])[1:]
    scores = []
    for path in sorted((data / "imagesTr").glob("*.nii.gz")):
        image = SimpleITK.ReadImage(str(path))
        ct = SimpleITK.GetArrayFromImage(image)[None].astype(np.float32)
        reference = data / "labelsTr" / (path.name.removesuffix("_0000.nii.gz") + ".nii.gz")
        reference = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(reference)))
        start = time.time()
        prediction = predictor.predict_single_npy_array(ct, {"spacing": image.GetSpacing()[::-1]}, None, None, False)
        scores.append([dice(prediction, reference, organ) for organ in range(1, len(organs) + 1)])
        print(f"{path.name}: mean DSC {np.mean(scores[-1]):.3f}, {time.time() - start:.0f} s", flush=True)
    scores = np.array(scores)
    print("\n| organ | mean DSC | lowest |\n|---|---|---|")
    for name, column in zip(organs, scores.T):
        print(f"| {name} | {column.mean():.3f} | {column.min():.3f} |")
    print(f"| **mean** | **{scores.mean():.3f}** | {scores.mean(1).min():.3f} (case) |")


if __name__ == "__main__":
    main()
