"""Makes the checkpoints of this folder and what PyTorch reads from them.

Run in an environment with torch and numpy 2:

    python make_goldens.py [HIPPOCAMPUS_CHECKPOINT]

HIPPOCAMPUS_CHECKPOINT is nnunet_golden/hippocampus/model/fold_0/checkpoint_final.pth
of the shared data; without it hippocampus.json stays as it is.
"""
import collections
import io
import json
import pathlib
import sys
import zipfile

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent


def checkpoint(weights, fold=0, axes=(0, 1, 2), extra=None):
    """The dict that nnUNetTrainer.save_checkpoint writes, with what trainers
    are known to leave in it."""
    return {
        "network_weights": collections.OrderedDict(weights),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.25)], "lrs": [0.01]},
        "_best_ema": np.float64(0.73),
        "current_epoch": 1,
        "init_args": {"configuration": "3d_fullres", "fold": fold, "plans": {}, "device": torch.device("cpu"), **(extra or {})},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": axes,
    }


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_old_numpy_names(path):
    """Names numpy's modules in the pickle as numpy 1 does."""
    src = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as dst:
        for info in src.infolist():
            data = src.read(info)
            if info.filename.endswith("/data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            dst.writestr(info.filename, data)


def describe(path):
    c = torch.load(path, weights_only=False)
    axes = c["inference_allowed_mirroring_axes"]
    out = {
        "trainer": c["trainer_name"], "configuration": c["init_args"]["configuration"], "fold": str(c["init_args"]["fold"]),
        "mirror_axes": None if axes is None else [int(a) for a in axes], "weights": {},
    }
    for name, t in c["network_weights"].items():
        entry = {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")}
        if t.is_floating_point():
            entry["values"] = t.float().reshape(-1).tolist()
        out["weights"][name] = entry
    return out


def main():
    base = numbers(4, 6, seed=1)
    files = {
        "dtypes.pth": checkpoint({
            "fp32": numbers(2, 3),
            "fp16": torch.cat([numbers(5).half(), torch.tensor([0.0, -0.0, 6e-8, 65504.0, float("inf")]).half()]),
            "bf16": numbers(2, 2, 2).bfloat16(),
            "fp64": numbers(3).double(),
            "int64": torch.tensor(7),
            "scalar": torch.tensor(1.5),
            "empty": torch.zeros(0, 3),
            "transposed": base.T,
            "part": base[1:3, ::2],
            "offset": base.reshape(-1)[7:9],
            "half_permuted": numbers(2, 3, 4).half().permute(2, 0, 1),
        }, fold="all", axes=None),
        "numpy2.pth": checkpoint({"w": numbers(2)}, fold=np.int64(3), axes=(np.int64(0), np.int64(2)), extra={
            "where": pathlib.PurePosixPath("a/b"), "names": {"x", "y"}, "counts": collections.defaultdict(int, a=1),
            "array": np.arange(6).reshape(2, 3), "size": torch.Size([1, 2]), "type": torch.float16, "big": 10**30, "complex": 1j,
            "bytes": b"\x00\xff", "slice": slice(1, 2), "range": range(3),
        }),
        "numpy1.pth": checkpoint({"w": numbers(2)}, fold=np.int64(3), axes=(np.int64(0), np.int64(2))),
        "prefixes.pth": None,
    }
    w, b, n = numbers(2, 1, 3), numbers(2), torch.ones(2)
    twice = {}
    for before in ("module._orig_mod.encoder.stages.0.0.convs.0.", "module._orig_mod.decoder.encoder.stages.0.0.convs.0."):
        twice |= {before + "conv.weight": w, before + "conv.bias": b, before + "norm.weight": n,
                  before + "all_modules.0.weight": w, before + "all_modules.0.bias": b, before + "all_modules.2.weight": n}
    twice["module._orig_mod.decoder.seg_layers.0.weight"] = numbers(2, 2)
    files["prefixes.pth"] = checkpoint(twice)

    expected = {}
    for name, c in files.items():
        torch.save(c, HERE / name)
        if name == "numpy1.pth":
            with_old_numpy_names(HERE / name)
        expected[name] = describe(HERE / name)
    torch.save(checkpoint({"w": numbers(2)}), HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    (HERE / "checkpoints.json").write_text(json.dumps(expected, indent=1) + "\n")

    if len(sys.argv) > 1:
        weights = torch.load(sys.argv[1], weights_only=False)["network_weights"]
        table = {k: {"shape": list(t.shape), "sum": t.double().sum().item(), "abs": t.double().abs().sum().item()}
                 for k, t in weights.items() if ".all_modules." not in k and not k.startswith("decoder.encoder.")}
        (HERE / "hippocampus.json").write_text(json.dumps(table, indent=0) + "\n")


main()
