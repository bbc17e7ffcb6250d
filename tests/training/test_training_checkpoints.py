"""Checkpoints: a run that was cut short goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import optim
from gradnet.backends import Backend
from gradnet.training import (
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    Run,
    Trainer,
    TrainingInterrupted,
    fit,
)

TIMES = ("seconds", "samples_per_second")


class Stop(Exception):
    pass


class StopAt(Callback):
    """Ends the run as a crash would, in the middle of an epoch or after one."""

    def __init__(self, epoch: int, batch: int | None = None) -> None:
        self.epoch, self.batch = epoch, batch

    def on_step_end(self, run: Run) -> None:
        if (run.epoch, run.batch) == (self.epoch, self.batch):
            os.kill(os.getpid(), signal.SIGINT)

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch == self.epoch and self.batch is None:
            raise Stop


def mlp(**options: Any) -> gn.nn.MLP:
    defaults: dict[str, Any] = {"output": "softmax", "seed": 3, "dropout": 0.2, "norm": "batch"}
    return gn.nn.MLP((5, 8, 3), **{**defaults, **options})


def state(model: gn.nn.Module) -> dict[str, Any]:
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


def assert_same(a: tuple[gn.nn.Module, History], b: tuple[gn.nn.Module, History]) -> None:
    one, two = state(a[0]), state(b[0])
    for name, x in one.items():
        assert np.array_equal(x, two[name]), name
    assert a[1].columns == b[1].columns
    for name in a[1]:
        if name not in TIMES:
            np.testing.assert_array_equal(a[1][name], b[1][name], err_msg=name)
    assert (a[1].best_epoch, a[1].monitor) == (b[1].best_epoch, b[1].monitor)


def resumed(
    cut: StopAt, data: Any, path: Path, make: Any = mlp, **options: Any
) -> tuple[gn.nn.Module, History]:
    """A run that is cut short, and goes on in a new model."""
    with pytest.raises((Stop, KeyboardInterrupt)):
        fit(make(), *data, checkpoint=path, callbacks=[cut], progress=False, **options)
    model = make()
    gn.random.uniform((13,))
    return model, fit(model, *data, resume=path, progress=False, **options)


def whole(data: Any, make: Any = mlp, **options: Any) -> tuple[gn.nn.Module, History]:
    model = make()
    return model, fit(model, *data, progress=False, **options)


@pytest.mark.parametrize("name", optim.names())
def test_every_optimizer_resumes_to_the_same_bits(
    name: str, backend: Backend, classes: Any, tmp_path: Path
) -> None:
    searches = optim.create(name, mlp().parameters()).needs_closure
    options: dict[str, Any] = {"optimizer": name, "epochs": 3, "validation": 0.2}
    options["batch_size"] = None if searches else 16
    # A line search needs one loss for one point: no batch's own statistics.
    make = (lambda: mlp(norm=None)) if searches else mlp
    expected = whole(classes, make, **options)
    # The exception comes before the checkpoint of its epoch: that of the one before is read.
    found = resumed(StopAt(2), classes, tmp_path / "run", make, **options)
    assert_same(expected, found)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_the_middle_of_an_epoch(batch: int, backend: Backend, classes: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "epochs": 4, "batch_size": 16, "validation": 0.2, "schedule": "one_cycle",
        "early_stopping": 3, "class_weight": "balanced", "sample_weight": 1 + np.arange(90) % 3,
        "l2": 1e-3, "max_norm": 2.0, "clip_norm": 1.0, "metrics": ["accuracy"],
    }  # fmt: skip
    expected = whole(classes, **options)
    assert_same(expected, resumed(StopAt(2, batch), classes, tmp_path / "run", **options))


@pytest.mark.parametrize("name", ["plateau", "warm_up", "cosine", "exponential"])
def test_schedules(name: str, classes: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"plateau": {"patience": 0}, "exponential": {"gamma": 0.7}}
    options: dict[str, Any] = {"epochs": 6, "batch_size": 16, "validation": 0.2, "lr": 0.3}
    options["schedule"] = {"name": name, **settings.get(name, {})}
    expected = whole(classes, **options)
    assert_same(expected, resumed(StopAt(4), classes, tmp_path / "run", **options))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_early_stopping_goes_on_counting(precision: str, classes: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "epochs": 60, "batch_size": 16, "validation": 0.2, "early_stopping": 4, "lr": 0.2,
        "precision": precision,
    }  # fmt: skip
    expected = whole(classes, **options)
    epochs, best = expected[1].epochs, expected[1].best_epoch
    assert best is not None
    assert epochs == best + 4 < 60
    found = resumed(StopAt(epochs - 1), classes, tmp_path / "run", **options)
    assert_same(expected, found)
    assert found[1].notes == expected[1].notes


def test_a_stopped_run_stays_stopped_and_a_finished_one_can_be_extended(
    classes: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"batch_size": 16, "validation": 0.2, "lr": 0.05}
    first, history = whole(
        classes, epochs=60, early_stopping=2, checkpoint=tmp_path / "a", **options
    )
    again, same = whole(classes, epochs=60, early_stopping=2, resume=tmp_path / "a", **options)
    assert same.epochs == history.epochs < 60
    assert_same((first, history), (again, same))
    whole(classes, epochs=2, checkpoint=tmp_path / "b", **options)
    extended = whole(classes, epochs=5, resume=tmp_path / "b", **options)
    assert_same(whole(classes, epochs=5, **options), extended)


def test_user_callbacks_and_streams_resume(classes: Any, tmp_path: Path) -> None:
    class Stream:
        rows = 90

        def __iter__(self) -> Iterator[Any]:
            return self.batches(0)

        def batches(self, epoch: int) -> Iterator[Any]:
            order = np.random.default_rng(epoch).permutation(90).reshape(6, 15)
            return iter([(classes.X[part], classes.y[part]) for part in order])

    class Mean(Callback):
        """A running mean of the weights, which a checkpoint must carry."""

        def __init__(self) -> None:
            self.mean: gn.Tensor | None = None
            self.nested: dict[str, Any] = {"steps": 0, "seen": [], "name": None}

        def on_step_end(self, run: Run) -> None:
            w = next(run.model.parameters()).detach()
            self.mean = w.copy() if self.mean is None else self.mean * 0.9 + w * 0.1
            self.nested["steps"] += 1
            self.nested["seen"] = [*self.nested["seen"], run.batch][-3:]

        def state_dict(self) -> dict[str, Any]:
            return {"mean": self.mean, "nested": self.nested}

        def load_state_dict(self, state: Any) -> None:
            self.mean, self.nested = state["mean"], dict(state["nested"])

    def go(**options: Any) -> tuple[gn.nn.Module, History, Mean]:
        model, mean = mlp(), Mean()
        callbacks = [mean, *options.pop("callbacks", [])]
        history = fit(model, Stream(), epochs=4, callbacks=callbacks, progress=False, **options)
        return model, history, mean

    expected = go()
    with pytest.raises(TrainingInterrupted):
        go(callbacks=[StopAt(3, 2)], checkpoint=tmp_path / "run")
    found = go(resume=tmp_path / "run")
    assert_same(expected[:2], found[:2])
    assert found[2].mean is not None
    assert expected[2].mean is not None
    assert np.array_equal(found[2].mean.numpy(), expected[2].mean.numpy())
    assert found[2].nested == expected[2].nested


def test_when_checkpoints_are_written(classes: Any, tmp_path: Path) -> None:
    written: list[int] = []

    class Note(Checkpoint):
        def save(self, run: Run) -> None:
            super().save(run)
            written.append(run.epoch)

    def epochs(epochs: int = 7, **options: Any) -> list[int]:
        written.clear()
        saving = Note(tmp_path / "run", **options)
        fit(mlp(), *classes, epochs=epochs, checkpoint=saving, progress=False)
        return list(written)

    assert epochs() == [1, 2, 3, 4, 5, 6, 7]
    assert epochs(every=3) == [3, 6, 7]
    assert epochs(seconds=1e6) == [1, 7]
    history = fit(
        mlp(), *classes, epochs=12, lr=0.2, validation=0.3, progress=False,
        checkpoint=(best := Checkpoint(tmp_path / "best", best_only=True)),
    )  # fmt: skip
    assert history.best_epoch is not None
    assert history.best_epoch < 12
    model = mlp()
    resume = fit(
        model, *classes, lr=0.2, validation=0.3, resume=best.path, epochs=1, progress=False
    )
    assert resume.epochs == history.best_epoch


def test_a_folder_gets_a_file(classes: Any, tmp_path: Path) -> None:
    fit(mlp(), *classes, epochs=1, checkpoint=tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    history = fit(mlp(), *classes, epochs=2, resume=tmp_path, progress=False)
    assert history.epochs == 2


def test_ctrl_c_saves_restores_the_best_and_raises(
    backend: Backend, classes: Any, tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    model = mlp()
    stopping = EarlyStopping(9)
    with pytest.raises(
        KeyboardInterrupt, match="interrupted after epoch 3, batch 2 of 5"
    ) as caught:
        fit(
            model, *classes, epochs=9, batch_size=16, validation=0.2, early_stopping=stopping,
            callbacks=[StopAt(3, 2)], checkpoint=tmp_path / "run", progress=False,
        )  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is handler
    assert isinstance(caught.value, TrainingInterrupted)
    history = caught.value.history
    assert history.interrupted
    assert history.epochs == 2
    assert any("resume from there" in note for note in history.notes)
    for name, x in state(model).items():
        assert np.array_equal(x, stopping.weights[name].numpy())
    again = fit(
        mlp(), *classes, epochs=3, batch_size=16, validation=0.2, resume=tmp_path / "run",
        progress=False,
    )  # fmt: skip
    assert not again.interrupted
    assert again.epochs == 3


def test_a_handler_of_the_users_own_is_left_alone(classes: Any) -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    try:
        history = fit(
            mlp(), *classes, epochs=2, batch_size=16, callbacks=[StopAt(1, 1)], progress=False
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [signal.SIGINT]
    assert history.epochs == 2


KILLED = """
import sys
import numpy as np
import gradnet as gn
path, resume = sys.argv[1], sys.argv[2:]
rng = np.random.default_rng(0)
X = rng.normal(size=(256, 64)).astype(np.float32)
y = rng.integers(0, 4, 256)
model = gn.nn.MLP((64, 256, 4), output="softmax", dropout=0.1, seed=0)
print("ready", flush=True)
gn.fit(model, X, y, epochs=1500, batch_size=64, checkpoint=path, progress=False,
       **({"resume": path} if resume else {}))
"""


def test_kill_9_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    environment = {**os.environ, "GRADNET_BACKEND": "numpy", "OPENBLAS_NUM_THREADS": "1"}
    reached = []
    for attempt in range(4):
        arguments = [sys.executable, "-c", KILLED, str(path), *(["again"] if attempt else [])]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            seen = path.stat().st_mtime_ns if path.exists() else 0
            deadline = time.monotonic() + 60
            while not path.exists() or path.stat().st_mtime_ns == seen:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(0.013 * attempt)  # at another moment of writing each time
            process.kill()
        tensors, _ = gn.io.load_tensors(path)
        assert all(np.isfinite(x.numpy()).all() for x in tensors.values())
        reached.append(gn.training.checkpoints.read(path, gn.zeros(()))["position"]["completed"])
    assert reached == sorted(set(reached))


def test_a_trainer_resumes_too(classes: Any, tmp_path: Path) -> None:
    expected = whole(classes, epochs=3, batch_size=16)
    fit(mlp(), *classes, epochs=2, batch_size=16, checkpoint=tmp_path, progress=False)
    model = mlp()
    history = Trainer(model, epochs=3, batch_size=16, progress=False).fit(*classes, resume=tmp_path)
    assert_same(expected, (model, history))
