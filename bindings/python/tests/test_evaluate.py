"""Evaluation: what reaches C, and the real library's scores against numpy."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_nifti

import flare

SPACING = (0.5, 1.0, 2.0)


def maps() -> tuple[Any, Any]:
    random = np.random.default_rng(7)
    reference = random.integers(0, 4, (3, 3, 4)).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    prediction = np.where(random.random(reference.shape) < 0.9, reference, 0)
    return prediction.astype(np.uint8), reference.astype(np.int16)


def test_arguments_reach_c(fake: object) -> None:
    p, r = maps()
    given = {"rules": "flare22", "tolerance_mm": 2.5, "threads": 3}
    got = flare.evaluate(p, r, SPACING, **given, csv="c", html=Path("h"))
    assert got == {
        "dsc": 1, "sizes": [12, 9], "dtypes": [1, 2], "rules": "flare22", "tolerance": 2.5,
        "threads": 3, "resample": 0, "csv": "c", "html": "h",
    }  # fmt: skip
    told: list[tuple[float, str]] = []
    got = flare.evaluate_file(
        "p", Path("r"), labels="l", resample=True, csv="c", html="h",
        progress=lambda *call: told.append(call),
    )  # fmt: skip
    assert got == {"files": ["p", "r"], "labels": "l", "resample": 1, "csv": "c", "html": "h"}
    assert told == [(i / 4, "evaluate") for i in range(4)]


def test_failing_cases_leave_the_report_of_the_others(fake: object) -> None:
    with pytest.raises(flare.FormatError, match="1 of 2 cases") as caught:
        flare.evaluate_file("broken", "r")
    assert caught.value.report is not None and caught.value.report["files"] == ["broken", "r"]


def test_cancelling(fake: object) -> None:
    with pytest.raises(flare.Cancelled):
        flare.evaluate_file("p", "r", progress=lambda fraction, phase: fraction > 0.3)
    with pytest.raises(ZeroDivisionError):
        flare.evaluate_file("p", "r", progress=lambda fraction, phase: 1 / 0)


def test_wrong_arguments(fake: object) -> None:
    p, r = maps()
    with pytest.raises(flare.ArgumentError, match="same grid"):
        flare.evaluate(p[1:], r, SPACING)
    with pytest.raises(flare.ArgumentError, match=r"expected \(z, y, x\)"):
        flare.evaluate(p[None], r[None], SPACING)
    with pytest.raises(flare.ArgumentError, match="reference is a numpy ndarray.*where it lies"):
        flare.evaluate(p, r, SPACING, resample=True)
    with pytest.raises(flare.ArgumentError, match="threads"):
        flare.evaluate(p, r, SPACING, threads=2**40)


def test_scores(real: str) -> None:
    p, r = maps()
    report = flare.evaluate(p, r, SPACING)
    scores = {s["label"]: s for s in report["cases"][0]["labels"]}
    assert list(scores) == [1, 2, 3]
    for label, s in scores.items():
        both, sizes = ((p == label) & (r == label)).sum(), ((p == label).sum(), (r == label).sum())
        assert s["dsc"] == pytest.approx(2 * both / sum(sizes), abs=1e-12)
        assert s["volume_ml"] == pytest.approx(sizes[0] / 1000)
        assert s["ravd"] == pytest.approx(abs(int(sizes[0]) - int(sizes[1])) / sizes[1])
        assert 0 < s["nsd"] <= 1 and 0 < s["assd_mm"] < s["hd_mm"]
    assert report["dsc"] == pytest.approx(np.mean([s["dsc"] for s in scores.values()]))
    again = flare.evaluate(p, r.astype(np.float64), SPACING, threads=1)
    assert again == report
    half = r.astype(np.float64)
    half[2, 1, 3] = 0.5
    with pytest.raises(flare.ArgumentError, match=r"voxel \(3, 1, 2\).*no label"):
        flare.evaluate(p, half, SPACING)
    with pytest.raises(flare.ArgumentError, match="spacing along x is NaN"):
        flare.evaluate(p, r, (float("nan"), 1, 1))


def test_files(real: str, tmp_path: Path) -> None:
    p, r = maps()
    for folder in "pr":
        (tmp_path / folder).mkdir()
    for case in "ab":
        write_nifti(tmp_path / "p" / f"{case}.nii.gz", p, SPACING, (0, 0, 0), np.eye(3))
        write_nifti(tmp_path / "r" / f"{case}.nii.gz", r, SPACING, (0, 0, 0), np.eye(3))
    html, csv = tmp_path / "report.html", tmp_path / "scores.csv"
    report = flare.evaluate_file(tmp_path / "p", tmp_path / "r", html=html, csv=csv)
    assert [c["name"] for c in report["cases"]] == ["a", "b"]
    assert report["cases"][0]["labels"] == flare.evaluate(p, r, SPACING)["cases"][0]["labels"]
    assert "<svg" in html.read_text() and len(csv.read_text().splitlines()) == 1 + 2 * 3

    dataset = tmp_path / "dataset.json"
    dataset.write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii"}')
    for paths in {"csv": csv, "html": csv}, {"csv": dataset}, {"html": tmp_path / "r" / "a.nii.gz"}:
        with pytest.raises(flare.ArgumentError, match="would be overwritten by the output"):
            flare.evaluate_file(tmp_path / "p", tmp_path / "r", labels=dataset, **paths)
    assert "channel_names" in dataset.read_text()

    write_nifti(tmp_path / "p" / "b.nii.gz", p[1:], SPACING, (0, 0, 0), np.eye(3))
    with pytest.raises(flare.ArgumentError, match="differ in size") as caught:
        flare.evaluate_file(tmp_path / "p", tmp_path / "r")
    assert caught.value.report is not None
    assert [c["name"] for c in caught.value.report["cases"]] == ["a"]
    assert list(caught.value.report["failed"]) == ["b"]
    assert len(flare.evaluate_file(tmp_path / "p", tmp_path / "r", resample=True)["cases"]) == 2
    with pytest.raises(flare.NotFoundError, match="no such file"):
        flare.evaluate_file(tmp_path / "none", tmp_path / "r")

    (tmp_path / "p" / "a.nii.gz").unlink()
    (tmp_path / "r" / "a.nii.gz").unlink()
    with pytest.raises(flare.ArgumentError, match="differ in size") as caught:
        flare.evaluate_file(tmp_path / "p", tmp_path / "r")
    assert caught.value.report is not None
    assert caught.value.report["cases"] == [] and list(caught.value.report["failed"]) == ["b"]


def test_resampling_in_memory(real: str, tmp_path: Path) -> None:
    """The same as of files: a prediction that lies elsewhere, turned, with larger voxels."""
    p, r = maps()
    turned = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], float)
    paths = [tmp_path / "p.nii.gz", tmp_path / "r.nii.gz"]
    write_nifti(paths[0], p, (1.0, 0.7, 2.5), (-1.0, 9.0, 0.5), turned)
    write_nifti(paths[1], r, SPACING, (0, 0, 0), np.eye(3))
    expected = flare.evaluate_file(*paths, resample=True)
    prediction, reference = map(flare.read, paths)
    csv, html = tmp_path / "scores.csv", tmp_path / "page.html"
    report = flare.evaluate(prediction, reference, resample=True, csv=csv, html=html)
    assert report["labels"] == expected["labels"] and 0 < report["dsc"] < 1
    assert len(csv.read_text().splitlines()) == 1 + 3 and "<svg" in html.read_text()
    with pytest.raises(flare.ArgumentError, match="elsewhere"):
        flare.evaluate(prediction, reference)
    with pytest.raises(flare.ArgumentError, match="prediction is a numpy ndarray"):
        flare.evaluate(p, reference, resample=True)
    with pytest.raises(flare.ArgumentError, match="would be overwritten"):
        flare.evaluate(prediction, reference, resample=True, csv=csv, html=csv)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_files_of_simpleitk(real: str, tmp_path: Path, dtype: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    p, r = maps()
    for name, voxels in ("p", p.astype(dtype)), ("r", r):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(SPACING)
        image.SetOrigin((-13.7, 20.1, 1000.3))
        image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    report = flare.evaluate_file(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz", tolerance_mm=0.5)
    assert report["labels"] == flare.evaluate(p, r, SPACING, tolerance_mm=0.5)["labels"]


@pytest.mark.skipif(sys.platform != "linux", reason="measures on Linux alone")
def test_efficiency(real: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    script = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(0.25)"
    got = flare.efficiency([sys.executable, "-c", script, made])
    assert made.exists()
    assert got["seconds"] >= 0.25 and got["cpu_seconds"] > 0 and got["peak_memory_bytes"] > 1e6
    samples = got["samples"]
    assert len(samples["cpu_percent"]) == len(samples["ram_mb"]) > 1
    assert got["max_ram_mb"] == max(samples["ram_mb"])
    assert got["auc_ram_mb_s"] == pytest.approx(0.1 * sum(samples["ram_mb"]))
    with pytest.raises(flare.InternalError, match="exit status 3") as caught:
        flare.efficiency([sys.executable, "-c", "raise SystemExit(3)"])
    assert caught.value.report is not None and caught.value.report["seconds"] > 0
    with pytest.raises(flare.NotFoundError, match="no-such-command"):
        flare.efficiency(["no-such-command"])
    with pytest.raises(flare.ArgumentError, match="no command"):
        flare.efficiency([])
    with pytest.raises(TypeError, match="list of a program"):
        flare.efficiency("sleep 1")


@pytest.mark.skipif(sys.platform != "linux", reason="measures on Linux alone")
def test_efficiency_interrupted(real: str) -> None:
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        flare.efficiency(["sleep", "60"])
