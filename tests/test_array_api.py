"""The namespace as the array API standard has it, with a derivative for all that has one.

The functions are found by walking the namespace, so that a new one is tested from the day it is
there, or fails for want of a case. Rows of the formulas are walked by test_ops.py, `linalg` and
`fft` by test_linalg.py.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from op_samples import distinct, normal, positive

import gradnet as gn
from gradnet.backends import Backend
from gradnet.ops.elementwise import Elementwise

Case = tuple[Callable[..., Any], tuple[np.ndarray[Any, Any], ...]]


def words(text: str) -> set[str]:
    return set(text.split())


# The functions of the standard, 2025.12.
STANDARD = words(
    """
    arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones
    ones_like tril triu zeros zeros_like astype can_cast finfo iinfo isdtype result_type abs
    acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
    bitwise_or bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp
    expm1 floor floor_divide greater greater_equal hypot imag isfinite isinf isnan less
    less_equal log log1p log2 log10 logaddexp logical_and logical_not logical_or logical_xor
    maximum minimum multiply negative nextafter not_equal positive pow real reciprocal remainder
    round sign signbit sin sinh square sqrt subtract tan tanh trunc take take_along_axis matmul
    matrix_transpose tensordot vecdot broadcast_arrays broadcast_shapes broadcast_to concat
    expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack tile unstack argmax
    argmin count_nonzero nonzero searchsorted where isin unique_all unique_counts unique_inverse
    unique_values argsort sort cumulative_prod cumulative_sum max mean min prod std sum var all
    any diff
    """
)
BESIDES = words("concatenate einsum transpose dot outer pad trace diagonal swapaxes split")

# Per function, what is differentiated. A tuple of results is differentiated as one.
CASES: dict[str, Callable[[], list[Case]]] = {
    "asarray": lambda: [(gn.asarray, (normal(3, 2),))],
    "array": lambda: [(lambda x: gn.array([x[0], 2 * x[1]]), (normal(3, 2),))],
    "astype": lambda: [
        (lambda x: gn.astype(x, gn.complex128), (normal(3, 2),)),
        (lambda x: gn.astype(x, gn.float64), (normal(3, 2),)),
    ],
    "batch_norm": lambda: [
        (gn.ops.batch_norm, (normal(4, 3), positive(3), normal(3))),
        (
            lambda x: gn.ops.batch_norm(x, running=(gn.ones(3), gn.ones(3)), training=False),
            (normal(4, 3),),
        ),
    ],
    "broadcast_arrays": lambda: [(gn.broadcast_arrays, (normal(3, 1), normal(2)))],
    "broadcast_to": lambda: [(lambda x: gn.broadcast_to(x, (2, 3, 2)), (normal(3, 1),))],
    "clip": lambda: [
        (lambda x: gn.clip(x, -0.31, 0.41), (normal(3, 4),)),
        (lambda x, low: gn.clip(x, min=low), (normal(3, 4), 0.1 * normal(4))),
        (lambda x: gn.clip(x, max=0.1), (normal(3, 4),)),
    ],
    "cumprod": lambda: [
        (gn.cumprod, (normal(2, 3),)),
        (lambda x: gn.cumprod(x, 1), (normal(2, 3),)),
    ],
    "cumsum": lambda: [(gn.cumsum, (normal(2, 3),)), (lambda x: gn.cumsum(x, 0), (normal(2, 3),))],
    "gradient": lambda: [(gn.gradient, (normal(4, 3),))],
    "concat": lambda: [
        (lambda x, y: gn.concat([x, y], axis=1), (normal(2, 3), normal(2, 1))),
        (lambda x, y: gn.concat((x, y), axis=None), (normal(2, 3), normal(4))),
    ],
    "concatenate": lambda: [(lambda x, y: gn.concatenate([x, y]), (normal(2), normal(3)))],
    "conj": lambda: [(gn.conj, (normal(3) + 1j * positive(3),))],
    "copy": lambda: [(gn.copy, (normal(3),))],
    "cumulative_prod": lambda: [(gn.cumulative_prod, (positive(5),))],
    "cumulative_sum": lambda: [
        (lambda x: gn.cumulative_sum(x, axis=1, include_initial=True), (normal(2, 3),))
    ],
    "diagonal": lambda: [(lambda x: gn.diagonal(x, offset=1), (normal(2, 3, 4),))],
    "diff": lambda: [
        (lambda x: gn.diff(x, n=2), (normal(2, 5),)),
        (lambda x, y: gn.diff(x, axis=0, prepend=y, append=y), (normal(3), normal(2))),
    ],
    "dot": lambda: [
        (gn.dot, (normal(3), normal(3))),
        (gn.dot, (normal(2, 3), normal(3))),
        (gn.dot, (normal(2, 3), normal(2, 3, 2))),
    ],
    "einsum": lambda: [
        (
            lambda a, b, c: gn.einsum("ij,jk,kl->il", a, b, c),
            (normal(2, 3), normal(3, 4), normal(4, 2)),
        ),
        (lambda a: gn.einsum("ii", a), (normal(3, 3),)),
    ],
    "expand_dims": lambda: [(lambda x: gn.expand_dims(x, axis=(0, -1)), (normal(3),))],
    "flip": lambda: [(lambda x: gn.flip(x, axis=1), (normal(2, 3),))],
    "full": lambda: [(lambda x: gn.full((2, 3), x, dtype=gn.complex128), (normal(),))],
    "full_like": lambda: [(lambda x: gn.full_like(x[:2], x[2]), (normal(3),))],
    "getitem": lambda: [(lambda x: gn.ops.getitem(x, ([0, 0, 1], slice(1))), (normal(2, 3),))],
    "imag": lambda: [(gn.imag, (normal(3) + 1j * positive(3),))],
    "layer_norm": lambda: [(gn.ops.layer_norm, (normal(2, 2, 3), positive(3), normal(3)))],
    "linear": lambda: [(gn.ops.linear, (normal(2, 3), normal(3, 4), normal(4)))],
    "log_softmax": lambda: [(gn.ops.log_softmax, (normal(2, 3),))],
    "logsumexp": lambda: [(lambda x: gn.ops.logsumexp(x, axis=1), (normal(2, 3),))],
    "matmul": lambda: [
        (gn.matmul, (normal(2, 3, 4), normal(4, 2))),
        (gn.matmul, (normal(4), normal(2, 4, 2))),
        (gn.matmul, (normal(2, 3, 4), normal(4))),
    ],
    "matrix_transpose": lambda: [(gn.matrix_transpose, (normal(2, 3, 4),))],
    "max": lambda: [(lambda x: gn.max(x, axis=0), (distinct(3, 4),))],
    "mean": lambda: [(lambda x: gn.mean(x, axis=(0, 2), keepdims=True), (normal(2, 3, 2),))],
    "meshgrid": lambda: [(gn.meshgrid, (normal(2), normal(3)))],
    "min": lambda: [(lambda x: gn.min(x, axis=(0, 1)), (distinct(3, 4),))],
    "moveaxis": lambda: [(lambda x: gn.moveaxis(x, 0, -1), (normal(2, 3, 4),))],
    "outer": lambda: [(gn.outer, (normal(2), normal(3)))],
    "pad": lambda: [
        (lambda x: gn.pad(x, ((1, 0), (0, 2)), constant_values=3), (normal(2, 3),)),
        (lambda x: gn.pad(x, 1, constant_values=x[0, 0]), (normal(2, 3),)),
    ],
    "permute_dims": lambda: [(lambda x: gn.permute_dims(x, (2, 0, 1)), (normal(2, 3, 4),))],
    "prod": lambda: [(lambda x: gn.prod(x, axis=1), (normal(2, 4),))],
    "ravel": lambda: [(gn.ravel, (normal(2, 3),))],
    "real": lambda: [(gn.real, (normal(3) + 1j * positive(3),))],
    "repeat": lambda: [
        (lambda x: gn.repeat(x, 2, axis=0), (normal(2, 3),)),
        (lambda x: gn.repeat(x, gn.asarray([0, 2, 1]), axis=1), (normal(2, 3),)),
    ],
    "reshape": lambda: [(lambda x: gn.reshape(x, (3, -1)), (normal(2, 3),))],
    "roll": lambda: [(lambda x: gn.roll(x, (1, -2), axis=(0, 1)), (normal(2, 3),))],
    "scatter_add": lambda: [
        (lambda x, v: gn.ops.scatter_add(x, gn.asarray([0, 0, 2]), v), (normal(3, 2), normal(3, 2)))
    ],
    "setitem": lambda: [(lambda x, v: _assigned(x, v), (normal(3, 2), normal(2)))],
    "softmax": lambda: [(gn.ops.softmax, (normal(2, 3),))],
    "softmax_cross_entropy": lambda: [
        (
            lambda x: gn.ops.softmax_cross_entropy(x, gn.asarray([0, 2]), 0.5, 0.1),
            (normal(2, 3),),
        )
    ],
    "sort": lambda: [(lambda x: gn.sort(x, axis=0, descending=True), (distinct(4, 2),))],
    "split": lambda: [(lambda x: tuple(gn.split(x, [1, 2])), (normal(4, 2),))],
    "squeeze": lambda: [(lambda x: gn.squeeze(x, 1), (normal(3, 1),))],
    "stack": lambda: [(lambda x, y: gn.stack([x, y], axis=1), (normal(2, 3), normal(2, 3)))],
    "std": lambda: [(lambda x: gn.std(x, axis=0, correction=1), (normal(4, 2),))],
    "sum": lambda: [(lambda x: gn.sum(x, axis=-1), (normal(2, 3),))],
    "swapaxes": lambda: [(lambda x: gn.swapaxes(x, 0, 2), (normal(2, 3, 4),))],
    "take": lambda: [(lambda x: gn.take(x, gn.asarray([2, 0, 2]), axis=1), (normal(2, 3),))],
    "take_along_axis": lambda: [
        (lambda x: gn.take_along_axis(x, gn.asarray([[0, 1, 0]]), axis=0), (normal(2, 3),))
    ],
    "tensordot": lambda: [(lambda a, b: gn.tensordot(a, b, axes=1), (normal(2, 3), normal(3, 4)))],
    "tile": lambda: [(lambda x: gn.tile(x, (2, 1, 3)), (normal(2, 3),))],
    "to_backend": lambda: [(lambda x: gn.ops.to_backend(x, x.backend, copy=True), (normal(3),))],
    "top_k": lambda: [(lambda x: gn.ops.top_k(x, 2)[0], (distinct(2, 4),))],
    "trace": lambda: [(gn.trace, (normal(2, 3, 3),))],
    "transpose": lambda: [(gn.transpose, (normal(2, 3, 4),))],
    "tril": lambda: [(lambda x: gn.tril(x, k=-1), (normal(3, 4),))],
    "triu": lambda: [(lambda x: gn.triu(x, k=1), (normal(2, 3, 3),))],
    "unique_all": lambda: [(lambda x: gn.unique_all(x).values, (distinct(2, 3),))],
    "unique_counts": lambda: [(lambda x: gn.unique_counts(x).values, (distinct(2, 3),))],
    "unique_inverse": lambda: [(lambda x: gn.unique_inverse(x).values, (distinct(2, 3),))],
    "unique_values": lambda: [(gn.unique_values, (distinct(2, 3),))],
    "unstack": lambda: [(lambda x: gn.unstack(x, axis=1), (normal(2, 3),))],
    "var": lambda: [(lambda x: gn.var(x, axis=1, correction=1), (normal(2, 4),))],
    "vecdot": lambda: [(lambda a, b: gn.vecdot(a, b, axis=-2), (normal(2, 3, 4), normal(3, 4)))],
    "where": lambda: [(lambda a, b: gn.where(a > 0, a * b, b), (normal(2, 3), normal(3)))],
    "vector_norm": lambda: [(lambda x: gn.vector_norm(x, axis=-1, ord=3), (positive(2, 3),))],
}
# Without a derivative: constants, positions, counts, truth values and descriptions.
FLAT = words(
    """all any arange argmax argmin argsort broadcast_shapes can_cast count_nonzero empty empty_like
    eye finfo from_dlpack iinfo isdtype isin linspace nonzero one_hot ones ones_like
    result_type searchsorted zeros zeros_like"""
)
# Tools around the array namespace.
TOOLS = words(
    """capture checkpoint device_info elementwise enable_grad explain fit grad gradcheck hessian hvp
    is_grad_enabled jacobian jvp load no_grad op value_and_grad vjp wrap"""
)


def _assigned(x: Any, v: Any) -> Any:
    y = gn.copy(x)
    y[1] = v * x[0]
    return y


def namespace() -> dict[str, Any]:
    names = (name for name in dir(gn) if not name.startswith("_"))
    return {name: getattr(gn, name) for name in names}


def functions() -> set[str]:
    return {
        name
        for name, value in namespace().items()
        if callable(value) and not isinstance(value, type | Elementwise)
    }


def test_all_names_of_the_standard_are_there() -> None:
    assert not (STANDARD | BESIDES) - set(namespace())
    assert {"e", "inf", "nan", "newaxis", "pi", "bool", "complex64"} <= set(namespace())
    assert gn.__array_api_version__ == "2025.12"
    assert gn.ones(()).__array_namespace__() is gn


def test_modules_of_the_inside_are_not_in_the_namespace() -> None:
    rooms = {name for name, value in namespace().items() if isinstance(value, ModuleType)}
    assert rooms.isdisjoint({"reduce", "shape", "index", "complex", "math", "importlib"})


def test_every_function_is_differentiated_or_said_to_be_flat() -> None:
    forgotten = functions() - set(CASES) - FLAT - TOOLS
    assert not forgotten, f"give these a case, or list them as without a derivative: {forgotten}"
    assert not (set(CASES) | FLAT | TOOLS) - functions(), "these are gone"


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name: str, backend: Backend) -> None:
    for f, operands in CASES[name]():
        gn.gradcheck(f, *operands, order=2, directions=2)


def test_functions_show_their_signatures() -> None:
    assert list(inspect.signature(gn.add).parameters) == ["a", "b"]
    assert inspect.signature(gn.leaky_relu).parameters["alpha"].default == 0.01


# Sets


def test_unique(backend: Backend) -> None:
    x = np.array([[3.0, 1.0, np.nan], [1.0, np.nan, 3.0], [-0.0, 0.0, 3.0]])
    found = gn.unique_all(gn.asarray(x))
    assert found.values.tolist()[:3] == [0.0, 1.0, 3.0]
    assert found.values.shape == (5,)
    assert found.counts.tolist() == [2, 2, 3, 1, 1]
    assert found.indices.tolist()[:3] == [6, 1, 0]
    assert found.inverse_indices.shape == x.shape
    np.testing.assert_array_equal(found.values[found.inverse_indices].numpy(), x)
    empty = gn.unique_all(gn.ones((0, 2)))
    assert [y.shape for y in empty] == [(0,), (0,), (0, 2), (0,)]


def test_isin(backend: Backend) -> None:
    x = gn.asarray([[1, 2], [3, 9]])
    assert gn.isin(x, gn.asarray([3, 1])).tolist() == [[True, False], [True, False]]
    assert gn.isin(x, [3, 1], invert=True).tolist() == [[False, True], [False, True]]
    assert gn.isin(gn.asarray([float("nan")]), gn.asarray([float("nan")])).tolist() == [False]
    assert gn.isin(2, x).item() is True
    assert gn.isin(x, gn.ones((0,), dtype=gn.int64)).tolist() == [[False, False]] * 2


# The conformance suite

RECORD = Path(__file__).parents[1] / "benchmarks" / "results" / "array_api.json"
# An error of the suite itself: it looks for a dtype with `None == to`, which NumPy says is true of
# float64, so that it expects can_cast(complex64, float64).
SUITE_ERRORS = {"test_can_cast"}


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_conformance_suite(name: str) -> None:
    folder = os.environ.get("ARRAY_API_TESTS_DIR")
    if not folder:
        pytest.skip("set ARRAY_API_TESTS_DIR to a checkout of data-apis/array-api-tests")
    if name not in gn.backends.available():
        pytest.skip(f"the {name} backend cannot be loaded here")
    environment = {
        **os.environ,
        "ARRAY_API_TESTS_MODULE": "gradnet",
        "GRADNET_BACKEND": name,
    }
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "array_api_tests", "-q", "-p", "no:cacheprovider"),
            *("-W", "ignore", "--disable-deadline"),
            *("--max-examples", os.environ.get("ARRAY_API_TESTS_EXAMPLES", "20")),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    failed = {line.split("::")[-1].split(" ")[0].split("[")[0] for line in _failures(result.stdout)}
    assert failed <= SUITE_ERRORS, result.stdout[-6000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None, result.stdout[-2000:] + result.stderr[-2000:]
    assert int(passed[1]) >= json.loads(RECORD.read_text())["backends"][name]["passed"]


def _failures(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
