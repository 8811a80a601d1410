"""flare/_abi.py against the numbers of flare.h."""

from __future__ import annotations

import ctypes
import re

import pytest
from conftest import REPOSITORY

import flare
from flare import _abi, _errors

STRUCTS = {
    "flare_open_options": _abi.OpenOptions,
    "flare_volume": _abi.Volume,
    "flare_segment_options": _abi.SegmentOptions,
    "flare_write_options": _abi.WriteOptions,
    "flare_evaluate_options": _abi.EvaluateOptions,
    "flare_efficiency_options": _abi.EfficiencyOptions,
    "flare_convert_options": _abi.ConvertOptions,
    "flare_pseudo_label_options": _abi.PseudoLabelOptions,
    "flare_student_options": _abi.StudentOptions,
    "flare_trainer_options": _abi.TrainerOptions,
    "flare_batch": _abi.Batch,
    "flare_trainer_result": _abi.TrainerResult,
    "flare_trainer_progress": _abi.TrainerProgress,
    "flare_trainer_run_options": _abi.TrainerRunOptions,
}
HEADER = (REPOSITORY / "include" / "flare.h").read_text()


def mirrored() -> dict[str, int]:
    """Every number of _abi.py under its name in capi/test/abi.txt."""
    numbers = {
        f"FLARE_{name}": value
        for name, value in vars(_abi).items()
        if name.isupper() and isinstance(value, int)
    }
    for name, struct in STRUCTS.items():
        numbers[name] = ctypes.sizeof(struct)
        for field, *_ in struct._fields_:
            numbers[f"{name}.{field}"] = getattr(struct, field).offset
    return numbers


def test_numbers_are_those_of_the_header() -> None:
    lines = (REPOSITORY / "capi" / "test" / "abi.txt").read_text().splitlines()
    expected = dict(line.split() for line in lines if line and not line.startswith("#"))
    expected = {name: int(value) for name, value in expected.items()}
    errors = {name: expected.pop(name) for name in list(expected) if name.startswith("FLARE_ERR_")}
    assert mirrored() == expected
    assert set(_errors._CLASSES) == set(errors.values())


def test_every_function_of_the_header_is_bound() -> None:
    declared = re.findall(r"^FLARE_API [\w ]+[ *](flare_\w+)\(", HEADER, re.MULTILINE)
    assert len(declared) > 15
    assert set(_abi.FUNCTIONS) == set(declared)


def test_structs_start_with_their_size() -> None:
    for struct in STRUCTS.values():
        fresh = struct()
        assert fresh.struct_size == ctypes.sizeof(struct)
        assert not any(bytes(fresh)[ctypes.sizeof(ctypes.c_size_t) :])


@pytest.mark.parametrize("status", range(-15, 0))
def test_status_becomes_its_exception(fake: object, status: int) -> None:
    with pytest.raises(flare.Error, match=f"status:{status}") as caught:
        flare.Model(f"status:{status}")
    assert type(caught.value) is _errors._CLASSES[status]
    assert caught.value.status == status


def test_unknown_status_is_a_plain_error(fake: object) -> None:
    with pytest.raises(flare.Error) as caught:
        flare.Model("status:-99")
    assert type(caught.value) is flare.Error and caught.value.status == -99


def test_exceptions_are_also_those_of_python() -> None:
    assert issubclass(flare.ArgumentError, ValueError)
    assert issubclass(flare.NotFoundError, FileNotFoundError)
    assert issubclass(flare.FileError, OSError)
    assert issubclass(flare.OutOfMemoryError, MemoryError)
