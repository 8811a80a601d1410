"""Puts the built library, the program and ONNX Runtime into the wheel, so that after ./build.sh

    pip install ./bindings/python

is all. Without a built library the wheel is the Python code alone, which then looks for
libflare where flare/_abi.py says.

In the wheel they lie as in build/: flare/lib/libflare.so.1, flare/bin/flare, and the runtime with
its licences in a folder of its own, flare/lib/flare-runtime, where both look for it first.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libflare.1.dylib" if sys.platform == "darwin" else "libflare.so.1"


class Hook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        built = Path(self.root).parents[1] / "build"
        if version == "editable" or not (built / "lib" / LIBRARY).is_file():
            return
        files = [built / "lib" / LIBRARY, *(built / "lib" / "flare-runtime").glob("[!.]*")]
        if (built / "bin" / "flare").is_file():
            files.append(built / "bin" / "flare")
        for file in files:
            build_data["force_include"][str(file)] = f"flare/{file.relative_to(built)}"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + _platform(files)


def _platform(files: list[Path]) -> str:
    """The oldest platform that the files run on. On Linux that is the newest glibc whose symbols
    one of them asks for: manylinux_2_34 for 2.34."""
    if sys.platform != "linux":
        from packaging.tags import platform_tags

        return next(platform_tags())
    found = [re.findall(rb"\0GLIBC_2\.(\d+)(?=\0)", file.read_bytes()) for file in files]
    newest = max(int(minor) for minors in found for minor in minors)
    return f"manylinux_2_{newest}_{os.uname().machine}"
