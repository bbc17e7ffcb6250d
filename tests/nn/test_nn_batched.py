"""Networks side by side: each member as the network alone, in outputs, gradients and training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 3)).astype(np.float32)
CLASSES = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
NUMBERS = np.stack([X[:, 0] * X[:, 1], X[:, 2] ** 2], axis=1)
R = 2
CASES: list[tuple[str, str, int, Any, dict[str, Any]]] = [
    ("softmax", "tanh", 3, CLASSES, {}),
    ("sigmoid", "relu", 1, CLASSES > 0, {}),
    ("linear", "maxout", 2, NUMBERS, {"activation_operands": {"groups": 3}}),
    ("gaussian", "leaky_relu", 2, NUMBERS, {"activation_operands": {"alpha": 0.2}}),
    ("mixture", "sigmoid", 1, NUMBERS[:, 0], {"bias": False}),
    ("quantile", "softplus", 2, NUMBERS, {"init": "lecun_normal"}),
]


@pytest.mark.parametrize(("output", "activation", "targets", "y", "settings"), CASES)
def test_members_are_networks_of_their_own(
    output: str, activation: str, targets: int, y: Any, settings: Any, backend: Any
) -> None:
    sizes = (3, 5, 4, targets)
    together = nn.BatchedMLP(R, sizes, activation, output, seed=7, **settings)
    z = together(X)
    assert z.shape == (40, R, together.output.units(targets))
    weights = RNG.uniform(size=40).astype(np.float32)
    total = together.output.loss(z, y, weights)
    total.backward()
    losses = together.output.member_losses(together(X), y)
    predictions = together.output.predict(z)
    alone = []
    for r in range(R):
        model = nn.MLP(sizes, activation, output=output, seed=7 + r, **settings)
        own = model(X)
        np.testing.assert_allclose(z[:, r].detach().numpy(), own.detach().numpy(), atol=1e-6)
        loss = model.output.loss(own, y, weights)
        loss.backward()
        alone.append(loss.item())
        assert losses[r].item() == pytest.approx(model.output.loss(model(X), y).item(), rel=1e-5)
        for p, q in zip(model.parameters(), together.parameters(), strict=True):
            assert p.grad is not None
            assert q.grad is not None
            np.testing.assert_allclose(
                q.grad[r].numpy().reshape(p.shape), p.grad.numpy(), rtol=1e-4, atol=1e-6
            )
        found, expected = predictions, model.output.predict(own)
        for ours, theirs in zip(
            found if isinstance(found, tuple) else (found,),
            expected if isinstance(expected, tuple) else (expected,),
            strict=True,
        ):
            np.testing.assert_allclose(
                ours[:, r].detach().numpy(), theirs.detach().numpy(), rtol=1e-4, atol=1e-5
            )
        np.testing.assert_array_equal(together.member(r)(X).detach().numpy(), own.detach().numpy())
    assert total.item() == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_members_train_as_networks_alone(optimizer: str, backend: Any) -> None:
    options: dict[str, Any] = {
        "optimizer": optimizer,
        "lr": 0.02,
        "epochs": 4,
        "batch_size": 16,
        "progress": False,
        "seed": 3,
    }
    together = nn.BatchedMLP(R, (3, 6, 3), "tanh", "softmax", seed=1, dtype="float64")
    history = gn.fit(together, X, CLASSES, metrics=("accuracy",), **options)
    assert "accuracy" in history
    singles = []
    for r in range(R):
        model = nn.MLP((3, 6, 3), "tanh", output="softmax", seed=1 + r, dtype="float64")
        singles.append(gn.fit(model, X, CLASSES, **options)["loss"])
        for p, q in zip(model.parameters(), together.parameters(), strict=True):
            np.testing.assert_allclose(
                q.detach()[r].numpy().reshape(p.shape), p.detach().numpy(), rtol=1e-9, atol=1e-12
            )
    np.testing.assert_allclose(history["loss"], np.sum(singles, axis=0), rtol=1e-9)


def test_estimates_are_means_over_members() -> None:
    model = nn.BatchedMLP(R, (3, 4, 1), output="gaussian")
    mean, variance = model.output.predict(model(X))
    assert mean.shape == variance.shape == (40, R, 1)
    estimate = model.output.estimate(model(X))
    np.testing.assert_allclose(
        estimate.detach().numpy(), mean.detach().numpy().mean(axis=1), rtol=1e-5, atol=1e-6
    )


def test_it_is_saved(tmp_path: Any) -> None:
    model = nn.BatchedMLP(2, (3, 4, 1), "maxout", {"name": "mixture", "components": 2})
    model.save(tmp_path / "members.safetensors")
    loaded = gn.load(tmp_path / "members.safetensors")
    np.testing.assert_array_equal(loaded(X).numpy(), model(X).detach().numpy())
    assert "members=2" in repr(model)
    assert all(count in str(model.summary()) for count in ("124", "96"))


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: nn.BatchedMLP(0, (2, 1)), ValueError, "members of at least 1"),
    (lambda: nn.BatchedMLP(2, (2,)), ValueError, "at least two"),
    (lambda: nn.BatchedMLP(2, (2, 3, 1), "prelu"), ValueError, "prelu"),
    (lambda: nn.BatchedMLP(2, (2, 3, 1), "rel"), KeyError, "'rel'"),
    (lambda: nn.BatchedMLP(2, (2, 3, 1), output="softmx"), KeyError, "softmax"),
    (lambda: nn.BatchedMLP(2, (2, 1)).member(2), IndexError, "members 0 to 1, got 2"),
    (lambda: nn.BatchedLinear(2, 3, []), ValueError, "members of at least 1"),
    (lambda: nn.BatchedMLP(2, (2, 1))(X), gn.errors.ShapeError, r"\(40, 3\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_steps_are_replayed_as_they_were_made(backend: Any) -> None:
    found = []
    for replayed in (False, True):
        model = nn.BatchedMLP(3, (3, 5, 3), "tanh", "softmax", seed=2)
        optimizer = gn.optim.Adam(model.parameters(), lr=0.05)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            loss = model.output.loss(model(x), y, check=False)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        made = gn.capture(step) if replayed else step
        found.append([made(gn.asarray(X), gn.asarray(CLASSES)).item() for _ in range(4)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
