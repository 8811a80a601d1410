"""Compiles and runs the README's C, C++, Python and Go snippets as they stand there.

usage: test.py MODEL.onnx   from the repository's root, after ./build.sh, with a Python that has
the package flare. Exits non-zero and names the snippet that fails.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[2]
work = root / "build" / "test" / "testdata" / "readme"  # Go's ./... leaves testdata out


def snippet(language: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (root / "README.md").read_text(), re.S | re.M)
    if len(blocks) != 1:
        sys.exit(f"README.md has {len(blocks)} snippets in {language}, expected 1")
    return str(blocks[0])


def run(name: str, *command: object, cwd: pathlib.Path = work, **more: str) -> None:
    print(f"README {name}: {' '.join(map(str, command))}", flush=True)
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=environment | more)
    if done.returncode != 0:
        sys.exit(f"README's {name} snippet failed with exit code {done.returncode}")


def expect_labels(name: str) -> None:
    labels = work / "labels.nii.gz"
    if not labels.exists():
        sys.exit(f"README's {name} snippet wrote no labels.nii.gz")
    labels.unlink()


prefix = root / "build"
# What the README does not ask for must not be needed: the programs find the library, and it finds
# ONNX Runtime beside itself.
environment = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "FLARE_ONNXRUNTIME")}
environment |= {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"), "FLARE_LIBRARY": str(prefix / "lib" / "libflare.so.1")}
shutil.rmtree(work, ignore_errors=True)
work.mkdir(parents=True)
shutil.copy(sys.argv[1], work / "abdomen.onnx")
run("data", prefix / "bin" / "flare", "phantom", "phantom", "-n", "1", "--seed", "5", "--size", "small")
shutil.copy(next((work / "phantom" / "imagesTr").glob("*.nii.gz")), work / "ct.nii.gz")

(work / "program.c").write_text(snippet("c"))
flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libflare"], env=environment, text=True).split()
run("C", os.environ.get("CC", "cc"), "-Wall", "-Wextra", "-Werror", "program.c", *flags, "-o", "c_program")
run("C", "./c_program")
expect_labels("C")

(work / "program.cpp").write_text(snippet("cpp"))
(work / "CMakeLists.txt").write_text(
    "cmake_minimum_required(VERSION 3.16)\nproject(program CXX)\nset(CMAKE_CXX_STANDARD 17)\n"
    "add_executable(program program.cpp)\n" + snippet("cmake")
)
run("C++", "cmake", "-S", ".", "-B", "cmake", f"-DCMAKE_PREFIX_PATH={prefix}")
run("C++", "cmake", "--build", "cmake")
run("C++", "cmake/program")

(work / "program.py").write_text(snippet("python"))
run("Python", sys.executable, "program.py")
expect_labels("Python")

(work / "go").mkdir()
(work / "go" / "main.go").write_text(snippet("go"))
run("Go", "go", "build", "-o", work / "go_program", "./" + str((work / "go").relative_to(root)), cwd=root)
run("Go", "./go_program", FLARE_ONNXRUNTIME=str(prefix / "lib" / "flare-runtime"))
expect_labels("Go")
