"""Makes the goldens of this folder with nnU-Net's own functions.

Run in an environment with nnunetv2 2.8.1:

    python make_goldens.py

Each case is CASE.in.npy and CASE.out.npy, label
maps of z, y, x, and cases.json gives the steps. postprocessing.pkl and .json are
files as determine_postprocessing writes them.
"""
import json
import pathlib
import pickle

import numpy as np
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing, remove_all_but_largest_component_from_segmentation as keep)

HERE = pathlib.Path(__file__).parent
RNG = np.random.default_rng(4)


def blobs(shape, labels, fill, dtype=np.uint8):
    """Sparse noise: many components, connected in all directions."""
    x = RNG.integers(1, labels + 1, shape)
    return np.where(RNG.random(shape) < fill, x, 0).astype(dtype)


def ties():
    x = np.zeros((5, 6, 7), np.uint8)
    x[0, 0, :3], x[4, 5, 4:], x[2, 3, 3] = 1, 1, 1  # two of three voxels and one of one
    return x


def corners():
    """Two diagonal steps, connected by corners and edges only."""
    x = np.zeros((4, 4, 4), np.uint8)
    for i in range(4):
        x[i, i, i] = 2
    x[0, 3, 0] = x[0, 3, 2] = 2
    return x


# name -> label map, steps
CASES = {
    "noise3d": (blobs((12, 17, 23), 3, 0.12), [{"labels_or_regions": [1, 2, 3]}, {"labels_or_regions": 2}]),
    "noise_dense": (blobs((9, 14, 11), 4, 0.5), [{"labels_or_regions": 1}, {"labels_or_regions": [2, 4]}, {"labels_or_regions": 3}]),
    "regions": (blobs((10, 15, 12), 3, 0.2), [{"labels_or_regions": [(1, 2, 3)]}, {"labels_or_regions": (2, 3)}, {"labels_or_regions": [3]}]),
    "background": (blobs((8, 9, 30), 3, 0.3), [{"labels_or_regions": 1, "background_label": 2}, {"labels_or_regions": [2]}]),
    "noise2d": (blobs((1, 40, 33), 2, 0.3), [{"labels_or_regions": 1}, {"labels_or_regions": [1, 2]}]),
    "thin": (blobs((40, 1, 3), 2, 0.5), [{"labels_or_regions": 1}]),
    "wide": (blobs((6, 10, 9), 400, 0.4, np.uint16), [{"labels_or_regions": list(range(1, 401))}, {"labels_or_regions": [(300, 301, 302)]}]),
    "ties": (ties(), [{"labels_or_regions": 1}]),
    "corners": (corners(), [{"labels_or_regions": [2]}]),
    "zero": (blobs((5, 6, 7), 1, 0.7), [{"labels_or_regions": 0, "background_label": 1}]),
    "absent": (blobs((5, 6, 7), 1, 0.3), [{"labels_or_regions": [5]}]),
    "full": (np.ones((3, 4, 5), np.uint8), [{"labels_or_regions": [1]}]),
}


def main():
    described = {}
    for name, (x, steps) in CASES.items():
        np.save(HERE / f"{name}.in.npy", x)
        out = apply_postprocessing(x, [keep] * len(steps), steps)
        assert out.dtype == x.dtype
        np.save(HERE / f"{name}.out.npy", out)
        described[name] = [{
            "keep_largest_component_of": sorted(set(np.concatenate([np.atleast_1d(r) for r in (
                s["labels_or_regions"] if isinstance(s["labels_or_regions"], list) else [s["labels_or_regions"]])]).tolist())),
            "background": s.get("background_label", 0)} for s in steps]
    (HERE / "cases.json").write_text(json.dumps(described) + "\n")

    # What save_pickle and save_json get: numpy numbers where labels come from arrays.
    fns, kwargs = [keep, keep, keep], [{"labels_or_regions": [1, 2, 3]}, {"labels_or_regions": (2, 3)},
                                       {"labels_or_regions": np.int64(3), "background_label": 0}]
    for protocol in (2, 4):
        (HERE / f"postprocessing_{protocol}.pkl").write_bytes(pickle.dumps((fns, kwargs), protocol=protocol))
    (HERE / "postprocessing_none.pkl").write_bytes(pickle.dumps(([], [])))
    (HERE / "postprocessing_foreign.pkl").write_bytes(pickle.dumps(([json.dumps, keep], [{}, {"labels_or_regions": 1, "connectivity": 2}])))
    (HERE / "postprocessing.json").write_text(json.dumps({
        "input_folder": {"foreground_mean": {"Dice": 0.5}, "mean": {"1": {"Dice": float("nan")}}},
        "postprocessing_fns": [f.__name__ for f in fns],
        "postprocessing_kwargs": [{"labels_or_regions": [1, 2, 3]}, {"labels_or_regions": [2, 3]}, {"labels_or_regions": 3, "background_label": 0}],
    }, indent=1) + "\n")


if __name__ == "__main__":
    main()
