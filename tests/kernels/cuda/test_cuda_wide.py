"""Several elements at a time: of 16 bits and of masks, at any size and wherever an array begins."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from fakes.compare import BF16, BOOL, F16, F32, F64, both, normal, odd
from gradnet.kernels import cuda_rows
from gradnet.kernels.cuda_backend import CudaBackend

from gradnet import binding, formulas

HALVES = pytest.mark.parametrize("half", [F16, BF16], ids=str)
# How many elements from the start of its memory an array begins.
BEGIN = pytest.mark.parametrize("begin", [0, 1, 4, 8])


def widths(cuda: CudaBackend, kind: str) -> set[int]:
    """How many elements the launched programs of a kind store at a time."""
    texts = [one.text for one in cuda._device.launch.programs if one.kind == kind]  # type: ignore[attr-defined]
    return {max([1, *map(int, re.findall(r"store(\d)", text))]) for text in texts}


@HALVES
@BEGIN
@pytest.mark.parametrize("n", [1, 7, 8, 9, 77, 301])
def test_maps(cuda: CudaBackend, half: Any, begin: int, n: int) -> None:
    x, y = odd(begin + n, dtype=half), normal(begin + n, dtype=half)
    chain = binding.compose(formulas.FORMULAS["relu"], formulas.add)

    def work(k: Any, t: Any) -> Any:
        a, b = (k.view(t(v), (slice(begin, None),)) for v in (x, y))
        below = k.map(formulas.FORMULAS["less"], a, b, dtype=BOOL)
        chosen = k.map(formulas.FORMULAS["where"], below, a, 2.0, dtype=half)
        into = k.view(t(np.zeros(begin + n, half)), (slice(begin, None),))
        return below, chosen, k.map(chain, a, b, dtype=half, out=into)

    both(cuda, work, exact=True)
    # What is read from its place decides, 16 bytes at a time or one by one.
    assert widths(cuda, "map") == ({8} if begin % 8 == 0 else {1})


@HALVES
@BEGIN
@pytest.mark.parametrize("n", [3, 5, 67])
def test_casts(cuda: CudaBackend, half: Any, begin: int, n: int) -> None:
    x = odd(begin + n)

    def work(k: Any, t: Any) -> Any:
        rounded = k.cast(k.view(t(x), (slice(begin, None),)), half)
        return rounded, k.cast(rounded, F32), k.cast(k.cast(rounded, F64), F32)

    both(cuda, work, exact=True)
    assert widths(cuda, "map") == ({4, 2} if begin % 4 == 0 else {1, 4, 2})


@HALVES
@pytest.mark.parametrize(("m", "width"), [(16, 8), (12, 4), (10, 2), (9, 1)])
def test_bias_and_activation(cuda: CudaBackend, half: Any, m: int, width: int) -> None:
    z, bias = normal(5, m, dtype=half), normal(m, dtype=half)

    def work(k: Any, t: Any) -> Any:
        given, out = t(z), t(np.zeros_like(z))
        k.bias_activation(given, t(bias), formulas.FORMULAS["tanh"], (), out=out)
        return given, out

    both(cuda, work)
    assert widths(cuda, "bias_activation") == {width}


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
@pytest.mark.parametrize("m", [16, 10, 9])
def test_bias_gradients(
    cuda: CudaBackend, dtype: Any, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits at every width."""
    # Whose sums no order rounds.
    g, saved = (np.rint(2 * normal(70, m)).astype(dtype) / dtype.type(s) for s in (1, 2))

    def work(k: Any, t: Any) -> Any:
        made = k.bias_activation_backward(t(g), t(saved), formulas.tanh_dx, (), with_bias=True)
        return *made, k.reduce("max", t(g), (0,), False, dtype=dtype)

    found = []
    for enough in (1, 1000):
        monkeypatch.setattr(cuda_rows, "ENOUGH", enough)
        both(cuda, work, exact=True)
        made = work(cuda, lambda x: cuda.from_host(x, copy=True))
        found.append([cuda.to_host(x).tobytes() for x in made])
    assert found[0] == found[1]
    size = min(8 // dtype.itemsize, m & -m)
    assert widths(cuda, "backward") == {1, size}
