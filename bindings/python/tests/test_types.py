"""What users' type checkers see: mypy --strict on a program of theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import missing

import flare

PROGRAM = """
from typing import Any
import numpy as np
import numpy.typing as npt
import flare
import flare.dicom


class Image:  # as SimpleITK's
    def GetSpacing(self) -> tuple[float, ...]:
        return (1.0, 1.0, 1.0)


ct = np.zeros((4, 5, 6), np.int16)
with flare.Model("abdomen.onnx", device="cpu") as model:
    reveal_type(model.segment(ct, (1, 1, 2)))
    reveal_type(model.segment(ct, (1, 1, 2), probabilities=True))
    reveal_type(model.segment(Image(), progress=True))
    reveal_type(model.segment(Image(), probabilities=True))
    model.segment(ct)  # no spacing
    model.segment(Image(), spacing=(1, 1, 1))
    model.segment(ct, (1, 1, 2), progres=print)
    view = flare.show(ct, model.segment(ct, (1, 1, 2)), model, spacing=(1, 1, 2))
    labels: Any = flare.dicom.segment(model, "series", "labels.dcm", mirror=True)


def progress(fraction: float, phase: str) -> bool:
    return fraction > 0.5


scores: dict[str, Any] = flare.evaluate(ct, ct, (1, 1, 2))
flare.evaluate_file("a.nii", "b.nii", progress=progress)
"""


def test_a_program_of_users(tmp_path: Path) -> None:
    try:
        import mypy  # noqa: F401
    except ImportError as error:
        missing(str(error))
    (tmp_path / "program.py").write_text(PROGRAM)
    root = Path(flare.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "program.py"],
        cwd=tmp_path,
        env={"PATH": "", "MYPYPATH": "" if "site-packages" in str(root) else str(root)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    errors = [int(line.split(":")[1]) for line in lines if line.startswith("program.py") and ": error:" in line]
    notes = [line.partition("Revealed type is ")[2].strip('"') for line in lines if "Revealed" in line]
    wrong = [n for n, line in enumerate(PROGRAM.splitlines(), 1) if "no spacing" in line]
    assert sorted(set(errors)) == [wrong[0], wrong[0] + 1, wrong[0] + 2], done.stdout + done.stderr
    assert len(notes) == 4 and "ndarray" in notes[0] and notes[1].startswith("tuple[")
    assert notes[2] == "program.Image" and notes[3].startswith("tuple[program.Image, ")
