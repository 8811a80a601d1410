"""Pseudo-labels on a Ray cluster.

    import flare.ray

    flare.ray.pseudo_label("teacher.onnx", "/data/images", "/data/labels")

A case is a task, and the tasks are done by actors, each of which opens the teacher once: one for
every GPU, or on processors one for every node. Ray starts a worker again that died, also on
another node, and with it the case that it had. As results are written whole and a finished case
is kept, nothing is lost and nothing is done twice, neither then nor when the call is made again.

Every node needs this package, and the folders under the same paths.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence
from typing import Any

try:
    import ray
except ImportError as error:
    raise ImportError("flare.ray needs Ray: pip install 'libflare[ray]'") from error
from ray.exceptions import RayActorError, RayTaskError

from . import _abi, _call
from ._errors import ArgumentError, Cancelled, Error, InternalError, from_status
from ._student import Labeller, paths

# A case whose worker died is tried again, by Ray so many times. These may be over before Ray knows
# that a whole node is lost: then the case is the last of the queue, for another actor.
RETRIES = 3
ACTORS = 2


class Worker:
    """An actor: a labeller, opened with the first case."""

    def __init__(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._arguments, self._options = arguments, options
        self._labeller: Labeller | None = None

    def label(self, name: str) -> Any:
        """What Labeller.label returns, also of a case that cannot be read."""
        if self._labeller is None:
            self._labeller = Labeller(*self._arguments, **self._options)
        try:
            return self._labeller.label(name)
        except Error as error:
            if error.report is None:
                raise
            return error.report


def pseudo_label(
    models: _abi.Path | Sequence[_abi.Path],
    images: _abi.Path,
    out: _abi.Path,
    *,
    progress: _call.ProgressCallback | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Does what flare.pseudo_label does, with the same files and the same answer, on the cluster
    that this program is connected to (else on the one that RAY_ADDRESS names or a local one, which
    is started).

    threads        of an actor, which asks Ray for as many processors; 0: those of the smallest node
                   (with a GPU: all threads of the node, and Ray counts one)
    progress       called as progress(fraction, case) after each case; if it returns something
                   true the call raises flare.Cancelled, and cases under way end by themselves
    options        the others of flare.pseudo_label, without shard

    A case with which workers die again and again is among the skipped ones.
    """
    arguments = [_absolute(m) for m in paths(models)], _absolute(images), _absolute(out)
    for name in "previous", "cache", "runtime":
        if options.get(name) is not None:
            options[name] = _absolute(options[name])
    if "shard" in options:
        raise TypeError("pseudo_label got shard: the actors divide the cases between them")
    with Labeller(*arguments, **options) as labeller:
        cases = labeller.cases
    if not ray.is_initialized():
        ray.init()
    count, need, options["threads"] = _places(options)

    def start() -> Any:
        actor = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **need)(Worker)
        return actor.remote(arguments, options)

    reports: dict[str, Any] = {}
    waiting = collections.deque(cases)
    lost = collections.Counter[str]()  # actors that each case has cost
    running: dict[Any, tuple[Any, str]] = {}  # actor and case of each task

    def give(actor: Any) -> None:
        if waiting:
            name = waiting.popleft()
            running[actor.label.remote(name)] = actor, name
        # else nobody holds the actor any longer: its place goes to one that Ray has none for

    try:
        for _ in range(min(count, len(cases))):
            give(start())
        while running:
            (task,), _ = ray.wait(list(running))
            actor, name = running.pop(task)
            try:
                reports[name] = ray.get(task)
            except RayTaskError as error:
                raise error.cause from error
            except RayActorError as error:
                actor = start()
                lost[name] += 1
                if lost[name] < ACTORS:
                    waiting.append(name)
                    give(actor)
                    continue
                reason = f"the workers of {ACTORS} actors died with it: {error}"
                skipped = {"case": name, "reason": reason, "kind": -InternalError.status}
                reports[name] = {"scores": [], "skipped": [skipped]}
            if progress and progress(len(reports) / len(cases), name):
                raise Cancelled(f"cancelled after {len(reports)} of {len(cases)} cases, which stay")
            give(actor)
            del actor
    finally:
        running.clear()
    return _joined([reports[name] for name in cases])


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def _places(options: dict[str, Any]) -> tuple[int, dict[str, int], int]:
    """How many actors the cluster has room for, what each asks of Ray, and its threads."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    device, threads = options.get("device", "auto"), options.get("threads", 0)
    if device == "cuda" or device == "auto" and gpus:
        if gpus == 0:
            raise ArgumentError("device is cuda, but no node of the cluster offers a GPU to Ray")
        return gpus, {"num_gpus": 1, "num_cpus": threads or 1}, threads
    processors = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    threads = threads or min(processors, default=1)
    count = sum(n // threads for n in processors)
    if count == 0:
        most = max(processors, default=0)
        raise ArgumentError(f"threads is {threads}, but no node has more than {most} processors")
    return count, {"num_cpus": threads}, threads


def _joined(reports: list[Any]) -> dict[str, Any]:
    """One report of those of single cases; raises it where cases were skipped."""
    report = {part: [x for r in reports for x in r[part]] for part in ("scores", "skipped")}
    if skipped := report["skipped"]:
        listed = "; ".join(f"{s['case']} ({s['reason']})" for s in skipped)
        error = from_status(
            -skipped[0]["kind"],
            f"{len(skipped)} of {len(reports)} cases could not be labelled and were left out: "
            + listed,
        )
        error.report = report
        raise error
    return report
