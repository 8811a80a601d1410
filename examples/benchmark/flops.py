"""How many floating-point operations a network in an ONNX file takes: 2 for each multiply
and add of its convolutions, nothing for what lies between them. Plain Python; reads the few
fields of the protobuf that it needs (onnx.proto3) and skips the weights."""
import mmap
from pathlib import Path


def varint(b, i):
    value = shift = 0
    while True:
        byte = b[i]
        value |= (byte & 127) << shift
        i, shift = i + 1, shift + 7
        if byte < 128:
            return value, i


def fields(b):
    """Yields (number, value) of a message: an integer, or a view of bytes."""
    i = 0
    while i < len(b):
        key, i = varint(b, i)
        if key & 7 == 0:
            value, i = varint(b, i)
        else:
            size, i = varint(b, i) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], i)
            value, i = b[i:i + size], i + size
        yield key >> 3, value


def only(b, number):
    return [v for n, v in fields(b) if n == number]


def integers(b, number):
    """A repeated integer field, packed or not."""
    out = []
    for v in only(b, number):
        if isinstance(v, int):
            out.append(v)
            continue
        i = 0
        while i < len(v):
            n, i = varint(v, i)
            out.append(n)
    return out


def text(b, number):
    return [bytes(v).decode() for v in only(b, number)]


def product(numbers):
    n = 1
    for x in numbers:
        n *= x
    return n


def count(path):
    """Operations of one pass of the network in path, whose input has a fixed shape. Of a
    bundle with several folds: all of them."""
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m, memoryview(m) as view:
        total = operations(view, Path(path).name)
    return total


def operations(model, name):
    (graph,) = only(model, 7)
    shapes = {text(t, 8)[0]: integers(t, 1) for t in only(graph, 5)}
    weights = set(shapes)
    for value in only(graph, 11):
        if text(value, 1)[0] not in weights:
            (kind,) = only(value, 2)
            (shape,) = only(only(kind, 1)[0], 2)
            shapes[text(value, 1)[0]] = [sum(integers(d, 1)) for d in only(shape, 1)]
    total = 0
    for node in only(graph, 1):
        (kind,) = text(node, 4)
        inputs, outputs = text(node, 1), text(node, 2)
        x = next((shapes[i] for i in inputs if i in shapes and i not in weights), None)
        if x is None:
            continue
        y = x
        if kind in ("Conv", "ConvTranspose"):
            attributes = {text(a, 1)[0]: integers(a, 8) or integers(a, 3) for a in only(node, 5)}
            w = shapes[inputs[1]]
            stride = attributes.get("strides", [1] * len(w[2:]))
            if kind == "Conv":
                pads = attributes.get("pads", [0] * 2 * len(stride))
                y = [x[0], w[0]] + [(n + pads[i] + pads[i + len(stride)] - k) // s + 1
                                    for i, (n, k, s) in enumerate(zip(x[2:], w[2:], stride))]
                total += 2 * product(y) * product(w[1:])
            else:
                (group,) = attributes.get("group", [1])
                y = [x[0], w[1] * group] + [n * s for n, s in zip(x[2:], stride)]  # kernel and stride are the same
                total += 2 * product(x) * product(w[1:])
        for out in outputs:
            shapes[out] = y
    if not total:
        raise ValueError(f"{name} has no convolution whose input's shape is known")
    return total
