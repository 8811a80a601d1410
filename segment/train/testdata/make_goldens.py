"""Makes the goldens of this folder: what PyTorch computes with nnU-Net's networks and loss.

Run in an environment with nnunetv2 2.8.1:

    python make_goldens.py

cases.json describes small networks and losses, with the loss, its parts and the counts of
hard decisions; NAME.npy holds the gradients by all parameters, computed in float64, in
the order of the list in cases.json; BF16 is how far PyTorch's own gradients in bfloat16 are
from those, relative to their norm. curve.npy holds the losses of 50 steps of SGD in
float32. Parameters, images and targets are not stored: noise() makes them here and in
golden_test.go.
"""
import json
import pathlib

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet, ResidualUNet
from dynamic_network_architectures.building_blocks.regularization import DropPath
from dynamic_network_architectures.building_blocks.residual import BasicBlockD, BottleneckD
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss, get_tp_fp_fn_tn
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn

HERE = pathlib.Path(__file__).parent


def noise(name, n):
    """n numbers from -1 to 1, a function of name: splitmix64, seeded with its FNV-1a hash."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def architecture(kind, dims, features, kernels, strides, blocks, decoder, **more):
    return {"Class": kind, "Dims": dims, "Stages": len(features), "Features": features, "Kernels": kernels, "Strides": strides,
            "BlocksPerStage": blocks, "DecoderPerStage": decoder, "ConvBias": True, "Affine": True, "Eps": 1e-5, "Slope": 0.01,
            "NonlinFirst": False, "StemChannels": features[0], "Bottleneck": None} | more


def case(arch, patch, batch=2, channels=1, heads=3, deep=True, dropout=0.0, depth=0.0, **loss):
    return {"Arch": arch, "Patch": patch, "Batch": batch, "Channels": channels, "Heads": heads, "Deep": deep, "Dropout": dropout, "StochasticDepth": depth,
            "Loss": {"BatchDice": False, "Regions": None, "Soft": False, "Ignore": 0, "Weighted": False} | loss}


K3, K2 = [3, 3, 3], [3, 3]
CASES = {
    "plain3d_anisotropic": case(architecture("PlainConvUNet", 3, [3, 4, 5], [[1, 3, 3], K3, K3], [[1, 1, 1], [1, 2, 2], [2, 2, 2]], [2, 1, 2], [2, 1]), [6, 8, 12]),
    "plain3d_batch_dice": case(architecture("PlainConvUNet", 3, [2, 3, 4, 4], [K3] * 4, [[1, 1, 1]] + [[2, 2, 2]] * 3, [1, 1, 1, 1], [1, 1, 1]), [16, 16, 8], channels=2, heads=4, BatchDice=True),
    "plain3d_one_scale": case(architecture("PlainConvUNet", 3, [3, 4], [K3, K3], [[1, 1, 1], [2, 1, 2]], [1, 2], [2], ConvBias=False), [6, 5, 8], batch=3, heads=2, deep=False),
    "plain2d_ignore": case(architecture("PlainConvUNet", 2, [4, 6, 8], [K2] * 3, [[1, 1], [2, 2], [2, 2]], [2, 2, 2], [2, 2]), [16, 20], heads=4, Ignore=4, BatchDice=True),
    "plain3d_regions": case(architecture("PlainConvUNet", 3, [3, 4, 4], [K3] * 3, [[1, 1, 1], [2, 2, 2], [1, 2, 2]], [1, 1, 1], [1, 1]), [8, 8, 8], Regions=[[1, 2, 3], [2, 3], [3]]),
    "residual2d_regions_ignore": case(architecture("ResidualEncoderUNet", 2, [8, 8, 12], [K2] * 3, [[1, 1], [2, 2], [2, 1]], [1, 2, 1], [1, 2], StemChannels=6, Bottleneck=[2, 3, 4]), [16, 12], heads=2, Regions=[[1, 2], [2]], Ignore=3, BatchDice=True),
    "residual3d": case(architecture("ResidualEncoderUNet", 3, [3, 4, 4], [[1, 3, 3], K3, K3], [[1, 1, 1], [1, 2, 2], [2, 2, 2]], [1, 2, 1], [1, 1]), [4, 8, 12]),
    "residual3d_decoder": case(architecture("ResidualUNet", 3, [3, 4], [K3, [1, 1, 3]], [[1, 1, 1], [2, 2, 2]], [1, 1], [2], Slope=0.0), [4, 6, 8], deep=False),
    "plain3d_nonlin_first": case(architecture("PlainConvUNet", 3, [3, 4], [K3, [3, 1, 5]], [[1, 1, 1], [1, 1, 2]], [1, 2], [1], NonlinFirst=True, Affine=False, Slope=0.1), [6, 6, 8], deep=False),
    "plain2d_soft": case(architecture("PlainConvUNet", 2, [4, 5, 6], [K2] * 3, [[1, 1], [2, 2], [2, 2]], [1, 1, 1], [1, 1]), [16, 12], Soft=True, Weighted=True),
    "plain2d_weighted_ignore": case(architecture("PlainConvUNet", 2, [4, 5, 6], [K2] * 3, [[1, 1], [2, 2], [2, 2]], [1, 1, 1], [1, 1]), [16, 12], Ignore=3, Weighted=True, BatchDice=True),
    "plain2d_weighted": case(architecture("PlainConvUNet", 2, [4, 5, 6], [K2] * 3, [[1, 1], [2, 2], [2, 2]], [1, 1, 1], [1, 1]), [16, 12], Weighted=True),
    "plain2d_weighted_regions": case(architecture("PlainConvUNet", 2, [4, 5, 6], [K2] * 3, [[1, 1], [2, 2], [2, 2]], [1, 1, 1], [1, 1]), [16, 12], heads=2, Regions=[[1, 2], [2]], Weighted=True),
    "residual3d_noise": case(architecture("ResidualEncoderUNet", 3, [4, 4, 4], [K3] * 3, [[1, 1, 1], [1, 2, 2], [2, 2, 2]], [1, 1, 2], [1, 1]), [4, 8, 8], batch=4, dropout=0.25, depth=0.4),
}


class FixedDropout(nn.Module):
    """Dropout of channels whose factors noise() makes: as golden_test.go fills its masks."""

    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x * self.factors(x.shape[:2]).reshape(*x.shape[:2], *[1] * (x.ndim - 2))

    def factors(self, shape):
        v = torch.from_numpy(noise("mask/" + self.path, int(np.prod(shape)))).double()
        return torch.where(v < 2 * self.p - 1, 0, 1 / (1 - self.p)).reshape(shape)


def drop_path(self, x):
    v = torch.from_numpy(noise("mask/" + self.path, x.shape[0])).double()
    return x * torch.where(v < 2 * self.drop_prob - 1, 0, 1 / (1 - self.drop_prob)).reshape(-1, *[1] * (x.ndim - 1))


def network(c):
    a, dims = c["Arch"], c["Arch"]["Dims"]
    kw = {"input_channels": c["Channels"], "n_stages": a["Stages"], "features_per_stage": a["Features"], "conv_op": [nn.Conv2d, nn.Conv3d][dims - 2],
          "kernel_sizes": a["Kernels"], "strides": a["Strides"], "num_classes": c["Heads"], "n_conv_per_stage_decoder": a["DecoderPerStage"],
          "conv_bias": a["ConvBias"], "norm_op": [nn.InstanceNorm2d, nn.InstanceNorm3d][dims - 2], "norm_op_kwargs": {"eps": a["Eps"], "affine": a["Affine"]},
          "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"negative_slope": a["Slope"], "inplace": True}, "deep_supervision": c["Deep"]}
    if c["Dropout"]:
        kw |= {"dropout_op": FixedDropout, "dropout_op_kwargs": {"p": c["Dropout"]}}
    if a["Class"] == "PlainConvUNet":
        net = PlainConvUNet(n_conv_per_stage=a["BlocksPerStage"], nonlin_first=a["NonlinFirst"], **kw)
    else:
        if a["Bottleneck"]:
            kw |= {"block": BottleneckD, "bottleneck_channels": a["Bottleneck"]}
        kw |= {"n_blocks_per_stage": a["BlocksPerStage"], "stem_channels": a["StemChannels"]}
        net = {"ResidualEncoderUNet": ResidualEncoderUNet, "ResidualUNet": ResidualUNet}[a["Class"]](**kw)
    for path, module in net.named_modules():
        if c["StochasticDepth"] and isinstance(module, (BasicBlockD, BottleneckD)):
            module.apply_stochastic_depth, module.drop_path = True, DropPath(c["StochasticDepth"])
    DropPath.forward = drop_path
    for path, module in net.named_modules():
        module.path = path.replace(".all_modules.1", ".dropout")
    with torch.no_grad():
        for name, p in parameters(net):
            values = torch.from_numpy(noise(name, p.numel()).reshape(p.shape))
            if p.ndim > 1:
                values *= np.float32((6 / np.prod(p.shape[1:])) ** 0.5)
            else:
                values = values / 2 + (1 if name.endswith("norm.weight") else 0)
            p.copy_(values)
    return net


def parameters(net):
    """Without the second names of the same tensors."""
    return list(net.named_parameters())


class SoftLoss(nn.Module):
    """nnU-Net's loss for probabilities and weights of voxels, which nnU-Net itself does not have: weights multiply every voxel's term of
    each sum, and the cross-entropy is divided by the sum of weights (and the number of regions)."""

    def __init__(self, batch_dice, regions):
        super().__init__()
        self.regions = regions
        nonlin = torch.sigmoid if regions else lambda x: torch.softmax(x, 1)
        self.dice = MemoryEfficientSoftDiceLoss(apply_nonlin=nonlin, batch_dice=batch_dice, do_bg=bool(regions), smooth=1e-5, ddp=False)

    def forward(self, z, target):
        y, w = target[:, :-1], target[:, -1:]
        if self.regions:
            ce = (w * nn.functional.binary_cross_entropy_with_logits(z, y, reduction="none")).sum() / (w.sum() * len(self.regions))
        else:
            ce = -(w * y * torch.log_softmax(z, 1)).sum() / w.sum()
        return ce, self.dice(z, y, loss_mask=w)


class Parts(nn.Module):
    """Cross-entropy and Dice of one of nnU-Net's losses."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, z, target):
        self.loss.weight_dice, self.loss.weight_ce = 0, 1
        ce = self.loss(z, target)
        self.loss.weight_dice, self.loss.weight_ce = 1, 0
        return ce, self.loss(z, target)


def loss_of(c):
    l = c["Loss"]
    dice = {"batch_dice": l["BatchDice"], "smooth": 1e-5, "ddp": False}
    if l["Weighted"]:
        return SoftLoss(l["BatchDice"], l["Regions"])
    if l["Regions"]:
        return Parts(DC_and_BCE_loss({}, dice | {"do_bg": True}, use_ignore_label=l["Ignore"] > 0, dice_class=MemoryEfficientSoftDiceLoss))
    return Parts(DC_and_CE_loss(dice | {"do_bg": False}, {}, ignore_label=l["Ignore"] or None, dice_class=MemoryEfficientSoftDiceLoss))


def scales_of(c):
    return [list(s) for s in 1 / np.cumprod(np.vstack(c["Arch"]["Strides"]), axis=0)][:-1]


def weights_of(c):
    """nnUNetTrainer._build_loss."""
    if not c["Deep"]:
        return [1.0]
    w = np.array([1 / 2**i for i in range(c["Arch"]["Stages"] - 1)])
    w[-1] = 0
    return list(w / w.sum())


def targets_of(c, labels, weights):
    """The loss's target at each scale, from labels (or probabilities) and weights: batch x 1 (or heads) x patch."""
    l, per_sample = c["Loss"], []
    downsample = DownsampleSegForDSTransform(scales_of(c) if c["Deep"] else [[1] * len(c["Patch"])])
    for seg, weight in zip(labels, weights):
        if l["Regions"]:
            regions = [tuple(r) for r in l["Regions"]] + ([(l["Ignore"],)] if l["Ignore"] else [])
            seg = ConvertSegmentationToRegionsTransform(regions)._apply_to_segmentation(seg)
            if l["Weighted"]:
                seg = torch.cat([seg.double(), weight])
        elif l["Weighted"]:
            if l["Ignore"]:
                weight = weight * (seg != l["Ignore"])
            if not l["Soft"]:
                seg = torch.cat([seg == i for i in range(c["Heads"])]).double()
            seg = torch.cat([seg, weight])
        per_sample.append(downsample._apply_to_segmentation(seg))
    return [torch.stack(t) for t in zip(*per_sample)]


def batch_of(c, name=""):
    n, patch = c["Batch"], c["Patch"]
    voxels = int(np.prod(patch))
    x = torch.from_numpy(noise("image" + name, n * c["Channels"] * voxels).reshape(n, c["Channels"], *patch)).double()
    if c["Loss"]["Soft"]:
        p = (noise("target" + name, n * c["Heads"] * voxels).reshape(n, c["Heads"], *patch) + 1) / 2 # of sums other than 1
        y = torch.from_numpy(p).double()
    else:
        classes = max([c["Heads"] - 1, c["Loss"]["Ignore"]] + [max(r) for r in c["Loss"]["Regions"] or []]) + 1
        y = np.minimum(np.floor((noise("target" + name, n * voxels).astype(np.float64) + 1) / 2 * classes), classes - 1)
        y = torch.from_numpy(y.reshape(n, 1, *patch)).to(torch.int16)
    w = torch.ones(n, 1, *patch).double()
    if c["Loss"]["Weighted"]:
        w = torch.from_numpy(noise("weight" + name, n * voxels).reshape(n, 1, *patch) + 1).double()
    return x, y, w


def counts_of(c, z, target):
    """nnUNetTrainer.validation_step."""
    l = c["Loss"]
    if l["Weighted"]:
        target, mask = target[:, :-1], target[:, -1:]
    elif l["Regions"]:
        target, mask = (target[:, :-1], ~target[:, -1:]) if l["Ignore"] else (target, None)
    else:
        mask = (target != l["Ignore"]).double() if l["Ignore"] else None
        target = torch.where(target == l["Ignore"], 0, target) if l["Ignore"] else target
    if l["Regions"]:
        hard = (torch.sigmoid(z) > 0.5).double()
    else:
        hard = torch.zeros_like(z).scatter_(1, z.argmax(1)[:, None], 1)
    tp, fp, fn, _ = get_tp_fp_fn_tn(hard, target, axes=[0] + list(range(2, z.ndim)), mask=mask)
    return [tp.tolist(), fp.tolist(), fn.tolist()]


def forward(c, net, x, targets):
    out = net(x)
    out = out if c["Deep"] else [out]
    parts, loss = [0, 0], loss_of(c)
    for w, z, t in zip(weights_of(c), out, targets):
        if w:
            parts = [p + w * q for p, q in zip(parts, loss(z, t))]
    return out[0], parts


def gradients(name, c):
    net = network(c).double()
    x, y, w = batch_of(c)
    targets = targets_of(c, y, w)
    z, (ce, dice) = forward(c, net, x, targets)
    # The same from nnU-Net's own combination.
    if not c["Loss"]["Weighted"]:
        whole = loss_of(c).loss
        if c["Deep"]:
            check = DeepSupervisionWrapper(whole, weights_of(c))(net(x), targets)
        else:
            check = whole(net(x), targets[0])
        assert abs(float(check.detach()) - float((ce + dice).detach())) < 1e-6, name
    (ce + dice).backward()
    c |= {"CE": float(ce.detach()), "Dice": float(dice.detach()), "Counts": counts_of(c, z.detach(), targets[0]),
          "Parameters": [{"Name": n, "Shape": list(p.shape), "Gradient": p.grad is not None} for n, p in parameters(net)]}
    flat = [p.grad.flatten() for _, p in parameters(net) if p.grad is not None]
    flat = torch.cat(flat)
    np.save(HERE / f"{name}.npy", flat.numpy().astype(np.float32))
    c["BF16"] = bfloat16(c, x, targets, flat)
    print(name, sum(p.numel() for p in net.parameters()), "parameters, loss", float((ce + dice).detach()))
    return c


def bfloat16(c, x, targets, wanted):
    """The relative distance of the gradients when PyTorch computes with autocast to bfloat16."""
    net = network(c).float()
    with torch.autocast("cpu", torch.bfloat16):
        ce, dice = forward(c, net, x.float(), targets)[1]
    (ce + dice).backward()
    flat = torch.cat([p.grad.flatten() for _, p in parameters(net) if p.grad is not None])
    return float((flat - wanted).norm() / wanted.norm())


def curve(c, steps=50, batches=5):
    """Losses of steps of SGD as nnU-Net makes them, each batch in its turn, ten steps to an epoch."""
    net = network(c).float()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    schedule = PolyLRScheduler(optimizer, 1e-2, steps // 10)
    loss = DeepSupervisionWrapper(loss_of(c).loss, weights_of(c))
    losses = []
    for step in range(steps):
        if step % 10 == 0:
            schedule.step(step // 10)
        x, y, w = batch_of(c, str(step % batches))
        # Something to learn: the image tells the label.
        x = x + y.double() / 2
        optimizer.zero_grad(set_to_none=True)
        l = loss(net(x.float()), targets_of(c, y, w))
        l.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        optimizer.step()
        losses.append(float(l.detach()))
    np.save(HERE / "curve.npy", np.float32(losses))
    print("curve", losses[0], losses[-1])
    return c


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = {name: gradients(name, c) for name, c in CASES.items()}
    plan = case(architecture("PlainConvUNet", 3, [8, 16, 32], [K3] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]], [2, 2, 2], [2, 2]), [16, 16, 16], BatchDice=True)
    result["curve"] = curve(plan) | {"Parameters": []}
    (HERE / "cases.json").write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in result.items()) + "\n}\n")
