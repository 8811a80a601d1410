"""Fine-tunes a model on one case whose labels a user has corrected, as a viewer would.

usage: finetune.py MODEL IMAGE.nii.gz CORRECTED.nii.gz OUT.onnx [--steps 50]

MODEL is a bundle or an nnU-Net results folder, OUT.onnx the bundle to write. Prints the loss on
the way and each label's Dice against the correction, before and after. Needs the packages flare
(bindings/python) and SimpleITK. Research software, not a medical device.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import SimpleITK as sitk

import flare

RATE = 1e-2  # learning rate of the first step: nnU-Net's


def dice(found: Any, truth: Any, value: int) -> float:
    a, b = found == value, truth == value
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def patch_of(size: list[int]) -> list[int]:
    """The model's patch, halved along each axis until it has at most 2^17 voxels, so that steps are
    quick; whole multiples of 16, and thus of every stride."""
    while np.prod(size) > 1 << 17:
        size = [max(min(16, n), n // 2 // 16 * 16) for n in size]
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in "model", "image", "corrected", "out":
        parser.add_argument(name)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()

    image = sitk.ReadImage(arguments.image)
    voxels = sitk.GetArrayViewFromImage(image)  # z, y, x
    grid = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    corrected = sitk.GetArrayFromImage(sitk.ReadImage(arguments.corrected))
    with flare.Model(arguments.model) as model:
        described = model.describe()
        before = model.segment(voxels, *grid)

    start = time.monotonic()
    with flare.Trainer(
        arguments.model,
        batch=1,
        patch=patch_of(described["patch_size"]),
        mode="fast",
        mirroring=bool(described["mirror_axes"]),  # as the model was trained
        momentum=0.9,  # 0.99 is for trainings of many thousand steps
    ) as trainer:
        trainer.add_case("corrected", voxels, corrected, *grid)
        losses = []
        for step in range(1, arguments.steps + 1):
            trainer.learning_rate = RATE * (1 - (step - 1) / arguments.steps) ** 0.9  # nnU-Net's
            losses.append(trainer.step().loss)  # a patch of the case, augmented as nnU-Net does
            if step % 10 == 0:
                print(f"step {step}: mean loss {np.mean(losses[-10:]):.3f}", flush=True)
        trainer.export(arguments.out)
    print(f"{arguments.steps} steps in {time.monotonic() - start:.1f} s")

    with flare.Model(arguments.out) as model:
        after = model.segment(voxels, *grid)
    print(f"{'Dice':24}  before  after")
    for label in described["labels"]:
        if label["value"] > 0 and (corrected == label["value"]).any():
            old, new = (dice(labels, corrected, label["value"]) for labels in (before, after))
            print(f"{label['name']:24}  {old:6.3f}  {new:5.3f}")


main()
