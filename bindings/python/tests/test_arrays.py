"""What reaches the library of an array and its geometry, seen from C (fake_flare.c)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flare
from flare import _abi

pytestmark = pytest.mark.usefixtures("fake")

SPACING = (0.7, 0.8, 2.5)
READ_AS_IS = {
    "uint8": _abi.UINT8,
    "int16": _abi.INT16,
    "uint16": _abi.UINT16,
    "int32": _abi.INT32,
    "float32": _abi.FLOAT32,
    "float64": _abi.FLOAT64,
}


def received(array: Any, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    with flare.Model("echo") as model:
        labels = model.segment(array, SPACING, *args, **kwargs)
        return labels, model.stats


def numbered(dtype: str) -> Any:
    """Voxels 0..119, so that a wrong order would show in the labels, which repeat them."""
    return np.arange(120).reshape(4, 5, 6).astype(dtype)


@pytest.mark.parametrize("dtype", READ_AS_IS)
def test_array_is_read_where_it_is(dtype: str) -> None:
    array = numbered(dtype)
    labels, got = received(array)
    assert got["data"] == array.ctypes.data
    assert got["dtype"] == READ_AS_IS[dtype]
    assert got["labels"] == labels.ctypes.data
    assert got["size"] == [6, 5, 4] and got["channels"] == 1
    assert labels.dtype == np.uint8 and labels.shape == (4, 5, 6)
    assert (labels == array).all()


def test_read_only_array_is_read_where_it_is() -> None:
    array = numbered("int16")
    array.flags.writeable = False
    assert received(array)[1]["data"] == array.ctypes.data


def test_channels_come_first() -> None:
    array = np.stack([numbered("float32"), -numbered("float32")])
    labels, got = received(array)
    assert got["channels"] == 2 and got["size"] == [6, 5, 4] and got["data"] == array.ctypes.data
    assert (labels == array[0]).all()


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(numbered("int16").transpose(2, 1, 0), id="transposed"),
        pytest.param(numbered("int16")[::2, ::-1, 1::3], id="strided"),
        pytest.param(np.asfortranarray(numbered("float32")), id="Fortran"),
        pytest.param(numbered("int16").astype(">i2"), id="big-endian"),
        pytest.param(numbered("float64").astype(">f8")[:, ::2], id="big-endian-strided"),
        pytest.param(
            np.frombuffer(b"x" + numbered("float32").tobytes(), "f4", 120, 1).reshape(4, 5, 6),
            id="unaligned",
        ),
        pytest.param(numbered("int16").tolist(), id="list"),
    ],
)
def test_other_layouts_are_read_right(array: Any) -> None:
    assert (received(array)[0] == np.asarray(array)).all()


@pytest.mark.parametrize(
    "dtype, code",
    [
        ("bool", _abi.UINT8),
        ("int8", _abi.INT16),
        ("float16", _abi.FLOAT32),
        ("uint32", _abi.INT32),
        ("int64", _abi.INT32),
        ("uint64", _abi.INT32),
        (">i8", _abi.INT32),
    ],
)
def test_other_dtypes_are_converted(dtype: str, code: int) -> None:
    array = numbered(dtype)
    labels, got = received(array)
    assert got["dtype"] == code
    assert (labels == array).all()


def test_wide_integers_become_float64_if_they_must() -> None:
    array = numbered("int64")
    array[0, 0, 0] = 2**31
    labels, got = received(array)
    assert got["dtype"] == _abi.FLOAT64 and (labels == array % 256).all()
    array[0, 0, 0] = 2**53 + 1
    with pytest.raises(flare.ArgumentError, match="9007199254740993"):
        received(array)


@pytest.mark.parametrize("dtype", ["complex64", "O", "M8[s]", "U4", "i2,i2", np.longdouble])
def test_dtypes_that_are_no_voxels(dtype: str) -> None:
    with pytest.raises(TypeError, match="dtype"):
        received(np.zeros((4, 5, 6), dtype))


def test_masked_array_is_refused() -> None:
    with pytest.raises(TypeError, match="masked"):
        received(np.ma.masked_less(numbered("int16"), 7))


@pytest.mark.parametrize("shape", [(), (5,), (5, 6), (1, 2, 4, 5, 6), (0, 5, 6), (0, 4, 5, 6)])
def test_shapes_that_are_no_volume(shape: tuple[int, ...]) -> None:
    with pytest.raises(flare.ArgumentError, match="shape|dimensions"):
        received(np.zeros(shape, np.int16))


def test_geometry() -> None:
    direction = [0, 1, 0, -1, 0, 0, 0, 0, 1]
    got = received(numbered("int16"), (1.5, -2.5, 1e3), direction)[1]
    assert got["spacing"] == list(SPACING) and got["origin"] == [1.5, -2.5, 1e3]
    assert got["direction"] == direction
    assert (
        received(numbered("int16"), direction=np.reshape(direction, (3, 3)))[1]["direction"]
        == direction
    )
    assert received(numbered("int16"))[1]["direction"] == [1, 0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "wrong, name",
    [
        ({"spacing": (1, 1)}, "spacing"),
        ({"spacing": 1.0}, "spacing"),
        ({"spacing": None}, "spacing"),
        ({"spacing": ("a", 1, 1)}, "spacing"),
        ({"origin": (0, 0, 0, 0)}, "origin"),
        ({"direction": (1, 0, 0)}, "direction"),
        ({"direction": np.zeros((3, 3))}, "direction"),
        ({"direction": np.eye(4)}, "direction"),
        ({"direction": np.eye(3)[:, :, None]}, "direction"),
    ],
)
def test_wrong_geometry(wrong: dict[str, Any], name: str) -> None:
    with flare.Model("echo") as model, pytest.raises(flare.ArgumentError, match=name):
        model.segment(numbered("int16"), **{"spacing": SPACING, **wrong})


def test_out_is_filled_and_returned() -> None:
    for dtype, code in ("uint8", _abi.UINT8), ("uint16", _abi.UINT16):
        out = np.full((4, 5, 6), 99, dtype)
        labels, got = received(numbered("int16"), out=out)
        assert labels is out and (out == numbered("int16")).all()
        assert got["labels"] == out.ctypes.data and got["labels_dtype"] == code


@pytest.mark.parametrize(
    "out, error",
    [
        pytest.param(np.zeros((4, 5, 7), "u1"), "shape", id="shape"),
        pytest.param(np.zeros((1, 4, 5, 6), "u1"), "shape", id="channels"),
        pytest.param(np.zeros((4, 5, 6), "i1"), "dtype", id="dtype"),
        pytest.param(np.zeros((4, 5, 6), ">u2"), "dtype", id="big-endian"),
        pytest.param(np.zeros((6, 5, 4), "u1").T, "contiguous", id="transposed"),
        pytest.param(np.zeros((8, 5, 6), "u1")[::2], "contiguous", id="strided"),
        pytest.param(np.broadcast_to(np.uint8(0), (4, 5, 6)), "contiguous", id="read-only"),
    ],
)
def test_wrong_out(out: Any, error: str) -> None:
    with pytest.raises(flare.ArgumentError, match=error):
        received(numbered("int16"), out=out)


def test_out_of_other_type_or_over_the_image() -> None:
    with pytest.raises(TypeError, match="list"):
        received(numbered("int16"), out=[1])
    array = numbered("uint8")
    with pytest.raises(flare.ArgumentError, match="overlaps"):
        received(array, out=array)


def test_labels_above_255_are_uint16() -> None:
    with flare.Model("labels:300") as model:
        assert model.segment(numbered("int16"), SPACING).dtype == np.uint16
        with pytest.raises(flare.ArgumentError, match="uint16"):
            model.segment(numbered("int16"), SPACING, out=np.zeros((4, 5, 6), "u1"))


def test_probabilities() -> None:
    with flare.Model("echo") as model:
        labels, p = model.segment(numbered("int16"), SPACING, probabilities=True)
    assert p.dtype == np.float32 and p.shape == (2, 4, 5, 6)
    assert (p.argmax(0) == (labels > 0)).all() and (p.sum(0) == 1).all()


def weighed(array: Any) -> int:
    """What the fake makes of previous labels."""
    flat = np.asarray(array).astype("int64").ravel()
    return int((np.arange(1, flat.size + 1) * flat).sum())


@pytest.mark.parametrize("dtype", READ_AS_IS)
def test_previous_is_read_where_it_is(dtype: str) -> None:
    stage = numbered(dtype)[::-1].copy()
    stage.flags.writeable = False
    got = received(np.stack([numbered("int16")] * 2), previous=stage)[1]
    assert got["previous"] == stage.ctypes.data and got["previous_bytes"] == stage.nbytes
    assert got["previous_dtype"] == READ_AS_IS[dtype] and got["previous_sum"] == weighed(stage)


@pytest.mark.parametrize(
    "stage, code",
    [
        pytest.param(numbered("int64"), _abi.INT32, id="int64"),
        pytest.param(numbered("int16") > 50, _abi.UINT8, id="bool"),
        pytest.param(numbered("uint8").astype(">u2"), _abi.UINT16, id="big-endian"),
        pytest.param(np.asfortranarray(numbered("uint8")), _abi.UINT8, id="Fortran"),
        pytest.param(numbered("int16").tolist(), _abi.INT32, id="list"),
    ],
)
def test_previous_is_converted(stage: Any, code: int) -> None:
    got = received(numbered("int16"), previous=stage)[1]
    assert got["previous_dtype"] == code and got["previous_sum"] == weighed(stage)


def test_no_previous() -> None:
    got = received(numbered("int16"))[1]
    assert got["previous"] == got["previous_bytes"] == got["previous_dtype"] == 0


def test_wrong_previous() -> None:
    image = numbered("int16")
    for shape in (4, 5, 7), (1, 4, 5, 6), (6, 5, 4), ():
        with pytest.raises(flare.ArgumentError, match="previous has shape"):
            received(image, previous=np.zeros(shape, "u1"))
    with pytest.raises(TypeError, match="dtype"):
        received(image, previous=image.astype("complex64"))
    with pytest.raises(TypeError, match="masked"):
        received(image, previous=np.ma.masked_less(image, 7))
    stage = numbered("uint8")
    with pytest.raises(flare.ArgumentError, match="out overlaps previous"):
        received(image, previous=stage, out=stage)


def test_options_and_texts() -> None:
    with flare.Model(
        "é", "ort", 3, "0,1", checkpoint="best.pth", runtime="/r", gpu_memory_limit=2**31
    ) as model:
        assert model.describe()["task"] == "café"
        got = model.stats
        assert got.pop("struct_size") == 80
        assert got == {
            "device": "ort",
            "threads": 3,
            "gpu_memory_limit": 2**31,
            "folds": "0,1",
            "checkpoint": "best.pth",
            "runtime": "/r",
        }
        model.segment(numbered("int16"), SPACING, mirror=True)
        assert model.stats["mirror"] == 1 and model.stats["postprocess"] == 0
        model.segment(numbered("int16"), SPACING, postprocess=True)
        assert model.stats["mirror"] == 0 and model.stats["postprocess"] == 1
        model.segment_file(
            "in.nii", "out.nii", mirror=True, postprocess=True, previous="s.nii",
            probabilities="p.nii",
        )  # fmt: skip
        assert model.stats == {
            "in": "in.nii",
            "out": "out.nii",
            "probabilities": "p.nii",
            "mirror": 1,
            "postprocess": 1,
            "previous": "s.nii",
        }
        model.segment_file("in.nii", "out.nii")
        assert model.stats["postprocess"] == 0 and model.stats["previous"] == ""


def test_options_that_c_would_misread() -> None:
    with pytest.raises(flare.ArgumentError, match="threads"):
        flare.Model("echo", threads=2**32)
    for limit in -1, 2**63:
        with pytest.raises(flare.ArgumentError, match=f"gpu_memory_limit is {limit}"):
            flare.Model("echo", gpu_memory_limit=limit)
    with pytest.raises(flare.ArgumentError, match="NUL"):
        flare.Model("ec\0ho")
    with pytest.raises(TypeError, match="folds"):
        flare.Model("echo", folds=0)  # type: ignore[arg-type]


def test_convert_and_devices() -> None:
    with pytest.raises(flare.UnsupportedError, match=r"^f\|o\|p\|d\|c\|LPS\|0\|k$"):
        flare.convert(
            "out", folder="f", onnx="o", plans="p", dataset="d", configuration="c",
            orientation="LPS", folds="0", checkpoint="k",
        )  # fmt: skip
    assert flare.devices("/r") == {"runtime": "/r", "devices": []}
