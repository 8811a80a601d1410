"""Goldens for segment/train/sample: where nnU-Net 2.8.1's nnUNetDataLoader cuts boxes out.

Run in a scratch environment with nnunetv2==2.8.1:  python make_goldens.py
Writes boxes.json: for shapes, boxes and patches the first and last corner of a box
anywhere, and corners around voxels; and forced.json: which samples of a batch are forced.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

here = Path(__file__).parent
ranges = []


def randint(lo, hi):
    ranges.append((int(lo), int(hi) - 1))
    return lo


np.random.randint = randint
rows = []
for shape, box, patch in [
    ((36, 50, 35), (73, 80, 73), (40, 56, 40)), ((120, 512, 500), (32, 225, 225), (32, 128, 192)),
    ((200, 150, 90), (205, 205, 205), (128, 128, 128)), ((20, 9, 11), (20, 9, 11), (20, 9, 11)),
    ((7, 8, 9), (16, 15, 14), (16, 15, 14)), ((40, 300, 301), (1, 401, 402), (1, 256, 256)),
    ((64, 64, 64), (64, 71, 72), (64, 64, 63)),
]:
    loader = SimpleNamespace(need_to_pad=np.array(box) - np.array(patch), patch_size=box, has_ignore=False,
                             annotated_classes_key=(-1, 0, 1))
    ranges.clear()
    nnUNetDataLoader.get_bbox(loader, np.array(shape), False, None)
    first, last = zip(*ranges)
    voxels = [(0, 0, 0), tuple(n - 1 for n in shape), tuple(n // 2 for n in shape), tuple(n // 3 for n in shape)]
    corners = [nnUNetDataLoader.get_bbox(loader, np.array(shape), True, {1: np.array([(0, *v)])})[0] for v in voxels]
    rows.append({"shape": shape, "box": box, "patch": patch, "first": first, "last": last, "voxels": voxels,
                 "corners": [[int(i) for i in c] for c in corners]})
(here / "boxes.json").write_text(json.dumps(rows).replace("}, {", "},\n{") + "\n")

forced = {n: [bool(nnUNetDataLoader._oversample_last_XX_percent(SimpleNamespace(batch_size=n, oversample_foreground_percent=0.33), i))
              for i in range(n)] for n in (1, 2, 3, 4, 5, 9, 12, 50)}
(here / "forced.json").write_text(json.dumps(forced).replace("], ", "],\n") + "\n")
