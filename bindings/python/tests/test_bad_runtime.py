"""An ONNX Runtime that is missing, too old or something else, a place that is read-only, a second
interpreter: the real library in fresh processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import compile_c
from test_loading import python

import flare

OLD = """
struct base { const void *(*get)(unsigned); const char *(*version)(void); };
static const void *get(unsigned version) { return version > 10 ? 0 : "an old one"; }
static const char *version(void) { return "1.10.0"; }
const struct base *OrtGetApiBase(void) { static const struct base b = {get, version}; return &b; }
"""
OPEN = "import flare; flare.Model({!r})"


@pytest.fixture
def library(real: str, tmp_path: Path) -> Path:
    """The library alone, in a folder whose name is not ASCII."""
    folder = tmp_path / "bücher 肝"
    folder.mkdir()
    return Path(shutil.copy(Path(real).resolve(), folder))


def opened(library: Path, model: Path, **env: str) -> str:
    return python(OPEN.format(str(model)), FLARE_LIBRARY=str(library), FLARE_ONNXRUNTIME="", **env)


def test_no_runtime(library: Path, model_path: Path) -> None:
    error = opened(library, model_path)
    assert "ONNX Runtime (libonnxruntime.so*) not found; looked in:" in error
    assert "RuntimeMissingError" in error
    for place in library.parent / "flare-runtime", library.parent:
        assert f"\n  {place}\n" in error
    assert "set FLARE_ONNXRUNTIME or the runtime option" in error


def test_old_runtime(library: Path, model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "old.c").write_text(OLD)
    (library.parent / "flare-runtime").mkdir()
    old = library.parent / "flare-runtime" / "libonnxruntime.so.1.10.0"
    compile_c(tmp_path / "old.c", old, "-shared", "-fPIC")
    error = opened(library, model_path)
    assert f"{old}: too old: version 1.24 or later is needed" in error
    assert "RuntimeMissingError" in error


def test_runtime_that_is_none(library: Path, model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "none.c").write_text("int x;")
    (library.parent / "flare-runtime").mkdir()
    none = library.parent / "flare-runtime" / "libonnxruntime.so.1.24.1"
    compile_c(tmp_path / "none.c", none, "-shared", "-fPIC")
    error = opened(library, model_path)
    assert f"{none}: " in error and "looking up OrtGetApiBase" in error
    none.write_bytes(b"no library" * 100)
    error = opened(library, model_path)
    assert f"{none}: " in error and "invalid ELF header" in error


def test_places_that_are_read_only(model_path: Path, tmp_path: Path) -> None:
    """/proc is so for root, too."""
    from helpers import write_nifti

    ct = np.zeros((4, 5, 6), np.int16)
    write_nifti(tmp_path / "ct.nii.gz", ct, (3, 3, 3), (0, 0, 0), np.eye(3))
    with flare.Model(model_path) as model:
        with pytest.raises((flare.FileError, flare.NotFoundError), match="/proc/labels.nii.gz"):
            model.segment_file(tmp_path / "ct.nii.gz", "/proc/labels.nii.gz")
    with flare.Model(model_path, cache_dir="/proc/cache") as model:  # works without
        assert any("/proc/cache" in note for note in model.describe()["notes"])


def test_second_interpreter(real: str, model_path: Path) -> None:
    """numpy does not load into it, and says so; the first goes on."""
    code = f"""
import flare, numpy as np
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
ct = np.full((20, 24, 28), 40, np.int16)
with flare.Model({str(model_path)!r}) as model:
    before = model.segment(ct, (3, 3, 3))
    second = interpreters.create()
    try:
        failure = interpreters.run_string(second, "import flare")
    except Exception as error:
        failure = error
    interpreters.destroy(second)
    print("ImportError" in str(failure), (model.segment(ct, (3, 3, 3)) == before).all())
"""
    assert python(code, FLARE_LIBRARY=real) == "True True"
