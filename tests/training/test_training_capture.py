"""Steps of a run that are replays: the same run, told in the history, and given up in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.training import Callback, steps

X = np.random.default_rng(4).normal(size=(75, 6)).astype(np.float32)
Y = np.random.default_rng(5).integers(0, 3, 75)


def trained(capture: bool | None, model: Any = None, **options: Any) -> tuple[Any, Any]:
    if model is None:
        model = gn.nn.MLP((6, 10, 3), dropout=0.2, norm="batch", output="softmax", seed=1)
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 16, "progress": False, "seed": 2}
    return model, gn.fit(model, X, Y, capture=capture, **{**settings, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"validation": 0.2, "early_stopping": 2},
        {"schedule": "cosine", "clip_norm": 0.5, "l1": 1e-4, "l2": 1e-3},
        {"max_norm": 1.0, "optimizer": "sgd"},
        {"sample_weight": np.linspace(0.5, 2, 75)},
        {"class_weight": "balanced", "label_smoothing": 0.1},
        {"batch_size": None},
        {"shuffle": False},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_a_captured_run_is_the_run(backend: Backend, options: dict[str, Any]) -> None:
    plain, first = trained(False, **options)
    other, second = trained(True, **options)
    assert first.captured == 0
    assert second.captured > 0
    for name in ("loss", "lr", "val_loss"):
        if name in first:
            np.testing.assert_allclose(second[name], first[name], rtol=1e-4)
    for name, value in plain.state_dict().items():
        np.testing.assert_allclose(
            other.state_dict()[name].numpy(), value.numpy(), rtol=5e-3, atol=1e-5, err_msg=name
        )


def test_long_runs_are_captured_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(None)[1].captured == 0
    monkeypatch.setattr(steps, "_WORTH", 20)
    history = trained(None)[1]
    assert history.captured == 4 * 5 - 2  # the last batch of an epoch has another size
    assert not history.notes


def test_callbacks_come_after_every_step(backend: Backend) -> None:
    seen: list[int] = []

    class Counts(Callback):
        def on_step_end(self, run: Any) -> None:
            seen.append(run.batch)

    trained(True, callbacks=[Counts()], epochs=2)
    assert seen == [1, 2, 3, 4, 5] * 2


class Deciding(gn.nn.Module):
    """Decides by values, which a replay could not follow."""

    def __init__(self) -> None:
        self.inner = gn.nn.MLP((6, 10, 3), output="softmax", seed=1)
        self.output = self.inner.output

    def forward(self, x: Any) -> gn.Tensor:
        return self.inner(x * 2.0 if float(gn.sum(x).item()) > 0 else x)


def test_a_step_that_cannot_be_captured_is_made_plainly(backend: Backend) -> None:
    plain, first = trained(False, Deciding())
    other, second = trained(True, Deciding())
    assert second.captured == 0
    (note,) = second.notes
    assert note.startswith("steps are not captured: a captured function reads the values")
    assert not first.notes
    np.testing.assert_array_equal(first["loss"], second["loss"])
    for name, value in plain.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy())


def test_capture_is_given_up_where_steps_change_all_the_time() -> None:
    class Growing(gn.nn.Module):
        def __init__(self) -> None:
            self.inner = gn.nn.MLP((6, 10, 3), output="softmax", seed=1)
            self.output = self.inner.output
            self.scale = 1.0

        def forward(self, x: Any) -> gn.Tensor:
            return self.inner(x * self.scale)

    class Grows(Callback):
        def on_step_end(self, run: Any) -> None:
            run.model.scale *= 1.01

    _, history = trained(True, Growing(), callbacks=[Grows()], epochs=6)
    (note,) = history.notes
    assert "recordings gave only" in note


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_captured_run_resumes_to_the_same_bits(
    backend: Backend, stop: int, tmp_path: Path
) -> None:
    whole, history = trained(True, checkpoint=tmp_path / "whole")

    class Stops(Callback):
        def on_epoch_start(self, run: Any) -> None:
            if run.epoch == stop + 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(True, callbacks=[Stops()], checkpoint=tmp_path / "part")
    again, resumed = trained(True, resume=tmp_path / "part", checkpoint=tmp_path / "rest")
    np.testing.assert_array_equal(history["loss"], resumed["loss"])
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), value.numpy())
