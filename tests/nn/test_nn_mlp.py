"""MLP: its layers by its settings, seeds, gradients, second order, learning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas, nn
from gradnet.random import Generator

RNG = np.random.default_rng(4)


def kinds(model: nn.MLP) -> list[str]:
    return [repr(layer).partition("\n")[0] for layer in model.layers]


def test_the_contracts_call() -> None:
    model = nn.MLP((784, 128, 10), activation="relu", dropout=0.0, output="softmax")
    assert kinds(model) == ["Linear(784, 128, activation='relu')", "Linear(128, 10)"]
    assert model.output.name == "softmax"
    assert model(gn.zeros((3, 784))).shape == (3, 10)
    assert sum(p.size for p in model.parameters()) == 784 * 128 + 128 + 1280 + 10


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"activation": "elu", "activation_operands": {"alpha": 0.5}}, [
            "Linear(3, 5, activation='elu', operands={'alpha': 0.5})", "Linear(5, 2)"]),
        ({"dropout": 0.25, "input_dropout": 0.1, "bias": False}, [
            "Dropout(0.1)", "Linear(3, 5, bias=False, activation='relu')", "Dropout(0.25)",
            "Linear(5, 2, bias=False)"]),
        ({"norm": "batch", "activation": "tanh"}, [
            "Linear(3, 5, bias=False)", "BatchNorm1d(5, eps=1e-05)", "Tanh()", "Linear(5, 2)"]),
        ({"norm": "layer"}, [
            "Linear(3, 5)", "LayerNorm(5, eps=1e-05)", "ReLU()", "Linear(5, 2)"]),
        ({"activation": "prelu"}, ["Linear(3, 5)", "PReLU(5)", "Linear(5, 2)"]),
        ({"activation": "prelu", "activation_operands": {"count": 1, "alpha": 0.1}}, [
            "Linear(3, 5)", "PReLU(1)", "Linear(5, 2)"]),
        ({"activation": "maxout", "activation_operands": {"groups": 3}, "norm": "layer"}, [
            "Linear(3, 15)", "LayerNorm(15, eps=1e-05)", "Maxout(3)", "Linear(5, 2)"]),
        ({"activation": "softmax"}, ["Linear(3, 5)", "Softmax(axis=-1)", "Linear(5, 2)"]),
        ({"output": "gaussian"}, ["Linear(3, 5, activation='relu')", "Linear(5, 4)"]),
        ({"embeddings": [(1, 4, 2)]}, [
            "TabularInput(3, [(1, 4, 2)],", "Linear(4, 5, activation='relu')", "Linear(5, 2)"]),
    ],
)  # fmt: skip
def test_settings_become_layers(settings: dict[str, Any], expected: list[str]) -> None:
    model = nn.MLP((3, 5, 2), **settings)
    assert kinds(model) == expected
    x = gn.ones((4, 3))
    assert model(x).shape == (4, model.output.units(2))
    rebuilt = nn.from_config(model.config())
    assert isinstance(rebuilt, nn.MLP)
    assert kinds(rebuilt) == expected
    rebuilt.load_state_dict(model.state_dict())
    assert rebuilt.eval()(x).tolist() == model.eval()(x).tolist()


def test_residual_skips_where_widths_match(backend: Any) -> None:
    model = nn.MLP((4, 4, 3, 3, 2), residual=True, activation="tanh", seed=0)
    assert [type(layer).__name__ for layer in model.layers] == [
        *("Residual", "Linear", "Residual", "Linear")
    ]
    x = gn.asarray(RNG.normal(size=(5, 4)).astype(np.float32))
    first = model.layers[0]
    np.testing.assert_allclose(
        first(x).detach().numpy(),
        x.numpy() + np.tanh((x @ first.block[0].weight).detach().numpy()),
        rtol=1e-5,
        atol=1e-6,
    )


def test_no_hidden_layer_is_a_linear_model() -> None:
    assert kinds(nn.MLP((3, 2))) == ["Linear(3, 2)"]


@pytest.mark.parametrize("activation", [*formulas.activations(), "prelu", "maxout", "softmax"])
def test_every_activation_trains_and_differentiates(activation: str, backend: Any) -> None:
    model = nn.MLP((3, 6, 2), activation=activation, seed=1, dtype=gn.float64)
    x, y = RNG.normal(size=(7, 3)), RNG.integers(0, 2, size=7)
    gn.gradcheck(lambda x: nn.cross_entropy(model(x), y), x)

    def of_weight(w: Any) -> Any:
        layer = model.layers[0]
        z = gn.ops.linear(gn.asarray(x), w, activation=layer.activation, **layer.operands)
        return nn.cross_entropy(z[:, :2], y)

    gn.gradcheck(of_weight, model.layers[0].weight.detach())
    nn.cross_entropy(model(gn.asarray(x)), y).backward()
    assert model.layers[-1].weight.grad is not None


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_second_derivatives_of_a_whole_network(norm: str | None, backend: Any) -> None:
    model = nn.MLP((3, 5, 5, 2), "tanh", norm=norm, residual=True, seed=2, dtype=gn.float64)
    y = RNG.integers(0, 2, size=6)
    gn.gradcheck(lambda x: nn.cross_entropy(model(x), y), RNG.normal(size=(6, 3)), order=2)


def test_a_seed_gives_the_same_weights_on_every_backend(backend: Any) -> None:
    model = nn.MLP((5, 4, 3), seed=7)
    with gn.backends.use("numpy"):
        reference = nn.MLP((5, 4, 3), generator=Generator(7))
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert ours.backend is backend
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    other = nn.MLP((5, 4, 3), seed=8)
    assert other.layers[0].weight.tolist() != model.layers[0].weight.tolist()


def test_without_a_seed_the_default_generator_moves_on() -> None:
    gn.random.seed(3)
    first, second = nn.MLP((4, 3)), nn.MLP((4, 3))
    assert first.layers[0].weight.tolist() != second.layers[0].weight.tolist()
    gn.random.seed(3)
    assert nn.MLP((4, 3)).layers[0].weight.tolist() == first.layers[0].weight.tolist()


def test_gradients_agree_with_pytorch(backend: Any) -> None:
    torch = pytest.importorskip("torch")
    model = nn.MLP((6, 8, 8, 3), "gelu", norm="layer", seed=0, dtype=gn.float64)
    reference = torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.LayerNorm(8),
        torch.nn.GELU(),
        torch.nn.Linear(8, 8),
        torch.nn.LayerNorm(8),
        torch.nn.GELU(),
        torch.nn.Linear(8, 3),
    ).double()
    state = {}
    for name, value in model.state_dict().items():
        host = value.numpy().copy()
        state[name.removeprefix("layers.")] = torch.from_numpy(host.T if host.ndim == 2 else host)
    reference.load_state_dict(state)
    x, y = RNG.normal(size=(9, 6)), RNG.integers(0, 3, size=9)
    ours = nn.cross_entropy(model(gn.asarray(x)), y)
    theirs = torch.nn.functional.cross_entropy(reference(torch.from_numpy(x)), torch.from_numpy(y))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    ours.backward()
    theirs.backward()
    gradients = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        theirs_grad = gradients[name.removeprefix("layers.")].grad.numpy()
        assert parameter.grad is not None
        np.testing.assert_allclose(
            parameter.grad.numpy(),
            theirs_grad.T if parameter.ndim == 2 else theirs_grad,
            rtol=1e-10,
            atol=1e-13,
        )


def test_xor_is_learned_with_plain_gradient_descent(backend: Any) -> None:
    x = gn.asarray([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=gn.float32)
    y = gn.asarray([0, 1, 1, 0])
    model = nn.MLP((2, 8, 2), "tanh", output="softmax", seed=0)
    for _ in range(300):
        model.zero_grad()
        model.output.loss(model(x), y).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.assign_(parameter.detach() - 0.5 * parameter.grad)
    assert model.output.predict(model(x)).argmax(axis=1).tolist() == [0, 1, 1, 0]


def test_embeddings_learn_from_codes() -> None:
    x = gn.asarray([[0.0, 1.0], [0.0, 2.0], [0.0, 0.0], [0.0, 2.0]])
    y = gn.asarray([1.0, -1.0, 0.0, -1.0])
    model = nn.MLP((2, 8, 1), embeddings=[(1, 3)], seed=1)
    for _ in range(300):
        model.zero_grad()
        model.output.loss(model(x), y).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.assign_(parameter.detach() - 0.1 * parameter.grad)
    np.testing.assert_allclose(model(x).detach().numpy()[:, 0], y.numpy(), atol=0.05)
