"""The noisy student: what reaches C, and what comes back."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import flare


def test_arguments_reach_c(fake: object) -> None:
    told: list[tuple[float, str]] = []
    got = flare.pseudo_label(
        ["a.onnx", Path("b")], "i", Path("o"), mirror=False, previous="p", ignore_below=0.8,
        soft_below=0.9, weights=True, shard=(2, 3), device="cpu", mode="fast", threads=4, cache="c",
        runtime="r",
        progress=lambda *call: told.append(call),
    )  # fmt: skip
    assert got == {
        "folders": ["i", "o"], "models": ["a.onnx", "b"], "previous": "p", "below": [0.8, 0.9],
        "mirror": 0, "weights": 1, "shard": [2, 3], "threads": 4, "open": ["cpu", "fast", "c", "r"],
    }  # fmt: skip
    assert told == [(0.5, "label")]
    got = flare.pseudo_label(Path("a.onnx"), "i", "o")
    assert (got["models"], got["mirror"], got["shard"]) == (["a.onnx"] * 2, 1, [0, 0])
    assert got["weights"] == 0
    told.clear()
    got = flare.student("c.json", runtime="r", progress=lambda *call: told.append(call))
    assert got == {"config": "c.json", "runtime": "r"}
    assert told == [(0.25, "teacher_fold_0")]


def test_failures(fake: object) -> None:
    with pytest.raises(flare.FormatError, match="1 of 2 cases") as caught:
        flare.pseudo_label("a", "broken", "o")
    assert caught.value.report is not None and caught.value.report["folders"] == ["broken", "o"]
    with pytest.raises(flare.ArgumentError, match="threads"):
        flare.pseudo_label("a", "i", "o", threads=2**40)
    with pytest.raises(flare.Cancelled):
        flare.student("c.json", progress=lambda fraction, phase: True)
    with pytest.raises(ZeroDivisionError):
        flare.pseudo_label("a", "i", "o", progress=lambda fraction, phase: 1 / 0)


def test_labeller(fake: object) -> None:
    with pytest.raises(flare.NotFoundError):
        flare.Labeller("a", "none", "o")
    with pytest.raises(TypeError, match="progress"):
        flare.Labeller("a", "i", "o", progress=print)
    with flare.Labeller(["a", "b"], "i", "o", device="cpu", threads=2) as labeller:
        assert labeller.cases == ["a", "b", "broken"]
        assert labeller.label("a") == {"scores": [{"case": "a"}], "skipped": []}
        with pytest.raises(flare.FileError, match="full") as caught:
            labeller.label("b")
        assert caught.value.report is None
        with pytest.raises(flare.FormatError, match="bad") as broken:
            labeller.label("broken")
        assert broken.value.report is not None and broken.value.report["skipped"][0]["kind"] == 6
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(labeller)
        labeller.cancel()
    for call in labeller.cancel, lambda: labeller.cases, lambda: labeller.label("a"):
        with pytest.raises(flare.HandleError, match="closed"):
            call()


def test_the_library(real: str, tmp_path: Path) -> None:
    with pytest.raises(flare.NotFoundError, match="none.json"):
        flare.student(tmp_path / "none.json")
    config = tmp_path / "config.json"
    config.write_text('{"labelled": "nowhere", "unlabelled": "u", "run": "run"}')
    with pytest.raises(flare.NotFoundError, match="nowhere"):
        flare.student(config)
    with pytest.raises(flare.NotFoundError):
        flare.pseudo_label(real, tmp_path / "images", tmp_path / "out")
