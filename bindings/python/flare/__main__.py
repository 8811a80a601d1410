"""The command line, `flare` and `python -m flare`: the program that the wheel holds, and, in
Python, `flare dicom`."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import NoReturn


def program() -> pathlib.Path:
    """The program: of this package, or, when that is imported from its source tree, the one that
    was built there."""
    package = pathlib.Path(__file__).resolve().parent
    places = [package / "bin" / "flare", package.parents[2] / "build" / "bin" / "flare"]
    for place in places:
        if place.is_file():
            return place
    looked = "".join(f"\n  {place}: no such file" for place in places)
    sys.exit(f"flare: the program was not found. Looked at:{looked}\nBuild it with ./build.sh wheel")


def main() -> NoReturn:
    if sys.argv[1:2] == ["dicom"]:
        import flare.dicom as dicom

        sys.exit(dicom.main(sys.argv[2:]))
    command = [str(program()), *sys.argv[1:]]
    if sys.platform == "win32":
        sys.exit(subprocess.run(command).returncode)
    sys.stdout.flush()
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
