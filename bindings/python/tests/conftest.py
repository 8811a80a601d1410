"""Fixtures: `fake`, a libflare without networks that tells what it received (fake_flare.c), and
`real`, the built library, with `model_path`, the bundle that FLARE_TEST_MODEL names; `cluster`, a
local Ray.

Where one of them is missing its tests are skipped, or fail if FLARE_REQUIRE_DATA is 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

import flare
from flare import _abi

REPOSITORY = Path(__file__).resolve().parents[3]
MARK = uuid.uuid4().hex  # in the environment of a cluster's processes, as their password
RAY: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 80 << 20}  # the least

# Shells start what runs in the background with SIGINT ignored; tests interrupt calls.
signal.signal(signal.SIGINT, signal.default_int_handler)


def missing(what: str) -> NoReturn:
    if os.environ.get("FLARE_REQUIRE_DATA") == "1":
        pytest.fail(what)
    pytest.skip(what)


def compile_c(source: Path, target: Path, *flags: str) -> Path:
    cc = os.environ.get("CC") or shutil.which("cc")
    if not cc:
        missing("no C compiler")
    include = f"-I{REPOSITORY / 'include'}"
    subprocess.run([cc, include, *flags, "-o", target, source, "-lpthread"], check=True)
    return target


@pytest.fixture(scope="session")
def fake_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fake") / "libfake_flare.so"
    return compile_c(Path(__file__).with_name("fake_flare.c"), target, "-shared", "-fPIC")


@pytest.fixture
def fake(fake_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package runs on the fake during the test; gives the fake's path."""
    monkeypatch.setattr(_abi, "_library", _abi._open(str(fake_path)))
    return fake_path


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The package runs on the real library during the test; gives its path."""
    monkeypatch.setattr(_abi, "_library", None)
    built = REPOSITORY / "build" / "lib" / _abi.FILE
    if not os.environ.get("FLARE_LIBRARY") and built.is_file():  # also when installed elsewhere
        monkeypatch.setenv("FLARE_LIBRARY", str(built))
    try:
        flare.load()
    except flare.RuntimeMissingError as error:
        missing(str(error))
    yield _abi.library()._name
    flare.set_log(None)


@pytest.fixture
def model_path(real: str) -> Path:
    name = os.environ.get("FLARE_TEST_MODEL", "")
    if not os.path.exists(name):
        missing(f"FLARE_TEST_MODEL is {name!r}, which is not there; it should name a bundle")
    return Path(name).resolve()


@pytest.fixture
def ray_folder(real: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What a local Ray needs: its environment, and a folder whose path is short."""
    try:
        import ray
    except ImportError as error:
        missing(str(error))
    monkeypatch.setenv("FLARE_LIBRARY", real)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", MARK)  # else Ray keeps one in the home folder
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        os.mkdir(f"{folder}/ray")
        monkeypatch.setenv("RAY_TMPDIR", folder)  # else the cluster that a user has is forgotten
        yield f"{folder}/ray"
        ray.shutdown()


@pytest.fixture
def cluster(ray_folder: str) -> None:
    """A Ray of two processors."""
    import ray

    ray.init("local", num_cpus=2, **RAY, _temp_dir=ray_folder)
