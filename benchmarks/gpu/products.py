"""The table of cublasLt: which product with which epilogue it has in which precision, how exact.

Each is made by cublasLt alone, with outputs poisoned first, and compared with float64 NumPy; what
it lacks, `product_epilogue` makes of a product and a kernel, which is compared all the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu.comparisons import TOLERANCE, distance
from benchmarks.gpu.device import PRECISIONS, Bench
from benchmarks.gpu.notes import NotThere, Wrong

# Rows and columns of x, and columns of w; widths of a multiple of 8, as GELU needs, and others.
_TINY = ((12, 9, 16), (5, 7, 13))
_SIZES = ((1024, 1024, 1024), (333, 77, 130), (128, 784, 128))
# What GELU's own tanh may be off by, next to products in float32.
_COARSE = {"tf32": 4e-3, "gelu": 1e-3}

NUMBERS = np.ndarray[Any, Any]


class _Case(NamedTuple):
    """A product with an epilogue: its operands, and each output with what it is to be."""

    name: str
    kind: str
    a: Any
    b: Any
    options: dict[str, Any]
    expected: NUMBERS
    others: tuple[tuple[Any, NUMBERS], ...] = ()


def sweep(bench: Bench) -> dict[str, Any]:
    """Every epilogue in every precision: whether cublasLt has it, and how far off it is."""
    backend = _backend(bench)
    if backend.cublaslt is None:
        raise NotThere("cublasLt's bindings (nvmath-python) are not there: CuPy multiplies")
    rows, wrong = [], []
    for precision in PRECISIONS:
        for size in _TINY if bench.dry else _SIZES:
            for case in _cases(backend, precision, size):
                row = _row(bench, backend, precision, size, case)
                rows.append(row)
                if not row["error"] <= row["tolerance"]:
                    wrong.append(f"{case.name} of {size} in {precision}: {row['error']:.2g}")
    found = {"counts": {"products": len(rows), "by_cublaslt": sum(r["native"] for r in rows)}}
    found["table"] = rows  # type: ignore[assignment]
    if wrong:
        raise Wrong(f"{len(wrong)} products are wrong: {'; '.join(wrong[:5])}", found)
    return found


def _backend(bench: Bench) -> Any:
    """The device's, or one made of NumPy that has a cublasLt made of NumPy."""
    if not bench.dry:
        return bench.backend
    from fakes.cublaslt_over_numpy import attach
    from fakes.cupy_over_numpy import fake_backend

    made = fake_backend()
    attach(made)
    return made


def _row(
    bench: Bench, backend: Any, precision: str, size: tuple[int, ...], case: _Case
) -> dict[str, Any]:
    tf32 = precision == "tf32"
    out = backend.full(case.expected.shape, float("nan"), case.a.dtype)
    aux, vector = case.options.get("aux"), case.options.get("bias", case.options.get("dbias"))

    def native() -> Any:
        return backend.cublaslt.product(
            case.a, case.b, out, kind=case.kind, vector=vector, aux=aux, tf32=tf32
        )

    def either() -> Any:
        return backend.product_epilogue(
            case.a, case.b, case.kind, out=out, tf32=tf32, **case.options
        )

    # A mask that was not left is not there to be read.
    mask = case.options.get("mask")
    done = (case.kind != "drelu" or mask.written) and native()
    if not done:
        either()
    pairs = [(out, case.expected), *(case.others if done else ())]
    errors = [distance(backend.to_host(y), reference) for y, reference in pairs]
    tolerance = _COARSE["tf32"] if tf32 else TOLERANCE[precision]
    if "gelu" in case.kind:
        tolerance = max(tolerance, _COARSE["gelu"])
    return {
        "precision": precision,
        "epilogue": case.name,
        "size": list(size),
        "native": done,
        "error": max(errors),
        "tolerance": tolerance,
        "seconds": bench.seconds(native if done else either),
    }


def _cases(backend: Any, precision: str, size: tuple[int, ...]) -> list[_Case]:
    from gradnet.kernels.cublaslt import mask_row
    from gradnet.kernels.cuda_products import Mask

    from gradnet import dtypes

    n, k, m = size
    dtype = dtypes.float32 if precision == "tf32" else dtypes.canonical(precision)
    rng = np.random.default_rng()
    wide: list[NUMBERS] = []

    def drawn(*shape: int, scale: float = 1.0) -> Any:
        host = (scale * rng.standard_normal(shape)).astype(dtype)
        wide.append(host.astype(np.float64))
        return backend.from_host(host, copy=True)

    def blank(*shape: int, of: Any = dtype) -> Any:
        return backend.full(shape, 255 if of == np.uint8 else float("nan"), of)

    x, w, bias = drawn(n, k), drawn(k, m, scale=k**-0.5), drawn(m)
    g, v = drawn(n, k), drawn(m, k, scale=k**-0.5)
    wx, ww, wbias, wg, wv = wide
    z, dz = wx @ ww + wbias, wg @ wv.T
    bits, mask = blank(n, mask_row(m), of=np.dtype(np.uint8)), Mask()
    saved, sums = _on(backend, z, dtype), blank(m)
    relu = {"bias": bias, "aux": bits, "mask": mask}
    found = [
        _Case("product", "", x, w, {}, wx @ ww),
        _Case("bias", "", x, w, {"bias": bias}, z),
        _Case("relu", "relu", x, w, {"bias": bias}, np.maximum(z, 0)),
        _Case("relu with mask", "relu", x, w, relu, np.maximum(z, 0)),
        _Case("gelu", "gelu", x, w, {"bias": bias}, _gelu(z)),
    ]
    # The mask as the product leaves it: the order of its bits is the library's own.
    y, known = blank(n, m), Mask()
    left = blank(n, mask_row(m), of=np.dtype(np.uint8))
    backend.product_epilogue(
        x, w, "relu", bias=bias, aux=left, mask=known, out=y, tf32=precision == "tf32"
    )
    back = backend.permute(v, (1, 0))
    slope = dz * (backend.to_host(y) > 0)
    options = {"saved": y, "aux": left, "mask": known, "dbias": sums}
    others = ((sums, slope.sum(0)),)
    found.append(_Case("relu's gradient", "drelu", g, back, options, slope, others))
    if m % 8 == 0:
        aux = blank(n, m)
        given = {"bias": bias, "aux": aux}
        found.append(_Case("gelu with input", "gelu", x, w, given, _gelu(z), ((aux, z),)))
        slope = dz * _gelu_dx(backend.to_host(saved).astype(np.float64))
        more = blank(m)
        given = {"saved": saved, "aux": saved, "dbias": more}
        found.append(
            _Case("gelu's gradient", "dgelu", g, back, given, slope, ((more, slope.sum(0)),))
        )
    first, second = blank(k), blank(k)
    turned = backend.permute(x, (1, 0))
    found += [
        _Case("sums of b", "sum_b", turned, g, {"dbias": first}, wx.T @ wg, ((first, wg.sum(0)),)),
        _Case(
            "sums of a", "sum_a", turned, g, {"dbias": second}, wx.T @ wg, ((second, wx.sum(0)),)
        ),
    ]
    return found


def _on(backend: Any, host: NUMBERS, dtype: Any) -> Any:
    return backend.from_host(host.astype(dtype), copy=True)


def _inner(z: NUMBERS) -> NUMBERS:
    return np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)


def _gelu(z: NUMBERS) -> NUMBERS:
    return 0.5 * z * (1 + np.tanh(_inner(z)))


def _gelu_dx(z: NUMBERS) -> NUMBERS:
    t = np.tanh(_inner(z))
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z * z)
    return 0.5 * (1 + t) + 0.5 * z * slope * (1 - t * t)
