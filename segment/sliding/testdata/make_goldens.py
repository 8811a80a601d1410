"""Goldens for segment/sliding: tile positions, and whole sliding-window runs of nnU-Net
2.8.1 around an artificial network, with its accumulators in float32.

Run in a scratch environment with nnunetv2==2.8.1:  python make_goldens.py
"""

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import nnunetv2.inference.predict_from_raw_data as p
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

# nnU-Net keeps logits, counts and Gaussian in half precision; here they are float32.
torch.half = torch.float32
p.compute_gaussian = functools.partial(compute_gaussian, dtype=torch.float32)

here = Path(__file__).parent


class Network(torch.nn.Module):
    """Three classes of the input and a ramp over the tile: not symmetric in any axis."""

    def forward(self, x):
        axes = [torch.arange(n, dtype=torch.float32) for n in x.shape[2:]]
        ramp = sum(0.01 * (i + 1) * a for i, a in enumerate(torch.meshgrid(*axes, indexing="ij")))[None, None]
        first = x[:, :1]
        return torch.cat((first, 0.5 * first + ramp, -x[:, -1:] * ramp), 1)


positions = {f"{n},{t}": compute_steps_for_sliding_window((n,), (t,), 0.5)[0]
             for t in (1, 2, 3, 5, 8, 13, 28, 40, 96, 128, 160) for n in range(t, 5 * t + 7, max(1, t // 7))}
(here / "positions.json").write_text(json.dumps(positions) + "\n")

CASES = {  # name: channels, image shape, patch, mirror axes
    "three": (1, (13, 17, 15), (8, 9, 6), None),
    "mirror": (2, (13, 17, 15), (8, 10, 6), (0, 1, 2)),
    "mirror_xy": (1, (9, 12, 10), (5, 8, 7), (1, 2)),
    "padded": (2, (5, 20, 4), (8, 9, 7), (0, 2)),
    "two": (2, (4, 14, 11), (8, 6), None),
    "two_mirror": (1, (4, 5, 11), (8, 6), (0, 1)),
}
rng = np.random.default_rng(5)
index = []
for name, (channels, shape, patch, mirror) in CASES.items():
    image = rng.normal(size=(channels, *shape)).astype(np.float32)
    predictor = p.nnUNetPredictor(use_mirroring=mirror is not None, device=torch.device("cpu"), allow_tqdm=False,
                                  perform_everything_on_device=False)
    predictor.network = Network()
    predictor.configuration_manager = SimpleNamespace(patch_size=patch)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=3)
    predictor.allowed_mirroring_axes = mirror
    logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(image)).numpy()
    np.save(here / f"{name}_in.npy", image)
    np.save(here / f"{name}_logits.npy", logits)
    index.append({"name": name, "patch": patch, "mirror": mirror})
(here / "cases.json").write_text(json.dumps(index, indent=1) + "\n")
