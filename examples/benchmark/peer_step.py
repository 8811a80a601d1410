"""PyTorch's side of bench step; runs in an interpreter that has nnunetv2.

    python peer_step.py PLANS BATCH exact|fast THREADS

does what step/main.go does, with nnU-Net's network, loss and optimizer; fast is autocast to
bfloat16.
"""
import contextlib
import json
import os
import sys
import tempfile
import time

for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(name, tempfile.gettempdir())  # nnU-Net asks for them and does not use them here

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

HEADS, CONFIGURATION = 3, "3d_fullres"


def main(plans, batch, mode, threads):
    begin = time.perf_counter()
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    c = PlansManager(plans).get_configuration(CONFIGURATION)
    network = get_network_from_plans(c.network_arch_class_name, c.network_arch_init_kwargs, c.network_arch_init_kwargs_req_import, 1, HEADS,
                                     allow_init=True, deep_supervision=True)
    loss = DC_and_CE_loss({"batch_dice": c.batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, weight_ce=1, weight_dice=1,
                          dice_class=MemoryEfficientSoftDiceLoss)
    images = torch.randn(int(batch), 1, *c.patch_size)
    labels = torch.randint(0, HEADS, (int(batch), 1, *c.patch_size)).float()
    with torch.no_grad():
        sizes = [z.shape[2:] for z in network(images[:1])]
    targets = [labels if i == 0 else torch.nn.functional.interpolate(labels, s, mode="nearest-exact") for i, s in enumerate(sizes)]
    weights = [1 / 2**i for i in range(len(sizes) - 1)] + [0]
    loss = DeepSupervisionWrapper(loss, [w / sum(weights) for w in weights])
    optimizer = torch.optim.SGD(network.parameters(), 0.01, weight_decay=3e-5, momentum=0.99, nesterov=True)
    print(json.dumps({"open": time.perf_counter() - begin}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if mode == "fast" else contextlib.nullcontext():
            value = loss(network(images), targets)
        value.backward()
        number, step = value.item(), time.perf_counter() - begin
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        print(json.dumps({"loss": number, "step": step, "apply": time.perf_counter() - begin - step}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
