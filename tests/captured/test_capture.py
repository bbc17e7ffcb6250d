"""Captured functions do what the functions do, run after run, or say why they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from captured_steps import CLASSES, FEATURES, ROWS, table, training, weights

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DataError, ShapeError

FIRST_ORDER = [
    "sgd", "adagrad", "rmsprop", "adam", "adamw", "nadam", "lion",
]  # fmt: skip


def test_every_optimizer_without_a_search_is_tried() -> None:
    searching = {"lbfgs", "conjugate_gradient"}
    assert set(gn.optim.names()) - set(FIRST_ORDER) <= searching


@pytest.mark.parametrize("optimizer", FIRST_ORDER)
def test_steps_of_every_optimizer_are_those_of_plain_runs(backend: Backend, optimizer: str) -> None:
    plain, _, step = training(optimizer)
    other, _, recorded = training(optimizer)
    captured = gn.capture(recorded)
    x, y = table()
    expected = [step(x, y).item() for _ in range(6)]
    found = [captured(x, y).item() for _ in range(6)]
    assert (captured.recordings, captured.replays) == (1, 5)
    assert found == pytest.approx(expected, rel=1e-6)
    for a, b in zip(weights(plain), weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.3},
        {"clip": 0.1},
        {"schedule": "cosine"},
        {"schedule": "one_cycle", "clip": 1.0, "dropout": 0.1},
        {"normalization": "batch"},
        {"normalization": "layer", "activation": "gelu"},
        {"residual": True, "activation": "tanh"},
        {"settings": {"weight_decay": 0.1}},
    ],
    ids=str,
)
def test_all_that_a_step_may_hold_goes_on_from_replay_to_replay(
    backend: Backend, options: dict[str, Any]
) -> None:
    if "normalization" in options or "residual" in options:
        names = {"normalization": "norm", "residual": "residual"}
        options = {names.get(k, k): v for k, v in options.items()}
    plain, first, step = training(**options)
    other, second, recorded = training(**options)
    plain.train(), other.train()
    captured = gn.capture(recorded)
    gn.random.seed(11)
    expected = [step(*table(i)).item() for i in range(6)]
    gn.random.seed(11)
    found = [captured(*table(i)).item() for i in range(6)]
    assert found == pytest.approx(expected, rel=1e-5)
    assert first.lr == second.lr
    for name, value in plain.state_dict().items():
        np.testing.assert_allclose(
            other.state_dict()[name].numpy(), value.numpy(), rtol=2e-4, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        *((name, {}) for name in FIRST_ORDER),
        ("adam", {"schedule": "cosine"}),
        ("adam", {"hidden": (9, 8)}),
    ],
    ids=[*FIRST_ORDER, "with a schedule", "with two masks"],
)
def test_several_steps_in_a_row_are_those_steps_to_the_bit(
    backend: Backend, optimizer: str, options: dict[str, Any]
) -> None:
    found = []
    for joint in (False, True):
        model, made, step = training(optimizer, dropout=0.3, **options)
        captured = gn.capture(step)
        x, y = table(rows=9 * ROWS)
        gn.random.seed(11)
        captured(x[:ROWS], y[:ROWS]), captured(x[:ROWS], y[:ROWS])
        if joint:
            losses = [captured.each(x, y, rows=ROWS), captured.each(x, y, rows=ROWS)]
        else:
            parts = [slice(i * ROWS, (i + 1) * ROWS) for i in range(9)] * 2
            losses = [captured(x[part], y[part]) for part in parts]
        values = [v for loss in losses for v in loss.numpy().ravel().tolist()]
        state = {k: v for k, v in made.state_dict().items() if not isinstance(v, gn.Tensor)}
        place = gn.random.default_generator().get_state()
        versions = [p.version for p in model.parameters()]
        found.append((values, [w.tolist() for w in weights(model)], state, place, versions))
    assert found[0] == found[1]


@pytest.mark.parametrize("own", [False, True], ids=["of gradnet", "of a user"])
def test_settings_change_between_steps_in_a_row(backend: Backend, own: bool) -> None:
    class Slowing(gn.optim.Adam):
        pace = 1.0

        def scalars(self, group: Any, t: float, *decayed: float) -> tuple[float, ...]:
            rate, *rest = super().scalars(group, t, *decayed)
            return (rate * self.pace, *rest)

    found = []
    for joint in (False, True):
        model = gn.nn.MLP((FEATURES, 6, CLASSES), seed=0)
        made = (Slowing if own else gn.optim.Adam)(model.parameters(), lr=0.01)

        def step(x: gn.Tensor, y: gn.Tensor, made: Any = made, model: Any = model) -> gn.Tensor:
            loss = gn.nn.cross_entropy(model(x), y)
            loss.backward()
            made.step()
            made.zero_grad()
            return loss.detach()

        captured = gn.capture(step)
        (group,) = made.groups
        for count, changes in (
            (8, {}), (3, {"lr": 0.02}), (8, {}), (7, {"weight_decay": 0.1}), (9, {}),
            (8, {"betas": (0.8, 0.99)}), (8, {"eps": 1e-3, "weight_decay": 0.0}),
        ):  # fmt: skip
            for name, value in changes.items():
                group[name] = value
            made.pace = 1.0 if count > 7 else 0.5
            x, y = table(rows=count * ROWS)
            if joint:
                captured.each(x, y, rows=ROWS)
            else:
                for i in range(count):
                    captured(x[i * ROWS : (i + 1) * ROWS], y[i * ROWS : (i + 1) * ROWS])
        found.append([w.tolist() for w in weights(model)])
    assert found[0] == found[1]


def test_masks_of_dropout_differ_and_are_those_of_plain_runs(backend: Backend) -> None:
    layer = gn.nn.Dropout(0.5)
    x = gn.ones((40, 30))
    captured = gn.capture(lambda x: layer(x))
    gn.random.seed(5)
    expected = [layer(x).numpy() for _ in range(3)]
    gn.random.seed(5)
    found = [captured(x).numpy() for _ in range(3)]
    assert captured.replays == 2
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(found[1], found[2])


def test_a_result_stays_when_the_next_replay_is_made(backend: Backend) -> None:
    captured = gn.capture(lambda x: gn.tanh(x) * 2.0)
    results = [captured(gn.full((3, 4), float(i))) for i in range(4)]
    for i, y in enumerate(results):
        np.testing.assert_allclose(y.numpy(), np.tanh(float(i)) * 2, rtol=1e-6)


def test_results_may_be_trees_of_tensors_arguments_and_constants(backend: Backend) -> None:
    w = gn.asarray([2.0, 3.0])

    def function(pair: dict[str, gn.Tensor], scale: float) -> Any:
        a = pair["a"]
        return {"sum": gn.sum(a * w), "parts": (a, a[1:], w), "scale": scale, "row": [a * scale]}

    captured = gn.capture(function)
    for number in (1.0, 5.0):
        x = gn.asarray([number, 7.0])
        made = captured({"a": x}, 3.0)
        assert made["sum"].item() == number * 2 + 21
        assert made["parts"][0].numpy().tolist() == [number, 7.0]
        assert made["parts"][1].numpy().tolist() == [7.0]
        assert made["parts"][2].numpy().tolist() == [2.0, 3.0]
        assert made["scale"] == 3.0
        assert made["row"][0].numpy().tolist() == [3 * number, 21.0]
    assert captured({"a": gn.asarray([1.0, 1.0])}, 4.0)["row"][0].numpy().tolist() == [4.0, 4.0]
    assert (captured.recordings, captured.replays) == (2, 1)


def test_gradients_may_be_the_result_or_be_left_behind(backend: Backend) -> None:
    gradient = gn.capture(gn.grad(lambda x: gn.sum(gn.tanh(x) ** 2)))
    w = gn.asarray([0.5, -1.0], requires_grad=True)

    def leaves(x: gn.Tensor) -> None:
        gn.sum(x * w).backward()

    captured = gn.capture(leaves)
    for number in (1.0, 2.0, 3.0):
        x = gn.asarray([number, 0.3])
        t = np.tanh([number, 0.3])
        np.testing.assert_allclose(gradient(x).numpy(), 2 * t * (1 - t**2), rtol=1e-5)
        w.grad = None
        captured(x)
        assert w.grad is not None
        np.testing.assert_allclose(w.grad.numpy(), [number, 0.3], rtol=1e-6)
    # A second run adds to what is there: another recording.
    captured(gn.asarray([10.0, 10.0]))
    np.testing.assert_allclose(w.grad.numpy(), [13.0, 10.3], rtol=1e-6)
    assert captured.recordings == 2


def test_higher_derivatives_are_captured(backend: Backend) -> None:
    second = gn.capture(gn.grad(lambda x: gn.sum(gn.grad(lambda u: gn.sum(u**4))(x))))
    for number in (1.0, 2.0):
        assert second(gn.asarray([number])).item() == pytest.approx(12 * number**2)


# Around it


def test_differentiated_and_nested_calls_run_the_function_itself(backend: Backend) -> None:
    inner = gn.capture(lambda x: gn.sum(x**3))
    x = gn.asarray([1.0, 2.0])
    np.testing.assert_allclose(gn.grad(inner)(x).numpy(), [3.0, 12.0], rtol=1e-6)
    value, tangent = gn.jvp(inner, x, gn.ones(2))
    assert (value.item(), tangent.item()) == (9.0, 15.0)
    outer = gn.capture(lambda x: inner(x) * 2.0)
    assert [outer(x).item(), outer(x).item()] == [18.0, 18.0]
    assert inner.recordings == 0


def test_a_method_is_captured_for_each_object() -> None:
    class Scaled:
        def __init__(self, factor: float) -> None:
            self.w = gn.asarray(factor)

        @gn.capture
        def __call__(self, x: gn.Tensor) -> gn.Tensor:
            return self.times(x)

        @gn.capture
        def times(self, x: gn.Tensor) -> gn.Tensor:
            return x * self.w

    a, b = Scaled(2.0), Scaled(3.0)
    for _ in range(2):
        assert a.times(gn.ones(())).item() == 2.0
        assert b.times(gn.ones(())).item() == 3.0


def test_each_is_a_replay_for_every_part(backend: Backend) -> None:
    plain, _, step = training("adam", dropout=0.2, schedule="cosine")
    other, _, recorded = training("adam", dropout=0.2, schedule="cosine")
    plain.train(), other.train()
    captured = gn.capture(recorded)
    x, y = table(rows=8 * ROWS)
    gn.random.seed(1)
    expected = [step(x[i : i + ROWS], y[i : i + ROWS]).item() for i in range(0, 8 * ROWS, ROWS)]
    gn.random.seed(1)
    found = captured.each(x, y, rows=ROWS)
    assert found.shape == (8,)
    assert found.numpy().tolist() == pytest.approx(expected, rel=1e-6)
    assert (captured.recordings, captured.replays) == (1, 7)
    for a, b in zip(weights(plain), weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_each_finds_the_part_with_a_wrong_target(cpu: Backend) -> None:
    _, _, step = training("adam")
    captured = gn.capture(step)
    x, y = table(rows=6 * ROWS)
    captured.each(x, y, rows=ROWS)
    wrong = np.array(y.numpy())
    wrong[3 * ROWS + 2] = -1
    with pytest.raises(DataError, match="got class -1 in row 2"):
        captured.each(x, gn.asarray(wrong), rows=ROWS)
    assert captured.each(x, y, rows=ROWS).shape == (6,)


@pytest.mark.parametrize("rows", [0, 5, 13])
def test_each_refuses_parts_that_do_not_come_out(rows: int) -> None:
    _, _, step = training("adam")
    with pytest.raises(ShapeError, match="multiple"):
        gn.capture(step).each(*table(), rows=rows)


def test_threads_may_replay_one_function(backend: Backend) -> None:
    from concurrent.futures import ThreadPoolExecutor

    w = gn.asarray(np.linspace(-1, 1, 64, dtype="float32"))
    captured = gn.capture(lambda x: gn.sum(gn.tanh(x * w), axis=1))
    xs = [gn.full((8, 64), float(i)) for i in range(16)]
    expected = [np.tanh(i * w.numpy()).sum() for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(captured, xs))
    for y, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(y.numpy(), np.full(8, value), rtol=1e-4, atol=1e-4)
