"""Trains the demonstration network on phantoms and leaves an nnU-Net v2 results folder.

    python train.py DATA_DIR RESULTS_FOLDER [--steps 2600] [--minutes 31]

DATA_DIR is what `flare phantom` writes. RESULTS_FOLDER gets plans.json, dataset.json and fold_0/checkpoint_final.pth
in nnU-Net's own format, so that nnU-Net itself and `flare convert` can read it. Needs nnunetv2 and what it brings;
trains on a CPU in bfloat16.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import SimpleITK
import torch
import torch.nn.functional as F
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

# Its intensity properties are a soft-tissue window, not the foreground's percentiles as nnU-Net takes them: those
# reach down to -960 HU, the gas in the stomach.
PLANS = json.loads(Path(__file__).with_name("plans.json").read_text())
CONFIGURATION = PLANS["configurations"]["3d_fullres"]
SPACING = CONFIGURATION["spacing"]
PATCH = CONFIGURATION["patch_size"]
EARLY_PATCH = [64, 80, 96]  # for the first part of the training: half the time per step
CT = PLANS["foreground_intensity_properties_per_channel"]["0"]
CLASSES = 14


def load(image):
    """Returns CT (int16 HU) and labels (uint8), both z,y,x, on the network's grid, resampled as nnU-Net does."""
    ct = SimpleITK.ReadImage(str(image))
    spacing, ct = ct.GetSpacing()[::-1], SimpleITK.GetArrayFromImage(ct)
    labels = image.parents[1] / "labelsTr" / (image.name.removesuffix("_0000.nii.gz") + ".nii.gz")
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(labels)))
    if not np.allclose(spacing, SPACING):
        target = [round(a * b / c) for a, b, c in zip(ct.shape, spacing, SPACING)]
        args = dict(new_shape=target, current_spacing=spacing, new_spacing=SPACING, order_z=0, force_separate_z=None)
        ct = resample_data_or_seg_to_shape(ct[None].astype(np.float32), is_seg=False, order=3, **args)[0]
        labels = resample_data_or_seg_to_shape(labels[None].astype(np.float32), is_seg=True, order=1, **args)[0]
    return np.round(ct).astype(np.int16), labels.astype(np.uint8)


def normalise(ct):
    """nnU-Net's CTNormalization."""
    return (ct.clip(CT["percentile_00_5"], CT["percentile_99_5"]) - CT["mean"]) / CT["std"]


def tile_start(size, patch, rng):
    """A tile position as the sliding window has them: inside the image, often at its border."""
    last = max(size - patch, 0)
    return int(np.clip(rng.integers(-last // 4 - 1, last + last // 4 + 2), 0, last))


def sample(case, size, rng):
    """Returns an augmented patch of that size (z,y,x): normalised image, labels. Beyond the image it is padded as
    nnU-Net pads."""
    ct, labels = case
    shape = np.array(ct.shape)
    patch = np.array(size)
    if rng.random() < 0.3:  # around a voxel of a random organ
        organ = rng.integers(1, CLASSES)
        found = np.flatnonzero(labels == organ)
        if len(found):
            centre = np.array(np.unravel_index(rng.choice(found), ct.shape))
            start = np.clip(centre - patch // 2, 0, np.maximum(shape - patch, 0))
        else:
            start = [tile_start(s, p, rng) for s, p in zip(shape, patch)]
    else:
        start = [tile_start(s, p, rng) for s, p in zip(shape, patch)]
    box = tuple(slice(int(a), int(a + p)) for a, p in zip(start, patch))
    x = torch.from_numpy(ct[box].astype(np.float32))
    y = torch.from_numpy(labels[box].astype(np.float32))

    # Intensity: gain, shift and more noise, in HU.
    if rng.random() < 0.5:
        x = (x + 100) * rng.uniform(0.92, 1.08) - 100 + rng.uniform(-12, 12)
    if rng.random() < 0.3:
        x = x + float(rng.uniform(0, 12)) * torch.randn(x.shape)
    x = normalise(x)
    pad = [v for s, p in zip(x.shape[::-1], size[::-1]) for v in ((p - s) // 2, p - s - (p - s) // 2)]
    x, y = F.pad(x, pad), F.pad(y, pad)

    # Space: scaling and a small rotation about z.
    if rng.random() < 0.4:
        angle, sz, sy, sx = rng.normal(0, 0.1), *rng.uniform(0.88, 1.12, 3)
        c, s = math.cos(angle), math.sin(angle)
        ratio = size[1] / size[2]
        m = torch.tensor([[c * sx, -s * sy * ratio, 0, 0], [s * sx / ratio, c * sy, 0, 0], [0, 0, sz, 0]])
        grid = F.affine_grid(m[None].float(), [1, 1, *size], align_corners=False)
        x = F.grid_sample(x[None, None], grid, align_corners=False)[0, 0]
        y = F.grid_sample(y[None, None], grid, mode="nearest", align_corners=False)[0, 0]
    return x[None, None], y.long()[None, None]


def loss_of(logits, target):
    """Cross-entropy plus soft Dice over the organs of the patch. logits (1,C,z,y,x), target (1,1,z,y,x)."""
    logits = logits[0].flatten(1).float()
    target = target.flatten()
    log_p = F.log_softmax(logits, 0)
    at_target = log_p.gather(0, target[None])[0]
    ce = -at_target.mean()
    size = torch.bincount(target, minlength=CLASSES).float()
    overlap = torch.zeros(CLASSES).index_add(0, target, at_target.exp())
    dice = (2 * overlap + 1e-3) / (log_p.exp().sum(1) + size + 1e-3)
    present = size[1:] > 0
    return ce + (1 - dice[1:][present]).sum() / max(int(present.sum()), 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--minutes", type=float, default=31, help="the learning rate is zero by then at the latest")
    parser.add_argument("--threads", type=int, default=1, help="more than one helps on idle machines only")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    dataset = json.loads((args.data / "dataset.json").read_text())
    cases = [load(image) for image in sorted((args.data / "imagesTr").glob("*.nii.gz"))]
    print(f"{len(cases)} phantoms", flush=True)

    arch = CONFIGURATION["architecture"]
    net = get_network_from_plans(arch["network_class_name"], arch["arch_kwargs"], arch["_kw_requires_import"],
                                 1, CLASSES, allow_init=True, deep_supervision=True)
    print(f"{sum(p.numel() for p in net.parameters())} parameters", flush=True)
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2, betas=(0.9, 0.98))

    started, average, step = time.time(), None, 0
    while True:
        done = max(step / args.steps, (time.time() - started) / 60 / args.minutes)
        if done >= 1:
            break
        rate = 2e-3 * min((step + 1) / 60, 1) * 0.5 * (1 + math.cos(math.pi * done))
        for group in opt.param_groups:
            group["lr"] = rate
        x, y = sample(cases[rng.integers(len(cases))], EARLY_PATCH if done < 0.65 else PATCH, rng)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net(x)
        # Deep supervision at full, half and quarter resolution.
        loss = loss_of(outputs[0], y)
        for level, weight in ((1, 0.4), (2, 0.2)):
            f = 2 ** level
            loss = loss + weight * loss_of(outputs[level], y[:, :, ::f, ::f, ::f])
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        opt.step()
        step += 1
        average = loss.item() if average is None else 0.97 * average + 0.03 * loss.item()
        if step % 25 == 0:
            pace = (time.time() - started) / step
            print(f"step {step}  loss {average:.3f}  rate {rate:.1e}  {pace:.2f} s/step", flush=True)
        if step % 250 == 0:
            save(net, dataset, args.out, step)
    save(net, dataset, args.out, step)


def save(net, dataset, out, step):
    """Writes what nnU-Net's predictor and `flare convert` read. Trained without mirroring: left and right differ."""
    (out / "fold_0").mkdir(parents=True, exist_ok=True)
    (out / "plans.json").write_text(json.dumps(PLANS, indent=4))
    (out / "dataset.json").write_text(json.dumps(dataset, indent=4))
    torch.save({
        "network_weights": net.state_dict(),
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": step,
        "init_args": {"plans": PLANS, "configuration": "3d_fullres", "fold": 0, "dataset_json": dataset},
        "trainer_name": "nnUNetTrainerNoMirroring",
        "inference_allowed_mirroring_axes": None,
    }, out / "fold_0" / "checkpoint_final.pth")


if __name__ == "__main__":
    main()
