"""fit and Trainer: what is learned, from which data, and that it is the same every time."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import gradnet as gn
from gradnet import optim
from gradnet.backends import Backend
from gradnet.training import Callback, EarlyStopping, Run, Trainer, fit


def mlp(outputs: int = 3, inputs: int = 5, **options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((inputs, 8, outputs), **{"output": "softmax", "seed": 3, **options})


def weights(model: gn.nn.Module) -> dict[str, Any]:
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_digits(backend: Backend) -> None:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16 - 0.3, y, test_size=0.2, random_state=1, stratify=y
    )
    model = gn.nn.MLP((64, 128, 10), output="softmax", seed=0)
    opt = gn.optim.AdamW(model.parameters(), lr=5e-3)
    history = gn.fit(
        model, X_train, y_train, optimizer=opt, epochs=40, batch_size=64, validation=0.1,
        early_stopping=10, schedule="cosine", device="cpu", seed=0, progress=False,
    )  # fmt: skip
    assert Trainer(model).evaluate(X_test, y_test)["accuracy"] >= 0.97
    assert history.best_epoch is not None
    assert history["val_loss"].argmin() + 1 == history.best_epoch
    assert history.columns == (
        *("epoch", "loss", "val_loss", "val_accuracy", "lr", "seconds", "samples_per_second"),
    )


def test_the_same_seed_gives_the_same_bits(backend: Backend, classes: Any) -> None:
    def run(seed: int) -> tuple[dict[str, Any], gn.training.History]:
        model = mlp(dropout=0.3)
        gn.random.uniform((7,))  # what was drawn before does not matter
        history = fit(
            model, *classes, epochs=3, batch_size=16, validation=0.2, seed=seed, progress=False
        )
        return weights(model), history

    (first, one), (second, two), (other, _) = run(5), run(5), run(6)
    assert same(first, second)
    for name in ("loss", "val_loss", "val_accuracy"):
        assert np.array_equal(one[name], two[name])
    assert not same(first, other)


def test_both_backends_see_the_same_rows_and_noise(classes: Any) -> None:
    found = []
    for name in ("numpy", "numba"):
        if name not in gn.backends.available():
            pytest.skip(f"there is no {name} backend here")
        with gn.backends.use(name):
            model = mlp(dropout=0.3)
            fit(model, *classes, epochs=3, batch_size=16, validation=0.2, progress=False)
            found.append(weights(model))
    for name, x in found[0].items():
        np.testing.assert_allclose(x, found[1][name], rtol=1e-4, atol=1e-5)


def test_the_users_random_stream_is_left_where_it_was(classes: Any) -> None:
    gn.random.seed(11)
    gn.random.uniform((3,))
    before = gn.random.default_generator().get_state()
    fit(mlp(dropout=0.5), *classes, epochs=1, progress=False)
    assert gn.random.default_generator().get_state() == before


class Batches(Callback):
    """Notes the sizes of batches."""

    def __init__(self) -> None:
        self.count = 0

    def on_step_end(self, run: Run) -> None:
        self.count += 1


@pytest.mark.parametrize(
    ("rows", "batch_size", "steps"),
    [(90, 1, 90), (90, 32, 3), (90, None, 1), (90, 500, 1), (65, 32, 2), (66, 32, 3)],
)
def test_batches(
    rows: int, batch_size: int | None, steps: int, classes: Any, backend: Backend
) -> None:
    counted = Batches()
    history = fit(
        mlp(norm="batch" if batch_size != 1 else None),
        classes.X[:rows],
        classes.y[:rows],
        epochs=2,
        batch_size=batch_size,
        callbacks=[counted],
        progress=False,
    )
    assert counted.count == 2 * steps
    assert history["loss"][1] < history["loss"][0] * 1.05


def test_full_batch_training_is_plain_gradient_descent(backend: Backend, values: Any) -> None:
    model, other = (gn.nn.Sequential(gn.nn.Linear(4, 1)) for _ in range(2))
    other.load_state_dict(model.state_dict())
    history = fit(
        model, *values, loss="mse", optimizer="sgd", lr=0.1, epochs=3, batch_size=None,
        progress=False,
    )  # fmt: skip
    opt = optim.SGD(other.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss = gn.nn.mse(other(gn.asarray(values.X)), gn.asarray(values.y))
        losses.append(loss.item())
        loss.backward()
        opt.step()
        opt.zero_grad()
    assert same(weights(model), weights(other))
    assert history["loss"].tolist() == losses


def test_epoch_loss_is_the_mean_over_rows_not_over_batches(backend: Backend, values: Any) -> None:
    model = gn.nn.MLP((4, 1), seed=0)
    X, y = values.X[:50], values.y[:50]
    expected = Trainer(model).evaluate(X, y)["loss"]
    frozen = partial(optim.SGD, lr=0.0)
    history = fit(model, X, y, optimizer=frozen, epochs=1, batch_size=32, progress=False)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", optim.names())
def test_every_optimizer_learns(name: str, backend: Backend, values: Any) -> None:
    model = gn.nn.MLP((4, 16, 1), activation="tanh", seed=1)
    searches = optim.create(name, model.parameters()).needs_closure
    history = fit(
        model, *values, optimizer=name, epochs=4 if searches else 15,
        batch_size=None if searches else 8, progress=False,
    )  # fmt: skip
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_a_line_search_sees_one_dropout_mask_in_a_step(values: Any) -> None:
    states: list[list[dict[str, int]]] = [[]]

    class Look(gn.nn.Module):
        def forward(self, x: Any) -> Any:
            if self.training:
                states[-1].append(gn.random.default_generator().get_state())
            return x

    class Turn(Callback):
        def on_step_end(self, run: Run) -> None:
            states.append([])

    model = gn.nn.Sequential(
        Look(), gn.nn.Dropout(0.3), gn.nn.Linear(4, 1, generator=gn.random.Generator(0))
    )
    fit(
        model, *values, loss="mse", optimizer="lbfgs", epochs=2, batch_size=None,
        callbacks=[Turn()], progress=False,
    )  # fmt: skip
    first, second, _ = states
    assert len(first) > 2
    assert all(state == first[0] for state in first)
    assert all(state == second[0] != first[0] for state in second)


@pytest.mark.parametrize("name", optim.schedule_names())
def test_every_schedule_by_name(name: str, values: Any) -> None:
    needed: dict[str, Any] = {
        "step": {"size": 2},
        "exponential": {"gamma": 0.5},
        "plateau": {"patience": 0},
    }
    needed["warm_up"] = {"steps": 12}
    schedule = {"name": name, **needed.get(name, {})}
    history = fit(
        gn.nn.MLP((4, 8, 1), seed=0), *values, schedule=schedule, lr=0.5, epochs=6, batch_size=20,
        validation=0.2, progress=False,
    )  # fmt: skip
    rates = history["lr"]
    if name == "constant":
        assert (rates == 0.5).all()
    else:
        assert len(set(rates)) > 1


def test_schedules_end_where_they_should(values: Any) -> None:
    def rates(schedule: Any, **options: Any) -> list[float]:
        model = gn.nn.MLP((4, 8, 1), seed=0)
        history = fit(
            model, *values, schedule=schedule, lr=0.1, epochs=4, batch_size=20, progress=False,
            **options,
        )  # fmt: skip
        return [float(rate) for rate in history["lr"]]

    assert rates("cosine")[-1] == 0.0
    assert rates("warm_up") == [0.1] * 4  # a twentieth of 16 steps is one
    assert rates({"name": "cosine", "per": "epoch"}) == pytest.approx(
        [0.1, 0.0854, 0.05, 0.0146], abs=1e-3
    )
    assert rates({"name": "step", "size": 1}) == pytest.approx([0.1, 0.01, 0.001, 0.0001])
    by_function = rates(lambda opt: optim.StepSchedule(opt, 1))
    assert by_function == pytest.approx([0.1, 0.01, 0.001, 0.0001])


def test_a_schedule_object_of_the_optimizer(values: Any) -> None:
    model = gn.nn.MLP((4, 8, 1), seed=0)
    opt = optim.SGD(model.parameters(), lr=0.1)
    schedule = optim.ExponentialSchedule(opt, 0.5)
    history = fit(model, *values, optimizer=opt, schedule=schedule, epochs=3, progress=False)
    assert history["lr"].tolist() == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize(
    "optimizer",
    ["AdamW", {"name": "adamw", "weight_decay": 0.1}, optim.AdamW, partial(optim.AdamW, lr=0.01)],
)
def test_ways_to_name_an_optimizer(optimizer: Any, values: Any) -> None:
    seen: list[optim.Optimizer] = []

    class Look(Callback):
        def on_fit_start(self, run: Run) -> None:
            seen.append(run.optimizer)

    fit(
        gn.nn.MLP((4, 8, 1), seed=0), *values, optimizer=optimizer, epochs=1, callbacks=[Look()],
        progress=False,
    )  # fmt: skip
    assert isinstance(seen[0], optim.AdamW)
    if isinstance(optimizer, dict):
        assert seen[0].groups[0]["weight_decay"] == 0.1
    assert seen[0].lr == (0.01 if isinstance(optimizer, partial) else 0.001)


def test_float64(backend: Backend, values: Any) -> None:
    model = gn.nn.MLP((4, 8, 1), seed=0)
    opt = optim.Adam(model.parameters(), lr=0.01)
    fit(model, *values, optimizer=opt, precision="float64", epochs=2, batch_size=16, progress=False)
    assert {x.dtype.name for x in model.state_dict().values()} == {"float64"}
    other = gn.nn.MLP((4, 8, 1), seed=0).to("float64")
    fit(other, *values, lr=0.01, epochs=2, batch_size=16, progress=False)
    assert same(weights(model), weights(other))


def test_an_optimizer_with_moments_follows_its_model(backend: Backend, values: Any) -> None:
    model = gn.nn.MLP((4, 8, 1), seed=0)
    opt = optim.Adam(model.parameters(), lr=0.01)
    fit(model, *values, optimizer=opt, epochs=1, batch_size=16, progress=False)
    moment = opt.state_dict()["0.0.m"].numpy()
    fit(model, *values, optimizer=opt, precision="float64", epochs=1, batch_size=16, progress=False)
    state = opt.state_dict()
    assert state["0.0.m"].dtype.name == "float64"
    assert state["groups"][0]["progress"][0] == [10]
    assert not np.array_equal(state["0.0.m"].numpy(), moment)


def test_validation_rows_are_stratified_and_decided_by_the_seed(classes: Any) -> None:
    rows: dict[int, Any] = {}

    def note(seed: int) -> Any:
        def metric(y: gn.Tensor, prediction: gn.Tensor) -> float:
            rows[seed] = y.numpy()
            return 0.0

        return metric

    for seed in (0, 1):
        fit(
            mlp(), *classes, epochs=1, validation=0.2, metrics=[note(seed)], seed=seed,
            progress=False,
        )  # fmt: skip
    assert np.bincount(rows[0]).tolist() == np.bincount(rows[1]).tolist() == [6, 6, 6]
    assert not np.array_equal(rows[0], rows[1])


def test_a_given_validation_set_with_weights(backend: Backend, classes: Any) -> None:
    X, y = classes.X[:20], classes.y[:20]
    counts = np.arange(20) % 3
    options: dict[str, Any] = {"epochs": 2, "progress": False, "metrics": ["accuracy", "f1"]}
    plain = fit(
        mlp(), *classes, validation=(np.repeat(X, counts, 0), np.repeat(y, counts)), **options
    )
    weighed = fit(mlp(), *classes, validation=(X, y, counts), **options)
    for name in ("val_loss", "val_accuracy", "val_f1"):
        np.testing.assert_allclose(weighed[name], plain[name], rtol=1e-5)


def test_training_metrics_are_measured_where_they_are_wanted(classes: Any) -> None:
    options: dict[str, Any] = {"epochs": 1, "progress": False}
    assert "accuracy" not in fit(mlp(), *classes, **options)
    assert "accuracy" in fit(mlp(), *classes, metrics="accuracy", **options)
    both = fit(mlp(), *classes, validation=0.2, train_metrics=True, **options)
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(both)
    model = mlp()
    trainer = Trainer(model, epochs=1, train_metrics=True, progress=False)
    history = trainer.fit(*classes)
    measured = trainer.evaluate(*classes)
    assert history["accuracy"][-1] == measured["accuracy"]
    assert history["loss"][-1] != measured["loss"]  # of the weights as they moved on


def test_the_model_ends_in_evaluation_mode(classes: Any) -> None:
    model = mlp(dropout=0.5)
    fit(model, *classes, epochs=1, progress=False)
    assert not model.training
    x = gn.asarray(classes.X)
    assert np.array_equal(model(x).detach().numpy(), model(x).detach().numpy())


def test_frozen_parameters_stay(classes: Any) -> None:
    model = mlp()
    first = next(model.parameters())
    first.requires_grad = False
    before = first.numpy().copy()
    fit(model, *classes, epochs=2, progress=False)
    assert np.array_equal(first.numpy(), before)


def test_penalties_and_limits(backend: Backend, values: Any) -> None:
    def trained(**options: Any) -> Any:
        model = gn.nn.MLP((4, 16, 1), seed=0)
        history = fit(model, *values, lr=0.02, epochs=10, batch_size=16, progress=False, **options)
        return history["loss"][0], [p.detach().numpy() for p in model.parameters() if p.ndim > 1]

    loss, plain = trained()
    with_l2, small = trained(l2=0.1)
    assert with_l2 < 1.5 * loss  # penalties are no part of the loss that is reported
    assert sum((w**2).sum() for w in small) < 0.5 * sum((w**2).sum() for w in plain)
    _, sparse = trained(l1=0.05)
    assert sum(abs(w).sum() for w in sparse) < 0.7 * sum(abs(w).sum() for w in plain)
    _, limited = trained(max_norm=0.5)
    assert max(np.linalg.norm(w, axis=0).max() for w in limited) <= 0.5 * (1 + 1e-6)
    _, clipped = trained(clip_norm=1e-3, optimizer="sgd")
    start = [p.detach().numpy() for p in gn.nn.MLP((4, 16, 1), seed=0).parameters() if p.ndim > 1]
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(clipped, start, strict=True)))
    assert 0 < moved <= 50 * 0.02 * 1e-3 * (1 + 1e-4)


def test_fit_and_trainer_take_the_same_options() -> None:
    function = inspect.signature(fit).parameters
    options = inspect.signature(Trainer).parameters
    method = inspect.signature(Trainer.fit).parameters
    assert set(function) == (set(options) | set(method)) - {"self"}
    for name, parameter in options.items():
        if name != "model":
            assert function[name].default == parameter.default, name


def test_the_trainer_can_be_used_again(classes: Any) -> None:
    model = mlp()
    trainer = Trainer(
        model, epochs=2, early_stopping=EarlyStopping(5), optimizer=optim.Adam(model.parameters()),
        progress=False,
    )  # fmt: skip
    first = trainer.fit(*classes, validation=0.2)
    second = trainer.fit(*classes, validation=0.2)
    assert second["loss"][0] < first["loss"][0]
    assert second.best_epoch is not None
