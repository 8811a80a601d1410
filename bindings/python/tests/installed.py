"""The wheel, installed where nothing else is: ./build.sh wheel runs this.

    python installed.py WHEEL ENVIRONMENT MODEL CT

makes the environment, which then holds libflare and numpy alone, and runs itself there. MODEL is a
bundle, CT a NIfTI file. Everything must work from the environment alone: no variable names a
library. Prints what it measures.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
BIN = Path(sysconfig.get_path("scripts"))
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("FLARE_", "LD_", "PYTHON"))}
FIRST = """
import sys, flare, numpy
with flare.Model(sys.argv[1]) as model:
    labels = model.segment(numpy.full((20, 24, 28), 40, "int16"), (3, 3, 3))
    print(labels.shape, flare.devices()["runtime"], flare._abi.library()._name)
"""


def run(*command: object, home: Path | None = None) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        env=ENVIRONMENT | ({"PYTHONPATH": str(home)} if home else {}),
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{command} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def size(*names: str) -> float:
    """MB on disk of packages and what belongs to them."""
    files = {f for name in names for f in importlib.metadata.files(name) or ()}
    paths = [Path(str(f.locate())) for f in files]
    return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6


def seconds(*command: object) -> float:
    start = time.monotonic()
    run(*command)
    return time.monotonic() - start


def contents() -> None:
    """The library, the program, and the runtime with its licences in a folder of its own; and
    nothing that is another package's."""
    files = {str(f) for f in importlib.metadata.files("libflare") or ()}
    top = {f.partition("/")[0] for f in files} - {"..", "flare"}
    assert len(top) == 1 and next(iter(top)).startswith("libflare-"), top
    for name in (
        "flare/py.typed",
        "flare/bin/flare",
        "flare/lib/flare-runtime/LICENSE",
        "flare/lib/flare-runtime/ThirdPartyNotices.txt",
    ):
        assert name in files, f"the wheel lacks {name}"
    assert any(f.startswith("flare/lib/flare-runtime/libonnxruntime") for f in files)
    assert any(f.startswith("flare/lib/libflare") for f in files)
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    assert installed <= {"libflare", "numpy", "pip", "setuptools"}, installed


def imports() -> float:
    """Seconds that `import flare` adds to the start of Python, the median of five."""
    run(sys.executable, "-c", "import flare")  # read once, compiled
    times = [
        seconds(sys.executable, "-c", "import flare") - seconds(sys.executable, "-c", "pass")
        for _ in range(5)
    ]
    return statistics.median(times)


def moved(model: Path, folder: Path) -> None:
    """From a folder whose name is not ASCII, with a model there, both read-only, and by two
    processes at once."""
    home = folder / "Körper 肝臓"
    home.mkdir()
    shutil.copytree(SITE / "flare", home / "flare")
    copy = home / "modèle.onnx"
    shutil.copyfile(model, copy)
    subprocess.run(["chmod", "-R", "a-w", home], check=True)
    try:
        two = [
            subprocess.Popen(
                [sys.executable, "-c", FIRST, copy],
                env=ENVIRONMENT | {"PYTHONPATH": str(home)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in two:
            told, _ = process.communicate()
            assert process.returncode == 0 and told.count(str(home)) == 2, told
    finally:
        subprocess.run(["chmod", "-R", "u+w", home], check=True)


def inside(wheel: Path, model: Path, ct: Path) -> None:
    """What the environment's own interpreter does."""
    contents()
    version = importlib.metadata.version("libflare")
    assert run(BIN / "flare", "--version").strip() == f"flare {version}"
    assert run(sys.executable, "-m", "flare", "--version").strip() == f"flare {version}"
    assert version in run(sys.executable, "-c", "import flare; print(flare.version())")
    told = run(sys.executable, "-c", FIRST, model)
    assert told.count(str(SITE)) == 2, told  # library and runtime are the wheel's
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = seconds(BIN / "flare", "segment", "-m", model, ct, folder / "labels.nii.gz")
        assert (folder / "labels.nii.gz").stat().st_size > 100
        moved(model, folder)

    print(f"first segmentation  {first:.1f} s, with `flare segment`, before anything was cached")
    print(f"wheel               {wheel.stat().st_size / 1e6:.0f} MB: {wheel.name}")
    print(f"installed           {size('libflare', 'numpy'):.0f} MB with numpy")
    print(f"import flare        {imports():.3f} s, numpy's import included")


def main() -> None:
    *first, model, ct = (os.path.abspath(a) for a in sys.argv[1:])
    if len(first) == 1:
        inside(Path(first[0]), Path(model), Path(ct))
        return
    wheel, environment = first
    venv.create(environment, clear=True, with_pip=True)
    python = os.path.join(environment, "bin", "python")
    install = "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel
    print(f"pip install         {seconds(python, *install):.1f} s, numpy fetched", flush=True)
    subprocess.run([python, __file__, wheel, model, ct], check=True)


if __name__ == "__main__":
    main()
