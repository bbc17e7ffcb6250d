"""Formulas, kernels and ops on the device against the same in float64 NumPy.

The reference gets the operands as the device has them, widened, so that it is the function of the
same numbers. Errors are ||y - reference|| / ||reference||. Operands are drawn anew on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.gpu.device import Bench
from benchmarks.gpu.notes import Wrong

FLOATS = ("float32", "bfloat16", "float16", "float64")
# How far a result may be from float64's: some units of rounding, and a sum's growth.
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2, "float16": 4e-3, "float64": 1e-11}
NUMBERS = np.ndarray[Any, Any]


def distance(y: NUMBERS, reference: NUMBERS) -> float:
    """||y - reference|| / ||reference||; infinite where one has NaN or infinity and one not."""
    y, reference = np.asarray(y).astype(np.float64), np.asarray(reference).astype(np.float64)
    if y.shape != reference.shape:
        return float("inf")
    finite = np.isfinite(reference)
    if not np.array_equal(y[~finite], reference[~finite], equal_nan=True):
        return float("inf")
    if not np.isfinite(y[finite]).all():
        return float("inf")
    size = np.linalg.norm(reference[finite])
    apart = np.linalg.norm(y[finite] - reference[finite])
    return float(apart / size if size else apart)


class Tally:
    """The errors of many comparisons, and those over their tolerance."""

    def __init__(self) -> None:
        self.worst: dict[str, tuple[float, str]] = {}
        self.wrong: list[str] = []
        self.refused: dict[str, str] = {}
        self.count = 0

    def compare(self, name: str, precision: str, job: Callable[[], Iterable[Any]]) -> None:
        """Compare pairs of a result and its reference; what raises is wrong too."""
        try:
            pairs = list(job())
        except (NotImplementedError, TypeError) as error:
            self.refused[f"{name} in {precision}"] = f"{type(error).__name__}: {error}"[:200]
            return
        except Exception as error:  # noqa: BLE001  the others are compared all the same
            self.wrong.append(f"{name} in {precision}: {type(error).__name__}: {error}"[:300])
            return
        for y, reference in pairs:
            self.count += 1
            error = distance(y, reference)
            if error >= self.worst.get(precision, (-1.0, ""))[0]:
                self.worst[precision] = (error, name)
            if not error <= TOLERANCE[precision]:
                self.wrong.append(f"{name} in {precision}: off by {error:.2g}")

    def told(self) -> dict[str, Any]:
        """The findings. Raises Wrong where something was."""
        found = {
            "counts": {
                "compared": self.count,
                "wrong": len(self.wrong),
                "refused": len(self.refused),
            },
            "worst": {p: {"error": e, "of": name} for p, (e, name) in self.worst.items()},
            "wrong": self.wrong,
            "refused": self.refused,
        }
        if self.wrong:
            raise Wrong("; ".join(self.wrong[:5]), found)
        return found


def _wide(x: NUMBERS) -> NUMBERS:
    return x.astype(np.float64) if x.dtype.kind in "fV" else x


def formulas(bench: Bench, precision: str, share: tuple[int, int] = (0, 1)) -> dict[str, Any]:
    """Every formula of the catalogue, and its derivatives; outputs poisoned.

    `share` (i, n) takes every nth, from the ith on.
    """
    from gradnet import backends, binding, dtypes
    from gradnet import formulas as catalogue

    cpu, gpu = backends.get("numpy"), bench.backend
    rng = np.random.default_rng()
    count = 37 if bench.dry else 100_003
    tally, dtype = Tally(), dtypes.canonical(precision)
    rows = [row for row in catalogue.rows() if row.kind in ("float", "numeric")]
    for row in rows[share[0] :: share[1] * (6 if bench.dry else 1)]:
        low, high = max(row.domain[0], -4.0), min(row.domain[1], 4.0)
        for formula in (row.formula, *filter(None, row.derivatives)):
            names = binding.arguments(formula)
            if not names:
                continue  # a constant
            xs = [rng.uniform(low, high, count).astype(dtype) for _ in names]

            def job(formula: Any = formula, xs: Any = xs) -> Any:
                on_device = [gpu.from_host(x, copy=True) for x in xs]
                out = bench.poisoned((len(xs[0]),), dtype)
                y = gpu.map(formula, *on_device, dtype=dtype, out=out)
                with np.errstate(all="ignore"):
                    expected = cpu.map(formula, *map(_wide, xs), dtype=dtypes.float64)
                    expected = expected.astype(dtype)
                yield gpu.to_host(y), expected

            tally.compare(f"{row.name}, {formula.__name__}", precision, job)
    return tally.told()


def kernels(bench: Bench, precision: str) -> dict[str, Any]:
    """Products, reductions, softmax, cross-entropy, bias and gathers over odd sizes and strides."""
    tally = Tally()
    sizes = ((3, 5, 4),) if bench.dry else ((1, 1, 1), (33, 65, 17), (257, 1000, 511), (3, 4099, 2))
    for n, k, m in sizes:
        for name, job in _kernels(bench, precision, n, k, m).items():
            tally.compare(f"{name} of {n} x {k} x {m}", precision, job)
    return tally.told()


def _kernels(bench: Bench, precision: str, n: int, k: int, m: int) -> dict[str, Any]:
    from gradnet import backends, dtypes
    from gradnet import formulas as catalogue

    cpu, gpu = backends.get("numpy"), bench.backend
    rng, dtype, wide = np.random.default_rng(), dtypes.canonical(precision), dtypes.float64
    tanh, slope = catalogue.FORMULAS["tanh"], catalogue.FORMULAS["tanh_dx"]

    def normal(*shape: int) -> NUMBERS:
        return rng.standard_normal(shape).astype(dtype)

    a, b, bias, classes = normal(n, k), normal(k, m), normal(m), rng.integers(0, m, n)
    z, g = normal(n, m), normal(n, m)

    def both(call: Callable[[Any, Any, Any], Any], *xs: NUMBERS) -> Callable[[], Any]:
        def job() -> Any:
            bench.poison_pool((n * m, n * k, n, m))
            results = call(gpu, dtype, [gpu.from_host(x, copy=True) for x in xs])
            with np.errstate(all="ignore"):
                expected = call(cpu, wide, [_wide(x).copy() for x in xs])
            if not isinstance(results, tuple):
                results, expected = (results,), (expected,)
            for y, reference in zip(results, expected, strict=True):
                found = gpu.to_host(y)
                with np.errstate(over="ignore"):
                    # What is too large for the dtype is infinite in both.
                    yield found, reference.astype(found.dtype)

        return job

    def linear(on: Any, t: Any, xs: Any) -> Any:
        out = on.full((n, m), float("nan"), t)
        return on.bias_activation(xs[0], xs[1], tanh, (), out=out)

    def linear_backward(on: Any, t: Any, xs: Any) -> Any:
        return on.bias_activation_backward(xs[0], xs[1], slope, (), with_bias=True)

    def reduced(kind: str, axes: tuple[int, ...]) -> Callable[[Any, Any, Any], Any]:
        return lambda on, t, xs: on.reduce(kind, xs[0], axes, False, dtype=t)

    def normed(axis: int) -> Callable[[Any, Any, Any], Any]:
        return lambda on, t, xs: on.normalize(*xs, axis, 1e-3)[0]

    def normed_backward(axis: int) -> Callable[[Any, Any, Any], Any]:
        def call(on: Any, t: Any, xs: Any) -> Any:
            mean, factor = on.normalize(xs[1], xs[2], xs[2], axis, 1e-3)[1:]
            return on.normalize_backward(*xs, mean, factor, axis)[0]

        return call

    # Of a few values, a norm's gradient is what rounding leaves.
    many, shift, cotangent = normal(n + 30, m + 30), normal(m + 30), normal(n + 30, m + 30)
    positive = np.abs(a) + np.asarray(0.5, dtype)
    rows = rng.integers(0, n, 2 * n)
    return {
        "product": both(lambda on, t, xs: on.matmul(xs[0], xs[1]), a, b),
        "transposed product": both(
            lambda on, t, xs: on.matmul(on.permute(xs[0], (1, 0)), xs[1]), a, g
        ),
        "bias and tanh": both(linear, z, bias),
        "its backward": both(linear_backward, g, np.tanh(z.astype(np.float64)).astype(dtype)),
        "sum": both(reduced("sum", (0, 1)), positive),
        "sum of columns": both(reduced("sum", (0,)), positive),
        "maxima of rows": both(reduced("max", (1,)), a),
        "softmax": both(lambda on, t, xs: on.softmax(xs[0], False), a),
        "log softmax": both(lambda on, t, xs: on.softmax(xs[0], True), a),
        "cross-entropy": both(
            lambda on, t, xs: on.softmax_cross_entropy(xs[0], xs[1], 1 / n, 0.1), z, classes
        ),
        "batch norm": both(normed(0), many, shift, shift),
        "its gradient": both(normed_backward(0), cotangent, many, shift),
        "layer norm": both(normed(1), many, shift, shift),
        "the gradient of that": both(normed_backward(1), cotangent, many, shift),
        "gather": both(lambda on, t, xs: on.take(xs[0], (xs[1],)), a, rows),
    }


def ops(bench: Bench, precision: str) -> dict[str, Any]:
    """Every op that is declared, on new numbers in the shapes of the tests' samples."""
    import op_samples

    import gradnet as gn
    from gradnet import backends, dtypes

    tally, rng = Tally(), np.random.default_rng()
    dtype = dtypes.canonical(precision)
    declared = op_samples.declared_ops()
    names = [name for name in op_samples.SAMPLES if name in declared]
    for name in names[:: 5 if bench.dry else 1]:
        op = declared[name]

        def job(op: Any = op, name: str = name) -> Any:
            with bench.inside():
                samples = op_samples.SAMPLES[name]()
            for sample in samples:
                parameters = sample.parameters
                if any(key in parameters for key in ("source", "target", "dtype")):
                    continue  # the subject of these is where, or in what, the result is
                xs = [
                    # As far from ties and from the ends of a domain as the sample is.
                    (x * rng.uniform(0.9, 1.0)).astype(dtype)
                    if isinstance(x, np.ndarray) and x.dtype == np.float64
                    else x
                    for x in sample.inputs
                ]
                results = []
                for on, given in ((bench.backend, xs), ("numpy", [_wide(x) for x in xs])):
                    with backends.use(on):
                        tensors = [gn.asarray(x) for x in given]
                        y = op(*tensors, **parameters)
                        results.append([t.numpy() for t in (y if type(y) is tuple else (y,))])
                yield from zip(*results, strict=True)

        tally.compare(name, precision, job)

    return tally.told()
