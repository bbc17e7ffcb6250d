"""How dtypes mix: promotion, weak Python scalars, 16-bit floats, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import dtypes
from gradnet.errors import DTypeError

BF16 = dtypes.bfloat16()
INTS = [dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64]
UINTS = [dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64]
HALVES = [dtypes.float16, BF16]
FLOATS = [*HALVES, dtypes.float32, dtypes.float64]
COMPLEX = [dtypes.complex64, dtypes.complex128]
ALL = [dtypes.bool_, *INTS, *UINTS, *FLOATS, *COMPLEX]


def test_dtypes_are_numpy_dtypes() -> None:
    assert gn.float32 is np.dtype(np.float32)
    assert gn.bool == np.dtype(bool)
    assert gn.bfloat16.name == "bfloat16"
    assert gn.bfloat16.itemsize == 2


@pytest.mark.parametrize("a", ALL, ids=str)
@pytest.mark.parametrize("b", ALL, ids=str)
def test_promotion_is_symmetric_and_never_makes_float64(a: Any, b: Any) -> None:
    try:
        found = dtypes.promote(a, b)
    except DTypeError:
        # The standard has no integer above int64 and uint64.
        assert {dtypes.kind(a), dtypes.kind(b)} == {"int", "uint"}
        assert dtypes.uint64 in (a, b)
        return
    assert found == dtypes.promote(b, a)
    wide = (dtypes.float64, dtypes.complex128)
    assert (found in wide) == (a in wide or b in wide)
    # Within a kind, and between integers, it is NumPy's promotion.
    if BF16 not in (a, b) and dtypes.is_inexact(a) == dtypes.is_inexact(b):
        assert found == np.promote_types(a, b)


@pytest.mark.parametrize("floating", [*FLOATS, *COMPLEX], ids=str)
@pytest.mark.parametrize("whole", [dtypes.bool_, *INTS, *UINTS], ids=str)
def test_integers_beside_floats_become_those_floats(floating: Any, whole: Any) -> None:
    assert dtypes.promote(floating, whole) == floating


def test_different_halves_meet_in_float32() -> None:
    assert dtypes.promote(BF16, dtypes.float16) == dtypes.float32
    assert dtypes.promote(BF16, dtypes.complex64) == dtypes.complex64
    assert dtypes.promote(dtypes.float64, dtypes.complex64) == dtypes.complex128


def test_the_message_of_integers_without_a_common_dtype() -> None:
    with pytest.raises(DTypeError, match="uint64 and int64 have no common integer dtype; cast"):
        gn.asarray([1], dtype=gn.uint64) + gn.asarray([1])


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("scalar", [True, 3, 2.5, 1j], ids=str)
def test_python_scalars_are_weak(dtype: Any, scalar: Any) -> None:
    rank = {"bool": 0, "int": 1, "uint": 1, "float": 2, "complex": 3}
    scalar_rank = {bool: 0, int: 1, float: 2, complex: 3}[type(scalar)]
    found = dtypes.scalar_dtype(scalar, dtype)
    if scalar_rank <= rank[dtypes.kind(dtype)]:
        assert found == dtype
    elif scalar_rank == 3:
        wide = dtype == dtypes.float64
        assert found == (dtypes.complex128 if wide else dtypes.complex64)
    else:
        assert found == {1: dtypes.int64, 2: dtypes.float32}[scalar_rank]
    x = gn.ones((2,), dtype=dtype)
    assert (x * scalar).dtype == found
    assert (scalar * x).dtype == found


@pytest.mark.parametrize("dtype", [*INTS, *UINTS], ids=str)
def test_a_scalar_out_of_range_is_refused(dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = gn.ones((2,), dtype=dtype)
    assert (x * info.max).dtype == dtype
    with pytest.raises(DTypeError, match=f"does not fit {dtype.name}"):
        x + (info.max + 1)
    with pytest.raises(DTypeError, match=f"does not fit {dtype.name}"):
        x - (info.min - 1)


@pytest.mark.parametrize("scalar", [np.float64(2.0), np.float32(2.0), np.int64(2), np.bool_(True)])
def test_scalars_of_numpy_do_not_make_float64(scalar: Any) -> None:
    x = gn.ones((3,))
    for y in (x * scalar, scalar * x, x + scalar, x**scalar, gn.maximum(x, scalar)):
        assert y.dtype == gn.float32
        assert y.numpy().dtype == np.float32
    assert (gn.ones((3,), dtype=gn.float16) * np.float64(2)).dtype == gn.float16
    assert (gn.ones((3,), dtype=gn.complex64) * np.complex128(2)).dtype == gn.complex64


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["divide", "exp", "sin", "sigmoid", "sqrt", "log1p", "atan2"])
@pytest.mark.parametrize("dtype", [dtypes.bool_, *INTS, *UINTS], ids=str)
def test_float_ops_make_float32_of_integers(name: str, dtype: Any) -> None:
    op = gn.ops.elementwise(name)
    x = gn.ones((2,), dtype=dtype)
    y = op(*[x] * op.arity)
    assert y.dtype == gn.float32
    assert y.numpy().dtype == np.float32


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "gelu", "softplus", "sqrt"])
def test_halves_are_computed_in_float32_and_rounded_once(name: str, dtype: Any) -> None:
    x = gn.linspace(0.01, 3.0, 200).astype(dtype)
    op = gn.ops.elementwise(name)
    assert op(x).dtype == dtype
    np.testing.assert_array_equal(op(x).numpy(), op(x.astype(gn.float32)).astype(dtype).numpy())


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_reductions_of_halves_accumulate_in_float32(dtype: Any) -> None:
    ones = gn.ones((100_000,), dtype=dtype)
    # One by one in 16 bits, the sum would stop growing at 2048 or 256.
    assert float(ones.astype(dtype)[:4096].sum()) == 4096
    assert float(ones.mean()) == 1
    assert float(ones.var()) == 0
    big = gn.full((70, 1000), 100.0, dtype=dtype)
    mean = big.mean()
    assert mean.dtype == dtype
    assert float(mean) == 100
    assert float(gn.matmul(ones[:3000][None, :], ones[:3000])[0]) in (3000, 2992, 3008)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_gradients_of_halves_are_halves(dtype: Any) -> None:
    x = gn.asarray([0.5, -1.0, 2.0], dtype=dtype, requires_grad=True)
    y = (gn.tanh(x) * x + gn.where(x > 0, x, 0.1 * x)).mean() + gn.ops.softmax(x)[0]
    y.backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


def test_names_of_dtypes() -> None:
    for given in ("float32", np.float32, gn.float32, float, ">f4"):
        wanted = gn.float64 if given is float else gn.float32
        assert gn.zeros((2,), dtype=given).dtype == wanted
    assert gn.zeros((2,), dtype="bfloat16").dtype == gn.bfloat16
    for bad in ("nothing", "datetime64[s]", "S5", object()):
        with pytest.raises(DTypeError):
            gn.zeros((2,), dtype=bad)


def test_casts() -> None:
    x = gn.asarray([1.7, -1.7, 0.0])
    np.testing.assert_array_equal(x.astype(gn.int32).numpy(), [1, -1, 0])
    np.testing.assert_array_equal(x.astype(gn.bool).numpy(), [True, True, False])
    assert x.to(gn.float64).dtype == gn.float64
    assert gn.astype(x, gn.float32, copy=False) is x
    assert gn.astype(x, gn.float32) is not x
    with pytest.raises(DTypeError, match="take real"):
        gn.ones((2,), dtype=gn.complex64).astype(gn.float32)
    with pytest.raises(DTypeError, match="take real"):
        gn.asarray(gn.ones((2,), dtype=gn.complex64), dtype=gn.float32)


def test_a_cast_to_integers_has_no_gradient_and_one_between_floats_has() -> None:
    x = gn.asarray([1.5, 2.5], requires_grad=True)
    for y in (x.astype(gn.int64), gn.asarray(x, dtype=gn.int64), gn.sum(x, dtype=gn.int64)):
        assert not y.requires_grad
    wide = x.astype(gn.float64)
    (wide * wide).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == gn.float32
    np.testing.assert_array_equal(x.grad.numpy(), [3, 5])


def test_a_sum_in_a_wider_dtype_is_computed_in_it(backend: Any) -> None:
    x = np.full((100_000, 2), 0.1, np.float32)
    exact = 100_000 * float(np.float32(0.1))
    for axis in (0, None):
        total = gn.sum(gn.asarray(x), axis=axis, dtype=gn.float64)
        assert total.dtype == gn.float64
        np.testing.assert_allclose(total.numpy(), exact * (2 if axis is None else 1), rtol=1e-14)


@pytest.mark.parametrize("dtype", [dtypes.bool_, *INTS, *UINTS], ids=str)
def test_sums_of_integers_are_in_64_bits(dtype: Any, backend: Any) -> None:
    wide = gn.uint64 if dtypes.kind(dtype) == "uint" else gn.int64
    for name in ("sum", "prod", "cumulative_sum"):
        assert getattr(gn, name)(gn.ones((3,), dtype=dtype)).dtype == wide
    assert gn.mean(gn.ones((3,), dtype=dtype)).dtype == gn.float32


@pytest.mark.parametrize("name", ["subtract", "negative", "square", "sign", "floor_divide"])
def test_arithmetic_on_bool_is_refused(name: str) -> None:
    op = gn.ops.elementwise(name)
    x = gn.asarray([True, False])
    with pytest.raises(DTypeError, match=f"{name} takes numbers, got bool"):
        op(*[x] * op.arity)


def test_unions_and_intersections_of_bool() -> None:
    x, y = gn.asarray([True, False, True]), gn.asarray([True, True, False])
    for found, expected in ((x + y, [1, 1, 1]), (x * y, [1, 0, 0]), (x ^ y, [0, 1, 1])):
        assert found.dtype == gn.bool
        np.testing.assert_array_equal(found.numpy(), np.array(expected, bool))


@pytest.mark.usefixtures("backend")
def test_choosing_between_scalars() -> None:
    c = gn.asarray([True, False])
    for a, b, dtype in ((5.0, 2.0, gn.float32), (5, 2, gn.int64), (0.1, c, gn.float32)):
        y = gn.where(c, a, b)
        assert y.dtype == dtype
        np.testing.assert_array_equal(
            y.numpy(), np.where([1, 0], a, c.numpy() if b is c else b).astype(dtype)
        )
    assert gn.where(True, 5.0, 2.0).item() == 5
    # The scalar takes the dtype of the tensor that is both condition and choice.
    x = gn.asarray([1.0, 0.0], dtype=gn.float64)
    assert gn.where(x, 0.1, x).tolist() == [0.1, 0.0]
