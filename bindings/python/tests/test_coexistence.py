"""The user's own ONNX Runtime, OpenVINO and PyTorch in one process with ours, imported before it
and after it: each computes, and flare's labels are those that it makes alone.

PyTorch, a download of gigabytes, takes part where it is installed.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from conftest import REPOSITORY, missing
from test_loading import python

OTHERS = ["onnxruntime", "openvino"]
CODE = """
import faulthandler, hashlib, sys, warnings
faulthandler.enable()
warnings.simplefilter("ignore")
import numpy as np
network, model, order = sys.argv[1], sys.argv[2], sys.argv[3:]
image = np.random.default_rng(3).integers(-300, 300, (6, 7, 8)).astype(np.int16)
image = image.repeat(4, 0).repeat(4, 1).repeat(4, 2)
given = np.random.default_rng(0).random((1, 3, 8, 8, 8), np.float32)
answers = []

def onnxruntime():
    import onnxruntime
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    def compute():
        (answer,) = session.run(None, {session.get_inputs()[0].name: given})
        answers.append(answer)
    return compute

def openvino():
    import openvino
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda: answers.append(compiled(given)[0])

def torch():
    import torch
    def compute():
        a = torch.arange(60000.0).reshape(200, 300)
        assert torch.isfinite(torch.nn.functional.conv2d(a[None, None], torch.ones(1, 1, 3, 3))).all()
        assert abs(float((a @ a.T).trace() / (a * a).sum()) - 1) < 1e-5
    return compute

def flare():
    import flare
    opened = flare.Model(model)
    def compute():
        labels = opened.segment(image, (1.5, 1.5, 2))
        device = opened.stats["device"]  # another one is taken where the first does not load
        print(hashlib.sha256(labels.tobytes()).hexdigest(), len(np.unique(labels)), device)
    return compute

computations = [globals()[name]() for name in order]  # all are loaded before one computes
for compute in computations + computations[::-1]:
    compute()
assert all(np.allclose(answer, answers[0], atol=1e-5) for answer in answers)
maps = open("/proc/self/maps").read()
ours = {line.split()[-1] for line in maps.splitlines() if "flare-runtime" in line}
assert any("libonnxruntime.so" in path for path in ours), ours
"""


def run(model: Path, *order: str) -> str:
    arguments = [str(REPOSITORY / "capi" / "test" / "cascade.onnx"), str(model), *order]
    code = f"import sys; sys.argv[1:] = {arguments!r}\n{CODE}"
    return python(code, FLARE_LIBRARY=os.environ.get("FLARE_LIBRARY", ""))


def test_beside_others(real: str, model_path: Path) -> None:
    packages = OTHERS + (["torch"] if importlib.util.find_spec("torch") else [])
    for name in OTHERS:
        if not importlib.util.find_spec(name):
            missing(f"no {name}")
    alone = run(model_path, "flare").split()
    assert len(alone) == 6 and alone[:3] == alone[3:] and int(alone[1]) > 2, alone
    for i in range(len(packages) + 1):  # flare in every place
        order = [*packages[:i], "flare", *packages[i:]]
        assert run(model_path, *order).split() == alone, order


def test_no_package_of_others_is_in_ours() -> None:
    """A wheel that installs files of onnxruntime or openvino would overwrite the user's."""
    import importlib.metadata

    try:
        files = importlib.metadata.files("libflare") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("libflare is not installed, but imported from its source")
    roots = {file.parts[0] for file in files if file.parts[0] != ".."}
    assert {root.partition("-")[0] for root in roots} == {"flare", "libflare"}
