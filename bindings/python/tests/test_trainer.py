"""The real library: training the small network of capi/test/network."""

from __future__ import annotations

import gc
import math
import os
import pickle
import signal
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from helpers import in_fork

import flare

pytestmark = pytest.mark.usefixtures("real")

NETWORK = REPOSITORY / "capi" / "test" / "network"
PATCH = (8, 12, 16)  # z, y, x


def open_trainer(**options: Any) -> flare.Trainer:
    options = {"threads": 2, "momentum": 0.9, "batch": 2} | options
    return flare.Trainer(plans=NETWORK / "plans.json", dataset=NETWORK / "dataset.json", **options)


def blocks(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """A bright and a dark block in noise, and their labels; shape (z, y, x)."""
    labels = np.zeros(shape, np.uint8)
    labels[2:, 4:, 3:8] = 1
    labels[:6, :8, 10:] = 2
    noise = np.random.default_rng(4).uniform(0, 1, shape)
    return (1.5 * (labels == 1) - 1.5 * (labels == 2) + noise).astype(np.float32), labels


def batch(samples: int) -> flare.Batch:
    made = [blocks(PATCH) for _ in range(samples)]
    images = np.stack([image + i / 10 for i, (image, _) in enumerate(made)])[:, None]
    return flare.Batch(images, np.stack([labels for _, labels in made]))


def test_steps_save_load_export(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    b = batch(2)
    with open_trainer() as trainer:
        first = trainer.step(b)
        assert first.loss == pytest.approx(first.cross_entropy + first.dice, abs=1e-5)
        assert first.counts[[0, 2]].sum() == math.prod(np.shape(b.images))
        for _ in range(20):
            trainer.step(b)
        last = trainer.evaluate()
        assert last.loss < first.loss - 0.3
        assert trainer.evaluate(b).loss == last.loss

        trainer.save(tmp_path / "a.flare")
        trainer.step(b)
        kept = trainer.parameter_buffer.copy()
        trainer.step(b)
        assert (trainer.parameter_buffer != kept).any()
        trainer.load(tmp_path / "a.flare")
        trainer.step(b)
        assert (trainer.parameter_buffer == kept).all()
        trainer.export(tmp_path / "model.onnx")
    image, labels = blocks(PATCH)
    with flare.Model(tmp_path / "model.onnx") as model:
        assert (model.segment(image, (1, 1, 1)) == labels).mean() > 0.9
    with flare.Trainer(tmp_path / "model.onnx", patch=(8, 8, 16)) as more:
        assert more.describe()["patch_size"] == [8, 8, 16]
        assert (
            more.parameters["encoder.stages.0.0.convs.0.conv.weight"]
            == kept[:216].reshape(8, 1, 3, 3, 3)
        ).all()
        with pytest.raises(flare.ModelError, match="a.flare"):
            more.load(tmp_path / "a.flare")
    assert capfd.readouterr() == ("", "")


def test_halves_make_the_whole() -> None:
    whole, half = open_trainer(batch=4), open_trainer()
    b = batch(4)
    expected = whole.backward(b)
    parts = []
    for i in range(2):
        part = flare.Batch(*(np.asarray(a)[2 * i : 2 * i + 2] for a in b[:2]))
        parts.append(half.backward(part, accumulate=i > 0).loss)
    assert sum(parts) / 2 == pytest.approx(expected.loss, abs=1e-5)
    half.gradient_buffer[:] /= 2
    largest = abs(whole.gradient_buffer).max()
    assert largest > 0
    assert abs(whole.gradient_buffer - half.gradient_buffer).max() < 1e-4 * largest
    for trainer in whole, half:
        trainer.apply()
    assert abs(whole.parameter_buffer - half.parameter_buffer).max() < 1e-5


def test_named_views() -> None:
    """They are the library's memory, in nnU-Net's names and shapes, and outlive the trainer."""
    trainer = open_trainer()
    described = trainer.describe()
    parameters, gradients = trainer.parameters, trainer.gradients
    assert list(parameters) == [p["name"] for p in described["parameters"]] == list(gradients)
    assert parameters["encoder.stages.1.0.convs.0.conv.weight"].shape == (16, 8, 3, 3, 3)
    assert trainer.parameter_buffer.size == described["numbers"] == trainer.gradient_buffer.size
    total = sum(p.astype(float).sum() for p in parameters.values())
    assert trainer.parameter_buffer.astype(float).sum() == pytest.approx(total)

    before = trainer.evaluate(batch(2)).loss
    name = next(name for name in parameters if "seg_layers" in name and name.endswith("weight"))
    parameters[name][:] = 0
    assert trainer.evaluate().loss != before
    trainer.close()
    assert (parameters[name] == 0).all() and np.isfinite(trainer_sum(gradients)).all()
    alive = weakref.ref(parameters[name].base)
    del parameters, gradients
    gc.collect()
    assert alive() is None


def trainer_sum(arrays: dict[str, Any]) -> Any:
    return np.array([a.sum() for a in arrays.values()])


def test_cases_and_run(tmp_path: Path) -> None:
    image, labels = blocks((16, 18, 20))
    told: list[flare.TrainingProgress] = []
    with open_trainer(epochs=2, iterations=4, validation_iterations=1) as trainer:
        with pytest.raises(flare.ArgumentError, match="no cases"):
            trainer.step()
        trainer.add_case("mine", image, labels.astype("int64"), (1, 1, 1))
        with pytest.raises(flare.ArgumentError, match="labels has shape"):
            trainer.add_case("other", image, labels[1:], (1, 1, 1))
        with pytest.raises(flare.ModelError, match="a voxel is 7"):
            trainer.add_case("other", image, labels + 7, (1, 1, 1))
        with pytest.raises(flare.ModelError, match="1 voxels are NaN"):
            trainer.add_case(
                "other", np.where(image == image.max(), np.nan, image), labels, (1, 1, 1)
            )
        assert math.isfinite(trainer.step().loss)
        with pytest.raises(flare.Cancelled):
            trainer.run(progress=lambda p: True)
        with pytest.raises(flare.Cancelled):
            trainer.run(progress=lambda p: trainer.cancel())
        with pytest.raises(KeyError, match="not mine"):
            trainer.run(progress=lambda p: os.environ["not mine"])
        with pytest.raises(flare.Error, match="must not call"):
            trainer.run(progress=lambda p: trainer.step())
        trainer.run(tmp_path / "run", told.append)
    assert {p.phase for p in told} == {"train", "validate"}
    assert all(p.epochs == 2 and 1 <= p.done <= p.total and p.loss > -1 for p in told)
    assert 0 < told[-1].learning_rate < 0.01 and told[-1].step_seconds > 0
    assert {"model.onnx", "checkpoint.flare"} <= set(os.listdir(tmp_path / "run"))


def test_soft_labels_and_weights() -> None:
    b = batch(2)
    soft = np.moveaxis(np.eye(3)[np.asarray(b.labels)], -1, 1)
    weights = np.ones((2, *PATCH))
    with open_trainer() as hard, open_trainer(soft=True, weighted=True) as trainer:
        expected = hard.evaluate(b).loss
        assert trainer.evaluate(flare.Batch(b.images, soft=soft)).loss == pytest.approx(
            expected, abs=1e-5
        )
        weights[:, :4] = 0
        other = trainer.evaluate(flare.Batch(b.images, soft=soft, weights=weights)).loss
        assert abs(other - expected) > 1e-3
        with pytest.raises(flare.ArgumentError, match="soft has shape"):
            trainer.step(flare.Batch(b.images, soft=soft[:, :2]))
        with pytest.raises(flare.ArgumentError, match="weights has shape"):
            trainer.step(flare.Batch(b.images, soft=soft, weights=weights[:1]))
        with pytest.raises(flare.ArgumentError, match="expected labels, or soft"):
            trainer.step(b)


def test_bad_batches() -> None:
    images, labels, *_ = (np.asarray(a) for a in batch(2))
    with open_trainer() as trainer:
        before = trainer.parameter_buffer.copy()
        for given, error, text in (
            (
                (images[:1], labels[:1]),
                flare.ArgumentError,
                "expected 2 of 1 channels of 8 x 12 x 16",
            ),
            ((images[..., :8], labels[..., :8]), flare.ArgumentError, "expected 2 of 1 channels"),
            ((images[0], labels[0]), flare.ArgumentError, "expected"),
            ((images[0, 0], labels), flare.ArgumentError, "images has shape"),
            ((images, labels[:1]), flare.ArgumentError, "labels has shape"),
            ((images, None), flare.ArgumentError, "expected labels"),
            ((images, labels.astype("float64")), flare.ArgumentError, "labels_dtype is 6"),
            ((images, labels + 1), flare.ArgumentError, "is 3, expected the labels 0 to 2"),
            ((images * math.nan, labels), flare.ModelError, "the loss is NaN"),
            ((images.astype(complex), labels), TypeError, "images has dtype complex"),
        ):
            with pytest.raises(error, match=text):
                trainer.step(flare.Batch(*given))
        assert (trainer.parameter_buffer == before).all()
        assert math.isfinite(trainer.step(flare.Batch(images.astype("float64"), labels)).loss)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"threads": -1}, "threads is -1"),
        ({"batch": 2**31}, "batch is"),
        ({"seed": -1}, "seed"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"momentum": -0.5}, "momentum"),
        ({"clip": math.nan}, "clip"),
        ({"patch": (8,)}, "patch"),
        ({"patch": (8, 8)}, "needs 3 numbers"),
        ({"optimizer": "lion"}, "sgd, adamw"),
        ({"mode": "quick"}, "exact, fast"),
        ({"model": "x.onnx"}, "x.onnx"),
    ],
)
def test_bad_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(flare.ArgumentError, match=text):
        open_trainer(**options)


def test_options_arrive() -> None:
    given = {
        "momentum": 0,
        "weight_decay": 0.5,
        "foreground": 0,
        "learning_rate": 0.02,
        "seed": 2**64 - 1,
    }
    with open_trainer(
        optimizer="adamw", mirroring=False, strong=True, dropout=0.25, **given
    ) as trainer:
        settings = trainer.describe()["settings"]
        assert given.items() <= settings.items() and settings["dropout"] == 0.25
        assert settings["optimizer"] == "adamw" and settings["no_mirroring"] and settings["strong"]
        assert trainer.learning_rate == 0.02
        trainer.learning_rate = 0.5
        assert trainer.learning_rate == 0.5
        with pytest.raises(flare.ArgumentError, match="learning rate is -1"):
            trainer.learning_rate = -1
    with pytest.raises(flare.NotFoundError, match="none.onnx"):
        flare.Trainer("none.onnx")
    with pytest.raises(flare.ArgumentError, match="expected a model"):
        flare.Trainer()


def test_interrupt_and_close() -> None:
    image, labels = blocks((16, 18, 20))
    trainer = open_trainer()
    trainer.add_case("mine", image, labels, (1, 1, 1))
    start = time.monotonic()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    threading.Timer(0.2, trainer.close).start()
    with pytest.raises(flare.Cancelled):
        trainer.run()
    assert time.monotonic() - start < 20  # the run would take minutes
    trainer.close()
    for call in trainer.step, trainer.describe, trainer.cancel, lambda: trainer.parameters:
        with pytest.raises(flare.HandleError, match="closed"):
            call()
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(trainer)


def test_fork() -> None:
    with open_trainer() as trainer:
        assert in_fork(trainer.step).startswith("ForkedError")
