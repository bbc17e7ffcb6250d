"""Random tensors from one counter-based generator: the same seed gives the same bits everywhere.

Philox4x32-10 (Salmon et al. 2011): number i of a draw is a function of the seed and a counter, so
that a generator's whole state is two integers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradnet import backends, dtypes, host
from gradnet.backends import Array, Backend, Shape
from gradnet.dtypes import DType
from gradnet.errors import DTypeError
from gradnet.ops.creation import asarray, astype
from gradnet.ops.elementwise import op
from gradnet.ops.index import take
from gradnet.ops.shape import as_lengths
from gradnet.tensor import Tensor

_WORDS = 4  # 32-bit words in one block of the generator


class Generator(host.Stateful):
    """A stream of random numbers: a seed, and a counter that each draw moves on.

    Raises ValueError for a seed that is not in 0 ... 2**64 - 1.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin the stream of that seed.

        Raises TypeError for what is no integer, ValueError for one that 64 bits do not hold.
        """
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise TypeError(f"a seed is an integer, got {type(seed).__name__}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"a seed is in 0 ... 2**64 - 1, got {seed}")
        self._seed, self._counter = int(seed), 0

    def get_state(self) -> dict[str, int]:
        """The seed and the counter, which say all about what comes next."""
        return {"seed": self._seed, "counter": self._counter}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on from a state."""
        self._seed, self._counter = int(state["seed"]), int(state["counter"])

    @contextmanager
    def replaying(self, state: dict[str, int]) -> Iterator[None]:
        """Draw from an earlier state within a `with` block, then go on where the stream was."""
        current = self.get_state()
        self.set_state(state)
        try:
            yield
        finally:
            self.set_state(current)

    def _draw(
        self,
        kind: str,
        shape: Any,
        dtype: DType,
        words: int,
        device: str | None,
        backend: Backend | None,
    ) -> Tensor:
        found = backends.for_device(device) if backend is None else backend
        lengths: Shape = as_lengths(shape)
        array = self._array(kind, lengths, math.prod(lengths), dtype, words, found)
        return Tensor.wrap(array, found)

    def _array(
        self, kind: str, shape: Shape, size: int, dtype: DType, words: int, backend: Backend
    ) -> Array:
        """An array of a backend, of so many numbers of so many words each."""
        blocks = -(-size * words // _WORDS)
        seed, counter = host.run(self._claim, blocks, several=self._claim_several)
        return backend.random(kind, seed, counter, shape, dtype)

    def _claim(self, blocks: int) -> tuple[int, int]:
        """The seed, and the counter of the first of so many blocks that are taken."""
        first = self._counter
        self._counter += blocks
        return self._seed, first

    def _claim_several(self, count: int, blocks: int) -> tuple[int, range]:
        """The same, so many times in a row."""
        first = self._counter
        self._counter += count * blocks
        return self._seed, range(first, self._counter, blocks)

    def bits(
        self,
        shape: Any,
        *,
        dtype: Any = "uint32",
        device: str | None = None,
        backend: Backend | None = None,
    ) -> Tensor:
        """Uniform integers of all the bits of uint32 or uint64."""
        wanted = dtypes.canonical(dtype)
        return self._draw("bits", shape, wanted, wanted.itemsize // 4, device, backend)

    def uniform(
        self,
        shape: Any,
        low: float = 0.0,
        high: float = 1.0,
        *,
        dtype: Any = None,
        device: str | None = None,
        backend: Backend | None = None,
    ) -> Tensor:
        """Floats uniform in [low, high)."""
        wanted = _floating("uniform", dtype)
        words = 2 if wanted == dtypes.float64 else 1
        u = self._draw("uniform", shape, wanted, words, device, backend)
        return u if (low, high) == (0.0, 1.0) else u * (high - low) + low

    def normal(
        self,
        shape: Any,
        mean: float = 0.0,
        std: float = 1.0,
        *,
        dtype: Any = None,
        device: str | None = None,
        backend: Backend | None = None,
    ) -> Tensor:
        """Floats of the normal distribution."""
        wanted = _floating("normal", dtype)
        words = 2 if wanted == dtypes.float64 else 1
        z = self._draw("normal", shape, wanted, words, device, backend)
        return z if (mean, std) == (0.0, 1.0) else z * std + mean

    def integers(
        self,
        low: int,
        high: int,
        shape: Any,
        *,
        dtype: Any = "int64",
        device: str | None = None,
        backend: Backend | None = None,
    ) -> Tensor:
        """Integers in [low, high), each within 2**-32 of equally likely for ranges up to 2**31.

        Raises ValueError for an empty range or a longer one.
        """
        count = high - low
        if not 0 < count <= 2**31:
            raise ValueError(f"integers needs 0 < high - low <= 2**31, got {low} and {high}")
        for bound in (low, high - 1):
            dtypes.scalar_dtype(bound, dtypes.canonical(dtype))
        words = self._draw("bits", shape, dtypes.uint64, 2, device, backend)
        # The top 32 bits of a 32-bit fraction times the count, from words of more bits than that.
        fraction = op("bitwise_right_shift")(words, 32)
        scaled = op("bitwise_right_shift")(fraction * count, 32)
        return astype(scaled, dtype) + low

    def permutation(
        self, n: int, *, device: str | None = None, backend: Backend | None = None
    ) -> Tensor:
        """The integers 0 ... n - 1 in random order, (n,) int64."""
        (n,) = as_lengths(n)
        found = backends.for_device(device) if backend is None else backend
        keys = self._array("bits", (n,), n, dtypes.uint64, 2, found)
        return Tensor.wrap(found.argsort(keys, 0, False), found)

    def shuffle(self, x: Any, /, *, axis: int = 0) -> Tensor:
        """The slices of x along an axis in random order."""
        x = asarray(x)
        return take(x, self.permutation(x.shape[axis], backend=x.backend), axis=axis)

    def bernoulli(
        self,
        p: float,
        shape: Any,
        *,
        dtype: Any = "bool",
        device: str | None = None,
        backend: Backend | None = None,
    ) -> Tensor:
        """True with probability p.

        Raises ValueError for a p outside of 0 ... 1.
        """
        if not 0 <= p <= 1:
            raise ValueError(f"bernoulli needs a probability in 0 ... 1, got {p}")
        u = self.uniform(shape, device=device, backend=backend)
        return astype(op("less")(u, p), dtype)


def _floating(name: str, dtype: Any) -> DType:
    wanted = dtypes.DEFAULT_FLOAT if dtype is None else dtypes.canonical(dtype)
    if not dtypes.is_floating(wanted):
        raise DTypeError(f"{name} draws floats, not {wanted.name}; cast them with astype")
    return wanted


class _Default(threading.local):
    """Each thread's own stream, so that threads do not disturb one another's runs."""

    def __init__(self) -> None:
        self.generator = Generator(0)


_default = _Default()


def default_generator() -> Generator:
    """The generator that this thread's functions of this module draw from."""
    return _default.generator


def seed(seed: int) -> None:
    """Begin the default generator's stream of that seed."""
    _default.generator.seed(seed)


def uniform(shape: Any, low: float = 0.0, high: float = 1.0, **options: Any) -> Tensor:
    """Floats uniform in [low, high) from the default generator."""
    return _default.generator.uniform(shape, low, high, **options)


def normal(shape: Any, mean: float = 0.0, std: float = 1.0, **options: Any) -> Tensor:
    """Floats of the normal distribution from the default generator."""
    return _default.generator.normal(shape, mean, std, **options)


def integers(low: int, high: int, shape: Any, **options: Any) -> Tensor:
    """Integers in [low, high) from the default generator."""
    return _default.generator.integers(low, high, shape, **options)


def permutation(n: int, **options: Any) -> Tensor:
    """The integers 0 ... n - 1 in random order from the default generator."""
    return _default.generator.permutation(n, **options)


def shuffle(x: Any, /, *, axis: int = 0) -> Tensor:
    """The slices of x along an axis in random order from the default generator."""
    return _default.generator.shuffle(x, axis=axis)


def bernoulli(p: float, shape: Any, **options: Any) -> Tensor:
    """True with probability p, from the default generator."""
    return _default.generator.bernoulli(p, shape, **options)
