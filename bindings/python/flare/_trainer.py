"""A network in training."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _abi, _arrays, _call, _images
from ._arrays import Matrix, Vector
from ._batch import Batch, Result, TrainingProgress, as_c
from ._errors import ArgumentError
from ._handle import Handle

Floats = npt.NDArray[np.float32]


class _Memory:
    """What arrays that look at a trainer's memory keep alive."""


class Trainer(Handle):
    """A network in training: its parameters, their gradients and an optimizer.

    model          fine-tuning: a bundle or results folder, whose network and weights training
                   begins with; or None and, for a new network whose weights are a function of
                   seed, these:
    plans          plans.json, dataset: dataset.json, configuration: its name in the plans
                   ("3d_fullres"); None: those of cache
    cache          folder of preprocessed cases (made by the program `flare preprocess`) to draw
                   batches from; add_case adds others. None: no such
    fold           of nnU-Net's splits of the cache: "0" to "4", "all"
    device, runtime, threads   as for flare.Model
    mode           "exact": fp32; "fast": bf16 where the processor computes with it, TF32 on an
                   NVIDIA GPU
    optimizer      "sgd" (with Nesterov's momentum) or "adamw"
    workers        threads that prepare batches; 0: as many as threads
    batch          samples of a batch; 0: the plans'
    patch          voxels (z, y, x) of the network's axes; None: the plans'. Inference keeps the
                   plans'
    epochs, iterations, validation_iterations   of run and its learning rates
    strong         strong augmentation
    mirroring      False: neither in training nor in inference
    soft, weighted batches bring probabilities, a weight for each voxel; those drawn from a cache
                   the weights of its cases (1 where they have none)
    clip           bound on the norm of the gradients; math.inf: none
    foreground     share of a batch's samples that hold foreground for certain
    dropout        probability that a channel is dropped
    stochastic_depth  probability that a residual block is skipped; 0 for networks without such

    Fine-tuning on a case that was corrected:

        with flare.Trainer("abdomen.onnx", learning_rate=1e-3, batch=1) as trainer:
            trainer.add_case("corrected", ct, labels, spacing=(1.5, 1.5, 3.0))
            for _ in range(50):
                loss = trainer.step().loss
            trainer.export("better.onnx")

    Calls from several threads wait for each other in turn. Ctrl-C, closing and processes are as
    with flare.Model.
    """

    _free_name, _cancel_name = "flare_trainer_free", "flare_trainer_cancel"

    def __init__(
        self,
        model: _abi.Path | None = None,
        *,
        plans: _abi.Path | None = None,
        dataset: _abi.Path | None = None,
        configuration: str | None = None,
        cache: _abi.Path | None = None,
        fold: str = "all",
        device: str = "auto",
        runtime: _abi.Path | None = None,
        mode: str = "exact",
        optimizer: str = "sgd",
        threads: int = 0,
        workers: int = 0,
        batch: int = 0,
        patch: Sequence[int] | None = None,
        epochs: int = 1000,
        iterations: int = 250,
        validation_iterations: int = 50,
        strong: bool = False,
        mirroring: bool = True,
        soft: bool = False,
        weighted: bool = False,
        seed: int = 0,
        learning_rate: float = 0.01,
        momentum: float = 0.99,
        weight_decay: float = 3e-5,
        clip: float = 12.0,
        foreground: float = 0.33,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self._memory: _Memory | None = _Memory()
        self._buffers: dict[str, Floats] = {}
        numbers = {
            "threads": threads,
            "workers": workers,
            "batch": batch,
            "epochs": epochs,
            "iterations": iterations,
            "validation_iterations": validation_iterations,
        }
        for name, number in numbers.items():
            if not 0 <= number < 2**31:  # C would cut it
                raise ArgumentError(f"{name} is {number}; expected a number from 0 on")
        if not 0 <= seed < 2**64:
            raise ArgumentError(f"seed is {seed}; expected 0 to 2^64-1")
        if not learning_rate > 0:
            raise ArgumentError(f"learning_rate is {learning_rate}; expected more than 0")
        options = _abi.TrainerOptions(
            model=_abi.c_path("model", model),
            plans=_abi.c_path("plans", plans),
            dataset=_abi.c_path("dataset", dataset),
            configuration=_abi.c_text("configuration", configuration),
            cache=_abi.c_path("cache", cache),
            fold=_abi.c_text("fold", fold),
            device=_abi.c_text("device", device),
            runtime=_abi.c_path("runtime", runtime),
            mode=_abi.c_text("mode", mode),
            optimizer=_abi.c_text("optimizer", optimizer),
            patch=_patch(patch),
            strong=bool(strong),
            no_mirroring=not mirroring,
            soft=bool(soft),
            weighted=bool(weighted),
            seed=seed,
            learning_rate=learning_rate,
            momentum=_or_none("momentum", momentum, 0),
            weight_decay=_or_none("weight_decay", weight_decay, 0),
            clip=_or_none("clip", clip, math.inf),
            foreground=_or_none("foreground", foreground, 0),
            dropout=dropout,
            stochastic_depth=stochastic_depth,
            **numbers,
        )
        _call.refuse_in_callback()
        _abi.check(
            self._library.flare_trainer_open(ctypes.byref(self._handle), ctypes.byref(options))
        )
        self._description = self.describe()

    def describe(self) -> dict[str, Any]:
        """What the trainer is: configuration, fold, network, batch, channels, patch_size (z, y,
        x), heads, labels, ignore_label, device, precision, notes, settings, numbers (the length
        of the buffers), parameters (name, shape and offset of each)."""
        result: dict[str, Any] = self._json(self._library.flare_trainer_describe)
        return result

    def add_case(
        self,
        name: str,
        array: Any,
        labels: Any,
        spacing: Vector | None = None,
        origin: Vector | None = None,
        direction: Matrix | None = None,
    ) -> None:
        """Adds an image and its labels, shape (z, y, x) or as an image on the same grid, to the
        cases that batches are drawn from; they are preprocessed here. A name that was added
        before is replaced. array, spacing, origin and direction are as for flare.Model.segment.
        Labels that dataset.json lacks and voxels that are not finite raise flare.ModelError."""
        library, handle, text = self._library, self._opened(), _abi.c_text("name", name)
        given = _images.opened("array", array, spacing, origin, direction)
        voxels = _arrays.image(given.voxels)
        classes = _images.labels_on("labels", labels, given)
        classes = _arrays.on_grid("labels", classes, voxels.shape[-3:])
        image, truth = (
            _arrays.volume(v, given.spacing, given.origin, given.direction)
            for v in (voxels, classes)
        )
        self._run(
            lambda: library.flare_trainer_add_case(
                handle, text, ctypes.byref(image), ctypes.byref(truth)
            )
        )

    def step(self, batch: Batch | None = None) -> Result:
        """One step of the optimizer on the caller's batch, or with None on the next of the
        cases, drawn and augmented as nnU-Net does. A loss or gradients that are not finite raise
        flare.ModelError. After an error the parameters are what they were."""
        return self._on_batch(self._library.flare_trainer_step, batch)

    def backward(self, batch: Batch | None = None, accumulate: bool = False) -> Result:
        """The first half of a step: fills the gradients, or adds to them. Several processes
        average gradient_buffer before apply: so they train as one."""
        return self._on_batch(self._library.flare_trainer_backward, batch, int(accumulate))

    def apply(self) -> None:
        """The second half: clips the gradients and applies them; then they are undefined."""
        _abi.check(self._library.flare_trainer_apply(self._opened()))

    def evaluate(self, batch: Batch | None = None) -> Result:
        """The loss of a batch without dropout, gradients and step; None: the last call's."""
        return self._on_batch(self._library.flare_trainer_evaluate, batch)

    @property
    def parameter_buffer(self) -> Floats:
        """All parameters: the library's memory, not a copy. It may be read and written while no
        call on the trainer runs; what lies between two parameters is 0 and must stay so. The
        memory is there as long as an array that looks at it, also when the trainer is closed."""
        return self._buffer("parameters")

    @property
    def gradient_buffer(self) -> Floats:
        """All gradients, like parameter_buffer."""
        return self._buffer("gradients")

    @property
    def parameters(self) -> dict[str, Floats]:
        """parameter_buffer by nnU-Net's names, each in its shape."""
        return self._named(self.parameter_buffer)

    @property
    def gradients(self) -> dict[str, Floats]:
        """gradient_buffer by nnU-Net's names, each in its shape."""
        return self._named(self.gradient_buffer)

    @property
    def learning_rate(self) -> float:
        """Of step and apply; first that of the options. Checkpoints do not hold it."""
        rate = ctypes.c_double()
        _abi.check(
            self._library.flare_trainer_get_learning_rate(ctypes.byref(rate), self._opened())
        )
        return rate.value

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        _abi.check(self._library.flare_trainer_set_learning_rate(self._opened(), rate))

    def save(self, path: _abi.Path) -> None:
        """Writes a checkpoint, whole or not at all: parameters, the optimizer's state, the
        number of steps."""
        _abi.check(self._library.flare_trainer_save(self._opened(), _abi.c_path("path", path)))

    def load(self, path: _abi.Path) -> None:
        """Goes on from a checkpoint of a trainer with the same options, with the same bits."""
        _abi.check(self._library.flare_trainer_load(self._opened(), _abi.c_path("path", path)))

    def export(self, path: _abi.Path) -> None:
        """Writes the network as it is: to a path that ends in .onnx a bundle for flare.Model,
        else a results folder of nnU-Net, with which nnU-Net predicts."""
        _abi.check(self._library.flare_trainer_export(self._opened(), _abi.c_path("path", path)))

    def run(
        self,
        folder: _abi.Path | None = None,
        progress: Callable[[TrainingProgress], object] | None = None,
    ) -> None:
        """Trains on the cases from the step where it is to the last epoch, with nnU-Net's
        learning rates.

        folder    None: nothing is written; or a folder, made if need be, for checkpoints after
                  each epoch, progress.csv, progress.png, TensorBoard events, and in the end
                  model.onnx, a bundle
        progress  function called at most 20 times a second, not on the main thread. If it
                  returns something true the call raises flare.Cancelled, and a later run goes
                  on; what it raises itself, run raises. It must not call this package, except
                  cancel.
        """

        def read(p: Any) -> tuple[TrainingProgress]:
            told = p.contents
            phase, *numbers = (getattr(told, name) for name in TrainingProgress._fields)
            return (TrainingProgress(phase.decode(), *numbers),)

        callback = _call.Progress(progress, _abi.TrainerProgressFn, read)
        options = _abi.TrainerRunOptions(
            progress=callback.pointer, folder=_abi.c_path("folder", folder)
        )
        library, handle = self._library, self._opened()
        self._run(lambda: library.flare_trainer_run(handle, ctypes.byref(options)), callback)

    def _free(self) -> None:
        """Closes, or leaves that to the last array that looks at the memory."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        if not handle:
            return
        memory = weakref.ref(self._memory)
        self._memory = None
        self._buffers.clear()
        looked_at = memory()
        if looked_at is None:
            self._library.flare_trainer_free(handle)
        else:
            self._library.flare_trainer_cancel(handle)
            weakref.finalize(looked_at, self._library.flare_trainer_free, handle)

    def _on_batch(self, function: Any, batch: Batch | None, *more: int) -> Result:
        handle, heads = self._opened(), self._description["heads"]
        given = None if batch is None else as_c(batch, heads)
        counts = np.zeros((3, heads))
        result = _abi.TrainerResult(counts=counts.ctypes.data, counts_count=counts.size)
        pointer = None if given is None else ctypes.byref(given)
        self._run(lambda: function(ctypes.byref(result), handle, pointer, *more))
        return Result(result.loss, result.cross_entropy, result.dice, counts)

    def _buffer(self, name: str) -> Floats:
        handle = self._opened()
        if name not in self._buffers:
            function = getattr(self._library, f"flare_trainer_{name}")
            at, count = ctypes.c_void_p(), ctypes.c_size_t()
            _abi.check(function(ctypes.byref(at), ctypes.byref(count), handle))
            raw: Any = (ctypes.c_float * count.value).from_address(at.value or 0)
            raw.memory = self._memory
            self._buffers[name] = np.frombuffer(raw, np.float32)
        return self._buffers[name]

    def _named(self, buffer: Floats) -> dict[str, Floats]:
        named = {}
        for p in self._description["parameters"]:
            start = p["offset"]
            named[p["name"]] = buffer[start : start + math.prod(p["shape"])].reshape(p["shape"])
        return named


def _or_none(name: str, value: float, none: float) -> float:
    """A number for C, where a negative one says none and 0 the default."""
    if not value >= 0:
        raise ArgumentError(f"{name} is {value}; expected a number from 0 on")
    return -1.0 if value == none else value


def _patch(patch: Sequence[int] | None) -> tuple[int, int, int]:
    if patch is None:
        return 0, 0, 0
    if len(patch) not in (2, 3) or not all(0 < n < 2**31 for n in patch):
        raise ArgumentError(f"patch is {patch!r}; expected voxels along z, y, x (or y, x)")
    y, x = patch[-2:]
    return x, y, patch[0] if len(patch) == 3 else 0
