"""What has no kernel of its own on the GPU, or a layout that none takes: made in other ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.compare import F32, F64, I64, both, normal
from gradnet.kernels.cuda_backend import CudaBackend

from gradnet import formulas
from gradnet.formulas import where

C64 = np.dtype(np.complex64)


def constant(x):  # type: ignore[no-untyped-def]
    return 2


def first(a, b):  # type: ignore[no-untyped-def]
    return -a


def stepped(x):  # type: ignore[no-untyped-def]
    return where(x > 0, 1, 0)


def test_formulas_by_functions(cuda: CudaBackend) -> None:
    whole, z = np.arange(-3, 3), (normal(4, 3) + 1j * normal(4, 3)).astype(C64)
    both(cuda, lambda k, t: k.map(constant, t(whole), dtype=I64), exact=True)
    both(cuda, lambda k, t: k.map(first, t(whole[:2]), t(np.ones((3, 2), I64)), dtype=I64))
    both(cuda, lambda k, t: k.map(formulas.multiply, t(z), t(z[0]), dtype=C64))
    both(cuda, lambda k, t: k.map(formulas.where, t(whole > 0), t(whole), 7, dtype=I64))
    both(cuda, lambda k, t: k.map(stepped, t(whole), dtype=I64), exact=True)


def test_the_real_part_of_complex_numbers(cuda: CudaBackend) -> None:
    z = (normal(5) + 1j * normal(5)).astype(C64)
    real = cuda.cast(cuda.from_host(z, copy=True), F64)
    np.testing.assert_array_equal(cuda.to_host(real), z.real.astype(F64))


@pytest.mark.parametrize("formula", [formulas.tanh, None])
@pytest.mark.parametrize("bias", [True, False])
def test_bias_and_activation_of_any_layout(cuda: CudaBackend, formula: Any, bias: bool) -> None:
    z, b, odd = normal(6, 4), normal(4), normal(3, 8)

    def transposed(k: Any, t: Any) -> Any:
        out = k.full((4, 6), 0.0, F32)
        turned = k.permute(t(z), (1, 0))
        given = t(np.resize(b, 6)) if bias else None
        return k.bias_activation(turned, given, formula, (), out=out)

    def out_of_line(k: Any, t: Any) -> Any:
        # Beginning where no load of 16 bytes may.
        whole = k.view(k.reshape(t(odd), (24,)), (slice(1, 21),))
        out = k.full((5, 4), 0.0, F32)
        return k.bias_activation(k.reshape(whole, (5, 4)), t(b), formula, (), out=out)

    both(cuda, transposed)
    both(cuda, out_of_line)


def test_updates_of_any_layout(cuda: CudaBackend) -> None:
    formula = formulas.UPDATES["sgd"].formula
    p, g = normal(10), normal(10)

    def parts(k: Any, t: Any) -> Any:
        whole = t(p)
        k.update(formula, (k.view(whole, (slice(0, 10, 2),)), t(g[:5])), (0.1, 0.01))
        return whole

    both(cuda, parts)
    both(cuda, lambda k, t: k.update(formula, (t(p[:0]), t(g[:0])), (0.1, 0.01)) or t(p))
    whole = cuda.from_host(np.arange(3), copy=True)
    with pytest.raises(TypeError, match="update cannot compile sgd_update for int64"):
        cuda.update(formula, (whole, whole), (0.1, 0.01))


def test_arrays_of_other_libraries(cuda: CudaBackend) -> None:
    given = normal(3)
    taken = cuda.linalg("dlpack", given)
    copied = cuda.linalg("dlpack", given, copy=True)
    before = given.copy()
    given += 1
    np.testing.assert_array_equal(cuda.to_host(copied), before)
    assert cuda.to_host(taken).shape == (3,)
