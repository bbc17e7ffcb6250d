"""The Backend protocol: the array primitives that everything above them is written with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from gradnet.dtypes import DType

if TYPE_CHECKING:
    from gradnet.program.calls import Program

Array = Any
Scalar = bool | int | float | complex
Shape = tuple[int, ...]
Index = tuple[Any, ...]
Formula = Callable[..., Any]
# A linear layer: weights (k, m), bias (m,), and its activation with the parameters of that.
Layer = tuple[Array, Array, Formula | None, tuple[Scalar, ...]]


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

    @property
    def defers(self) -> bool:
        """Whether `flag` raises later: reading values would make the host wait."""

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

    def shares(self, x: Array, y: Array) -> bool:
        """Whether `y`, a reshape of `x`, is in its memory."""

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
        """`(..., n, k) @ (..., k, m) -> (..., n, m)`, batch axes broadcast; or `(k,) @ (k,) -> ()`.

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

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        axis: int,
        eps: float,
        *,
        running: tuple[Array, Array] | None = None,
        momentum: float = 0.0,
    ) -> tuple[Array, Array, Array]:
        """`(x - mean) * factor * weight + bias` of `x (n, m)`, and mean and factor.

        Mean and variance are those of each column (axis 0) or row (axis 1), of two passes, and
        factor is `1 / sqrt(variance + eps)`; both are float32 for 16-bit floats. `weight (m,)` and
        `bias (m,)`, or neither, have the dtype of x or of mean. `running` is a mean and a variance
        `(m,)` that follow in place those of columns, the variance divided by n - 1, of at least 2
        rows: `running * (1 - momentum) + batch * momentum`.
        """

    def normalize_backward(
        self,
        g: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        factor: Array,
        axis: int,
    ) -> tuple[Array, Array | None, Array | None]:
        """The cotangents of x, weight and bias from that of `normalize`'s result.

        The last two are None without a weight, else of its dtype, and summed in float32 or wider.
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

    def perceptron(self, x: Array, layers: Sequence[Layer], dtype: DType) -> Array | None:
        """The output of layers one after the other for x (n, k), or None, to compute it by layers.

        It is computed here where that is faster. Factors of products are rounded to `dtype`, of 16
        bits; all else is float32. Nothing is kept for a gradient.
        """

    def finite(self, x: Array, numbers: Array) -> tuple[Array, Array]:
        """Whether the elements of `x (n,)` over numbers[0] are finite; and a copy of `numbers`.

        The first is bool, of any length: of so many parts of `x`. See `scaled_update`.
        """

    def scaled_update(
        self,
        formula: Formula,
        advance: Formula,
        arrays: tuple[Array, ...],
        finite: Array,
        numbers: Array,
        scalars: tuple[float, ...],
        *,
        out: Array,
    ) -> Array:
        """`update` by numbers that are not the host's, in one pass, where all of `finite` holds.

        `advance(fine, *numbers, *scalars)`, of whether it does, returns the new numbers, which go
        to `out`, a factor for the gradient, and the scalars of `formula`. Where it does not hold,
        (p, *state) stay. All have the dtype of p, float32 or float64.
        """

    # Checks of values

    def flag(
        self,
        x: Array,
        low: Scalar,
        high: Scalar,
        error: Callable[..., Exception],
        about: tuple[Any, ...],
        *,
        shown: Array | None = None,
    ) -> None:
        """Raise `error(*about, i, x[i])` for the first element i outside low ... high.

        i counts in row-major order, NaN is outside, and `shown`, of one or two numbers for each
        element of `x`, is told in place of x[i]. A backend that `defers` raises it at the next
        `to_host` or `synchronize`, for one of the first elements found since the last. `error` and
        `about` are hashable. `x` is not empty, and real.
        """

    def synchronize(self) -> None:
        """Wait until all work given to the device is done. Raises what a `flag` has found."""

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
