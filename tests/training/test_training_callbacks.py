"""Callbacks: their turns, early stopping, and stopping on request."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.training import Callback, Checkpoint, EarlyStopping, History, Run, Trainer, fit


def mlp(**options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((5, 8, 3), **{"output": "softmax", "seed": 3, **options})


class Script:
    """A metric whose values are prescribed."""

    higher_is_better = True

    def __init__(self, *values: float) -> None:
        self.values = iter(values)
        self.__name__ = "script"

    def __call__(self, y: gn.Tensor, prediction: gn.Tensor) -> float:
        return next(self.values)


def scripted(classes: Any, *values: float, **options: Any) -> History:
    return fit(
        mlp(), *classes, epochs=len(values), batch_size=30, validation=0.2, progress=False,
        metrics=[Script(*values)], **options,
    )  # fmt: skip


def test_turns(classes: Any) -> None:
    turns: list[str] = []

    class Note(Callback):
        def on_fit_start(self, run: Run) -> None:
            turns.append(f"start {run.epoch}/{run.epochs} {run.steps_per_epoch}")

        def on_epoch_start(self, run: Run) -> None:
            turns.append(f"epoch {run.epoch} after {run.history.epochs}")

        def on_step_end(self, run: Run) -> None:
            turns.append(f"step {run.epoch}.{run.batch}")

        def on_epoch_end(self, run: Run) -> None:
            turns.append(f"end {run.epoch} {run.history.row(-1)['epoch']:.0f}")

        def on_fit_end(self, run: Run) -> None:
            turns.append(f"fit end {run.epoch}")

    fit(mlp(), *classes, epochs=2, batch_size=45, callbacks=[Note()], progress=False)
    assert turns == [
        *("start 0/2 2", "epoch 1 after 0", "step 1.1", "step 1.2", "end 1 1"),
        *("epoch 2 after 1", "step 2.1", "step 2.2", "end 2 2", "fit end 2"),
    ]


def test_a_callback_may_stop_the_run(classes: Any) -> None:
    class Stop(Callback):
        def on_step_end(self, run: Run) -> None:
            if run.epoch == 2:
                run.request_stop("enough")
                run.request_stop("quite enough")
                assert run.stopping

    history = fit(mlp(), *classes, epochs=9, batch_size=30, callbacks=[Stop()], progress=False)
    assert history.epochs == 2
    assert history.notes == ["enough"]


def test_what_a_callback_raises_ends_the_run_and_all_hear_of_it(classes: Any) -> None:
    ended = []

    class Fail(Callback):
        def on_epoch_end(self, run: Run) -> None:
            raise RuntimeError("no")

    class Note(Callback):
        def on_fit_end(self, run: Run) -> None:
            ended.append(run.epoch)

    with pytest.raises(RuntimeError, match="no"):
        fit(mlp(), *classes, epochs=9, callbacks=[Note(), Fail()], progress=False)
    assert ended == [1]


def test_patience(classes: Any) -> None:
    values = (0.1, 0.5, 0.4, 0.5, 0.45, 0.9)
    history = scripted(classes, *values, early_stopping=3, monitor="val_script")
    assert history.epochs == 5
    assert history.best_epoch == 2
    assert history.monitor == "val_script"
    assert history.notes == [
        "stopped early at epoch 5: val_script has not improved for 3 epochs",
        "weights of epoch 2 restored, where val_script was 0.5",
    ]
    patient = scripted(classes, *values, early_stopping=4, monitor="val_script")
    assert (patient.epochs, patient.best_epoch, patient.notes) == (6, 6, [])


def test_a_gain_must_exceed_min_delta(classes: Any) -> None:
    stopping = EarlyStopping(2, monitor="val_script", min_delta=0.1)
    history = scripted(classes, 0.1, 0.15, 0.25, 0.3, 0.34, early_stopping=stopping)
    assert (history.epochs, history.best_epoch) == (5, 3)


def test_modes(classes: Any) -> None:
    def best(mode: Any) -> int | None:
        stopping = EarlyStopping(9, monitor="val_script", mode=mode)
        return scripted(classes, 0.3, 0.1, 0.5, early_stopping=stopping).best_epoch

    assert [best(mode) for mode in ("auto", "max", "min")] == [3, 3, 2]


def test_nan_is_never_best(classes: Any) -> None:
    history = scripted(classes, math.nan, 0.1, math.nan, early_stopping=9, monitor="val_script")
    assert history.best_epoch == 2
    never = scripted(classes, math.nan, math.nan, math.nan, early_stopping=2, monitor="val_script")
    assert (never.epochs, never.best_epoch) == (2, None)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_best_weights_and_buffers_come_back(
    norm: str | None, backend: Backend, classes: Any
) -> None:
    states = []

    class Keep(Callback):
        def on_epoch_end(self, run: Run) -> None:
            states.append({n: x.numpy().copy() for n, x in run.model.state_dict().items()})

    model = mlp(norm=norm)
    metric = Script(0.1, 0.9, 0.2, 0.3)
    trainer = Trainer(
        model, epochs=4, batch_size=30, metrics=[metric], early_stopping=9, monitor="val_script",
        callbacks=[Keep()], progress=False,
    )  # fmt: skip
    history = trainer.fit(*classes, validation=0.2)
    assert history.best_epoch == 2
    for name, x in model.state_dict().items():
        assert np.array_equal(x.numpy(), states[1][name]), name
        assert not np.array_equal(x.numpy(), states[3][name]) or "weight" not in name


def test_without_early_stopping_the_best_epoch_is_noted_only(classes: Any) -> None:
    states = []

    class Keep(Callback):
        def on_epoch_end(self, run: Run) -> None:
            states.append(next(run.model.parameters()).detach().numpy().copy())

    model = mlp()
    history = fit(
        model, *classes, epochs=3, validation=0.2, metrics=[Script(0.1, 0.9, 0.2)],
        monitor="val_script", callbacks=[Keep()], progress=False,
    )  # fmt: skip
    assert history.best_epoch == 2
    assert history.notes == []
    assert np.array_equal(next(model.parameters()).detach().numpy(), states[2])


def test_what_is_watched_by_itself(classes: Any) -> None:
    def watched(**options: Any) -> str | None:
        return fit(mlp(), *classes, epochs=1, progress=False, **options).monitor

    assert watched() == "loss"
    assert watched(validation=0.2) == "val_loss"
    assert watched(monitor="accuracy") == "accuracy"
    assert (
        watched(early_stopping=EarlyStopping(3, monitor="accuracy"), validation=0.2) == "accuracy"
    )
    assert watched(callbacks=[EarlyStopping(3)], validation=0.2) == "val_loss"


def test_an_early_stopping_begins_anew_in_each_run(classes: Any) -> None:
    stopping = EarlyStopping(2)
    model = mlp()
    for _ in range(2):
        history = fit(
            model, *classes, epochs=3, early_stopping=stopping, validation=0.2, progress=False
        )
        assert history.best_epoch is not None
        assert stopping.best == history["val_loss"][history.best_epoch - 1]


def test_plateau_watches_what_early_stopping_watches(classes: Any) -> None:
    schedule = {"name": "plateau", "patience": 0, "mode": "max", "gamma": 0.5}
    history = scripted(classes, 0.5, 0.4, 0.6, 0.3, schedule=schedule, lr=0.1, monitor="val_script")
    assert history["lr"].tolist() == pytest.approx([0.1, 0.1, 0.05, 0.05])


def test_checkpoints_are_written_after_all_other_callbacks(classes: Any, tmp_path: Any) -> None:
    order = []

    class Note(Callback):
        def on_epoch_end(self, run: Run) -> None:
            order.append((tmp_path / "run.safetensors").exists())

    saving = Checkpoint(tmp_path / "run.safetensors")
    fit(mlp(), *classes, epochs=2, callbacks=[saving, Note()], progress=False)
    assert order == [False, True]
