"""The loss scale: what it changes, what it skips, and that it reads nothing while it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn, optim
from gradnet.backends import Backend
from gradnet.errors import DTypeError, GraphError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 16)
KINDS = [
    kind
    for kind in vars(optim).values()
    if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and hasattr(kind, "name")
]
NAMES = [kind.name for kind in KINDS if not kind.needs_closure]
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "rmsprop": {"momentum": 0.5},
    "adagrad": {"lr_decay": 0.1},
    "adam": {"weight_decay": 0.01},
}


def made(name: str, **scaled: Any) -> tuple[Any, Any, Any]:
    model = nn.MLP((5, 8, 3), output="softmax", seed=1)
    optimizer = optim.create(name, model.parameters(), lr=1e-2, **OPTIONS.get(name, {}))
    return model, optimizer, optim.LossScale(optimizer, **scaled)


def loss(model: Any) -> gn.Tensor:
    return nn.cross_entropy(model(gn.asarray(X)), gn.asarray(Y))


def scaled_step(model: Any, optimizer: Any, scale: Any, factor: float = 1.0) -> bool:
    scale(loss(model) * factor).backward()
    finite = scale.unscale()
    scale.step(finite)
    optimizer.zero_grad()
    return bool(finite)


def plain_step(model: Any, optimizer: Any) -> None:
    loss(model).backward()
    optimizer.step()
    optimizer.zero_grad()


def counts(optimizer: Any) -> Any:
    return [group["progress"] for group in optimizer.state_dict()["groups"]]


def values(model: Any) -> Any:
    return np.concatenate([p.numpy().ravel() for p in model.parameters()])


def test_all_optimizers_are_there() -> None:
    assert {"sgd", "adagrad", "rmsprop", "adam", "adamw", "nadam", "lion"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_steps_of_finite_gradients_are_those_of_the_optimizer(backend: Backend, name: str) -> None:
    (model, optimizer, scale), (other, plain, _) = made(name), made(name)
    for _ in range(4):
        assert scaled_step(model, optimizer, scale)
        plain_step(other, plain)
    np.testing.assert_allclose(values(model), values(other), rtol=1e-6, atol=1e-6)
    scale.settle()
    np.testing.assert_allclose(counts(optimizer), counts(plain), rtol=1e-6)
    assert scale.state_dict()["scale"] == 2.0**16
    assert scale.state_dict()["skipped"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_overflow_leaves_everything_but_the_scale(backend: Backend, name: str) -> None:
    (model, optimizer, scale), (other, plain, _) = made(name), made(name)
    scaled_step(model, optimizer, scale)
    plain_step(other, plain)
    before, moments = values(model), optimizer.state_dict()
    for skipped in (1, 2):
        assert not scaled_step(model, optimizer, scale, factor=np.inf)
        state = scale.state_dict()
        assert state["scale"] == 2.0 ** (16 - skipped)
        assert (state["skipped"], state["good"]) == (skipped, 0)
    np.testing.assert_array_equal(values(model), before)
    for key, moment in optimizer.state_dict().items():
        if isinstance(moment, gn.Tensor):
            np.testing.assert_array_equal(moment.numpy(), moments[key].numpy())
    # The next step is the second one, with the corrections of a second step.
    assert scaled_step(model, optimizer, scale)
    plain_step(other, plain)
    np.testing.assert_allclose(values(model), values(other), rtol=1e-6, atol=1e-6)
    scale.settle()
    np.testing.assert_allclose(counts(optimizer), counts(plain), rtol=1e-6)


def test_the_scale_grows_by_itself(backend: Backend) -> None:
    model, optimizer, scale = made("sgd", interval=3)
    found = []
    for step in range(8):
        scaled_step(model, optimizer, scale, factor=np.nan if step == 4 else 1.0)
        found.append(scale.state_dict()["scale"] / 2.0**16)
    assert found == [1, 1, 2, 2, 1, 1, 1, 2]
    assert repr(scale) == "LossScale(131072, skipped=1)"


def test_the_scale_has_bounds(backend: Backend) -> None:
    model, optimizer, scale = made("sgd", initial=2.0**-23, interval=1)
    for _ in range(3):
        scaled_step(model, optimizer, scale, factor=np.inf)
    assert scale.state_dict()["scale"] == 2.0**-24
    model, optimizer, scale = made("sgd", initial=2.0**31, interval=1)
    for _ in range(3):
        assert scaled_step(model, optimizer, scale)
    assert scale.state_dict()["scale"] == 2.0**32


def test_a_step_reads_nothing(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer, scale = made("adam")
    x, y = gn.asarray(X), gn.asarray(Y)
    scaled_step(model, optimizer, scale)

    def refuse(self: Any, array: Any) -> Any:
        raise AssertionError("a value was read")

    monkeypatch.setattr(type(backend), "to_host", refuse)
    scale(nn.cross_entropy(model(x), y, check=False)).backward()
    finite = scale.unscale()
    optim.clip_grad_norm(model.parameters(), 1.0)
    scale.step(finite)
    with pytest.raises(AssertionError, match="was read"):
        bool(finite)


@pytest.mark.parametrize("name", ["adam", "nadam", "sgd"])
def test_captured_steps_are_the_steps(backend: Backend, name: str) -> None:
    x, y, found = gn.asarray(X), gn.asarray(Y), []
    for capture in (gn.capture, lambda f: f):
        model, optimizer, scale = made(name, interval=3)
        schedule = optim.schedule("cosine", optimizer, total_steps=8, per="step")

        def step(
            v: gn.Tensor,
            factor: gn.Tensor,
            model: Any = model,
            optimizer: Any = optimizer,
            scale: Any = scale,
            schedule: Any = schedule,
        ) -> gn.Tensor:
            total = nn.cross_entropy(model(v), y, check=False)
            scale(total * factor).backward()
            finite = scale.unscale()
            optim.clip_grad_norm(model.parameters(), 0.5)
            scale.step(finite)
            optimizer.zero_grad()
            schedule.after_step()
            return total.detach()

        run = capture(step)
        losses = [run(x, gn.asarray(np.float32(f))).item() for f in (1, 1, np.inf, 1, 1, 1, 1)]
        scale.settle()
        found.append((losses, values(model), counts(optimizer), scale.state_dict()))
    assert run is step
    for one, other in zip(*found, strict=True):
        np.testing.assert_equal(one, other)


def test_changed_settings_reach_captured_steps(backend: Backend) -> None:
    x, found = gn.asarray(X), []
    for capture in (gn.capture, lambda f: f):
        model, optimizer, scale = made("adam")

        def step(v: gn.Tensor, model: Any = model, o: Any = optimizer, s: Any = scale) -> gn.Tensor:
            total = nn.cross_entropy(model(v), gn.zeros((16,), dtype=gn.int64), check=False)
            s(total).backward()
            s.step(s.unscale())
            o.zero_grad()
            return total.detach()

        run = capture(step)
        for i in range(6):
            optimizer.lr = 0.01 / (i + 1)
            if i == 3:
                optimizer.groups[0]["betas"] = (0.5, 0.9)
            run(x)
        found.append(values(model))
    np.testing.assert_array_equal(*found)


def test_it_goes_on_from_its_state(backend: Backend) -> None:
    model, optimizer, scale = made("nadam", interval=2)
    for factor in (1.0, np.inf, 1.0):
        scaled_step(model, optimizer, scale, factor)
    scale.settle()
    state, own = optimizer.state_dict(), scale.state_dict()
    other, second, again = made("nadam", interval=2)
    other.load_state_dict(model.state_dict())
    second.load_state_dict(state)
    again.load_state_dict(own)
    for factor in (1.0, np.inf, 1.0, 1.0):
        scaled_step(model, optimizer, scale, factor)
        scaled_step(other, second, again, factor)
        np.testing.assert_array_equal(values(model), values(other))
    assert scale.state_dict() == again.state_dict()


def test_a_scale_follows_an_optimizer_that_has_begun(backend: Backend) -> None:
    (model, optimizer, scale), (other, plain, _) = made("adam"), made("adam")
    for _ in range(3):
        plain_step(model, optimizer)
        plain_step(other, plain)
    scaled_step(model, optimizer, scale)
    plain_step(other, plain)
    np.testing.assert_allclose(values(model), values(other), rtol=1e-6, atol=1e-6)


def test_parameters_without_gradients_stay(backend: Backend) -> None:
    used, unused = (nn.Parameter(gn.ones((3,))) for _ in range(2))
    optimizer = optim.Adam([used, unused], lr=0.1)
    scale = optim.LossScale(optimizer)
    scale(gn.sum(used * used)).backward()
    scale.step(scale.unscale())
    np.testing.assert_array_equal(unused.numpy(), [1, 1, 1])
    np.testing.assert_allclose(used.numpy(), [0.9, 0.9, 0.9], rtol=1e-6)


def test_errors() -> None:
    parameter = nn.Parameter(gn.ones((3,)))
    for name in ("lbfgs", "conjugate_gradient"):
        with pytest.raises(ValueError, match=r"looks at its gradients by itself.*bfloat16"):
            optim.LossScale(optim.create(name, [parameter]))
    with pytest.raises(DTypeError, match="Adam has float16 parameters; keep those in float32"):
        optim.LossScale(optim.Adam([nn.Parameter(gn.ones((3,), dtype=gn.float16))]))
    scale = optim.LossScale(optim.Adam([parameter]))
    with pytest.raises(GraphError, match="there are no gradients; call backward"):
        scale.unscale()
    for options in ({"initial": 0.0}, {"interval": 0}):
        with pytest.raises(ValueError, match=f"LossScale: {next(iter(options))} must be"):
            optim.LossScale(optim.Adam([parameter]), **options)
