"""What a change costs: an activation is a formula and its row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradnet.kernels
import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas, nn
from gradnet.backends import Backend
from gradnet.formulas import Row


def bent(x, slope):
    """(sqrt(x**2 + 1) - 1) slope + x."""
    return slope * (sqrt(x * x + 1) - 1) + x  # noqa: F821 - a name that binding supplies


def bent_dx(x, slope):
    return slope * x / sqrt(x * x + 1) + 1  # noqa: F821


def bent_dslope(x):
    return sqrt(x * x + 1) - 1  # noqa: F821


@pytest.fixture
def bent_row() -> Iterator[Row]:
    row = Row(
        "bent_identity",
        bent,
        (bent_dx, bent_dslope),
        defaults={"slope": 0.5},
        activation=True,
        aliases=("bent",),
        source="a test",
    )
    formulas.register(row)
    yield row
    formulas.unregister("bent_identity")


def plain(x: Any, slope: float = 0.5) -> Any:
    return slope * (np.sqrt(x * x + 1) - 1) + x


def test_an_activation_is_one_row(bent_row: Row, backend: Backend) -> None:
    x = np.linspace(-2, 2, 12).reshape(4, 3)
    for op in (gn.bent_identity, gn.bent, nn.bent_identity, gn.ops.elementwise("bent")):
        np.testing.assert_allclose(op(gn.asarray(x)).numpy(), plain(x), rtol=1e-14)
    gn.gradcheck(gn.bent_identity, x, order=2)
    gn.gradcheck(lambda x, slope: gn.bent_identity(x, slope), x, np.array([0.1, 0.5, 0.9]), order=2)
    gn.gradcheck(lambda x: gn.grad(lambda x: gn.bent(x).sum())(x), x, order=2)
    single = gn.bent_identity(gn.asarray(x.astype(np.float32)))
    assert single.dtype == gn.float32
    np.testing.assert_allclose(single.numpy(), plain(x), rtol=1e-5, atol=1e-7)
    half = gn.bent_identity(gn.asarray(x).astype(gn.float16))
    np.testing.assert_allclose(half.numpy(), plain(x), rtol=2e-3, atol=2e-3)
    assert gn.bent_identity(gn.asarray(x), slope=2.0).tolist() == pytest.approx(plain(x, 2.0))
    w, b = np.ones((3, 2)), np.array([0.5, -0.5])
    fused = lambda x, w, b: gn.ops.linear(x, w, b, activation="bent", slope=0.3)  # noqa: E731
    gn.gradcheck(fused, x, w, b, order=2)
    np.testing.assert_allclose(
        fused(gn.asarray(x), w, b).numpy(), plain(x @ w + b, 0.3), rtol=1e-14
    )
    assert gn.bent_identity.cost((4, 3))[0] == 12 * bent_row.flops


def test_an_activation_is_known_by_name_in_networks(bent_row: Row, backend: Backend) -> None:
    assert "bent_identity" in formulas.activations()
    assert "BentIdentity" in dir(nn)
    x = gn.random.Generator(0).normal((20, 3))
    for name in ("bent_identity", "bent"):
        model = nn.MLP((3, 8, 2), activation=name, output="softmax", seed=1)
        optimizer = gn.optim.Adam(model.parameters(), lr=0.05)
        y = (x[:, 0] * x[:, 1] > 0).astype(gn.int64)
        losses = []
        for _ in range(30):
            loss = nn.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss))
        assert losses[-1] < 0.8 * losses[0]
    layer = nn.BentIdentity()
    np.testing.assert_allclose(layer(x).numpy(), plain(x.numpy()), rtol=1e-5, atol=1e-6)
    rebuilt = nn.from_config(model.config())
    assert rebuilt(x).shape == (20, 2)


def test_a_row_gone_is_gone(backend: Backend) -> None:
    assert "bent_identity" not in formulas.activations()
    with pytest.raises(KeyError):
        gn.ops.elementwise("bent_identity")
