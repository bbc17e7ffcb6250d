"""NumPy's functions on Tensors, and memory shared with NumPy, PyTorch and others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy_calls import FUNCTIONS, MATRIX, POSITIVE, WITHOUT_GRADIENT, gaps

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DeviceError, GraphError, ShapeError
from gradnet.interop import hooks, numpy_functions, numpy_table
from gradnet.tensor import Tensor

UNARY = """absolute arccos arccosh arcsin arcsinh arctan arctanh ceil cos cosh exp exp2 expm1 fabs
floor isfinite isinf isnan log log10 log1p log2 negative positive reciprocal rint sign signbit sin
sinh sqrt square tan tanh trunc conjugate logical_not deg2rad rad2deg degrees radians"""
BINARY = """add arctan2 copysign divide divmod equal float_power floor_divide greater
greater_equal hypot
less less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter
not_equal power remainder subtract matmul vecdot
fmax fmin logaddexp2 matvec vecmat"""


@pytest.mark.parametrize("name", UNARY.split())
def test_ufuncs_of_one_operand(name: str, backend: Backend) -> None:
    values = np.cosh(MATRIX) if name == "arccosh" else POSITIVE / POSITIVE.max() * 0.9
    check(getattr(np, name), values)


@pytest.mark.parametrize("name", BINARY.split())
def test_ufuncs_of_two_operands(name: str, backend: Backend) -> None:
    ufunc = getattr(np, name)
    check(ufunc, POSITIVE, MATRIX.T + 0.5 if name in ("matmul", "vecdot") else POSITIVE.T)
    # An array on either side leaves the result a Tensor.
    x = gn.asarray(POSITIVE)
    for y in (ufunc(POSITIVE, x), ufunc(x, POSITIVE)):
        assert all(isinstance(z, Tensor) for z in (y if name == "divmod" else (y,)))


def check(f: Callable[..., Any], *operands: np.ndarray[Any, Any], **options: Any) -> None:
    """The values are NumPy's, the result is a Tensor, and its gradient is there."""
    expected = f(*operands, **options)
    tensors = [gn.asarray(x, requires_grad=True) for x in operands]
    found = f(*tensors, **options)
    several = isinstance(expected, tuple | list)
    for y, z in zip(
        found if several else [found], expected if several else [expected], strict=True
    ):
        assert isinstance(y, Tensor), f"{f} gave {type(y)}"
        np.testing.assert_allclose(y.numpy(), z, rtol=1e-9, atol=1e-12)
        if y.dtype.kind in "fc" and not _flat(f):
            assert y.requires_grad


def _flat(f: Any) -> bool:
    names = ("nextafter", "floor_divide", "ones_like", "zeros_like", "full_like", "empty_like")
    return getattr(f, "__name__", "") in names


def test_methods_of_ufuncs(backend: Backend) -> None:
    for method, ufunc in ((m, u) for m in ("reduce", "accumulate") for u in (np.add, np.multiply)):
        check(getattr(ufunc, method), MATRIX)
        check(getattr(ufunc, method), MATRIX, axis=1)
    check(np.maximum.reduce, MATRIX)
    check(np.add.reduce, MATRIX, axis=1, keepdims=True)
    check(np.subtract.outer, MATRIX[0], MATRIX[1])
    check(np.add, MATRIX, MATRIX, dtype=np.float32)


def test_every_function_known_has_a_case() -> None:
    assert set(FUNCTIONS) == set(numpy_table.FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy(name: str, backend: Backend) -> None:
    f = FUNCTIONS[name]
    expected = f(POSITIVE)
    found = f(gn.asarray(POSITIVE, requires_grad=True))
    several = isinstance(expected, tuple | list)
    pairs = zip(found, expected, strict=True) if several else [(found, expected)]
    for y, z in pairs:
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), z, rtol=1e-6, atol=1e-12)
        if y.dtype.kind in "fc" and name not in WITHOUT_GRADIENT:
            assert y.requires_grad


COMPOSED = [name for name, (ours, *_) in numpy_table.FUNCTIONS.items() if "interop." in ours]
FLAT = {"around", "round", "argsort", "nanargmax", "nanargmin"}


@pytest.mark.parametrize("name", sorted({*COMPOSED} - FLAT))
def test_derivatives_of_functions_made_of_others(name: str) -> None:
    gn.gradcheck(FUNCTIONS[name], POSITIVE + np.diag([0.3, 0.5, 0.7]), directions=2)


CURVES = {
    "cbrt": np.cbrt,
    "deg2rad": np.deg2rad,
    "float_power": lambda x: np.float_power(x, x),
    "fmax": lambda x: np.fmax(gaps(x), x[0] + 0.01),
    "fmin": lambda x: np.fmin(x[0] + 0.01, gaps(x)),
    "logaddexp2": lambda x: np.logaddexp2(x, x.T),
    "matvec": lambda x: np.matvec(x, x[0]),
    "rad2deg": np.rad2deg,
    "vecmat": lambda x: np.vecmat(x[0] * 1j, x),
}


@pytest.mark.parametrize("name", CURVES)
def test_derivatives_of_ufuncs_made_of_others(name: str) -> None:
    np.testing.assert_allclose(CURVES[name](gn.asarray(POSITIVE)).numpy(), CURVES[name](POSITIVE))
    gn.gradcheck(CURVES[name], POSITIVE, order=2, directions=2)


def test_rank_by_a_tolerance_is_numpys() -> None:
    assert np.linalg.matrix_rank(gn.asarray(POSITIVE), 2.0) == np.linalg.matrix_rank(POSITIVE, 2.0)


def test_whole_numbers_to_a_floating_power() -> None:
    found = np.float_power(gn.asarray([1, 2]), -1)
    assert found.dtype == gn.float32
    assert found.tolist() == [1.0, 0.5]


NAN_FUNCTIONS = ("max", "min", "mean", "median", "prod", "std", "sum", "var", "cumprod", "cumsum")


@pytest.mark.parametrize("name", NAN_FUNCTIONS)
def test_missing_values_get_no_gradient(name: str) -> None:
    f = getattr(np, f"nan{name}")
    x = gn.asarray(POSITIVE + np.arange(3) * 2, requires_grad=True)
    gn.sum(f(gaps(x), axis=0)).backward()
    assert x.grad is not None
    g = x.grad.numpy()
    np.testing.assert_array_equal(np.diag(g), 0)
    assert np.isfinite(g).all()
    assert np.abs(g).sum() > 0
    gn.gradcheck(lambda x: f(gaps(x), axis=0), x.detach())


def test_where_nothing_is_left() -> None:
    x = gn.asarray([[np.nan, np.nan], [1.0, np.nan]])
    for name in ("max", "min", "mean", "median", "std", "var"):
        found = getattr(np, f"nan{name}")(x, axis=1).numpy()
        np.testing.assert_array_equal(np.isnan(found), [True, False])
    assert np.nansum(x, axis=1).tolist() == [0.0, 1.0]
    assert np.isnan(np.nanstd(x, axis=1, ddof=1).numpy()).all()
    np.testing.assert_array_equal(np.isnan(np.median(x, axis=1).numpy()), [True, True])
    with pytest.raises(ValueError, match="nanargmax got a slice of NaNs alone"):
        np.nanargmax(x, axis=1)


def test_composed_functions_of_other_operands() -> None:
    row = np.asarray([1.0, 2.0])
    for k in (-1, 0, 2):
        np.testing.assert_array_equal(np.diag(gn.asarray(row), k).numpy(), np.diag(row, k))
    with pytest.raises(ShapeError, match="expected one or two dimensions"):
        np.diag(gn.ones((2, 2, 2)))
    whole = gn.asarray([3, 4])
    assert np.nan_to_num(whole).tolist() == [3, 4]
    assert np.median(whole).item() == 3.5
    odd = np.asarray([np.inf, -np.inf, np.nan, 1], np.float32)
    np.testing.assert_array_equal(np.nan_to_num(gn.asarray(odd)).numpy(), np.nan_to_num(odd))
    assert [x.tolist() for x in np.where(gn.asarray([[False, True]]))] == [[0], [1]]


def test_pad_refuses() -> None:
    x = gn.ones((2, 3))
    for width in (-1, (1, 2, 3), ((1, 1), (1, 1), (1, 1))):
        with pytest.raises(ShapeError, match="pad got the widths"):
            gn.pad(x, width)
    with pytest.raises(ValueError, match=r"pad got the mode 'mean'.*; there is 'constant'"):
        gn.pad(x, 1, mode="mean")
    with pytest.raises(ValueError, match="reflect_type 'odd'"):
        gn.pad(x, 1, mode="reflect", reflect_type="odd")
    with pytest.raises(TypeError, match="any takes no out"):
        gn.any(x, out=x)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"no derivative of numpy\.pad"):
        np.pad(gn.ones((2, 3)).requires_grad_(), 1, mode="mean")


def test_a_loss_written_for_numpy_has_a_gradient(backend: Backend) -> None:
    def loss(w: Any) -> Any:
        z = np.tanh(MATRIX @ w)
        return np.sum(np.square(z)) / np.linalg.vector_norm(w)

    gn.gradcheck(loss, MATRIX[0], order=2)


def test_what_gradnet_lacks_is_numpys_without_a_gradient(backend: Backend) -> None:
    x = gn.asarray(POSITIVE)
    for f in (
        np.spacing,
        lambda x: np.delete(x, 1),
        lambda x: np.pad(x, 1, mode="mean"),
        lambda x: np.nansum(x, where=x > 1),
    ):
        if backend.device != "cpu":
            with pytest.raises(DeviceError, match=r"use x\.numpy\(\) to copy it to the CPU"):
                f(x)
            continue
        y = f(x)
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), f(POSITIVE))
    x.requires_grad = True
    with pytest.raises(GraphError, match=r"no derivative of numpy\.spacing"):
        np.spacing(x)


def test_positions_need_no_gradient() -> None:
    x = gn.asarray(POSITIVE, requires_grad=True)
    for f in (np.argwhere, np.isposinf, np.isreal, lambda x: np.isclose(x, x[0])):
        found = f(x)
        assert isinstance(found, Tensor)
        np.testing.assert_array_equal(found.numpy(), f(POSITIVE))


@pytest.mark.parametrize("change", ["copyto", "put", "fill_diagonal", "at"])
def test_changes_by_numpy_are_seen_by_the_graph(change: str) -> None:
    x, y = gn.asarray(MATRIX, requires_grad=True), gn.asarray(MATRIX.copy())
    z = gn.sum(x * y)
    {
        "copyto": lambda: np.copyto(y, 0.0),  # type: ignore[call-overload]
        "put": lambda: np.put(y, [0], 0.0),  # type: ignore[call-overload]
        "fill_diagonal": lambda: np.fill_diagonal(y, 0.0),  # type: ignore[call-overload]
        "at": lambda: np.add.at(y, [0], 1.0),  # type: ignore[call-overload]
    }[change]()
    with pytest.raises(GraphError, match="in place"):
        z.backward()


def test_descriptions_of_tensors_are_plain() -> None:
    x = gn.asarray(MATRIX, requires_grad=True)
    assert np.shape(x) == (3, 3)
    assert np.ndim(x) == 2
    assert np.size(x) == 9
    assert np.allclose(x, MATRIX)
    assert np.array_equal(x, MATRIX)
    assert np.result_type(x, np.float32) == np.float64


def test_out(backend: Backend) -> None:
    x, y = gn.asarray(MATRIX), gn.zeros((3, 3), dtype=gn.float64)
    assert np.add(x, 1.0, out=y) is y
    np.testing.assert_array_equal(y.numpy(), MATRIX + 1)
    host = np.zeros(3)
    np.sum(x, axis=0, out=host)
    np.testing.assert_allclose(host, MATRIX.sum(axis=0))
    x.requires_grad = True
    with pytest.raises(GraphError, match="cannot store"):
        np.add(x, 1.0, out=np.zeros((3, 3)))


def test_operators_between_arrays_and_tensors(backend: Backend) -> None:
    x = gn.asarray(MATRIX, requires_grad=True)
    for y in (MATRIX * x, MATRIX @ x, x - MATRIX, np.float64(2.0) * x, 2.0 / x, MATRIX**x):
        assert isinstance(y, Tensor)
        assert y.requires_grad
    assert isinstance(np.less(MATRIX, x), Tensor)
    single = gn.asarray(MATRIX.astype(np.float32))
    assert (np.float64(2.0) * single).dtype == gn.float32


def test_a_gradient_is_not_lost_in_a_conversion() -> None:
    x = gn.asarray(MATRIX, requires_grad=True)
    with pytest.raises(GraphError, match="detach"):
        np.asarray(x)
    with pytest.raises(GraphError, match="detach"):
        np.from_dlpack(x)
    assert np.asarray(x.detach()).base is not None or np.shares_memory(
        np.asarray(x.detach()), x.numpy()
    )


def test_memory_is_shared_through_dlpack(backend: Backend) -> None:
    x = gn.asarray(MATRIX.copy())
    if backend.device != "cpu":
        pytest.skip("NumPy shares memory of the CPU alone")
    host = np.from_dlpack(x)
    x[0, 0] = 7.0
    assert host[0, 0] == 7.0
    back = gn.from_dlpack(host)
    assert np.shares_memory(back.numpy(), host)
    assert not np.shares_memory(gn.from_dlpack(host, copy=True).numpy(), host)
    assert np.from_dlpack(x, copy=True)[0, 0] == 7.0


def test_memory_is_shared_with_torch(backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    if backend.device != "cpu" and not torch.cuda.is_available():
        pytest.skip("PyTorch here knows no memory but the CPU's")
    x = gn.asarray(MATRIX.astype(np.float32))
    t = torch.from_dlpack(x)
    t[0, 0] = 9.0
    assert x[0, 0].item() == 9.0
    y = gn.from_dlpack(torch.arange(6.0).reshape(2, 3))
    assert y.dtype == gn.float32
    assert y.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    u = torch.zeros(3)
    v = gn.from_dlpack(u)
    u[1] = 5.0
    assert v.tolist() == [0.0, 5.0, 0.0]
    assert gn.asarray(torch.ones(2)).tolist() == [1.0, 1.0]


# Other libraries


def test_names_of_the_room() -> None:
    assert gn.interop.array_ufunc is numpy_functions.array_ufunc
    assert gn.interop.array_function is numpy_functions.array_function
    with pytest.raises(AttributeError, match=r"'gradnet\.interop' has no attribute 'keras'"):
        _ = gn.interop.keras


@pytest.mark.parametrize("name", ["einops._backends", "ot.backend", "tensorly.backend"])
def test_a_library_that_has_changed_is_still_imported(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorly", None)
    library = name.partition(".")[0]
    with pytest.warns(UserWarning, match=f"version of {library} does not take gradnet's tensors"):
        hooks._register(ModuleType(name))


def test_a_hook_waits_for_its_module_and_leaves_others_alone() -> None:
    waiting = hooks._Waiting({"einops._backends"})
    assert waiting.find_spec("numpy", None) is None
    pytest.importorskip("einops")
    spec = waiting.find_spec("einops._backends", None)
    assert spec is not None
    assert isinstance(spec.loader, hooks._Registering)
    assert waiting.find_spec("einops._backends", None) is None


def test_windows_by_numpys_name_are_numpys() -> None:
    x = gn.asarray(POSITIVE)
    view = np.lib.stride_tricks.sliding_window_view
    for shape, axis in (((2, 2), None), (2, 1), ((2, 3), (1, 0))):
        found = gn.lib.stride_tricks.sliding_window_view(x, shape, axis=axis)
        np.testing.assert_array_equal(found.numpy(), view(POSITIVE, shape, axis=axis))


def test_floats_in_lists_are_exact_beside_float64(backend: Backend) -> None:
    x = gn.asarray([0.1, 0.2], dtype=gn.float64)
    assert (x - [0.1, 0.2]).tolist() == [0, 0]
    assert gn.isin(x, [0.1]).tolist() == [True, False]
    assert np.append(x, [0.1]).tolist() == [0.1, 0.2, 0.1]
    assert gn.asarray([x[0], 0.2]).tolist() == [0.1, 0.2]
    x[:] = [0.3, 0.7]
    assert x.tolist() == [0.3, 0.7]
    assert (gn.asarray([1.0]) * [0.1]).dtype == gn.float32
    assert (gn.asarray([1]) * [0.1]).dtype == gn.float32
