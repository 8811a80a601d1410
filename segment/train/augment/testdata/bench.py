"""How long batchgeneratorsv2 takes per voxel, on one core: the counterpart of
bench_test.go. Prints a line for each transform and the means of whole pipelines.

    OMP_NUM_THREADS=1 python bench.py [pipeline draws]
"""

import sys
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.local.brightness_gradient import BrightnessGradientAdditiveTransform
from batchgeneratorsv2.transforms.local.local_gamma import LocalGammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.noise.median_filter import MedianFilterTransform
from batchgeneratorsv2.transforms.noise.sharpen import SharpeningTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5

torch.set_num_threads(1)
draws = int(sys.argv[1]) if len(sys.argv) > 1 else 100
METHOD = "configure_rotation_dummyDA_mirroring_and_inital_patch_size"


def phantom(shape):
    rng = np.random.RandomState(1)
    image = rng.randn(1, *shape).astype(np.float32)
    image += (np.arange(image.size) // 16 % 3).reshape(image.shape)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    inside = (z - shape[0] // 2) ** 2 + (y - shape[1] // 2) ** 2 + (x - shape[2] // 2) ** 2 < shape[0] ** 2 // 5
    return torch.from_numpy(image), torch.from_numpy((inside * (1 + z // 4 % 2))[None].astype(np.int16))


def time(name, patch, call, prepare):
    best = 1e9
    for _ in range(5):
        data = prepare()
        start = perf_counter()
        call(data)
        best = min(best, perf_counter() - start)
    print(f"{name:30s} {best / np.prod(patch) * 1e9:9.2f} ns/voxel", flush=True)


for study, patch in (("hippocampus", (40, 56, 40)), ("ct", (32, 128, 192))):
    stub = SimpleNamespace(configuration_manager=SimpleNamespace(patch_size=list(patch)), print_to_log_file=lambda *a: None)
    one, image = torch.tensor([0]), phantom(patch)[0]
    fixed = {
        "noise": (GaussianNoiseTransform(0.05, 1, True), {}),
        "blur": (GaussianBlurTransform(0.8, False, False, 1), {}),
        "multiply": (MultiplicativeBrightnessTransform(1.001, False), {}),
        "contrast": (ContrastTransform(0.9999, True, False), {}),
        "lowres": (SimulateLowResolutionTransform(0.75, False, True, None), {}),
        "gamma": (GammaTransform(0.9, 0, False, 1, 1), {}),
        "mirror": (MirrorTransform((0, 1, 2)), {"axes": [0, 1, 2]}),
        "median3": (MedianFilterTransform(3), {}), "median5": (MedianFilterTransform(5), {}), "median7": (MedianFilterTransform(7), {}),
        "sharpen": (SharpeningTransform(1e-3), {}),
        "gradient": (BrightnessGradientAdditiveTransform(25, 0.4, 1e-3, False, False), {}),
        "localgamma": (LocalGammaTransform(25, 0.4, 1.01, False), {}),
        "rot90": (Rot90Transform(1), {"num_rot_per_combination": [1], "axis_combinations": [[1, 3]]}),
    }
    for name, (t, params) in fixed.items():
        def call(x):
            t._apply_to_image(x, **(params or t.get_parameters(image=x))).contiguous()
        time(f"{study}/{name}", patch, call, image.clone)
    for trainer in (nnUNetTrainer, nnUNetTrainerDA5):
        rotation, planar, box, axes = getattr(trainer, METHOD)(stub)
        if trainer is nnUNetTrainer:
            source = phantom([int(b) for b in box])
            for name, angle, factor in (("copy", None, None), ("scale", 0, 1.1), ("rotate", 0.3, 1)):
                t = SpatialTransform(patch[1:] if planar else patch, 0, False, p_rotation=float(angle is not None),
                                     rotation=angle, p_scaling=float(angle is not None), scaling=factor,
                                     border_mode_seg="constant", padding_value_seg=-1)
                steps = [Convert3DTo2DTransform(), t, Convert2DTo3DTransform()] if planar else [t]

                def call(d):
                    for step in steps:
                        d = step(**d)
                    d["image"].contiguous(), d["segmentation"].contiguous()
                time(f"{study}/spatial {name}", patch, call, lambda: {"image": source[0].clone(), "segmentation": source[1].clone()})
        pipeline = trainer.get_training_transforms(patch, rotation, None, axes, planar)
        source = phantom([int(b) for b in box])
        total = 0.0
        for i in range(draws + 3):
            np.random.seed(i)
            torch.manual_seed(i)
            data = {"image": source[0].clone(), "segmentation": source[1].clone()}
            start = perf_counter()
            pipeline(**data)
            if i >= 3:  # the first ones try out how to blur
                total += perf_counter() - start
        print(f"{study}/{trainer.__name__:18s} {total / draws / np.prod(patch) * 1e9:9.2f} ns/voxel, mean of {draws}", flush=True)
