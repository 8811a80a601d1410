"""Pseudo-labels on a local Ray cluster, whose workers are killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MARK, RAY, REPOSITORY
from helpers import write_nifti

import flare

pytestmark = [
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="workers are found in /proc"),
]

NETWORK = REPOSITORY / "capi" / "test" / "network"


@pytest.fixture
def teacher(tmp_path: Path, real: str) -> list[Path]:
    """Two folds of random weights."""
    paths = [tmp_path / "fold_0.onnx", tmp_path / "fold_1.onnx"]
    for seed, path in enumerate(paths):
        plans = {"plans": NETWORK / "plans.json", "dataset": NETWORK / "dataset.json"}
        with flare.Trainer(**plans, seed=seed, threads=1) as trainer:
            trainer.export(path)
    return paths


def make_images(folder: Path, number: int) -> Path:
    """Of a size that keeps a worker busy for a good second."""
    folder.mkdir()
    for i in range(number):
        voxels = np.random.default_rng(i).integers(-200, 200, (20, 40, 40)).astype(np.int16)
        path = folder / f"case_{i}_0000.nii.gz"
        write_nifti(path, voxels, (1, 1, 1), (0, 0, 0), np.eye(3))
    return folder


def contents(folder: Path) -> dict[str, Any]:
    """The files, without what tells when they were made."""
    files: dict[str, Any] = {}
    for path in filter(Path.is_file, folder.rglob("[!.]*")):
        name = str(path.relative_to(folder))
        files[name] = path.read_bytes()
        if path.suffix == ".json":
            files[name] = json.loads(files[name])
            assert files[name].pop("seconds") > 0
    return files


def busy_workers() -> list[int]:
    """The cluster's processes that label a case."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, environment = ((folder / f).read_bytes() for f in ("cmdline", "environ"))
        except OSError:  # another user's, or it is gone
            continue
        if title.startswith(b"ray::Worker.label") and MARK.encode() in environment:
            found.append(int(folder.name))
    return found


class Killer(threading.Thread):
    """Kills a worker that labels a case, once `when` is true."""

    def __init__(self, when: Callable[[], bool]) -> None:
        super().__init__()
        self.when, self.killed = when, 0
        self.start()

    def run(self) -> None:
        end = time.monotonic() + 100
        while not self.killed and time.monotonic() < end:
            for pid in busy_workers()[:1] if self.when() else []:
                os.kill(pid, signal.SIGKILL)
                self.killed = pid
            time.sleep(0.02)


def test_a_killed_worker(cluster: None, teacher: list[Path], tmp_path: Path) -> None:
    import flare.ray as on_ray

    images, out, alone = make_images(tmp_path / "images", 5), tmp_path / "out", tmp_path / "alone"
    killer = Killer(lambda: any(out.glob("case_*.json")))  # in the middle of the next case
    told: list[tuple[float, str]] = []
    report = on_ray.pseudo_label(
        teacher, images, out, device="ort", threads=1, weights=True,
        progress=lambda *a: told.append(a),
    )  # fmt: skip
    killer.join()
    assert killer.killed
    names = [f"case_{i}" for i in range(5)]
    assert [s["case"] for s in report["scores"]] == names and report["skipped"] == []
    assert sorted(name for _, name in told) == names
    assert [fraction for fraction, _ in told] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert not busy_workers()

    expected = flare.pseudo_label(teacher, images, alone, device="ort", threads=1, weights=True)
    assert contents(out) == contents(alone) and len(contents(out)) == 16
    for s in report["scores"] + expected["scores"]:
        del s["seconds"]
    assert report == expected

    # Called again, finished cases are kept, a lost one is done, a damaged image is told.
    (out / "case_3.json").unlink()
    (images / "case_4_0000.nii.gz").write_bytes(b"no image")
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("case_[0-2]*")}
    with pytest.raises(flare.FormatError, match="1 of 5 cases.*case_4") as caught:
        on_ray.pseudo_label(teacher, images, out, device="ort", threads=1, weights=True)
    again = caught.value.report
    assert again is not None and [s["case"] for s in again["scores"]] == names[:4]
    assert [s["case"] for s in again["skipped"]] == ["case_4"]
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("case_[0-2]*")} == before
    assert (out / "case_3.json").exists()


def test_a_lost_node(ray_folder: str, teacher: list[Path], tmp_path: Path) -> None:
    """The case of its worker is done in the place that another one leaves in the end."""
    import ray
    from ray.cluster_utils import Cluster

    import flare.ray as on_ray

    head = RAY | {"num_cpus": 1, "temp_dir": ray_folder}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    other = cluster.add_node(num_cpus=1, object_store_memory=RAY["object_store_memory"])
    ray.init(cluster.address)
    done: list[str] = []

    def progress(fraction: float, name: str) -> None:
        done.append(name)
        if len(done) == 1:
            cluster.remove_node(other, allow_graceful=False)

    try:
        images, out = make_images(tmp_path / "images", 4), tmp_path / "out"
        report = on_ray.pseudo_label(teacher, images, out, device="ort", progress=progress)
        assert other not in cluster.list_all_nodes()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert report["skipped"] == []
    assert sorted(done) == [s["case"] for s in report["scores"]] == [f"case_{i}" for i in range(4)]


def test_errors(cluster: None, teacher: list[Path], tmp_path: Path) -> None:
    import flare.ray as on_ray

    images, out = make_images(tmp_path / "images", 3), tmp_path / "out"
    with pytest.raises(flare.NotFoundError, match="none.onnx"):
        on_ray.pseudo_label(tmp_path / "none.onnx", images, out)
    with pytest.raises(TypeError, match="shard"):
        on_ray.pseudo_label(teacher, images, out, shard=(1, 2))
    with pytest.raises(flare.ArgumentError, match="tpu"):  # each worker finds out
        on_ray.pseudo_label(teacher, images, out, device="tpu", threads=1)
    with pytest.raises(flare.ArgumentError, match="no node has more than 2 processors"):
        on_ray.pseudo_label(teacher, images, out, device="ort", threads=3)
    with pytest.raises(flare.ArgumentError, match="no node of the cluster offers a GPU"):
        on_ray.pseudo_label(teacher, images, out, device="cuda")
    with pytest.raises(flare.Cancelled, match="1 of 3"):
        on_ray.pseudo_label(
            teacher, images, out, device="ort", threads=1, mirror=False, progress=lambda f, n: True
        )


def test_a_case_that_kills(
    cluster: None, teacher: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flare.ray as on_ray

    monkeypatch.setattr(on_ray, "RETRIES", 0)
    monkeypatch.setattr(on_ray, "ACTORS", 1)
    images, killer = make_images(tmp_path / "images", 2), Killer(lambda: True)
    with pytest.raises(flare.InternalError, match="1 of 2 cases.*case_0.*workers of 1 actors died") as caught:
        on_ray.pseudo_label(teacher, images, tmp_path / "out", device="ort", threads=2)
    killer.join()
    report = caught.value.report
    assert report is not None
    assert [s["case"] for s in report["skipped"]] == ["case_0"]
    assert [s["case"] for s in report["scores"]] == ["case_1"]
