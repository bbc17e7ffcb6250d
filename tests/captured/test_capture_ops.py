"""Every op, with its gradient, gives captured what it gives plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_samples import SAMPLES, declared_ops, differentiable_rows, row_operands

import gradnet as gn
from gradnet import formulas
from gradnet.backends import Backend
from gradnet.errors import CaptureError
from gradnet.formulas.rows import arguments
from gradnet.ops import elementwise

OPS = declared_ops()


def same(found: Any, expected: Any, rtol: float) -> None:
    pairs = zip(*(v if isinstance(v, tuple) else (v,) for v in (found, expected)), strict=True)
    for y, z in pairs:
        if z is not None:
            assert (y.shape, y.dtype) == (z.shape, z.dtype)
            np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", SAMPLES)
def test_ops(name: str, backend: Backend) -> None:
    op, sample = OPS[name], SAMPLES[name]()[0]

    def run(*xs: gn.Tensor) -> Any:
        with gn.no_grad():
            inputs = [gn.copy(x) if i in sample.fresh else x for i, x in enumerate(xs)]
            return op(*inputs, **sample.parameters)

    captured = gn.capture(run)
    xs = tuple(gn.asarray(x) for x in sample.inputs)
    expected = run(*xs)
    try:
        captured(*xs)
    except CaptureError as refusal:
        assert "values" in str(refusal)  # noqa: PT017  an op that selects may say no
        return
    same(captured(*xs), expected, 1e-12)
    assert captured.replays == 1


@pytest.mark.parametrize("name", differentiable_rows())
def test_rows_and_their_gradients(name: str, backend: Backend) -> None:
    row = elementwise(name).row
    shapes = ((5, 7), (7,), (5, 1))[: len(arguments(row.formula)) - len(row.defaults)]
    xs = tuple(
        gn.asarray(x if x.dtype == bool else x.astype(np.float32))
        for x in row_operands(row, shapes)
    )

    def run(*xs: gn.Tensor) -> Any:
        leaves = [x.detach().requires_grad_() if x.dtype != bool else x for x in xs]
        y = elementwise(name)(*leaves)
        if not gn.isdtype(y.dtype, "real floating"):
            return y
        gn.sum(y * y).backward()
        return (y.detach(), *(x.grad for x in leaves if x.dtype != bool))

    captured = gn.capture(run)
    expected = run(*xs)
    for _ in range(2):
        same(captured(*xs), expected, 2e-6)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sinh", "log10"])
def test_a_function_keeps_its_bound_where_it_is_recorded(name: str, backend: Backend) -> None:
    function = getattr(gn, name)
    x = gn.asarray(np.linspace(0.01, 15, 500, dtype=np.float32))
    captured = gn.capture(lambda x: function(x))
    expected = function(x).numpy()
    for _ in range(2):
        apart = np.abs(captured(x).numpy() - expected) / np.spacing(np.abs(expected))
        assert apart.max() <= 2 * formulas.row(name).ulp


@pytest.mark.parametrize("name", ["det", "slogdet"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
def test_determinants_and_their_gradients(
    name: str, shape: tuple[int, ...], backend: Backend
) -> None:
    def run(x: gn.Tensor) -> Any:
        leaf = x.detach().requires_grad_()
        y = getattr(gn.linalg, name)(leaf)
        gn.sum(y if name == "det" else y.logabsdet).backward()
        return y if name == "det" else y.logabsdet, leaf.grad

    captured = gn.capture(lambda x: tuple(y.detach() for y in run(x)))
    for seed in range(3):
        x = gn.asarray(np.random.default_rng(seed).standard_normal(shape))
        same(captured(x), tuple(y.detach() for y in run(x)), 1e-12)
    assert captured.replays == 2
