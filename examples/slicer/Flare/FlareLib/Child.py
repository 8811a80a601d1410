"""A segmentation in a process of its own: python Child.py FOLDER

FOLDER holds voxels.npy and task.json (Task.py writes them); labels.npy is made there. Standard
output has a JSON object a line: {"progress": [fraction, phase]} again and again, and in the end
{"names": .., "warnings": ..} or {"error": text}. With FOLDER "devices": {"devices": names}.
"""

import json
import sys
from pathlib import Path

import Engine
import Library
import numpy as np


def tell(**content: object) -> None:
    print(json.dumps(content), flush=True)


def run(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    voxels = np.load(folder / "voxels.npy", mmap_mode="r")

    def allocate(dtype: type) -> np.ndarray:
        return np.lib.format.open_memmap(folder / "labels.npy", "w+", dtype, voxels.shape)

    def progress(fraction: float, phase: str) -> None:
        tell(progress=[fraction, phase])  # raises, which ends the call, when Slicer is gone

    with Library.model(*task["model"]) as model:
        result = Engine.segment(
            model, voxels, *task["geometry"], task["modality"], allocate, progress
        )
    tell(names=result.names, warnings=result.warnings)


def main(argument: str) -> None:
    try:
        if argument == "devices":
            tell(devices=Library.devices())
        else:
            run(Path(argument))
    except Exception as error:
        tell(error=str(error) or repr(error))


if __name__ == "__main__":
    main(sys.argv[1])
