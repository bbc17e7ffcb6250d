"""The fused kernels of training on Numba: layers, softmax, losses and updates."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gradnet import binding, formulas

pytest.importorskip("numba")

from gradnet.kernels.templates import softmax
from numba_arrays import (
    F4,
    F8,
    FLOATS,
    HALVES,
    INF,
    LAYOUTS,
    NAN,
    NUMBA,
    NUMPY,
    adam_like,
    close,
    laid_out,
    random,
    same,
    seed,
    sgd_like,
)

SHAPES = [(1, 1), (1, 7), (5, 1), (3, 8), (33, 17), (128, 10), (129, 16), (300, 70), (0, 4), (4, 0)]


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_activation(shape: tuple[int, int], dtype: Any) -> None:
    rng = seed("bias", shape)
    z, bias = random(rng, shape, dtype, wild=True), random(rng, shape[1:], dtype)
    leaky = formulas.row("leaky_relu").formula
    cases: list[tuple[Any, tuple[float, ...]]] = [
        (formulas.relu, ()),
        (formulas.tanh, ()),
        (leaky, (0.1,)),
        (None, ()),
    ]
    for (formula, parameters), given_bias, in_place in itertools.product(
        cases, (bias, None), (False, True)
    ):
        results = []
        for backend in (NUMPY, NUMBA):
            own = z.copy()
            out = own if in_place else np.empty_like(z)
            with np.errstate(all="ignore"):
                y = backend.bias_activation(own, given_bias, formula, parameters, out=out)
            assert y is out
            results.append((y, own))
        same(results[1][0], results[0][0])
        same(results[1][1], results[0][1])


@pytest.mark.parametrize("layout", ["fortran", "strided"])
def test_bias_activation_of_other_layouts(layout: str) -> None:
    rng = seed("layout")
    z, bias = random(rng, (6, 5), F4), random(rng, (5,), F4)
    expected = NUMPY.bias_activation(z.copy(), bias, formulas.relu, (), out=np.empty_like(z))
    view = laid_out(z, layout, writable=True)
    same(NUMBA.bias_activation(view, bias, formulas.relu, (), out=view), expected)
    out = np.empty((5, 6), np.float32).T
    repeated = np.repeat(bias, 2)[::2]
    same(NUMBA.bias_activation(z, repeated, formulas.relu, (), out=out), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_activation_backward(shape: tuple[int, int], dtype: Any) -> None:
    rng = seed("backward", shape)
    g, saved = random(rng, shape, dtype), random(rng, shape, dtype)
    leaky = formulas.row("leaky_relu").derivatives[0]
    for derivative, parameters in ((formulas.tanh_dx, ()), (leaky, (0.1,))):
        expected, _ = NUMPY.bias_activation_backward(
            g, saved, derivative, parameters, with_bias=False
        )
        for out in (None, np.empty_like(g), np.empty((*shape, 2), dtype)[..., 0]):
            dz, dbias = NUMBA.bias_activation_backward(
                laid_out(g, "fortran"),
                laid_out(saved, "strided"),
                derivative,
                parameters,
                with_bias=True,
                out=out,
            )
            same(dz, expected)
            close(dbias, expected.sum(axis=0), 4, 1 + np.abs(expected).sum(initial=0))
            total = NUMBA.reduce("sum", dz, (0,), False, dtype=dtype)
            if shape[1] != 1:
                same(dbias, total)
            assert out is None or dz is out
        alone, none = NUMBA.bias_activation_backward(
            g, saved, derivative, parameters, with_bias=False
        )
        same(alone, expected)
        assert none is None


def test_bias_activation_backward_of_a_broadcast_gradient() -> None:
    saved = random(seed("broadcast"), (20, 6), F4)
    g = np.broadcast_to(np.float32(0.5), (20, 6))
    dz, _ = NUMBA.bias_activation_backward(g, saved, formulas.tanh_dx, (), with_bias=True)
    same(dz, NUMPY.map(binding.vjp(formulas.tanh_dx), g, saved, dtype=F4))


LOGITS = [(1, 1), (1, 5), (7, 1), (6, 10), (40, 3), (5, 33), (3, 1000), (2, 513)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", LOGITS)
@pytest.mark.parametrize("log", [False, True])
def test_softmax(shape: tuple[int, int], log: bool, dtype: Any) -> None:
    x = random(seed(shape), shape, dtype)
    expected = NUMPY.softmax(x, log)
    for layout in LAYOUTS:
        close(NUMBA.softmax(laid_out(x, layout), log), expected, 4)
    for out in (np.empty_like(x), np.empty((*shape, 2), dtype)[..., 0], x):
        assert NUMBA.softmax(x, log, out=out) is out
        close(np.ascontiguousarray(out), expected, 4)


EXTREME_LOGITS = [
    [0.0, -INF, 0.0],
    [-INF, -INF, -INF],
    [INF, 0.0, -INF],
    [INF, INF, 1e30],
    [NAN, 0.0, 1.0],
    [1e30, -1e30, 1e30],
    [300.0, -300.0, 0.0],
    [-1e30, -1e30, -1e30],
    [1e-40, -1e-40, 0.0],
    [88.0, 89.0, 1000.0],
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("log", [False, True])
def test_softmax_of_extremes(log: bool, dtype: Any) -> None:
    x = np.array(EXTREME_LOGITS, dtype)
    close(NUMBA.softmax(x, log), NUMPY.softmax(x, log), 4)
    probabilities = NUMBA.softmax(np.delete(x, [1, 4], axis=0), False)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_softmax_of_nothing_and_of_halves() -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        x = np.zeros(shape, np.float32)
        same(NUMBA.softmax(x, False), NUMPY.softmax(x, False))
        found = NUMBA.softmax_cross_entropy(x, np.zeros(shape, np.float32), 1.0, 0.0)
        expected = NUMPY.softmax_cross_entropy(x, np.zeros(shape, np.float32), 1.0, 0.0)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    for dtype in HALVES:
        x = random(seed("half"), (3, 4), dtype)
        same(NUMBA.softmax(x, True), NUMPY.softmax(x, True))
        t = np.array([0, 3, 1])
        for a, b in zip(
            NUMBA.softmax_cross_entropy(x, t, 1.0, 0.0),
            NUMPY.softmax_cross_entropy(x, t, 1.0, 0.0),
            strict=True,
        ):
            same(a, b)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", LOGITS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["classes", "probabilities", "weights"])
def test_softmax_cross_entropy(
    shape: tuple[int, int], smoothing: float, kind: str, dtype: Any
) -> None:
    rng = seed(shape, smoothing, kind)
    x = random(rng, shape, dtype)
    targets = rng.integers(0, shape[1], shape[0])
    if kind != "classes":
        targets = rng.random(shape).astype(dtype)
        targets[0, 0] = 0
        if kind == "probabilities":
            targets /= np.maximum(targets.sum(axis=1, keepdims=True), 0.1)
    each = rng.random(shape[0]).astype(dtype)
    each[-1] = 0
    for scale in (1 / shape[0], each, np.asarray(0.5, dtype), 0.0):
        expected = NUMPY.softmax_cross_entropy(x, targets, scale, smoothing)
        found = NUMBA.softmax_cross_entropy(
            laid_out(x, "fortran"), laid_out(targets, "strided"), scale, smoothing
        )
        close(found[0], expected[0], 8, 10)
        close(found[1], expected[1], 8, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy_of_extremes(smoothing: float, dtype: Any) -> None:
    x = np.array(EXTREME_LOGITS, dtype)
    for column in range(3):
        classes = np.full(len(x), column)
        one_hot = np.eye(3, dtype=dtype)[classes]
        for targets in (classes, one_hot):
            expected = NUMPY.softmax_cross_entropy(x, targets, 0.5, smoothing)
            found = NUMBA.softmax_cross_entropy(x, targets, 0.5, smoothing)
            close(found[0], expected[0], 8)
            close(found[1], expected[1], 8)
    unused = np.zeros(len(x), dtype)
    for part in NUMBA.softmax_cross_entropy(x, one_hot, unused, smoothing):
        np.testing.assert_array_equal(part, 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [1, 2, 15, 16, 17])
@pytest.mark.parametrize("masks", [True, False], ids=["vectors with masks", "without"])
def test_cross_entropy_of_a_row_is_the_same_in_any_table(
    masks: bool, classes: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few classes are a vector, and rows go in blocks: neither shows in a row's bits."""
    monkeypatch.setattr(softmax, "short", lambda k: masks and k <= softmax.SHORT)
    rng = seed("row", classes)
    x, targets = random(rng, (35, classes), dtype), rng.integers(0, classes, 35)
    losses, dx = NUMBA.softmax_cross_entropy(x, targets, 0.25, 0.0)
    expected = NUMPY.softmax_cross_entropy(x, targets, 0.25, 0.0)
    close(losses, expected[0], 8, 10)
    close(dx, expected[1], 8, 1)
    for start, stop in ((0, 1), (1, 16), (3, 19), (34, 35)):
        part = NUMBA.softmax_cross_entropy(x[start:stop], targets[start:stop], 0.25, 0.0)
        same(part[0], losses[start:stop])
        same(part[1], dx[start:stop])


def test_a_class_out_of_range_gives_nan() -> None:
    """It is not checked; but it neither writes beyond the row nor passes for a loss."""
    x = random(seed("range"), (3, 4), F4)
    losses, dx = NUMBA.softmax_cross_entropy(x, np.array([4, -1, 1]), 1.0, 0.0)
    np.testing.assert_array_equal(np.isnan(losses), [True, True, False])
    np.testing.assert_array_equal(np.isnan(dx).all(axis=1), [True, True, False])


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_update_is_exact(size: int, dtype: Any) -> None:
    rng = seed("update", size)
    arrays = [random(rng, (size,), dtype) for _ in range(4)]
    arrays[3] = np.abs(arrays[3])
    for formula, count, scalars in ((adam_like, 4, (0.01, 0.9)), (sgd_like, 2, (0.5,))):
        expected = [x.copy() for x in arrays[:count]]
        NUMPY.update(formula, tuple(expected), scalars)
        found = [x.copy() for x in arrays[:count]]
        NUMBA.update(formula, tuple(found), scalars)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
        same(found[1], arrays[1])


def test_update_of_strided_buffers() -> None:
    memory = random(seed("strided"), (20, 2), F4)
    expected = memory.copy()
    expected[:, 0] -= np.float32(0.5) * expected[:, 1]
    NUMBA.update(sgd_like, (memory[:, 0], memory[:, 1]), (0.5,))
    same(memory, expected)


def test_the_catalogue_of_updates() -> None:
    rng = seed("updates")
    for update in formulas.UPDATES.values():
        names = binding.arguments(update.formula)
        arrays = [
            np.abs(random(rng, (50,), F8)) for _ in range(1 + binding.results(update.formula))
        ]
        scalars = tuple(0.5 for _ in names[len(arrays) :])
        expected = [x.copy() for x in arrays]
        NUMPY.update(update.formula, tuple(expected), scalars)
        NUMBA.update(update.formula, tuple(arrays), scalars)
        for a, b in zip(arrays, expected, strict=True):
            close(a, b)
