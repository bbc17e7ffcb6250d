"""Norms on the CUDA backend: NumPy's results, in so few launches, the same on every run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.compare import BF16, F16, F32, F64, NUMPY, both, normal
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet import nn

# One part and several, one column, more columns than threads in a block.
SHAPES = ((2, 1), (3, 5), (300, 3), (530, 2), (9, 40), (70, 4))
TYPES = ((F32, F32), (F64, F64), (F16, F32), (BF16, BF16))


def tables(n: int, m: int, given: Any, own: Any) -> Any:
    """x and g, weight and bias, and running statistics."""
    x, g = normal(n, m) * 2 + 3, normal(n, m)
    affine = normal(m).astype(own), normal(m).astype(own)
    return x.astype(given), g.astype(given), affine, (normal(m).astype(own), np.ones(m, own))


@pytest.mark.parametrize(("given", "own"), TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_forward_and_backward(
    axis: int, shape: tuple[int, int], given: Any, own: Any, cuda: CudaBackend
) -> None:
    x, g, affine, running = tables(*shape, given, own)
    _, mean, factor = NUMPY.normalize(x, *affine, axis, 1e-3)

    def forward(k: Any, t: Any, affine: Any = affine) -> Any:
        follow = tuple(map(t, running)) if axis == 0 else None
        given = (t(x), *(None if one is None else t(one) for one in affine))
        made = k.normalize(*given, axis, 1e-3, running=follow, momentum=0.25)
        return *made, *(follow or ())

    def backward(k: Any, t: Any, weight: Any = affine[0]) -> Any:
        weight = None if weight is None else t(weight)
        return k.normalize_backward(t(g), t(x), weight, t(mean), t(factor), axis)

    both(cuda, forward, rtol=1e-5)
    both(cuda, backward, rtol=5e-5)
    if given == F32:
        both(cuda, lambda k, t: forward(k, t, (None, None)), rtol=1e-5)
        both(cuda, lambda k, t: backward(k, t, None), rtol=5e-5)


def test_tables_in_another_order(cuda: CudaBackend) -> None:
    x, g, (w, b), _ = tables(6, 9, F32, F32)
    running = np.zeros((5, 4), F32)
    for axis in (0, 1):

        def forward(k: Any, t: Any, axis: int = axis) -> Any:
            table, wide = t(running), k.permute(t(np.stack([w, b, w], 1)), (1, 0))
            turned = k.permute(t(np.ascontiguousarray(x.T)), (1, 0))
            follow = tuple(k.view(table, (slice(None), i)) for i in (1, 3)) if not axis else None
            if not axis:
                turned = k.view(turned, (slice(None), slice(0, 5)))
            own = [k.view(wide, (i, slice(0, 9 if axis else 5))) for i in (0, 1)]
            y, mean, factor = k.normalize(turned, *own, axis, 1e-3, running=follow, momentum=0.5)
            dy = k.view(t(np.stack([g, g], 2)), (slice(None), slice(0, y.shape[1]), 1))
            rest = k.normalize_backward(dy, turned, own[0], mean, factor, axis)
            return y, mean, factor, table, *rest

        both(cuda, forward, rtol=5e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_not_finite(axis: int, cuda: CudaBackend) -> None:
    x, g, (w, b), _ = tables(40, 6, F32, F32)
    x[3, 2], x[9, 4] = np.nan, np.inf

    def run(k: Any, t: Any) -> Any:
        y, mean, factor = k.normalize(t(x), t(w), t(b), axis, 1e-3)
        return y, mean, factor, *k.normalize_backward(t(g), t(x), t(w), mean, factor, axis)

    with np.errstate(invalid="ignore"):
        both(cuda, run, rtol=5e-5)


# The rows, and the launches forwards and backwards.
LAUNCHES: dict[tuple[type[nn.Module], int], tuple[list[str], list[str]]] = {
    (nn.BatchNorm1d, 40): (["norm"], ["norm_backward"]),
    (nn.BatchNorm1d, 2000): (["norm_moments", "norm"], ["norm_slope_sums", "norm_backward"]),
    (nn.LayerNorm, 40): (["norm"], ["norm_backward", "norm_affine"]),
    (nn.LayerNorm, 2000): (["norm"], ["norm_backward", "norm_affine"]),
}


@pytest.mark.parametrize(("kind", "rows"), LAUNCHES, ids=str)
def test_launches(kind: Any, rows: int, backend: CudaBackend) -> None:
    layer, done = kind(3), backend._device.cupy.done
    x = gn.asarray(normal(rows, 3), requires_grad=True)
    g = gn.ones((rows, 3))
    done.clear()
    y = layer(x)
    forward = [what.partition(" ")[2] for what in done if what != "allocate"]
    done.clear()
    gn.ops.sum(y * g).backward()
    backward = [what.partition(" ")[2] for what in done if "norm" in what]
    assert (forward, backward) == LAUNCHES[kind, rows]
    assert len(forward) <= 2 >= len(backward)
    done.clear()
    layer.eval()(x.detach())
    assert sum("launch" in what for what in done) <= 2
