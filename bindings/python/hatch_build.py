"""Puts the built library into the wheel, so that after ./build.sh

    pip install ./bindings/python

is all. Without a built library the wheel is the Python code alone, which then looks for
libflare where flare/_abi.py says.
"""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libflare.1.dylib" if sys.platform == "darwin" else "libflare.so.1"


class Hook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        built = Path(self.root).parents[1] / "build" / "lib"
        if version == "editable" or not (built / LIBRARY).is_file():
            return
        files = [built / LIBRARY, *(built / "flare-runtime").glob("[!.]*")]
        for file in files:
            build_data["force_include"][str(file)] = f"flare/lib/{file.relative_to(built)}"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + _platform()


def _platform() -> str:
    from packaging.tags import platform_tags

    return next(platform_tags())
