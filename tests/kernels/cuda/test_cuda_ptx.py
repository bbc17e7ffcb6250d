"""What the compiler makes of every Numba kernel, run: PTX against its Python text and NumPy.

Every launch of these tests goes from the backend through the launcher's arguments to PTX; a fault
there (see tests/ptx) fails the test. Needs Numba's CUDA target; skipped without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from fakes import compare, lockstep, training
from fakes.compare import BF16, F32, NUMPY, RNG, normal, odd
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import THREADS, fake_backend
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_templates import program as programs
from gradnet.kernels.cuda_templates.program import Program
from gradnet.kernels.nvrtc import CudaProgram
from ptx import launching
from ptx.counts import Tally

from gradnet import formulas

FULL_BLOCK = 256
# Those whose results are the same to the bit: they move, count, or compute in a fixed way.
EXACT = ("random", "take", "place", "stage", "flag", "argreduce")
# Relative errors of one rounding, and some, by the size of a float.
ROUNDED = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 1e-5, "float64": 1e-12}

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("numba_cuda")]


class Compared:
    """Runs launches as PTX, and each program's first one also as its text in Python."""

    def __init__(self) -> None:
        self.seen: set[Program] = set()

    def __call__(
        self, one: Program, blocks: int, arguments: Sequence[Any], *, backwards: bool
    ) -> None:
        if isinstance(one, CudaProgram):
            lockstep.run(one, blocks, arguments, backwards=backwards)
            return
        first = one not in self.seen
        self.seen.add(one)
        owners = {id(x): x for x in map(lockstep.owner, filter(_is_array, arguments))}.values()
        before = [x.copy() for x in owners if first]
        launching.run(one, blocks, arguments)
        if not first:
            return
        after = [x.copy() for x in owners]
        for x, old in zip(owners, before, strict=True):
            x[...] = old
        lockstep.run(one, blocks, arguments, backwards=backwards)
        right = [x.copy() for x in arguments if _is_array(x)]
        for x, new in zip(owners, after, strict=True):
            x[...] = new
        for x, expected in zip(filter(_is_array, arguments), right, strict=True):
            agree(one, x, expected)


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def agree(one: Program, found: Any, expected: Any) -> None:
    """The same to the bit, or to rounding on the scale of the array."""
    if one.kind in EXACT or found.dtype.name not in ROUNDED:
        assert found.tobytes() == expected.tobytes(), one
        return
    bound = ROUNDED[found.dtype.name]
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    assert np.array_equal(np.where(finite, 0, found), np.where(finite, 0, expected), equal_nan=True)
    largest = np.abs(expected[finite]).max(initial=0.0)
    assert np.all(
        np.abs(found - expected)[finite] <= bound * (np.abs(expected[finite]) + 0.3 * largest)
    ), one


@pytest.fixture
def device() -> Iterator[CudaBackend]:
    """A backend whose launches are run as PTX, with blocks of the size that a GPU is given."""
    lockstep.use_blocks(FULL_BLOCK)
    made = fake_backend()
    attach(made)
    made._device.launch.run = Compared()  # type: ignore[attr-defined]
    yield made
    lockstep.use_blocks(THREADS)


# Kernels of the others differ from those of these steps in the sizes of floats alone.
LEFT = () if training.EVERY else ("float64", "float16", "factors of bfloat16")


@pytest.mark.parametrize("name", [name for name in training.STEPS if name not in LEFT])
def test_training(name: str, device: CudaBackend) -> None:
    """Every kernel that training launches, on what training gives it."""
    training.STEPS[name](device)
    seen = device._device.launch.run.seen  # type: ignore[attr-defined]
    assert len(seen) > 6
    # One block of more threads adds up the losses that it makes.
    larger = {one.kind for one in seen if one.threads != FULL_BLOCK}
    assert larger <= {"cross_entropy"}


Operation = Callable[[Any, Callable[[Any], Any]], Any]


def both(
    device: CudaBackend, operation: Operation, exact: bool = False, rtol: float = 3e-6
) -> None:
    """The operation gives on the device what it gives on NumPy."""
    device._device.launch.run = lambda *given, backwards: launching.run(*given)  # type: ignore[attr-defined]
    compare.both(device, operation, exact=exact, rtol=rtol)


@pytest.fixture
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids of three blocks at most, whose threads take several turns."""
    monkeypatch.setattr(programs, "BLOCKS", 3)


def tanh(at: Any, b: Any, put: Any, x: Any) -> Any:
    return b.map(formulas.FORMULAS["tanh"], put(x)[at], dtype=x.dtype)


# Whole and odd numbers of groups of elements, one alone, none; from an odd place on; with strides.
PLACES: dict[str, tuple[tuple[int, ...], Any]] = {
    "odd": ((5003,), slice(None)),
    "whole": ((4096,), slice(None)),
    "one": ((1,), slice(None)),
    "none": ((0,), slice(None)),
    "unaligned": ((3002,), slice(1, None)),
    "strided": ((2, 41, 37), (slice(None), slice(None, None, 2), slice(None, None, -3))),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_elements(place: str, dtype: Any, device: CudaBackend, few_blocks: None) -> None:
    shape, at = PLACES[place]
    x = odd(*shape, dtype=dtype)
    both(device, lambda b, put: tanh(at, b, put, x))


def test_elements_of_several_arrays(device: CudaBackend, few_blocks: None) -> None:
    """With broadcasting, masks, and the result in one of the operands."""
    a, column, mask = odd(83, 37), normal(83, 1), RNG.random((83, 37)) > 0.5
    where = formulas.FORMULAS["where"]
    both(device, lambda b, put: b.map(formulas.multiply, put(a), put(column), dtype=F32))
    both(device, lambda b, put: b.map(where, put(mask), put(a), 2.0, dtype=F32))

    def onto(b: Any, put: Any) -> Any:
        x = put(a)
        return b.map(formulas.multiply, x, put(a), dtype=F32, out=x)

    both(device, onto)


@pytest.mark.parametrize("shape", [(37, 65), (33, 128), (1, 3), (0, 4)], ids=str)
def test_bias_and_activation(shape: tuple[int, int], device: CudaBackend, few_blocks: None) -> None:
    z, bias, g = odd(*shape), normal(shape[1]), normal(*shape)
    y = np.tanh(normal(*shape))

    def forward(b: Any, put: Any) -> Any:
        out = put(g)
        return b.bias_activation(put(z), put(bias), formulas.FORMULAS["relu"], (), out=out)

    both(device, forward)
    slope = partial(lambda b, put: b.bias_activation_backward(
        put(g), put(y), formulas.tanh_dx, (), with_bias=True))  # fmt: skip
    both(device, slope, rtol=1e-5)


AXES = [
    ((37, 1031), (1,)),
    ((1031, 37), (0,)),
    ((20011,), (0,)),
    ((3, 700, 5), (1,)),
    ((0, 4), (0,)),
]


@pytest.mark.parametrize(("shape", "axes"), AXES, ids=str)
def test_reductions(
    shape: tuple[int, ...], axes: tuple[int, ...], device: CudaBackend, few_blocks: None
) -> None:
    x, special = normal(*shape), odd(*shape)
    both(device, lambda b, put: b.reduce("sum", put(x), axes, False, dtype=F32), rtol=1e-5)
    if shape[axes[0]]:
        both(device, lambda b, put: b.reduce("max", put(special), axes, True, dtype=F32))
        both(device, lambda b, put: b.argreduce("max", put(np.round(x)), axes[0]))


def test_rows(device: CudaBackend, few_blocks: None) -> None:
    for shape in ((70, 33), (3, 1031), (300, 1)):
        x = np.concatenate([odd(1, shape[1]), normal(*shape) * 9])
        n = len(x)
        classes = RNG.integers(0, shape[1], n)
        both(device, lambda b, put, x=x: b.softmax(put(x), False), rtol=1e-5)
        both(device, lambda b, put, x=x, c=classes: b.softmax_cross_entropy(
            put(x), put(c), 0.5, 0.0), rtol=1e-5)  # fmt: skip


def test_rows_and_places(device: CudaBackend, few_blocks: None) -> None:
    x, rows = odd(83, 7), RNG.integers(-83, 83, 500)
    both(device, lambda b, put: b.take(put(x), (put(rows),)), exact=True)
    before, values, long = (np.round(normal(*n) * 8) for n in ((83, 7), (500, 7), (5, 700)))

    def added(b: Any, put: Any) -> Any:
        y = put(before)
        b.put(y, (put(rows),), put(values), add=True)
        return y

    both(device, added, exact=True)
    both(device, lambda b, put: b.scan("sum", put(long), 1), exact=True)


@pytest.mark.parametrize("kind", ["bits", "uniform", "normal"])
def test_random_numbers(kind: str, device: CudaBackend, few_blocks: None) -> None:
    """The CPU's to the bit, where counters overflow too."""
    dtype = np.dtype(np.uint32) if kind == "bits" else F32
    for key, counter, n in ((77**9, (1 << 64) - 3, 5003), (-1, (1 << 128) - 1, 9), (3, 5, 0)):
        both(device, lambda b, put, k=key, c=counter, n=n: b.random(kind, k, c, (n,), dtype), True)


@pytest.mark.parametrize("n", [5003, 4096, 3])
def test_an_update(n: int, device: CudaBackend, few_blocks: None) -> None:
    arrays = [np.abs(normal(n)) for _ in range(4)]

    def step(b: Any, put: Any) -> Any:
        moved = tuple(put(x) for x in arrays)
        b.update(formulas.UPDATES["adam"].formula, moved, (0.1, 0.1, 0.001, 1.5, 1e-8, 0.01))
        return moved

    both(device, step, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(4099, 8), (37, 8)], ids=str)
def test_norms(axis: int, shape: tuple[int, int], device: CudaBackend, few_blocks: None) -> None:
    x, g, k = normal(*shape) + 2, normal(*shape), shape[1]
    w, b = normal(k), normal(k)
    _, mean, factor = NUMPY.normalize(x, w, b, axis, 1e-3)
    both(device, lambda d, put: d.normalize(put(x), put(w), put(b), axis, 1e-3), rtol=1e-5)
    both(device, lambda d, put: d.normalize_backward(
        *(put(t) for t in (g, x, w, mean, factor)), axis), rtol=1e-4)  # fmt: skip


def parameters_of(one: Program) -> list[str]:
    (names,) = re.findall(r"^def kernel\((.*)\):$", one.text, re.MULTILINE)
    return str(names).split(", ")


def contiguous(one: Program) -> bool:
    """Whether a program runs through arrays as they lie, but for a bias or numbers of a step."""
    whole = one.kind in ("map", "bias_activation", "update") and re.search(r"load\d\(", one.text)
    return bool(whole) and not re.search(r"_e = |_at = ", one.text)


def test_bytes_are_moved_once(device: CudaBackend) -> None:
    """Kernels of contiguous arrays read or write each byte once at most, in whole sectors."""
    n, m, kinds = 4096, 128, set()
    for one in filter(contiguous, training.programs(FULL_BLOCK)):
        given: list[Any] = []
        for name, code in zip(parameters_of(one), one.signature, strict=True):
            dtype = BF16 if code == "b2*" else np.dtype(code.rstrip("*"))
            size = m if name in ("bias", "held") else n
            given.append(np.ones(size, dtype) if code[-1] == "*" else m if name == "m" else 0.5)
            if name == "n":
                given[-1] = n
        tally, typed = Tally(), launching.launch.numbers(one, given)
        launching.loaded(one)(3, one.threads, typed, tally=tally)
        touched = {key: x for key, x in tally.touched.items() if x.size > 8 * m}
        # What no element of the result depends on need not be read.
        assert len(touched) >= len([x for x in given if np.size(x) == n]) - 1, one
        assert "writes" in {what for _, what in touched}
        assert all((x == 1).all() for x in touched.values()), one
        assert tally.coalescing >= 1, one
        kinds.add((one.kind, one.signature[0]))
    assert len(kinds) >= 9
