"""Every method of the CUDA backend against NumPy's, its kernels run in step on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes.compare import BF16, BOOL, F32, F64, FLOATS, I64, NUMPY, RNG, both, normal, odd
from gradnet.kernels.cuda_backend import CudaBackend

from gradnet import formulas
from gradnet.formulas.complex import imag

# Elementwise

SHAPES = [
    ((5,), (5,)),
    ((3, 4), (4,)),
    ((3, 4), (3, 1)),
    ((2, 1, 5), (3, 1)),
    ((1,), (7, 1, 2)),
    ((), (2, 3)),
    ((0, 3), (3,)),
    ((1, 1), (1,)),
    ((2000,), (2000,)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_maps_broadcast(cuda: CudaBackend, shapes: Any) -> None:
    a, b = normal(*shapes[0]), normal(*shapes[1])
    both(cuda, lambda k, t: k.map(formulas.multiply, t(a), t(b), dtype=F32), exact=True)
    both(cuda, lambda k, t: k.map(formulas.less, t(a), t(b), dtype=BOOL))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_maps_of_every_float(cuda: CudaBackend, dtype: Any) -> None:
    x = odd(33, dtype=dtype)
    condition = RNG.random(33) > 0.5
    both(cuda, lambda k, t: k.map(formulas.FORMULAS["gelu"], t(x), dtype=dtype))
    both(cuda, lambda k, t: k.map(formulas.add, t(x), 0.3, dtype=dtype))
    both(cuda, lambda k, t: k.map(formulas.isnan, t(x), dtype=BOOL))
    both(cuda, lambda k, t: k.map(formulas.where, t(condition), t(x), 2.0, dtype=dtype))


@pytest.mark.parametrize("row", [r for r in formulas.rows() if r.kind != "bitwise"], ids=repr)
def test_every_formula(cuda: CudaBackend, row: Any) -> None:
    lo, hi = (max(row.domain[0], -9), min(row.domain[1], 9))
    count = row.formula.__code__.co_argcount
    xs = [RNG.uniform(lo, hi, 6).astype(F32) for _ in range(count)]
    if row.name == "where":
        xs[0] = xs[0] > 0
    dtype = BOOL if row.kind in ("compare", "logical") else F32
    both(cuda, lambda k, t: k.map(row.formula, *map(t, xs), dtype=dtype), rtol=2e-5)


VIEWS: list[Callable[[Any, Any], Any]] = [
    lambda k, x: k.permute(x, (1, 0)),
    lambda k, x: k.view(x, (slice(None, None, 2), slice(1, None))),
    lambda k, x: k.view(x, (slice(None, None, -1), slice(None, None, -2))),
    lambda k, x: k.view(x, (1,)),
    lambda k, x: k.view(x, (slice(1, 2), None, Ellipsis)),
    lambda k, x: k.broadcast(k.view(x, (slice(0, 1),)), (3, 6)),
    lambda k, x: k.view(x, (1, 2)),
    lambda k, x: k.view(x, (slice(0, 0),)),
    lambda k, x: k.reshape(k.permute(x, (1, 0)), (3, 8)),
]


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_views(cuda: CudaBackend, number: int) -> None:
    x, view = normal(4, 6), VIEWS[number]
    both(cuda, lambda k, t: view(k, t(x)), exact=True)
    both(cuda, lambda k, t: k.map(formulas.negative, view(k, t(x)), dtype=F32), exact=True)
    both(cuda, lambda k, t: k.cast(view(k, t(x)), F64), exact=True)
    both(cuda, lambda k, t: k.reduce("sum", view(k, t(x)), (0,), True, dtype=F32) if
         view(k, t(x)).shape else view(k, t(x)))  # fmt: skip
    if 0 not in view(NUMPY, x).strides or view(NUMPY, x).size < 2:

        def into(k: Any, t: Any) -> Any:
            whole = t(x)
            target = view(k, whole)
            k.map(formulas.add, target, 1.0, dtype=F32, out=target)
            return whole

        both(cuda, into, exact=True)


def test_out_that_overlaps_an_operand(cuda: CudaBackend) -> None:
    x = normal(40)

    def shifted(k: Any, t: Any) -> Any:
        whole = t(x)
        head, tail = k.view(whole, (slice(0, 39),)), k.view(whole, (slice(1, 40),))
        k.map(formulas.add, head, tail, dtype=F32, out=tail)
        return whole

    both(cuda, shifted, exact=True)


@pytest.mark.parametrize("dtype", [F32, BF16, I64], ids=str)
def test_casts_into_memory_that_overlaps(cuda: CudaBackend, dtype: Any) -> None:
    x = (10 * normal(8, 8)).astype(dtype)

    def turned(k: Any, t: Any) -> Any:
        whole, flat = t(x), t(x.reshape(-1))
        k.cast(k.permute(whole, (1, 0)), dtype, out=whole)
        k.cast(k.view(flat, (slice(0, 60),)), dtype, out=k.view(flat, (slice(4, 64),)))
        k.cast(k.reshape(flat, (8, 8)), dtype, out=k.reshape(flat, (8, 8)))
        return whole, flat

    both(cuda, turned, exact=True)


def test_a_broadcast_array_cannot_be_written_to(cuda: CudaBackend) -> None:
    x = cuda.from_host(normal(3), copy=True)
    with pytest.raises(ValueError, match="share memory"):
        cuda.map(formulas.add, x, 1.0, dtype=F32, out=cuda.broadcast(x, (2, 3)))


PAIRS = list(itertools.product((*FLOATS, BOOL, I64), repeat=2))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_casts(cuda: CudaBackend, pair: Any) -> None:
    source, target = pair
    x = (normal(3, 5) * 3).astype(source)
    both(cuda, lambda k, t: k.cast(t(x), target), exact=True)


def test_integers_and_complex_numbers(cuda: CudaBackend) -> None:
    a, b = RNG.integers(-9, 9, (3, 4)), RNG.integers(1, 9, 4)
    for name in ("add", "multiply", "floor_divide", "remainder", "bitwise_and", "maximum"):
        both(cuda, lambda k, t, n=name: k.map(formulas.FORMULAS[n], t(a), t(b), dtype=I64))
    z = (normal(4) + 1j * normal(4)).astype(np.complex64)
    z[:2] = [complex(np.inf, -1), complex(-np.inf, 0)]
    both(cuda, lambda k, t: k.map(formulas.multiply, t(z[2:]), t(z[2:]), dtype=z.dtype))
    for name in ("tanh", "log", "expm1", "sqrt"):
        both(cuda, lambda k, t, n=name: k.map(formulas.FORMULAS[n], t(z), dtype=z.dtype), rtol=1e-5)
    both(cuda, lambda k, t: k.map(imag, t(z), dtype=F32))
    x = odd(9)
    both(cuda, lambda k, t: k.map(formulas.floor_divide, t(x), 2.0, dtype=F32))
    both(cuda, lambda k, t: k.map(formulas.logical_not, t(x > 0), dtype=BOOL))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(5, 4), (3, 7), (1, 1), (0, 3), (2, 300)], ids=str)
def test_bias_and_activation(cuda: CudaBackend, shape: Any, dtype: Any) -> None:
    z, bias, g = (
        odd(*shape, dtype=dtype),
        normal(shape[1], dtype=dtype),
        normal(*shape, dtype=dtype),
    )
    tanh, leaky = formulas.FORMULAS["tanh"], formulas.FORMULAS["leaky_relu"]

    def apart(k: Any, t: Any) -> Any:
        z_, out = t(z), t(g)
        return z_, k.bias_activation(z_, t(bias), leaky, (0.1,), out=out)

    def in_place(k: Any, t: Any) -> Any:
        z_ = t(z)
        return k.bias_activation(z_, t(bias), tanh, (), out=z_)

    def bias_only(k: Any, t: Any) -> Any:
        z_ = t(z)
        return k.bias_activation(z_, t(bias), None, (), out=z_)

    for operation in (apart, in_place, bias_only):
        both(cuda, operation)
    y = np.tanh(normal(*shape)).astype(dtype)
    for with_bias in (False, True):
        both(
            cuda,
            lambda k, t, w=with_bias: k.bias_activation_backward(
                t(g), t(y), formulas.tanh_dx, (), with_bias=w
            ),
            rtol=1e-5,
        )


@pytest.mark.parametrize("name", formulas.UPDATES)
def test_updates(cuda: CudaBackend, name: str) -> None:
    update = formulas.UPDATES[name]
    for size in (1, 13, 1030):
        arrays = [np.abs(normal(size)) for _ in range(2 + len(update.state))]

        def step(k: Any, t: Any, arrays: Any = arrays) -> Any:
            moved = [t(x) for x in arrays]
            k.update(update.formula, tuple(moved), (0.1,) * len(update.scalars))
            return tuple(moved)

        both(cuda, step, rtol=1e-5)


# Along axes

AXES = [
    ((7,), (0,)),
    ((5, 300), (1,)),
    ((300, 5), (0,)),
    ((3, 20, 4), (1,)),
    ((3, 5, 4), (0, 2)),
    ((2, 3, 4), (0, 1, 2)),
    ((1, 1), (0,)),
    ((0, 4), (0,)),
    ((4, 0), (0,)),
    ((20000,), (0,)),
    ((9000, 2), (0,)),
]


@pytest.mark.parametrize("case", AXES, ids=str)
def test_reductions(cuda: CudaBackend, case: Any) -> None:
    shape, axes = case
    x = normal(*shape)
    count = int(np.prod([shape[axis] for axis in axes]))
    kinds = ("sum", "prod", "max", "min") if 0 < count < 9000 else ("sum",)
    for kind in kinds:
        both(cuda, lambda k, t, n=kind: k.reduce(n, t(x), axes, True, dtype=F32), rtol=1e-5)
    for kind in ("any", "all"):
        both(cuda, lambda k, t, n=kind: k.reduce(n, t(x > 0), axes, False, dtype=BOOL))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_reductions_of_every_float(cuda: CudaBackend, dtype: Any) -> None:
    x = odd(6, 50, dtype=dtype)
    for axis, kind in itertools.product((0, 1), ("sum", "max", "min")):
        both(cuda, lambda k, t, a=axis, n=kind: k.reduce(n, t(x), (a,), False, dtype=dtype))
    both(cuda, lambda k, t: k.reduce("sum", t(x[3:]), (1,), False, dtype=F64), rtol=1e-3)


def test_reductions_of_integers(cuda: CudaBackend) -> None:
    x = RNG.integers(-5, 5, (4, 5))
    for kind in ("sum", "prod", "max", "min"):
        both(cuda, lambda k, t, n=kind: k.reduce(n, t(x), (1,), False, dtype=I64))
    both(cuda, lambda k, t: k.reduce("any", t(x), (0,), False, dtype=BOOL))
    both(cuda, lambda k, t: k.argreduce("max", t(x), 1))
    for kind in ("sum", "prod", "max", "min"):
        both(cuda, lambda k, t, n=kind: k.scan(n, t(x), 1))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_first_extreme(cuda: CudaBackend, dtype: Any) -> None:
    ties = np.array([[1, 3, 3, 2], [np.nan, 5, np.nan, 1], [-np.inf] * 4, [np.inf] * 4], dtype)
    long = np.round(normal(3, 500), 1).astype(dtype)
    for x, kind, axis in itertools.product((ties, long), ("max", "min"), (0, 1)):
        both(cuda, lambda k, t, x=x, n=kind, a=axis: k.argreduce(n, t(x), a))


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
def test_scans(cuda: CudaBackend, kind: str) -> None:
    for shape, axis in (((5,), 0), ((2, 700), 1), ((3, 4, 2), 1), ((0, 3), 1), ((3, 0), 1)):
        x = odd(*shape) if kind in ("max", "min") else normal(*shape) / 4 + 1
        if kind == "prod":
            x = x**0.01
        both(cuda, lambda k, t, x=x, a=axis: k.scan(kind, t(x), a), rtol=2e-4)


ROWS = [(4, 3), (3, 1), (1, 700), (70, 2), (0, 3)]


@pytest.mark.parametrize("shape", ROWS, ids=str)
@pytest.mark.parametrize("log", [False, True])
def test_softmax(cuda: CudaBackend, shape: Any, log: bool) -> None:
    for x in (normal(*shape) * 9, odd(*shape), np.full(shape, -np.inf, F32)):
        both(cuda, lambda k, t, x=x: k.softmax(t(x), log), rtol=1e-5)


@pytest.mark.parametrize("shape", ROWS, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(cuda: CudaBackend, shape: Any, smoothing: float) -> None:
    n, k_ = shape
    x = normal(n, k_) * 5
    classes = RNG.integers(0, k_, n)
    soft = RNG.dirichlet(np.ones(k_), n).astype(F32)
    weights = RNG.uniform(0, 2, n).astype(F32)
    weights[: n // 3] = 0
    for targets, scale in itertools.product((classes, soft), (weights, 0.5)):

        def loss(k: Any, t: Any, targets: Any = targets, scale: Any = scale) -> Any:
            factor = scale if isinstance(scale, float) else t(scale)
            return k.softmax_cross_entropy(t(x), t(targets), factor, smoothing)

        both(cuda, loss, rtol=1e-5)


def test_cross_entropy_of_special_rows(cuda: CudaBackend) -> None:
    rows = [[np.inf, 0, 1], [-np.inf, 0, 1], [np.nan, 0, 1], [300, -300, 0], [1e30, 0, -1e30]]
    x = np.array(rows, F32)
    targets = np.array([0, 1, 1, 0, 1])
    both(cuda, lambda k, t: k.softmax_cross_entropy(t(x), t(targets), 1.0, 0.0))


def test_a_class_out_of_range_gives_nan(cuda: CudaBackend) -> None:
    x, targets = cuda.from_host(normal(3, 4), copy=True), np.array([1, 4, -1])
    losses, gradient = cuda.softmax_cross_entropy(x, cuda.from_host(targets, copy=True), 1.0, 0.0)
    assert np.isnan(cuda.to_host(losses)).tolist() == [False, True, True]
    assert np.isnan(cuda.to_host(gradient)).all(axis=1).tolist() == [False, True, True]
