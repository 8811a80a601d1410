"""Makes the models of foreign/: networks as PyTorch's exporters write them, with
an input and the logits that PyTorch computes in float64.

Run in an environment with nnunetv2 2.8.1, onnx and onnxscript:

    python make_foreign.py

Each CASE.onnx comes with CASE.in.npy and CASE.out.npy; cases.json has the patch,
the number of channels and what Static must choose.
"""
import json
import pathlib
import warnings

import numpy as np
import onnx
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).parent / "foreign"
warnings.simplefilter("ignore")


def unet(dims, channels, heads, deep_supervision):
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    return PlainConvUNet(channels, 3, [2, 3, 4], conv, 3, [1, 2, 2], 1, heads, 1, True, norm, {"affine": True},
                         nonlin=nn.LeakyReLU, deep_supervision=deep_supervision).eval()


class Then(nn.Module):
    """A network and something after it."""

    def __init__(self, network, after):
        super().__init__()
        self.network, self.after = network, after

    def forward(self, x):
        return self.after(self.network(x))


class Resizing(nn.Module):
    """A decoder that interpolates to its skip's size and predicts coarsely, too."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.head, self.coarse = nn.Conv2d(6, 2, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        skip = functional.relu(self.down(x))
        deep = functional.relu(self.deep(skip))
        up = functional.interpolate(deep, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.coarse(deep), self.head(torch.cat([up, skip], 1))


def strip(path):
    """Leaves out stack traces and the like, which are most of a small model."""
    m = onnx.load(path, load_external_data=False)
    m.graph.doc_string = ""
    del m.metadata_props[:]
    del m.graph.metadata_props[:]
    for part in [*m.graph.node, *m.graph.value_info, *m.graph.initializer, *m.graph.input, *m.graph.output]:
        part.doc_string = ""
        del part.metadata_props[:]
    path.write_bytes(m.SerializeToString())


def main():
    torch.manual_seed(5)
    HERE.mkdir(exist_ok=True)
    cases = {}

    def case(name, network, patch, channels, logits, output, heads, notes, **export):
        x = torch.randn(1, channels, *patch)
        path = HERE / f"{name}.onnx"
        torch.onnx.export(network, (x,), str(path), **export)
        strip(path)
        onnx.checker.check_model(str(path))
        with torch.no_grad():
            out = logits(network.double(), x.double())
        np.save(HERE / f"{name}.in.npy", x.numpy())
        np.save(HERE / f"{name}.out.npy", out.float().numpy())
        cases[name] = {"patch": patch, "channels": channels, "heads": heads, "output": output, "notes": notes}

    all_axes = {0: "batch", 2: "depth", 3: "height", 4: "width"}
    case("opset11_softmax", Then(unet(3, 2, 3, False), lambda y: torch.softmax(y, 1)), [4, 8, 8], 2, lambda n, x: n.network(x), "", 3, ["Softmax"],
         opset_version=11, dynamo=False, input_names=["CT scan"], output_names=["probabilities"])
    case("opset13_list", unet(3, 1, 3, True), [4, 8, 12], 1, lambda n, x: n(x)[0], "full", 3, ['"full"'],
         opset_version=13, dynamo=False, input_names=["input"], output_names=["full", "half"], dynamic_axes={"input": all_axes})
    case("opset17_sigmoid", Then(unet(2, 3, 2, False), torch.sigmoid), [8, 16], 3, lambda n, x: n.network(x), "", 2, ["Sigmoid"],
         opset_version=17, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "N"}, "y": {0: "N"}})
    case("opset17_resize", Resizing(), [9, 14], 1, lambda n, x: n(x)[1], "fine", 2, ['"fine"'],
         opset_version=17, dynamo=False, input_names=["x"], output_names=["coarse", "fine"], dynamic_axes={"x": {0: "N", 2: "h", 3: "w"}})
    dim = torch.export.Dim
    case("opset21_external", unet(3, 1, 2, True), [8, 8, 12], 1, lambda n, x: n(x)[0], "", 2, ["is used"], opset_version=21, dynamo=True, verbose=False,
         dynamic_shapes=({0: "batch", **{i + 2: 4 * dim(f"n{i}", min=1, max=16) for i in range(3)}},))
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
