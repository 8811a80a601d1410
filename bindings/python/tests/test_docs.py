"""The examples in the docstrings and in README.md run as they stand."""

from __future__ import annotations

import doctest
import os
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import write_nifti

import flare
from flare import _evaluate, _image, _model

README = (Path(__file__).parents[1] / "README.md").read_text()
PARTS = {"highdicom": "flare.dicom", "ipyniivue": "flare.show", "tqdm": "progress=True"}
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("module", [flare, _evaluate, _image, _model])
def test_docstrings(fake: object, module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    flare.set_log(None)
    assert result.attempted and not result.failed


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    voxels = np.random.default_rng(5).integers(-200, 200, (20, 24, 28)).astype(np.int16)
    write_nifti(tmp_path / "ct.nii.gz", voxels, (1.5, 1.5, 2.0), (0, 0, 0), np.eye(3))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "case_1_0000.nii.gz").symlink_to(tmp_path / "ct.nii.gz")
    (tmp_path / "series").symlink_to(
        Path(os.environ.get("FLARE_DATA") or ".") / "io_corner_cases" / "dcmqi" / "ct-3slice"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str) -> None:
    for package in "SimpleITK", "nibabel", "highdicom", "ipyniivue", "tqdm":
        if package in block or PARTS.get(package, package) in block:
            pytest.importorskip(package)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if not re.search("Trainer|flare.(ray|dicom|show|read)", b)]
)
def test_readme_binding(fake: object, files: Path, block: str) -> None:
    run(block)


@pytest.mark.parametrize("block", [b for b in BLOCKS if "flare.ray" not in b])
def test_readme(model_path: Path, files: Path, block: str) -> None:
    (files / "abdomen.onnx").symlink_to(model_path)
    run(block)


@pytest.mark.filterwarnings("default")  # Ray's own
def test_readme_on_ray(cluster: None, model_path: Path, files: Path) -> None:
    (files / "abdomen.onnx").symlink_to(model_path)
    (block,) = [b for b in BLOCKS if "flare.ray" in b]
    run(block)
