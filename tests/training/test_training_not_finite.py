"""NaN and infinity: refused in the data, and located where they arise in training."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DataError, TrainingError
from gradnet.training import Callback, NotFinite, Run, Trainer, fit


class Trigger(gn.nn.Module):
    """The identity, but in the training step number `at` its output, or its gradient, breaks.

    The count is a buffer, part of the model's state: the same steps break it again.
    """

    calls = 0

    def __init__(self, at: int, how: str = "NaN") -> None:
        self.at, self.how = at, how
        self.register_buffer("count", gn.zeros(()))

    def forward(self, x: Any) -> Any:
        if not self.training:
            return x
        self.calls += 1
        self.count.assign_(self.count + 1)
        broken = self.count == self.at
        if self.how == "gradient":
            # The slope of sqrt at 0 is infinite, and times 0 it is NaN.
            return x + gn.sqrt(gn.where(broken, (x - x.detach()) * 0.0, 1.0)) - 1.0
        return gn.where(broken, float("nan" if self.how == "NaN" else "inf"), x)


class Once(gn.nn.Module):
    """Breaks in one call, and never again."""

    calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += self.training
        return x * float("nan") if self.training and self.calls == 4 else x


class Count(Callback):
    """How many steps there were."""

    steps = 0

    def on_step_end(self, run: Run) -> None:
        self.steps += 1


class Steps(Callback):
    """The weights after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Any]] = []

    def on_step_end(self, run: Run) -> None:
        self.weights.append(weights(run.model))


def weights(model: gn.nn.Module) -> dict[str, Any]:
    return {n: x.numpy().copy() for n, x in model.state_dict().items() if "count" not in n}


def network(trigger: gn.nn.Module) -> gn.nn.Module:
    draw = gn.random.Generator(0)
    return gn.nn.Sequential(
        gn.nn.Linear(5, 8, generator=draw),
        gn.nn.Dropout(0.2),
        gn.nn.Linear(8, 5, generator=draw),
        trigger,
        gn.nn.Linear(5, 3, generator=draw),
    )


def failure(model: gn.nn.Module, data: Any, **options: Any) -> NotFinite:
    with pytest.raises(NotFinite) as caught:
        fit(model, *data, **{"loss": "cross_entropy", "progress": False, **options})
    return caught.value


def test_the_remedies_know_the_clipping_there_is(classes: Any) -> None:
    model = network(Trigger(1, "gradient"))
    text = str(failure(model, classes, epochs=1, batch_size=16, validation=0.0, clip_norm=0.5))
    assert text.endswith("a clip_norm below 0.5")


@pytest.mark.parametrize(
    ("at", "epoch", "batch"), [(1, 1, 1), (2, 1, 2), (6, 1, 6), (15, 3, 3), (40, 7, 4)]
)
@pytest.mark.parametrize("how", ["NaN", "infinity", "gradient"])
def test_it_is_found_where_it_arose(
    how: str, at: int, epoch: int, batch: int, backend: Backend, classes: Any
) -> None:
    model, steps = network(Trigger(at, how)), Steps()
    schedule = {"name": "exponential", "gamma": 0.7}
    error = failure(
        model, classes, epochs=9, batch_size=16, validation=0.0, schedule=schedule, lr=0.01,
        callbacks=[steps],
    )  # fmt: skip
    assert isinstance(error, TrainingError)
    assert (error.epoch, error.batch) == (epoch, batch)
    assert error.history.epochs == epoch - 1
    text = str(error)
    assert f"epoch {epoch}, batch {batch} of 6" in text
    assert "a learning rate below" in text
    assert "clip_norm=1.0" in text
    if how == "gradient":
        assert error.layer == "2.bias"
        assert "NaN arose first in the gradient of '2.bias'" in text
    else:
        assert error.layer == "3"
        assert f"{how} arose first in layer '3' (Trigger), in all of its" in text
    # The model is as it was before the step that broke it.
    if at > 1:
        for name, x in weights(model).items():
            assert np.array_equal(x, steps.weights[at - 2][name]), name


def test_early_stopping_brings_the_best_weights_back(classes: Any) -> None:
    model, steps = network(Trigger(15)), Steps()
    error = failure(
        model, classes, epochs=9, batch_size=16, early_stopping=9, lr=0.01, callbacks=[steps]
    )
    assert error.history.best_epoch == 2
    for name, x in weights(model).items():
        assert np.array_equal(x, steps.weights[11][name]), name


def test_few_steps_are_run_again(classes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Run.__module__}._RARELY", 0)  # however long a snapshot takes
    trigger = Trigger(100)
    error = failure(network(trigger), classes, epochs=40, batch_size=16)
    assert (error.epoch, error.batch) == (17, 4)
    assert 100 < trigger.calls <= 102 + 32 + 6


def test_long_epochs_are_not_run_to_their_end(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 5)).astype(np.float32)
    steps = Count()
    error = failure(
        network(Trigger(100)), (X, np.arange(1500) % 3), epochs=2, batch_size=1, callbacks=[steps]
    )
    assert (error.epoch, error.batch, error.layer) == (1, 100, "3")
    assert steps.steps < 600


def test_an_update_that_overflows(backend: Backend, classes: Any) -> None:
    model = network(Trigger(-1))
    before = weights(model)
    error = failure(model, classes, optimizer="sgd", lr=3e38, batch_size=None, epochs=1)
    assert (error.epoch, error.batch) == (1, 1)
    assert re.search(r"arose first in the update of '\d\.(weight|bias)'", str(error))
    assert "learning rate below 3e+38" in str(error)
    for name, x in weights(model).items():
        assert np.array_equal(x, before[name])


def test_a_learning_rate_that_explodes(backend: Backend, classes: Any) -> None:
    error = failure(
        network(Trigger(-1)), classes, optimizer="sgd", lr=1e12, epochs=20, batch_size=16
    )
    assert error.layer is not None
    assert (error.batch or 0) > 1


def test_large_inputs_are_told_of(backend: Backend, classes: Any) -> None:
    X = classes.X * np.float32(1e30)
    error = failure(network(Trigger(-1)), (X, classes.y), optimizer="sgd", lr=1.0, epochs=3)
    assert "standardise X, whose largest value here is" in str(error)


def test_penalties_that_overflow(backend: Backend, classes: Any) -> None:
    error = failure(network(Trigger(-1)), classes, l2=3e38, epochs=1)
    assert "the penalties l1 and l2 are not finite" in str(error)
    assert error.layer is None


def test_a_loss_of_ones_own_that_breaks(backend: Backend, classes: Any) -> None:
    def loss(z: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        return gn.log(gn.sum(z) * 0.0 - 1.0)

    error = failure(network(Trigger(-1)), classes, loss=loss, epochs=1)
    assert error.layer == "loss"
    assert "it arose in the loss itself" in str(error)


def test_a_line_search(backend: Backend, classes: Any) -> None:
    for how, layer in (("NaN", "3"), ("gradient", "2.bias")):
        error = failure(
            network(Trigger(1, how)), classes, optimizer="lbfgs", batch_size=None, epochs=2
        )
        assert (error.epoch, error.batch, error.layer) == (1, 1, layer)


def test_validation_that_overflows(backend: Backend, classes: Any) -> None:
    X = np.full((4, 5), 3e38, np.float32)
    model = network(Trigger(-1))
    error = failure(model, classes, validation=(X, np.arange(4) % 3), epochs=3, batch_size=16)
    assert (error.epoch, error.batch) == (1, None)
    assert "epoch 1, validation: " in str(error)
    assert error.layer is not None
    assert error.layer in dict(model.named_modules())


def test_what_does_not_happen_again_is_told_as_such(classes: Any) -> None:
    error = failure(network(Once()), classes, epochs=3, batch_size=16)
    assert (error.epoch, error.batch, error.layer) == (1, 4, None)
    assert "running the steps again did not show where" in str(error)


def test_a_checkpoint_before_the_failure_is_kept(classes: Any, tmp_path: Any) -> None:
    failure(network(Trigger(15)), classes, epochs=9, batch_size=16, checkpoint=tmp_path)
    model = network(Trigger(-1))
    history = fit(
        model, *classes, loss="cross_entropy", epochs=3, batch_size=16, resume=tmp_path,
        progress=False,
    )  # fmt: skip
    assert history.epochs == 3


class Frame:
    """An array with names of columns, as a table of pandas has."""

    def __init__(self, X: Any) -> None:
        self.X, self.columns = X, ["age", "chol", "max hr", "slope", "thal"]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.X, dtype)


def test_data_that_are_not_finite_are_refused(backend: Backend, values: Any) -> None:
    X, y = values
    model = gn.nn.MLP((4, 1), seed=0)
    bad_x, bad_y = X.copy(), y.copy()
    bad_x[17, 2], bad_x[40, 1] = np.nan, np.inf
    bad_y[5] = -np.inf
    pattern = "X holds nan in row 17, column 2, and 1 more values that are not finite"
    with pytest.raises(DataError, match=f"^{pattern}"):
        fit(model, bad_x, y, progress=False)
    with pytest.raises(DataError, match=r"^y holds -inf in row 5;"):
        fit(model, X, bad_y, progress=False)
    with pytest.raises(DataError, match=f"^validation's {pattern}"):
        fit(model, X, y, validation=(bad_x, y), progress=False)
    with pytest.raises(DataError, match=f"^{pattern}"):
        Trainer(model).predict(bad_x)


def test_columns_are_named_and_overflow_is_seen() -> None:
    X = np.ones((10, 5))
    X[3, 1] = 1e300  # too large for float32
    with pytest.raises(DataError, match=r"X holds inf in row 3, column 1 \('chol'\)"):
        fit(gn.nn.MLP((5, 1)), Frame(X), np.ones(10), progress=False)


def test_bad_batches_of_a_stream_are_named(classes: Any) -> None:
    X, y = classes
    bad = X[30:60].copy()
    bad[2, 1] = np.nan
    model = gn.nn.MLP((5, 3), output="softmax")
    with pytest.raises(DataError, match="X of batch 2 holds nan in row 2, column 1"):
        fit(model, [(X[:30], y[:30]), (bad, y[30:60])], progress=False)
