"""PyTorch as a second oracle: the same values and gradients where it has the op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from op_samples import differentiable_rows, row_operands

import gradnet as gn
from gradnet import formulas
from gradnet.backends import Backend
from gradnet.ops import elementwise

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second oracle")
F = torch.nn.functional

TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    operands: tuple[np.ndarray[Any, Any], ...],
    dtype: Any,
    spare: tuple[int, ...] = (),
) -> None:
    """Forward and gradient, for a random cotangent, equal to the tolerance of the dtype.

    Relative to the largest value, and at least 1. `spare` operands have no gradient.
    """
    cast = [x.astype(dtype) if x.dtype == np.float64 else x for x in operands]
    moving = [i for i, x in enumerate(cast) if x.dtype == dtype and i not in spare]
    mine = [gn.asarray(x, requires_grad=i in moving) for i, x in enumerate(cast)]
    peer = [torch.tensor(x, requires_grad=i in moving) for i, x in enumerate(cast)]
    y, z = ours(*mine), theirs(*peer)
    assert y.dtype == dtype
    close(y.numpy(), z.detach().numpy(), dtype)
    g = np.random.default_rng(3).standard_normal(y.shape).astype(dtype)
    y.backward(gn.asarray(np.asarray(g)))
    z.backward(torch.from_numpy(np.asarray(g)))
    for i in moving:
        assert mine[i].grad.dtype == dtype
        close(mine[i].grad.numpy(), peer[i].grad.numpy(), dtype)


def close(found: Any, expected: Any, dtype: Any) -> None:
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


# Rows of formulas that PyTorch calls otherwise than gradnet does.
NAMES: dict[str, Callable[..., Any]] = {
    "pow": torch.pow,
    "identity": lambda x: x.clone(),
    "absolute": torch.abs,
    "piecewise_linear": lambda x: torch.clamp(x + 0.5, 0, 1),
    "clip": torch.clamp,
    "swish": F.silu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    # F.hardsigmoid takes 1 / 6 in float32 for its derivative.
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,
    "log_sigmoid": F.logsigmoid,
    "leaky_relu": lambda x, alpha: torch.where(x > 0, x, alpha * x),
    "elu": lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(x)),
    "selu": torch.selu,
    "cot": lambda x: 1 / torch.tan(x),
    "sec": lambda x: 1 / torch.cos(x),
    "csc": lambda x: 1 / torch.sin(x),
    "acot": lambda x: torch.pi / 2 - torch.atan(x),
    "asec": lambda x: torch.acos(1 / x),
    "acsc": lambda x: torch.asin(1 / x),
}


def peer_of(name: str) -> Callable[..., Any] | None:
    for room in ({}, torch, torch.special, F):
        found = NAMES.get(name) if room == {} else getattr(room, name, None)
        if found is not None:
            return found
    return None


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", differentiable_rows())
def test_formulas(name: str, dtype: Any, backend: Backend) -> None:
    peer = peer_of(name)
    assert peer is not None, f"say in NAMES what {name} is in PyTorch"
    op = elementwise(name)
    operands = row_operands(op.row, ((4, 5), (4, 5), (5,))[: op.arity])
    flat = tuple(i for i, derivative in enumerate(op.row.derivatives) if derivative is None)
    compare(op, peer, operands, dtype, flat)
    if op.row.defaults:
        compare(op, lambda x: peer(x, *op.row.defaults.values()), operands[:1], dtype)


class Case(NamedTuple):
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    others: tuple[Any, ...] = ()


INDEX = np.array([[0, 2, 1], [1, 1, 0]])
CLASSES = np.array([0, 3, 1, 1, 2])

CASES: dict[str, Case] = {
    "matmul": Case(gn.matmul, torch.matmul, ((3, 4), (4, 5))),
    "matmul batch": Case(gn.matmul, torch.matmul, ((2, 1, 3, 4), (5, 4, 2))),
    "matmul of a row": Case(gn.matmul, torch.matmul, ((4,), (2, 4, 3))),
    "einsum": Case(
        lambda a, b, c: gn.ops.einsum("bij,bjk,k->bi", a, b, c),
        lambda a, b, c: torch.einsum("bij,bjk,k->bi", a, b, c),
        ((2, 3, 4), (2, 4, 5), (5,)),
    ),
    "tensordot": Case(
        lambda a, b: gn.tensordot(a, b, axes=((1, 0), (0, 2))),
        lambda a, b: torch.tensordot(a, b, dims=((1, 0), (0, 2))),
        ((3, 4, 2), (4, 5, 3)),
    ),
    "outer": Case(gn.ops.outer, torch.outer, ((3,), (4,))),
    "sum": Case(lambda x: gn.sum(x, axis=(0, 2)), lambda x: x.sum((0, 2)), ((3, 4, 2),)),
    "mean": Case(lambda x: gn.mean(x, axis=1), lambda x: x.mean(1), ((3, 4),)),
    "var": Case(
        lambda x: gn.var(x, axis=0, correction=1), lambda x: x.var(0, correction=1), ((5, 4),)
    ),
    "std": Case(lambda x: gn.std(x), lambda x: x.std(correction=0), ((5, 4),)),
    "prod": Case(lambda x: gn.prod(x, axis=1), lambda x: x.prod(1), ((3, 5),)),
    "amax": Case(lambda x: gn.max(x, axis=1), lambda x: x.amax(1), ((3, 5),)),
    "amin": Case(lambda x: gn.min(x, axis=0), lambda x: x.amin(0), ((3, 5),)),
    "logsumexp": Case(lambda x: gn.ops.logsumexp(x, axis=1), lambda x: x.logsumexp(1), ((3, 5),)),
    "cumsum": Case(lambda x: gn.cumulative_sum(x, axis=1), lambda x: x.cumsum(1), ((3, 5),)),
    "cumprod": Case(lambda x: gn.cumulative_prod(x, axis=0), lambda x: x.cumprod(0), ((4, 3),)),
    "norm": Case(gn.ops.vector_norm, torch.linalg.vector_norm, ((3, 4),)),
    "norm 3": Case(
        lambda x: gn.ops.vector_norm(x, ord=3, axis=1),
        lambda x: torch.linalg.vector_norm(x, ord=3, dim=1),
        ((3, 4),),
    ),
    "trace": Case(gn.ops.trace, torch.trace, ((4, 4),)),
    "tril": Case(lambda x: gn.tril(x, k=-1), lambda x: torch.tril(x, -1), ((4, 5),)),
    "sort": Case(
        lambda x: gn.sort(x, axis=0, descending=True),
        lambda x: x.sort(0, descending=True).values,
        ((5, 3),),
    ),
    "top k": Case(
        lambda x: gn.ops.top_k(x, 2, axis=1)[0], lambda x: x.topk(2, 1).values, ((4, 5),)
    ),
    "gather": Case(
        lambda x, i: gn.take_along_axis(x, i, axis=1),
        lambda x, i: torch.gather(x, 1, i),
        ((2, 3),),
        (INDEX,),
    ),
    "index": Case(lambda x: x[[2, 0, 2], 1:], lambda x: x[[2, 0, 2], 1:], ((3, 4),)),
    "embedding": Case(lambda w, i: w[i], lambda w, i: F.embedding(i, w), ((3, 4),), (INDEX,)),
    "index add": Case(
        lambda x, v, i: gn.ops.scatter_add(x, i, v),
        lambda x, v, i: x.index_add(0, i, v),
        ((4, 2), (5, 2)),
        (CLASSES,),
    ),
    "roll": Case(lambda x: gn.roll(x, 2, axis=1), lambda x: x.roll(2, 1), ((3, 5),)),
    "flip": Case(lambda x: gn.flip(x, axis=0), lambda x: x.flip(0), ((3, 5),)),
    "softmax": Case(gn.ops.softmax, lambda x: x.softmax(-1), ((3, 5),)),
    "softmax of a middle axis": Case(
        lambda x: gn.ops.softmax(x, axis=1), lambda x: x.softmax(1), ((3, 5, 2),)
    ),
    "log softmax": Case(gn.ops.log_softmax, lambda x: x.log_softmax(-1), ((3, 5),)),
    "linear": Case(gn.ops.linear, lambda x, w, b: F.linear(x, w.T, b), ((2, 3, 4), (4, 5), (5,))),
    "linear relu": Case(
        lambda x, w, b: gn.ops.linear(x, w, b, activation="relu"),
        lambda x, w, b: torch.relu(x @ w + b),
        ((6, 4), (4, 5), (5,)),
    ),
    "linear gelu": Case(
        lambda x, w, b: gn.ops.linear(x, w, b, activation="gelu"),
        lambda x, w, b: F.gelu(x @ w + b),
        ((6, 4), (4, 5), (5,)),
    ),
    "batch norm": Case(
        lambda x, w, b: gn.ops.batch_norm(x, w, b, eps=1e-3),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=1e-3),
        ((9, 4), (4,), (4,)),
    ),
    "layer norm": Case(
        lambda x, w, b: gn.ops.layer_norm(x, w, b, eps=1e-3),
        lambda x, w, b: F.layer_norm(x, (4,), w, b, eps=1e-3),
        ((3, 5, 4), (4,), (4,)),
    ),
    "layer norm without an affine step": Case(
        gn.ops.layer_norm, lambda x: F.layer_norm(x, (40,)), ((7, 40),)
    ),
    "cross entropy": Case(
        lambda z, y: gn.ops.softmax_cross_entropy(z, y, 1.0, 0.0),
        lambda z, y: F.cross_entropy(z, y, reduction="none"),
        ((5, 4),),
        (CLASSES,),
    ),
    "cross entropy smoothed": Case(
        lambda z, y: gn.ops.softmax_cross_entropy(z, y, 0.2, 0.1).sum(),
        lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1),
        ((5, 4),),
        (CLASSES,),
    ),
    "cross entropy of probabilities": Case(
        lambda z, t: gn.ops.softmax_cross_entropy(z, gn.ops.softmax(t), 1.0, 0.0),
        lambda z, t: F.cross_entropy(z, t.softmax(-1), reduction="none"),
        ((5, 4), (5, 4)),
    ),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", CASES)
def test_other_ops(name: str, dtype: Any, backend: Backend) -> None:
    case = CASES[name]
    rng = np.random.default_rng(11)
    operands = tuple(np.asarray(rng.standard_normal(shape)) for shape in case.shapes)
    compare(case.ours, case.theirs, (*operands, *case.others), dtype)


def test_a_remainder_slopes_by_the_quotient_that_it_took(backend: Backend) -> None:
    # These quotients round up to whole numbers, of which floor would make one too many.
    a, b = np.array([1.0, -7.0, 0.3, 7.0]), np.array([0.1, 0.7, 0.1, -0.7])
    _, pull = gn.vjp(gn.remainder, a, b)
    np.testing.assert_array_equal(pull(gn.ones(4, dtype=gn.float64))[1].numpy(), -(a // b))


def test_second_derivatives(backend: Backend) -> None:
    rng = np.random.default_rng(12)
    x, w, v = rng.standard_normal((5, 3)), rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    y = np.array([0, 3, 1, 1, 2])

    def mine(w: Any) -> Any:
        return gn.ops.softmax_cross_entropy(
            gn.tanh(gn.asarray(x) @ w), gn.asarray(y), 1.0, 0.0
        ).sum()

    def peers(w: Any) -> Any:
        return F.cross_entropy(torch.tanh(torch.tensor(x) @ w), torch.tensor(y), reduction="sum")

    found = gn.hvp(mine, w, v)
    _, expected = torch.autograd.functional.hvp(peers, torch.tensor(w), torch.tensor(v))
    close(found.numpy(), expected.numpy(), np.float64)


def test_every_formula_of_pytorch_is_compared() -> None:
    # Names in NAMES are rows: a renamed row must not leave a comparison behind.
    assert set(NAMES) <= {row.name for row in formulas.rows()}
