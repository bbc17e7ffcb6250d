"""Activations as functions and layers, found by name; PReLU, Maxout, softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas, nn
from gradnet.nn.activations import class_name
from gradnet.nn.activations import names as activation_names


@pytest.mark.parametrize("name", formulas.activations())
def test_every_activation_is_a_function_and_a_layer(name: str, backend: Any) -> None:
    x = gn.linspace(-4, 4, 33)
    expected = gn.ops.elementwise(name)(x).tolist()
    function = getattr(nn, name)
    layer = getattr(nn, class_name(name))
    assert function(x).tolist() == expected
    assert layer()(x).tolist() == expected
    assert nn.activation(name)(x).tolist() == expected
    assert type(nn.activation(name)) is layer
    assert issubclass(layer, nn.Activation)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: nn.ReLU(), "ReLU"),
        (lambda: nn.LeakyReLU(0.2), "LeakyReLU(0.2)"),
        (lambda: nn.ELU(alpha=0.7), "ELU(0.7)"),
        (lambda: nn.SELU(), "SELU"),
        (lambda: nn.GELU(), "GELU"),
        (lambda: nn.SiLU(), "SiLU"),
        (lambda: nn.Mish(), "Mish"),
        (lambda: nn.Softplus(), "Softplus"),
        (lambda: nn.Softsign(), "Softsign"),
        (lambda: nn.HardSigmoid(), "Hardsigmoid"),
        (lambda: nn.ReLU6(), "ReLU6"),
        (lambda: nn.LogSigmoid(), "LogSigmoid"),
        (lambda: nn.PReLU(5, alpha=0.3), "PReLU(5, 0.3)"),
        (lambda: nn.Softmax(), "Softmax(-1)"),
        (lambda: nn.LogSoftmax(axis=0), "LogSoftmax(0)"),
    ],
)
def test_layers_agree_with_pytorch(ours: Any, theirs: str) -> None:
    torch = pytest.importorskip("torch")
    name, _, arguments = theirs.partition("(")
    reference = eval(f"torch.nn.{name}({arguments or ')'}", {"torch": torch}).double()
    x = np.random.default_rng(0).normal(size=(7, 5)) * 3
    expected = reference(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(
        ours().to(gn.float64)(gn.asarray(x)).detach().numpy(), expected, rtol=1e-10, atol=1e-12
    )


def test_names_of_classes() -> None:
    wanted = {"leaky_relu": "LeakyReLU", "gelu_tanh": "GELUTanh", "hard_sigmoid": "HardSigmoid"}
    assert {name: class_name(name) for name in wanted} == wanted
    assert nn.SiLU is nn.SiLU
    assert nn.Swish()(gn.asarray(1.5)).item() == nn.silu(gn.asarray(1.5)).item()
    assert {"ReLU", "relu", "MLP", "cross_entropy"} <= set(dir(nn))
    assert {"relu", "prelu", "maxout", "softmax"} <= set(activation_names())


@pytest.fixture
def cubed() -> Iterator[str]:
    """An activation added on the fly: x |x|^p."""

    def signed_power(x: Any, p: Any) -> Any:
        return copysign(abs(x) ** p, x)  # type: ignore[name-defined]  # noqa: F821

    def signed_power_dx(x: Any, p: Any) -> Any:
        return p * abs(x) ** (p - 1)

    row = formulas.Row(
        "signed_power",
        signed_power,
        (signed_power_dx, None),
        defaults={"p": 3.0},
        activation=True,
    )
    formulas.register(row)
    yield "signed_power"
    formulas.unregister("signed_power")


def test_an_activation_added_on_the_fly_works_everywhere(cubed: str, backend: Any) -> None:
    x = gn.asarray([-2.0, 0.5, 3.0])
    assert nn.signed_power(x).tolist() == [-8, 0.125, 27]
    assert nn.SignedPower(2.0)(x).tolist() == [-4, 0.25, 9]
    assert nn.activation(cubed, p=2.0)(x).tolist() == [-4, 0.25, 9]
    model = nn.MLP((2, 4, 1), activation=cubed, activation_operands={"p": 2.0}, seed=0)
    z = gn.asarray(np.random.default_rng(0).normal(size=(3, 2)))
    model.to(gn.float64)
    gn.gradcheck(lambda x: model(x), z, order=2)
    assert nn.from_config(model.config())(z).shape == (3, 1)
    fused = nn.Linear(2, 4, activation=cubed)
    plain = nn.Linear(2, 4)
    plain.load_state_dict(fused.state_dict())
    z32 = z.astype(gn.float32)
    np.testing.assert_allclose(
        fused(z32).detach().numpy(), nn.signed_power(plain(z32)).detach().numpy(), rtol=1e-5
    )


def test_an_activation_taken_away_is_gone(cubed: str) -> None:
    formulas_row = formulas.row(cubed)
    formulas.unregister(cubed)
    try:
        with pytest.raises(AttributeError, match="signed_power"):
            _ = nn.signed_power
        with pytest.raises(AttributeError, match="SignedPower"):
            _ = nn.SignedPower
    finally:
        formulas.register(formulas_row)


def test_maxout_takes_the_largest_of_neighbours(backend: Any) -> None:
    x = gn.asarray([[1.0, 5.0, -2.0, -3.0, 0.0, 0.5]])
    assert nn.Maxout(2)(x).tolist() == [[5, -2, 0.5]]
    assert nn.maxout(x, 3).tolist() == [[5, 0.5]]
    gn.gradcheck(lambda x: nn.maxout(x, 3), x)


def test_prelu_learns_its_slope(backend: Any) -> None:
    layer = nn.PReLU(2, alpha=0.5)
    x = gn.asarray([[-2.0, 3.0], [-1.0, -4.0]])
    assert layer(x).tolist() == [[-1, 3], [-0.5, -2]]
    layer(x).sum().backward()
    assert layer.alpha.grad is not None
    assert layer.alpha.grad.tolist() == [-3, -4]
    gn.gradcheck(nn.prelu, x, layer.alpha.detach())


def test_softmax_of_rows_and_columns(backend: Any) -> None:
    x = gn.asarray(np.random.default_rng(1).normal(size=(3, 4)))
    np.testing.assert_allclose(nn.Softmax()(x).sum(axis=-1).numpy(), 1, rtol=1e-12)
    np.testing.assert_allclose(nn.Softmax(axis=0)(x).sum(axis=0).numpy(), 1, rtol=1e-12)
    np.testing.assert_allclose(
        nn.LogSoftmax()(x).numpy(), gn.log(nn.softmax(x)).numpy(), rtol=1e-12
    )
    gn.gradcheck(nn.LogSoftmax(), x, order=2)
