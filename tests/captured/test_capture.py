"""Captured functions do what the functions do, run after run, or say why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import CaptureError, DataError, ShapeError

Step = Callable[..., Any]
ROWS, FEATURES, CLASSES = 12, 7, 5


@pytest.fixture
def cpu(backend: Backend) -> Backend:
    """A backend on which losses read their targets: on a GPU a wrong class gives NaN."""
    if backend.device != "cpu":
        pytest.skip("losses do not read targets on a device, where that would wait")
    return backend


def table(seed: int = 0, rows: int = ROWS) -> tuple[gn.Tensor, gn.Tensor]:
    rng = np.random.default_rng(seed)
    x = gn.asarray(rng.normal(size=(rows, FEATURES)).astype("float32"))
    return x, gn.asarray(rng.integers(0, CLASSES, rows))


def training(
    optimizer: str = "adam",
    *,
    schedule: str | None = None,
    clip: float | None = None,
    settings: dict[str, Any] | None = None,
    hidden: tuple[int, ...] = (9,),
    **options: Any,
) -> tuple[gn.nn.MLP, Any, Step]:
    """A model, its optimizer, and a step of training as a user writes it."""
    gn.random.seed(3)
    sizes = (FEATURES, *hidden, CLASSES)
    model = gn.nn.MLP(sizes, seed=0, output="softmax", **options)
    made = gn.optim.create(optimizer, model.parameters(), lr=0.05, **(settings or {}))
    falling = None
    if schedule is not None:
        falling = gn.optim.schedule(schedule, made, total_steps=20)

    def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        loss = gn.nn.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            gn.optim.clip_grad_norm(model.parameters(), clip)
        made.step()
        made.zero_grad()
        if falling is not None:
            falling.step()
        return loss

    return model, made, step


def weights(model: gn.nn.Module) -> list[np.ndarray[Any, Any]]:
    return [np.array(p.detach().numpy()) for p in model.parameters()]


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


# When a recording no longer fits


def test_new_shapes_dtypes_and_layouts_are_recorded_anew(backend: Backend) -> None:
    captured = gn.capture(lambda x: gn.sum(x * 2.0, axis=0))
    a = gn.asarray(np.arange(12.0, dtype="float32").reshape(3, 4))
    for x in (a, gn.astype(a, gn.float64), a[:2], a.T, a[:, 1:3], a[::2]):
        for _ in range(2):
            np.testing.assert_allclose(captured(x).numpy(), 2 * x.numpy().sum(axis=0))
    assert (captured.recordings, captured.replays) == (6, 6)


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


def test_what_is_looked_up_for_an_op_is_no_value_of_the_function(backend: Backend) -> None:
    op = gn.ops.elementwise("tanh")
    captured = gn.capture(lambda x: op(x) * 2.0)
    x = gn.asarray([1.0, 2.0])
    for dtype in (gn.float32, gn.float64):
        op(gn.asarray([1.0], dtype=dtype))
        assert gn.all(captured(x) == op(x) * 2.0)
    with gn.backends.use("numpy"):
        op(gn.asarray([1.0]))
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


# What is refused


def _reads(x: gn.Tensor) -> gn.Tensor:
    return x if x.sum() > 0 else -x


def _prints(x: gn.Tensor) -> gn.Tensor:
    return x * float(x[0])


def _selects(x: gn.Tensor) -> gn.Tensor:
    return x[x > 0]


def _finds(x: gn.Tensor) -> Any:
    return gn.nonzero(x)


CALLS: list[float] = []


def _counts(x: gn.Tensor) -> gn.Tensor:
    CALLS.append(1.0)
    return x * 2.0


ARRAY = np.ones(3, np.float32)


def _converts(x: gn.Tensor) -> gn.Tensor:
    return x + gn.asarray(ARRAY)


W = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)


def _keeps_its_graph(x: gn.Tensor) -> gn.Tensor:
    return x * W


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_reads, "reads the values of a tensor"),
        (_prints, "reads the values of a tensor"),
        (_selects, "shapes depend on values"),
        (_finds, "shapes depend on values"),
        (_counts, "changes the Python value 'CALLS'"),
        (_converts, "NumPy array of shape"),
    ],
)
def test_what_a_replay_could_not_follow_is_refused(
    backend: Backend, function: Callable[..., Any], message: str
) -> None:
    captured = gn.capture(function)
    with pytest.raises(CaptureError, match=message):
        captured(gn.asarray([1.0, -2.0, 3.0]))
    assert captured.recordings == 0


def test_a_result_with_a_graph_is_refused() -> None:
    captured = gn.capture(_keeps_its_graph)
    with pytest.raises(CaptureError, match=r"detach\(\)"):
        captured(gn.asarray([1.0, -2.0, 3.0]))
    with gn.no_grad():
        assert captured(gn.asarray([1.0, 1.0, 1.0])).numpy().tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("argument", [np.ones(3), [{1, 2}]], ids=["array", "set"])
def test_arguments_that_cannot_be_compared_are_refused(argument: Any) -> None:
    captured = gn.capture(lambda x, other: x * 2.0)
    with pytest.raises(CaptureError, match="pass"):
        captured(gn.ones(2), argument)


def test_a_function_without_tensors_is_refused() -> None:
    with pytest.raises(CaptureError, match="takes no tensor"):
        gn.capture(lambda: 3.0)()


def test_a_refused_function_leaves_everything_as_it_was(backend: Backend) -> None:
    model, optimizer, step = training("adam", dropout=0.5, schedule="cosine")
    model.train()

    def refused(x: gn.Tensor, y: gn.Tensor) -> float:
        return step(x, y).item()

    x, y = table()
    step(x, y)
    before, state = weights(model), optimizer.state_dict()
    stream = gn.random.default_generator().get_state()
    with pytest.raises(CaptureError):
        gn.capture(refused)(x, y)
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert gn.random.default_generator().get_state() == stream
    again = optimizer.state_dict()
    assert again["groups"] == state["groups"]
    for name, value in state.items():
        if isinstance(value, gn.Tensor):
            np.testing.assert_array_equal(value.numpy(), again[name].numpy())
    assert all(p.grad is None for p in model.parameters())


def test_checks_of_values_are_made_in_every_replay(cpu: Backend) -> None:
    model, _, step = training("adam")
    captured = gn.capture(step)
    x, y = table()
    captured(x, y), captured(x, y)
    before = weights(model)
    wrong = np.array(y.numpy())
    wrong[4] = CLASSES
    with pytest.raises(DataError, match="got class 5 in row 4"):
        captured(x, gn.asarray(wrong))
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    captured(x, y)
    assert captured.recordings == 1


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
