"""The Backend protocol, and the registry through which its implementations are found.

A backend is a small set of array primitives. Everything above this file (Tensors, layers, losses,
optimizers) is written once against the protocol and never asks which backend it runs on. A
backend's arrays are opaque to the rest: only `shape` and `dtype` are read from them.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from gradnet.dtypes import DType
from gradnet.errors import DeviceError

if TYPE_CHECKING:
    from gradnet.program.calls import Program

Array = Any
Scalar = bool | int | float | complex
Shape = tuple[int, ...]
Index = tuple[Any, ...]
Formula = Callable[..., Any]


@runtime_checkable
class Backend(Protocol):
    """Array primitives on one device.

    Shapes and dtypes are checked and promoted before a backend is called. `out`, where given, has
    the result's shape and dtype, is contiguous or a view, may be one of the operands only where a
    method says so, and is returned. Without it a new array is returned.
    """

    @property
    def name(self) -> str:
        """The name in the registry: "numpy", "numba", "cuda"."""

    @property
    def device(self) -> str:
        """Where arrays live: "cpu", "cuda:0"."""

    # Storage

    def empty(self, shape: Shape, dtype: DType) -> Array:
        """An uninitialised contiguous array."""

    def full(self, shape: Shape, value: Scalar, dtype: DType, *, out: Array | None = None) -> Array:
        """An array of one value."""

    def arange(self, start: Scalar, step: Scalar, count: int, dtype: DType) -> Array:
        """`start + i * step` for i in 0 ... count - 1."""

    def from_host(self, x: np.ndarray[Any, Any], *, copy: bool) -> Array:
        """A NumPy array as an array of this backend, sharing memory if not `copy` and it can."""

    def to_host(self, x: Array) -> np.ndarray[Any, Any]:
        """A NumPy array of the values, sharing memory where the backend's arrays are NumPy's."""

    def cast(self, x: Array, dtype: DType, *, out: Array | None = None) -> Array:
        """The values of `x` as `dtype`: always a new contiguous array, so also the way to copy."""

    # Views: no copy, except `reshape` where strides do not allow it

    def reshape(self, x: Array, shape: Shape) -> Array:
        """The values in row-major order under another shape."""

    def permute(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Axes in another order."""

    def broadcast(self, x: Array, shape: Shape) -> Array:
        """A read-only view repeated along new and size-1 axes."""

    def view(self, x: Array, index: Index) -> Array:
        """A basic index: integers, slices, None and Ellipsis only. Always an array, 0-d too."""

    def bits(self, x: Array, dtype: DType) -> Array:
        """The same memory read as a dtype of the same size."""

    # Elementwise

    def map(
        self, formula: Formula, *xs: Array | Scalar, dtype: DType, out: Array | None = None
    ) -> Array:
        """`formula` on every element of the broadcast operands; the result has `dtype`.

        Array operands are bool or share one dtype, which is the dtype of the computation (float32
        for 16-bit floats); scalars take that dtype. `out` may be an operand.
        """

    def mapper(self, formula: Formula, given: DType, dtype: DType) -> Callable[..., Array]:
        """`map` without `out`, as a function of operands, to call often: it is looked up once.

        Its operands are arrays of the dtype `given` and Python's floats, at least one an array. A
        recording of the backend's calls sees nothing of it.
        """

    # Along axes

    def reduce(
        self,
        kind: str,
        x: Array,
        axes: tuple[int, ...],
        keepdims: bool,
        *,
        dtype: DType,
        out: Array | None = None,
    ) -> Array:
        """A reduction over `axes`: "sum", "prod", "max", "min", "any", "all".

        `dtype` is the result's; 16-bit floats accumulate in float32. Floating sums are pairwise or
        blocked, in an order that depends on the shape alone. NaN propagates through max and min.
        """

    def argreduce(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        """The int64 index of the first "max" or "min" along an axis, which is dropped; NaN wins."""

    def scan(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        """A running "sum", "prod", "max" or "min" along an axis, in the dtype of `x`."""

    def sort(self, x: Array, axis: int, descending: bool, *, out: Array | None = None) -> Array:
        """Values in order along an axis, NaN last."""

    def argsort(self, x: Array, axis: int, descending: bool, *, out: Array | None = None) -> Array:
        """The int64 indices that sort `x` along an axis, stable, NaN last."""

    # Products

    def matmul(self, a: Array, b: Array, *, out: Array | None = None, tf32: bool = False) -> Array:
        """`(..., n, k) @ (..., k, m) -> (..., n, m)`, both at least 2-D, batch axes broadcast.

        Products of 16-bit floats add up in float32; where `out` is float32, it takes those sums as
        they are. With `tf32`, float32 operands are rounded to the 10 mantissa bits of TF32 (on the
        CPU to nearest, ties to even), and add up in float32; other dtypes are as without.
        """

    # Gathering

    def take(self, x: Array, index: Index, *, out: Array | None = None) -> Array:
        """NumPy's indexing with integer and boolean index arrays: a new array."""

    def put(self, x: Array, index: Index, values: Array | Scalar, *, add: bool) -> None:
        """`x[index] = values` in place, or with `add` a sum in which repeated places add up.

        `values` broadcasts to the indexed shape. Deterministic: repeated places add in row-major
        order of the index, and without `add` the last value wins.
        """

    def concatenate(self, xs: Sequence[Array], axis: int, *, out: Array | None = None) -> Array:
        """Arrays of one dtype joined along an axis."""

    def nonzero(self, x: Array) -> tuple[Array, ...]:
        """The int64 indices of the elements that are not zero, an array per axis."""

    def searchsorted(self, sorted_values: Array, x: Array, side: str) -> Array:
        """Where each `x` would be inserted into a sorted 1-D array: int64 of the shape of `x`."""

    # Random

    def random(
        self,
        kind: str,
        key: int,
        counter: int,
        shape: Shape,
        dtype: DType,
        *,
        out: Array | None = None,
    ) -> Array:
        """Philox4x32-10 numbers, the same bits on every backend (Salmon et al. 2011).

        Element i comes from the generator's output words of 128-bit counter blocks that begin at
        block `counter` under the 64-bit `key`. `kind` is "bits" (uint32: word i; uint64: words 2i
        and 2i+1, low word first), "uniform" (floats in [0, 1)) or "normal". See gradnet/random.py.
        """

    # Linear algebra beyond products

    def linalg(self, function: str, *xs: Array, **options: Any) -> Any:
        """A function of NumPy's linalg or fft namespace by name ("linalg.solve", "fft.fft")."""

    # Fused training kernels

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        formula: Formula | None,
        parameters: tuple[Scalar, ...],
        *,
        out: Array,
    ) -> Array:
        """`formula(z + bias, *parameters)` for `z (n, m)`, `bias (m,)`, in one pass.

        `out` may be `z`. Where it is not, `z` is left holding `z + bias`.
        """

    def bias_activation_backward(
        self,
        g: Array,
        saved: Array,
        derivative: Formula,
        parameters: tuple[Scalar, ...],
        *,
        with_bias: bool,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """`dz = g * derivative(saved, *parameters)` and `dbias = dz.sum(0)`, in one pass.

        `saved` is the activation's output or its input, whichever `derivative` takes.
        """

    def softmax(self, x: Array, log: bool, *, out: Array | None = None) -> Array:
        """Softmax of each row of `x (n, k)`, or its logarithm."""

    def softmax_cross_entropy(
        self, logits: Array, targets: Array, scale: Array | float, smoothing: float
    ) -> tuple[Array, Array]:
        """Cross-entropy of each row and the gradient of its scaled sum, in one pass.

        `logits (n, k)`; `targets` int64 classes `(n,)` or probabilities `(n, k)`, mixed with the
        uniform distribution by `smoothing`; `scale` a weight per row `(n,)`, or one for all.
        Returns `losses (n,)`, each times its scale, and `dlogits (n, k)`, the gradient of their
        sum. A class out of range is not checked here. A row whose scale is 0 gives 0 and 0.
        """

    def update(
        self,
        formula: Formula,
        arrays: tuple[Array, ...],
        scalars: tuple[float, ...],
    ) -> None:
        """An optimizer's update of flat buffers `(p, g, *state)`, in place and in one pass.

        `formula(p, g, *state, *scalars)` returns the new `(p, *state)`; `g` is not changed.
        """

    def synchronize(self) -> None:
        """Wait until all work given to the device is done."""

    # Captured functions, see gradnet/captured

    def window(
        self, base: Array, offset: int, shape: Shape, strides: tuple[int, ...], dtype: DType
    ) -> Array:
        """An array over the memory of `base`, `offset` and `strides` in bytes."""

    def compile(self, program: Program) -> Replay | None:
        """A function that runs a recorded program, or None where its calls are to be made again.

        It takes the arrays of the program's inputs, then of its outputs.
        """


class Replay(Protocol):
    """A recorded program, ready to run on the arrays of its inputs, then of its outputs."""

    def __call__(self, arrays: list[Array], /) -> None:
        """Run once. Raises what a check of values raises."""

    def series(
        self, places: list[tuple[int, int]], count: int, advance: Callable[[], None], /
    ) -> int:
        """Run up to `count` times in a row, and return how often: 0 where it cannot.

        `places` has the address of each array of the first run, and how many bytes further it is
        in the next. `advance` moves the numbers of the program's actions on to the next run; where
        it raises Stale, the series ends before.
        """

    def verify(self, arrays: list[Array], /) -> None:
        """After a series: repeat the checks of values on the arrays of one run."""

    @property
    def failed(self) -> bool:
        """Whether a check of values has ended the last series."""

    @property
    def direct(self) -> Callable[..., int] | None:
        """The quickest way to run once, if there is one: takes each array, then each number.

        The numbers are those of the program's actions, in order. What it gives is not 0 where a
        check of values has found something: `verify` raises that.
        """


_MODULES = {
    "numpy": "gradnet.numpy_backend",
    "numba": "gradnet.kernels.numba_cpu",
    "cuda": "gradnet.kernels.cuda",
}
_PACKAGES = {
    "numpy": ("numpy",),
    "numba": ("numpy", "numba", "llvmlite"),
    "cuda": ("cupy-cuda13x", "cupy-cuda12x", "numba-cuda", "nvmath-python"),
}
_REMEDIES = {"numba": "pip install numba", "cuda": "use the CPU: it is the default"}
_loaded: dict[tuple[str, int], Backend] = {}
_lock = threading.RLock()


class _Chosen(threading.local):
    """The backend that this thread's `use` has chosen, if any."""

    backend: Backend | None = None


_chosen = _Chosen()


def register(name: str, module: str) -> None:
    """Make the module of that import path, which ends with `BACKEND`, known as a backend."""
    with _lock:
        _MODULES[name] = module
        for key in [key for key in _loaded if key[0] == name]:
            del _loaded[key]


def names() -> tuple[str, ...]:
    """The names of all registered backends, present on this machine or not."""
    return tuple(_MODULES)


def get(name: str, index: int = 0) -> Backend:
    """The backend of that name ("numpy", "numba", "cuda"), on the device of that index.

    Raises DeviceError where the name is unknown or the backend cannot run here, with the reason.
    """
    key = (name, index)
    found = _loaded.get(key)
    if found is not None:
        return found
    if name not in _MODULES:
        raise DeviceError(f"there is no backend {name!r}; there are {', '.join(_MODULES)}")
    with _lock:
        try:
            module = importlib.import_module(_MODULES[name])
        except ImportError as error:
            absent = error.name == _MODULES[name]
            reason = "this version of gradnet does not have it yet" if absent else error
            raise DeviceError(f"the backend {name!r} cannot be loaded: {reason}") from error
        backend: Backend = module.BACKEND if index == 0 else module.backend(index)
        _loaded[key] = backend
    return backend


def available() -> tuple[str, ...]:
    """The names of the backends that can be loaded on this machine."""
    return tuple(name for name in _MODULES if unavailable(name) is None)


def unavailable(name: str) -> str | None:
    """Why a backend cannot be used on this machine, or None where it can."""
    try:
        get(name)
    except DeviceError as error:
        return str(error)
    return None


class BackendInfo(NamedTuple):
    """What there is to know of a backend on this machine.

    `device` is empty where the backend cannot be used; `reason` says why, and `remedy` what to do.
    """

    name: str
    device: str
    versions: dict[str, str]
    reason: str
    remedy: str


def device_info() -> tuple[BackendInfo, ...]:
    """Every registered backend: its device, the versions it runs on, or why it cannot run here."""
    return tuple(_info(name) for name in _MODULES)


def _info(name: str) -> BackendInfo:
    import importlib.metadata as metadata

    versions = {}
    for package in _PACKAGES.get(name, ()):
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    # Errors of devices say what is wrong, and after a semicolon what to do.
    reason, _, remedy = (unavailable(name) or "").partition("; ")
    device = "" if reason else get(name).device
    remedy = remedy or _REMEDIES.get(name, "") if reason else ""
    return BackendInfo(name, device, versions, reason, remedy)


def default() -> Backend:
    """The backend for new tensors: the one in `use`, else GRADNET_BACKEND, else the CPU's."""
    if _chosen.backend is not None:
        return _chosen.backend
    name = os.environ.get("GRADNET_BACKEND", "")
    return get(name) if name else _cpu()


def _cpu() -> Backend:
    """The compiled backend for the CPU, or plain NumPy where Numba is missing."""
    found = _loaded.get(("numba", 0)) or _loaded.get(("cpu", 0))
    if found is not None:
        return found
    reason = unavailable("numba")
    if reason is None:
        return get("numba")
    import logging  # takes long to import, and here alone it has something to say

    log = logging.getLogger("gradnet")
    log.warning("%s; using the slower numpy backend (remedy: pip install numba)", reason)
    _loaded[("cpu", 0)] = get("numpy")
    return _loaded[("cpu", 0)]


def automatic() -> tuple[Backend, str]:
    """The backend for the device "auto", and why it is not a GPU's; empty where it is.

    What GRADNET_BACKEND or `use` names; else the first GPU where one works, and else the CPU.
    """
    if _chosen.backend is not None:
        return _chosen.backend, "this backend is in use"
    name = os.environ.get("GRADNET_BACKEND", "")
    if name:
        return get(name), f"GRADNET_BACKEND names {name!r}"
    try:
        return get("cuda"), ""
    except DeviceError as error:
        return _cpu(), str(error)


def for_device(device: str | None) -> Backend:
    """The backend of a device: "cpu", "cuda", "cuda:1", "auto", or None for the default.

    "auto" is a GPU where one works, and logs which device it is and why not a GPU. Raises
    DeviceError where there is no such device.
    """
    if device is None:
        return default()
    if device == "auto":
        chosen, reason = automatic()
        import logging

        why = f": {reason}" if reason else ""
        logging.getLogger("gradnet").info("device 'auto' is %s%s", chosen.device, why)
        return chosen
    if device == "cpu":
        chosen = default()
        return chosen if chosen.device == "cpu" else _cpu()
    kind, _, number = device.partition(":")
    if kind == "cuda" and (number.isdigit() or device == "cuda"):
        return get("cuda", int(number or 0))
    raise DeviceError(f"there is no device {device!r}; use 'cpu', 'cuda', 'cuda:N' or 'auto'")


@contextmanager
def use(backend: str | Backend) -> Iterator[Backend]:
    """Make a backend the default for new tensors in this thread, within a `with` block."""
    previous = _chosen.backend
    _chosen.backend = get(backend) if isinstance(backend, str) else backend
    try:
        yield _chosen.backend
    finally:
        _chosen.backend = previous
