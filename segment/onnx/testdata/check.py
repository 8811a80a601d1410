"""Checks the ONNX models that package onnx builds against PyTorch.

Run in an environment with nnunetv2 2.8.1, onnx and onnxruntime, and with Go:

    python check.py [RESULTS_FOLDER ...]

Without folders it takes the golden networks beside it. Each is built with
buildonnx, checked with onnx.checker (shape inference included) and run in ONNX
Runtime on a random input; PyTorch computes the same in float64 with the network
that nnU-Net builds. Prints the largest difference relative to the largest
logit; more than 1e-5 fails.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

HERE = pathlib.Path(__file__).parent


def build(folder, *folds):
    with tempfile.TemporaryDirectory() as tmp:
        out = pathlib.Path(tmp) / "model.onnx"
        subprocess.run(["go", "run", "./testdata/buildonnx", str(folder.resolve()), str(out), *folds], check=True, cwd=HERE.parent)
        onnx.checker.check_model(str(out), full_check=True)
        return out.read_bytes()


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["image"] and [o.name for o in session.get_outputs()] == ["logits"]
    return session.run(None, {"image": x})[0]


def difference(got, want):
    assert got.shape == want.shape, (got.shape, want.shape)
    return np.abs(got - want).max() / np.abs(want).max()


def check(folder):
    plans = PlansManager(json.loads((folder / "plans.json").read_text()))
    dataset = json.loads((folder / "dataset.json").read_text())
    outputs, x = {}, None
    for path in sorted(folder.glob("fold_*/checkpoint_final.pth")):
        checkpoint = torch.load(path, weights_only=False, map_location="cpu")
        c = plans.get_configuration(checkpoint["init_args"]["configuration"])
        channels = determine_num_input_channels(plans, c, dataset)
        trainer = recursive_find_trainer_class_by_name(checkpoint["trainer_name"])
        heads = plans.get_label_manager(dataset).num_segmentation_heads
        network = trainer.build_network_architecture(plans, c, channels, heads, enable_deep_supervision=False)
        weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", k): v for k, v in checkpoint["network_weights"].items()}
        missing, extra = network.load_state_dict(weights, strict=False)
        assert not extra and all(k.startswith("decoder.seg_layers.") for k in missing), (missing, extra)
        if x is None:
            x = np.random.default_rng(1).standard_normal((1, channels, *c.patch_size)).astype(np.float32)
        with torch.no_grad():
            outputs[path.parent.name.removeprefix("fold_")] = network.double().eval()(torch.from_numpy(x).double()).numpy()
    worst = difference(run(build(folder), x), sum(outputs.values()) / len(outputs))
    names = list(outputs)
    if len(names) > 1:
        worst = max(worst, difference(run(build(folder, names[1]), x), outputs[names[1]]))
        some = [names[-1], names[0]]
        worst = max(worst, difference(run(build(folder, *some), x), sum(outputs[n] for n in some) / 2))
    if (folder / "output.npy").exists():
        worst = max(worst, difference(run(build(folder), np.load(folder / "input.npy")), np.load(folder / "output.npy")))
    print(f"{worst:.1e}  {folder.name}", flush=True)
    return worst < 1e-5


def main():
    folders = [pathlib.Path(a) for a in sys.argv[1:]] or sorted(p.parent for p in HERE.glob("*/plans.json"))
    results = [check(f) for f in folders]
    sys.exit(0 if all(results) else "a model differs from PyTorch by more than 1e-5")


if __name__ == "__main__":
    main()
