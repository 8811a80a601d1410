"""Finding the library, each case in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import compile_c

from flare import _abi


def python(code: str, **env: str) -> str:
    """The output of a fresh interpreter, or the last line of its traceback."""
    outside = {k: v for k, v in os.environ.items() if k not in ("FLARE_LIBRARY", "LD_LIBRARY_PATH")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **outside, **env},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def test_explicit_path_comes_before_the_variable(fake_path: Path) -> None:
    code = f"import flare; flare.load({str(fake_path)!r}); print(flare.version())"
    assert python(code, FLARE_LIBRARY="/nowhere") == "0.0.0+fake"
    assert "already loaded from" in python(f"{code}; flare.load('/elsewhere')")
    assert python(f"{code}; flare.load({str(fake_path)!r}); flare.load()") == "0.0.0+fake"


def test_variable(fake_path: Path, tmp_path: Path) -> None:
    code = "import flare; print(flare.version())"
    assert python(code, FLARE_LIBRARY=str(fake_path)) == "0.0.0+fake"
    (tmp_path / _abi.FILE).symlink_to(fake_path)
    assert python(code, FLARE_LIBRARY=str(tmp_path)) == "0.0.0+fake"
    error = python(code, FLARE_LIBRARY=str(tmp_path / "no.so"))
    assert "RuntimeMissingError" in error and "no.so (named by FLARE_LIBRARY)" in error


def test_system_loader_comes_last(fake_path: Path, tmp_path: Path) -> None:
    (tmp_path / _abi.FILE).symlink_to(fake_path)
    code = (
        "import flare, flare._abi as a; a.__file__ = '/opt/x/flare/_abi.py'; print(flare.version())"
    )
    assert python(code, LD_LIBRARY_PATH=str(tmp_path)) == "0.0.0+fake"


def test_error_lists_every_place() -> None:
    error = python(
        "import flare, flare._abi as a; a.__file__ = '/opt/x/flare/_abi.py'; flare.version()"
    )
    assert "RuntimeMissingError: libflare was not found" in error
    for place in "FLARE_LIBRARY: not set", f"/opt/x/flare/lib/{_abi.FILE}", "./build.sh":
        assert place in error


def test_library_of_another_version(tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text("unsigned flare_api_version(void) { return 7; }")
    other = compile_c(source, tmp_path / "other.so", "-shared", "-fPIC")
    error = python("import flare; flare.version()", FLARE_LIBRARY=str(other))
    assert "VersionError" in error and "version 7" in error and "needs 1" in error


def test_library_that_is_another(tmp_path: Path) -> None:
    source = tmp_path / "empty.c"
    source.write_text("int x;")
    other = compile_c(source, tmp_path / "empty.so", "-shared", "-fPIC")
    error = python("import flare; flare.version()", FLARE_LIBRARY=str(other))
    assert "VersionError" in error and "no libflare" in error


def test_import_loads_no_library_and_is_fast() -> None:
    code = """
import numpy, logging, ctypes, json, pathlib, threading, time
start = time.perf_counter()
import flare, flare._abi
assert flare._abi._library is None
print(time.perf_counter() - start)
"""
    assert float(python(code)) < 0.1


def test_first_use_after_fork(fake_path: Path) -> None:
    """A parent that only imports the package leaves its children free to use it."""
    code = """
import os, flare
if os.fork() == 0:
    with flare.Model("echo") as model:
        print(model.describe()["heads"], flush=True)
    os._exit(0)
os.wait()
"""
    assert python(code, FLARE_LIBRARY=str(fake_path)) == "2"
