"""When a recording no longer fits: what is recorded anew, and what is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from captured_steps import CLASSES, step_of, table, training, weights

import gradnet as gn
from gradnet.backends import Backend


def test_new_shapes_dtypes_and_layouts_are_recorded_anew(backend: Backend) -> None:
    captured = gn.capture(lambda x: gn.sum(x * 2.0, axis=0))
    a = gn.asarray(np.arange(12.0, dtype="float32").reshape(3, 4))
    for x in (a, gn.astype(a, gn.float64), a[:2], a.T, a[:, 1:3], a[::2]):
        for _ in range(2):
            np.testing.assert_allclose(captured(x).numpy(), 2 * x.numpy().sum(axis=0))
    assert (captured.recordings, captured.replays) == (6, 6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64"])
def test_windows_of_any_dtype_keep_it(backend: Backend, dtype: str) -> None:
    captured = gn.capture(lambda x: x * 2.0)
    x = gn.astype(gn.arange(12.0), dtype)
    for view in (x.reshape(4, 3).T, x.reshape(3, 4)[:, ::2], x.reshape(3, 4)[:, 1:3]):
        for _ in range(2):
            found = captured(view)
            assert found.dtype == x.dtype
            assert gn.all(found == view + view)


SETTING = {"factor": 2.0}


FACTOR = 3.0


def helper(x: gn.Tensor) -> gn.Tensor:
    return x * FACTOR


@pytest.mark.parametrize("first", range(6))
def test_arguments_that_share_memory_are_told_from_those_that_do_not(
    backend: Backend, first: int
) -> None:
    with gn.backends.use(backend.name):
        base, other = gn.arange(6, dtype=gn.float32), gn.asarray([7.0, 8.0])
        weights = gn.asarray([2.0, 3.0])

    def function(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        return x * 3.0 + gn.sum(y) * weights

    calls = [
        (base[:2], other),
        (base[:2], base[:2]),
        (base[:2], base),
        (base[1:3], base[:2]),
        (weights, other),
        (other, weights),
    ]
    captured = gn.capture(function)
    for _ in range(2):
        for x, y in calls[first:] + calls[:first]:
            assert gn.all(captured(x, y) == function(x, y))


def test_the_quick_way_sees_layouts_and_gradients_left_behind(backend: Backend) -> None:
    with gn.backends.use(backend.name):
        w = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)
        x = gn.reshape(gn.arange(9, dtype=gn.float32), (3, 3))

    def gradient(x: gn.Tensor) -> gn.Tensor:
        gn.sum((x @ w) ** 2).backward()
        found, w.grad = w.grad * 1.0, None  # type: ignore[operator]
        return found

    captured = gn.capture(gradient)
    for given in (x, x, x.T, x):
        assert gn.all(captured(given) == gradient(given))
    assert captured.recordings == 2
    w.grad = gn.ones_like(w)
    added = captured(x)
    assert gn.all(added == gradient(x) + 1.0)


def test_what_is_looked_up_for_an_op_is_no_value_of_the_function(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    op = gn.ops.elementwise("tanh")
    captured = gn.capture(lambda x: op(x) * 2.0)
    x = gn.asarray([1.0, 2.0])
    for dtype in (gn.float32, gn.float64):
        op(gn.asarray([1.0], dtype=dtype))
        assert gn.all(captured(x) == op(x) * 2.0)
    with gn.backends.use("numpy"):
        op(gn.asarray([1.0]))
    # As machine code takes its place once ops are called often.
    monkeypatch.setattr(op, "direct", op.in_python)
    assert gn.all(captured(x) == op(x) * 2.0)
    assert captured.recordings == 1


def test_python_values_that_change_are_seen(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, items = 1.0, [5.0]

    class Holder:
        scale = 1.0

    holder = Holder()
    holder.scale = 1.0

    def function(x: gn.Tensor) -> gn.Tensor:
        return helper(x) * SETTING["factor"] * local * items[0] * holder.scale

    captured = gn.capture(function)
    x = gn.asarray([1.0])

    def value() -> float:
        return captured(x).item()

    assert [value(), value()] == [30.0, 30.0]
    local = 2.0
    assert value() == 60.0
    items[0] = 1.0
    assert value() == 12.0
    holder.scale = 10.0
    assert value() == 120.0
    monkeypatch.setitem(SETTING, "factor", 1.0)
    assert value() == 60.0
    monkeypatch.setattr(f"{__name__}.FACTOR", 1.0)
    assert value() == 20.0
    items.append(0.0)
    assert value() == 20.0
    local = float("2.0")  # another object, but an equal number
    assert value() == 20.0
    assert captured.recordings == 7
    monkeypatch.delitem(SETTING, "factor")
    monkeypatch.setitem(SETTING, "other", 1.0)
    with pytest.raises(KeyError, match="factor"):
        value()


def test_modes_and_attributes_of_modules_are_seen(backend: Backend) -> None:
    model = gn.nn.Sequential(gn.nn.Linear(3, 2), gn.nn.Dropout(0.5))
    x = gn.ones((4, 3))

    @gn.capture
    def forward(x: gn.Tensor) -> gn.Tensor:
        with gn.no_grad():
            return model(x)

    model.eval()
    a = forward(x)
    np.testing.assert_array_equal(a.numpy(), model(x).detach().numpy())
    model.train()
    assert (forward(x).numpy() == 0).any()
    model.eval()
    np.testing.assert_array_equal(forward(x).numpy(), a.numpy())
    model[1].p = 0.0
    model.train()
    np.testing.assert_array_equal(forward(x).numpy(), a.numpy())
    doubled = model.register_forward_hook(lambda module, inputs, y: y * 2.0)
    np.testing.assert_array_equal(forward(x).numpy(), 2 * a.numpy())
    doubled()
    np.testing.assert_array_equal(forward(x).numpy(), a.numpy())


def test_loaded_weights_and_changed_rates_are_used(backend: Backend) -> None:
    model, optimizer, step = training("sgd")
    captured = gn.capture(step)
    x, y = table()
    captured(x, y)
    before = weights(model)
    optimizer.lr = 0.0
    captured(x, y)
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    other, _, _ = training("sgd", activation="tanh")
    state = {name: p * 0.0 for name, p in other.state_dict().items()}
    model.load_state_dict(state)
    assert captured(x, y).item() == pytest.approx(np.log(CLASSES), rel=1e-6)
    assert captured.recordings == 1


def test_settings_that_change_the_update_are_recorded_anew(backend: Backend) -> None:
    plain, first, step = training("sgd")
    other, second, recorded = training("sgd")
    captured = gn.capture(recorded)
    x, y = table()
    for _ in range(2):
        step(x, y), captured(x, y)
    for optimizer in (first, second):
        optimizer.groups[0]["momentum"] = 0.9
    for _ in range(3):
        step(x, y), captured(x, y)
    for a, b in zip(weights(plain), weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert captured.recordings == 2


def test_a_loaded_state_of_the_optimizer_is_used(backend: Backend) -> None:
    plain, first, step = training("adam")
    other, second, recorded = training("adam")
    captured = gn.capture(recorded)
    x, y = table()
    for _ in range(3):
        step(x, y), captured(x, y)
    state = first.state_dict()
    for _ in range(2):
        step(x, y), captured(x, y)
    first.load_state_dict(state), second.load_state_dict(state)
    for _ in range(3):
        step(x, y), captured(x, y)
    for a, b in zip(weights(plain), weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert captured.recordings == 2


def test_a_model_that_is_cast_is_recorded_anew(backend: Backend) -> None:
    model = gn.nn.Linear(3, 2)

    @gn.capture
    def forward(x: gn.Tensor) -> gn.Tensor:
        with gn.no_grad():
            return model(gn.astype(x, model.weight.dtype))

    x = gn.ones((4, 3))
    assert forward(x).dtype == gn.float32
    model.to(gn.float64)
    assert forward(x).dtype == gn.float64
    np.testing.assert_array_equal(
        forward(x).numpy(), model(gn.ones((4, 3), dtype="float64")).detach().numpy()
    )


def test_frozen_parameters_stay(backend: Backend) -> None:
    model, _, step = training("adam")
    captured = gn.capture(step)
    x, y = table()
    captured(x, y)
    first = next(iter(model.parameters()))
    first.requires_grad = False
    kept = np.array(first.detach().numpy())
    captured(x, y), captured(x, y)
    np.testing.assert_array_equal(first.detach().numpy(), kept)


@pytest.mark.parametrize("order", ["0001000", "01010101", "0000111100"])
@pytest.mark.parametrize("names", [("sgd", "adam"), ("adam", "adam")], ids="-".join)
def test_a_second_optimizer_of_the_same_parameters(
    backend: Backend, names: tuple[str, str], order: str
) -> None:
    def losses(captured: bool) -> list[float]:
        model, _, first = training(names[0])
        steps: list[Any] = [gn.capture(first) if captured else first]
        found = []
        for i in map(int, order):
            if i == len(steps):
                other = gn.optim.create(names[1], model.parameters(), lr=0.1)
                step = step_of(model, other, None, None)
                steps.append(gn.capture(step) if captured else step)
            found.append(steps[i](*table()).item())
        return found

    assert losses(True) == pytest.approx(losses(False), rel=1e-5)


def test_fit_between_captured_steps(backend: Backend) -> None:
    def losses(captured: bool) -> list[float]:
        model, _, step = training("adam")
        step = gn.capture(step) if captured else step
        x, y = table()
        found = [step(x, y).item() for _ in range(3)]
        gn.fit(model, x, y, epochs=2, progress=False)
        model.train()
        return found + [step(x, y).item() for _ in range(3)]

    assert losses(True) == pytest.approx(losses(False), rel=1e-5)
