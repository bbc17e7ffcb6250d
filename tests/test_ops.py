"""Every op there is: its derivatives in both modes and to second order, and its cost.

The ops are found by walking the catalogue of formulas and the modules of `gradnet.ops`, so that a
new one is tested from the day it is declared, or fails for want of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from op_samples import SAMPLES, declared_ops, differentiable_rows, row_operands

import gradnet as gn
from gradnet import formulas
from gradnet.backends import Backend
from gradnet.formulas import Row
from gradnet.ops import elementwise
from gradnet.ops.core import Op
from gradnet.ops.elementwise import Elementwise
from gradnet.tensor import Tensor

OPS = declared_ops()

# Shapes per number of operands: equal, broadcast, empty, 0-d.
SHAPES: dict[int, list[tuple[tuple[int, ...], ...]]] = {
    1: [((2, 3),), ((0, 3),), ((),)],
    2: [((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2,)), ((0, 1), (1, 3))],
    3: [((2, 3), (2, 3), (2, 3)), ((2, 1), (3,), ()), ((0, 1), (1, 3), (1, 1))],
}


def inner(xs: Any, ys: Any) -> float:
    return sum(float(np.vdot(x.numpy(), y.numpy())) for x, y in zip(xs, ys, strict=True))


def directions(xs: Any, seed: int) -> tuple[Tensor, ...]:
    rng = np.random.default_rng(seed)
    return tuple(gn.asarray(np.asarray(rng.standard_normal(x.shape))) for x in xs)


def check(f: Callable[..., Any], *xs: np.ndarray[Any, Any], order: int, tries: int = 1) -> None:
    """The adjoint identity to rounding, and central differences."""
    tensors = [gn.asarray(x) for x in xs]
    moving = [i for i, x in enumerate(tensors) if x.dtype == gn.float64]

    def smooth(*values: Tensor) -> Any:
        complete = list(tensors)
        for i, value in zip(moving, values, strict=True):
            complete[i] = value
        return f(*complete)

    primals = tuple(tensors[i] for i in moving)
    t = directions(primals, 1)
    y, pushed = gn.jvp(smooth, primals, t)
    several = isinstance(y, tuple)
    outputs, pushed = (y, pushed) if several else ((y,), (pushed,))
    u = tuple(x.to(out.device) for x, out in zip(directions(outputs, 2), outputs, strict=True))
    u = tuple(gn.ops.to_backend(x, out.backend) for x, out in zip(u, outputs, strict=True))
    value, pull = gn.vjp(smooth, *primals)
    pulled = pull(u if several else u[0])
    pulled = pulled if isinstance(pulled, tuple) else (pulled,)
    left, right = inner(u, pushed), inner(pulled, t)
    size = 1.0 + max((float(np.abs(x.numpy()).max(initial=0)) for x in pulled), default=0.0)
    assert abs(left - right) <= 1e-12 * size * max(1, sum(x.size for x in outputs))
    # The value is the same by whichever way it is computed.
    values = value if several else (value,)
    for one, other in zip(outputs, values, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    gn.gradcheck(smooth, *primals, order=order, directions=tries)


def test_every_op_has_samples() -> None:
    missing = set(OPS) - set(SAMPLES)
    assert not missing, f"give these ops a sample in op_samples.py: {missing}"
    assert not set(SAMPLES) - set(OPS), "these samples are of ops that are gone"


@pytest.mark.parametrize("name", SAMPLES)
def test_derivatives_of_ops(name: str, backend: Backend) -> None:
    op = OPS[name]
    for number, sample in enumerate(SAMPLES[name]()):

        def run(*xs: Tensor, sample: Any = sample) -> Any:
            inputs = [gn.copy(x) if i in sample.fresh else x for i, x in enumerate(xs)]
            return op(*inputs, **sample.parameters)

        check(run, *sample.inputs, order=2, tries=2 if number == 0 else 1)


@pytest.mark.parametrize("name", SAMPLES)
def test_derivatives_of_ops_on_strided_memory(name: str, backend: Backend) -> None:
    op, sample = OPS[name], SAMPLES[name]()[0]

    def run(*xs: Tensor) -> Any:
        inputs = [gn.copy(x) if i in sample.fresh else x for i, x in enumerate(xs)]
        return op(*inputs, **sample.parameters)

    expected = run(*(gn.asarray(x) for x in sample.inputs))
    strided = tuple(strided_copy(x) for x in sample.inputs)
    found = run(*(gn.asarray(x) for x in strided))
    for y, z in zip(*(v if isinstance(v, tuple) else (v,) for v in (expected, found)), strict=True):
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-13, atol=1e-13)
    check(run, *strided, order=1)


def strided_copy(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values at every other place of larger memory, in Fortran order."""
    wide = np.zeros(tuple(2 * n for n in x.shape), x.dtype, order="F")
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


@pytest.mark.parametrize("name", differentiable_rows())
def test_derivatives_of_formulas(name: str, backend: Backend) -> None:
    op = elementwise(name)
    for shapes in SHAPES[op.arity]:
        operands = row_operands(op.row, shapes)
        first = shapes == SHAPES[op.arity][0]
        check(op, *operands, order=2 if first else 1, tries=2 if first else 1)
        if first:
            check(op, *(strided_copy(x) for x in operands), order=1)


@pytest.mark.parametrize("row", formulas.rows(), ids=lambda row: row.name)
def test_what_has_no_derivative_gives_none(row: Row, backend: Backend) -> None:
    op = elementwise(row.name)
    inexact = row.kind in ("float", "numeric")
    operands = row_operands(row, ((2, 3),) * op.arity)
    if not inexact:
        operands = tuple(x.astype(np.int64) for x in operands)
    for i, derivative in enumerate(row.derivatives):
        if not inexact:
            assert derivative is None
            with pytest.raises(gn.errors.DTypeError):
                gn.asarray(operands[i], requires_grad=True)
            continue
        if operands[i].dtype == bool:
            continue
        xs = [gn.asarray(x) for x in operands]
        xs[i] = gn.asarray(operands[i], requires_grad=True)
        y = op(*xs)
        y.backward(gn.ones_like(y))
        if derivative is None:
            assert xs[i].grad is None
        else:
            assert xs[i].grad is not None
            assert xs[i].grad.shape == (2, 3)


def all_ops() -> list[Any]:
    rows = [pytest.param(elementwise(row.name), id=row.name) for row in formulas.rows()]
    return [*(pytest.param(OPS[name], id=name) for name in SAMPLES if name in OPS), *rows]


@pytest.mark.parametrize("op", all_ops())
def test_cost_counts_something_sensible(op: Op, backend: Backend) -> None:
    if isinstance(op, Elementwise):
        samples: list[tuple[Any, dict[str, Any]]] = [(((3, 4),) * op.arity, {})]
    else:
        name = next(name for name, found in OPS.items() if found is op)
        samples = [
            (tuple(x.shape for x in sample.inputs), sample.parameters) for sample in SAMPLES[name]()
        ]
    for shapes, parameters in samples:
        single = op.cost(*shapes, itemsize=4, **parameters)
        double = op.cost(*shapes, itemsize=8, **parameters)
        for flops, moved in (single, double):
            assert math.isfinite(flops)
            assert flops >= 0
            assert math.isfinite(moved)
            assert moved >= 0
        assert double == (single[0], 2 * single[1])
    if op.view:
        assert single == (0, 0)
    else:
        assert op.cost(*samples[0][0], **samples[0][1])[1] > 0


def test_cost_of_products() -> None:
    matmul = OPS["MATMUL"]
    assert matmul.cost((3, 4), (4, 5)) == (2 * 3 * 4 * 5, 4 * (12 + 20 + 15))
    assert matmul.cost((3, 4), (2, 4, 5)) == (2 * 2 * 3 * 4 * 5, 4 * (12 + 40 + 30))
    linear = OPS["LINEAR"]
    flops, moved = linear.cost((3, 4), (4, 5), (5,), activation=elementwise("relu"), scalars=())
    assert flops == 2 * 3 * 4 * 5 + 15 * (1 + elementwise("relu").row.flops)
    assert moved == 4 * (12 + 20 + 15)
    assert elementwise("add").cost((3, 1), (4,)) == (12, 4 * (3 + 4 + 12))


def test_cost_of_derivatives() -> None:
    for name in ("tanh", "multiply", "gelu"):
        op = elementwise(name)
        for product in op.products:
            shapes = ((3, 4),) * (1 + len(op.uses[0]))
            flops, moved = product.cost(*shapes, itemsize=8)
            assert flops == 12 * (op.row.flops + 1)
            assert moved == 8 * 12 * (len(shapes) + 1)


def test_ops_say_their_names() -> None:
    assert repr(OPS["MATMUL"]) == "<op matmul>"
    assert repr(elementwise("silu")) == "<op swish>"
    assert "sigmoid" in elementwise("swish").__doc__
