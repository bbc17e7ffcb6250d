"""Run by the tests with NUMBA_ENABLE_CUDASIM=1: kernels as plain `@cuda.jit` ones in Numba's
simulator, against NumPy. Prints the number of launches."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from gradnet.kernels import launch
from gradnet.kernels.cuda_templates import (
    elementwise,
    flags,
    gather,
    norms,
    program,
    reductions,
    softmax,
    staging,
)
from gradnet.kernels.cuda_templates import philox as philox_programs
from gradnet.kernels.cuda_templates.computed import Activation, Computed

from gradnet import backends, binding, formulas, philox

THREADS = 8
for module in (program, reductions, softmax, norms, flags):
    module.THREADS = THREADS  # type: ignore[attr-defined]
NUMPY = backends.get("numpy")
F32 = np.dtype(np.float32)
RNG = np.random.default_rng(0)
launches = 0


def run(one: program.Program, blocks: int, *arguments: Any) -> None:
    global launches
    launches += 1
    flat = [
        x.reshape(-1) if isinstance(x, np.ndarray) else launch.NUMBERS[code](x)
        for x, code in zip(arguments, one.signature, strict=True)
    ]
    with warnings.catch_warnings():
        # Each simulated thread is one of Python's, with NumPy's settings of its own.
        warnings.simplefilter("ignore", RuntimeWarning)
        launch.plain(one)[blocks, one.threads](*flat)


def near(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol, rtol)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def empty(*shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, np.nan, np.float32)


def elements() -> None:
    tanh = binding.source(formulas.FORMULAS["tanh"])
    for n, width in ((1, 1), (37, 1), (37, 4), (64, 4)):
        x, y = normal(n), empty(n)
        x[:1] = np.nan
        run(elementwise.map_program(tanh, 32, ("c.f4",), "c.f4", 1, width, True), 2, x, y, n)
        near(y, np.tanh(x))
    for n in (5, 21):
        halves, rounded = normal(n).astype(np.float16), np.zeros(n, np.float16)
        mask = np.zeros(n, np.uint8)
        less = binding.source(formulas.FORMULAS["less"])
        run(elementwise.map_program(tanh, 32, ("c.f2",), "c.f2", 1, 8, True), 1, halves, rounded, n)
        near(rounded, np.tanh(halves), 1e-3)
        one = elementwise.map_program(less, 32, ("c.f2", "s"), "c.u1", 1, 8, True)
        run(one, 2, halves, 0.0, mask, n)
        assert (mask == (halves < 0)).all()
    multiply = binding.source(formulas.multiply)
    a, b, y = normal(5, 6)[:, ::2], normal(3), empty(5, 3)
    one = elementwise.map_program(multiply, 32, ("t.f4", "t.f4"), "c.f4", 2, 1, True)
    whole = a.base
    run(one, 1, whole, b, y, 15, 3, 6, 2, 0, 1)
    near(y, a * b)
    relu = binding.source(formulas.FORMULAS["relu"])
    z, bias, y = normal(4, 8), normal(8), empty(4, 8)
    before = z + bias
    run(elementwise.bias_activation(relu, 32, "f4", False, True, 4, True), 1, z, y, bias, 32, 8)
    near(y, np.maximum(before, 0))
    near(z, before)
    adam = formulas.UPDATES["adam"].formula
    for held in (False, True):
        arrays = [np.abs(normal(21)) for _ in range(4)]
        expected = [x.copy() for x in arrays]
        scalars = (0.1, 0.1, 0.001, 1.5, 1e-8, 0.01)
        NUMPY.update(adam, tuple(expected), scalars)
        one = elementwise.update(binding.source(adam), 32, "f4", 4, 4, held)
        rest = (np.array(scalars, np.float32),) if held else scalars
        run(one, 2, *arrays, 21, *rest)
        for found, right in zip(arrays, expected, strict=True):
            near(found, right)


def axes() -> None:
    x = normal(3, 50)
    for kind, right in (("sum", x.sum(1)), ("max", x.max(1))):
        y = empty(3)
        run(reductions.rows(kind, 32, "f4", "f4", 4), 2, x, y, 3, 50, 1)
        near(y, right)
    parts = reductions.segments(300, 2)
    long, sums, y = normal(1, 300), empty(1, parts), empty(1)
    run(reductions.rows("sum", 32, "f4", "f4", 2), 3, long, sums, 1, 300, parts)
    run(reductions.rows("sum", 32, "f4", "f4", 2), 1, sums, y, 1, parts, 1)
    near(y, long.sum(1))
    y = empty(50)
    run(reductions.columns("sum", 32, "f4", "f4", 2, None), 3, x, y, 1, 3, 50, 1)
    near(y, x.sum(0))
    g, saved, dz, y = normal(9, 5), normal(9, 5), empty(9, 5), empty(5)
    formula = binding.vjp(formulas.tanh_dx)
    one = reductions.columns("sum", 32, "f4", "f4", 4, binding.source(formula))
    run(one, 2, g, saved, dz, y, 1, 9, 5, 1)
    near(dz, g * (1 - saved) * (1 + saved))
    near(y, dz.sum(0))
    ties = np.array([[1, 3, 3, 0], [np.nan, 9, np.nan, 0]], np.float32)
    places = np.full(2, -1)
    run(reductions.argreduce("max", 32, "f4", 2), 1, ties, places, 2, 4, 1)
    assert places.tolist() == [1, 0]
    y = empty(3, 50)
    run(reductions.scan("sum", 32, "f4"), 2, x, y, 3, 50, 1)
    near(y, x.cumsum(1))


def rows() -> None:
    x, y = normal(5, 7), empty(5, 7)
    for log in (False, True):
        run(softmax.softmax(32, "f4", log, 4), 2, x, y, 5, 7)
        near(y, NUMPY.softmax(x, log))
    for classes, smooth in ((True, 0.0), (False, 0.1)):
        targets = RNG.integers(0, 7, 5) if classes else RNG.dirichlet(np.ones(7), 5).astype(F32)
        losses, dx = empty(5), empty(5, 7)
        one = softmax.cross_entropy(
            32, "f4", 4, classes=classes, smooth=bool(smooth), weighted=False
        )
        run(one, 1, x, targets, 0.5, losses, dx, 5, 7, 1 - smooth, smooth / 7)
        for found, right in zip(
            (losses, dx), NUMPY.softmax_cross_entropy(x, targets, 0.5, smooth), strict=True
        ):
            near(found, right)


def normalised() -> None:
    x, w, b, g = normal(22, 3) + 2, normal(3), normal(3), normal(22, 3)
    running, follow = (normal(3), np.abs(normal(3))), (0.75, 0.25, 22 / 21)
    followed = tuple(t.copy() for t in running)
    right = NUMPY.normalize(x, w, b, 0, 1e-3, running=followed, momentum=0.25)
    slopes = NUMPY.normalize_backward(g, x, w, *right[1:], 0)
    # In one part, and in two.
    for parts, length in ((1, 22), (2, 12)):
        joining, sizes = parts > 1, (22, 3, parts, length)
        found = (empty(2, parts, 3),) if joining else ()
        y, mean, factor = empty(22, 3), empty(3), empty(3)
        if joining:
            run(norms.moments(32, "f4", 4), 3, x, *found, *sizes)
        one = norms.columns(32, "f4", 4, "f4", "f4", joining)
        followers = tuple(t.copy() for t in running)
        run(one, 3, x, w, b, y, mean, factor, *followers, *found, *sizes, 1e-3, *follow)
        for made, exact in zip((y, mean, factor, *followers), (*right, *followed), strict=True):
            near(made, exact)
        if joining:
            run(norms.slope_sums(32, "f4", 4, "f4"), 3, g, x, mean, factor, *found, *sizes)
        made = empty(22, 3), empty(3), empty(3)
        one = norms.columns_backward(32, "f4", 4, "f4", joining, "f4")
        run(one, 2, g, x, w, mean, factor, *made, *found, *sizes)
        for ours, exact in zip(made, slopes, strict=True):
            near(ours, exact, 1e-4)
    x, w, b, g = normal(7, 5) + 2, normal(5), normal(5), normal(7, 5)
    right = NUMPY.normalize(x, w, b, 1, 1e-3)
    slopes = NUMPY.normalize_backward(g, x, w, *right[1:], 1)
    y, mean, factor = empty(7, 5), empty(7), empty(7)
    run(norms.rows(32, "f4", 4, "f4"), 2, x, w, b, y, mean, factor, 7, 5, 1e-3)
    for made, exact in zip((y, mean, factor), right, strict=True):
        near(made, exact)
    dx, found, dw, db = empty(7, 5), empty(2, 2, 5), empty(5), empty(5)
    one = norms.rows_backward(32, "f4", 4, "f4", norms.side_by_side(5), "f4")
    run(one, 2, g, x, w, mean, factor, dx, found, 7, 5, 2)
    run(norms.affine_sums(32, "f4", 4), 3, found, dw, db, 4, 5, 2, 2)
    for ours, exact in zip((dx, dw, db), slopes, strict=True):
        near(ours, exact, 1e-4)
    run(norms.rows_backward(32, "f4", 4, "", 1, "f4"), 2, g, x, mean, factor, dx, 7, 5)
    near(dx, NUMPY.normalize_backward(g, x, None, *right[1:], 1)[0], 1e-4)


def joined() -> None:
    """What kernels compute on their way: operands, activations, sums, and masks."""
    product = Computed(binding.source(formulas.multiply), ("f4", "s"), "f4")
    x, y = normal(3, 50), empty(3)
    run(reductions.rows("sum", 32, product, "f4", 4), 2, x, 0.5, y, 3, 50, 1)
    near(y, x.sum(1) / 2)
    y = empty(50)
    run(reductions.columns("sum", 32, product, "f4", 2, None, 2), 3, x, 0.5, y, 1, 3, 50, 1)
    near(y, x.sum(0) / 2)
    relu = binding.source(formulas.FORMULAS["relu"])
    x, w, b, g = normal(7, 5), normal(5), normal(5), normal(7, 5)
    for axis in (0, 1):
        right, *statistics = NUMPY.normalize(x, w, b, axis, 1e-3)
        slopes = NUMPY.normalize_backward(g / 2, x, w, *statistics, axis)
        for kept in (False, True):
            done, y, made = Activation(relu, kept), empty(7, 5), empty(7, 5)
            results = (made, y) if kept else (y,)
            found, sizes = tuple(empty(len(z)) for z in statistics), (7, 5)
            if axis:
                one = norms.rows(32, "f4", 4, "f4", done)
            else:
                one, sizes = norms.columns(32, "f4", 4, "f4", "", False, done), (7, 5, 1, 7)
            run(one, 2, x, w, b, *results, *found, *sizes, 1e-3)
            near(y, np.maximum(right, 0))
            near(found[0], statistics[0])
            if kept:
                near(made, right)
        dx, sums, dw, db = empty(7, 5), empty(2, 2, 5), empty(5), empty(5)
        if axis:
            one = norms.rows_backward(32, "f4", 4, "f4", norms.side_by_side(5), product)
            run(one, 2, g, 0.5, x, w, *statistics, dx, sums, 7, 5, 2)
        else:
            one = norms.columns_backward(32, "f4", 4, "f4", False, product)
            run(one, 2, g, 0.5, x, w, *statistics, dx, dw, db, 7, 5, 1, 7)
            near(dw, slopes[1], 1e-4)
        near(dx, slopes[0], 1e-4)
    logits, classes, times = normal(9, 3), RNG.integers(0, 3, 9), np.full(1, 4, F32)
    losses, dx, total, sums = empty(9), empty(9, 3), empty(1), empty(3)
    one = softmax.cross_entropy(
        *(32, "f4", 2), classes=True, smooth=False, weighted=False, times=True, total=4, columns=4
    )
    run(one, 1, logits, classes, 0.5, losses, dx, times, total, sums, 9, 3, 1.0, 0.0)
    right, slopes = NUMPY.softmax_cross_entropy(logits, classes, 0.5, 0.0)
    for ours, exact in ((losses, right), (dx, slopes * 4)):
        near(ours, exact)
    near(total[0], right.sum())
    near(sums, slopes.sum(0) * 4, 1e-4)
    less, where = (binding.source(formulas.FORMULAS[name]) for name in ("less", "where"))
    x, mask, y = normal(13), np.zeros(13, np.uint8), empty(13)
    held, drawn = (
        np.array([5, 6, 7], np.uint64),
        philox.random("uniform", 5, 6 + (7 << 64), (13,), F32),
    )
    for second in (None, (where, ("v", "f4", "s"), "f4")):
        made = philox_programs.Drawn((less, "u1"), second)
        arrays, numbers = ((x, y), (0.5, 9.0)) if second else ((), (0.5,))
        one = philox_programs.random("uniform", 32, 24, "f4", True, made)
        run(one, 1, mask, *arrays, 13, *numbers, held)
        assert (mask == (drawn < 0.5)).all()
    assert (y == np.where(drawn < 0.5, x, F32.type(9))).all()


def gathering() -> None:
    x, index = normal(6, 3), np.array([5, -1, 0, 7])
    y, fault = empty(4, 3), np.zeros(3, np.int64)
    one = gather.take_rows("u4")
    run(one, 1, x.view(np.uint32), index, y.view(np.uint32), fault, 4, 6, 3, 0)
    np.testing.assert_array_equal(y, np.concatenate([x[[5, 5, 0]], np.zeros((1, 3), F32)]))
    assert fault.tolist() == [7, 6, 0]
    places, values, expected = np.array([2, 0, 2, 2]), normal(4, 3), x.copy()
    np.add.at(expected, places, values)
    order = np.argsort(places, kind="stable")
    run(gather.place_rows("f4", 32, True), 2, x, places[order], order, values, fault, 4, 6, 3)
    near(x, expected)


def checks() -> None:
    x, told = np.arange(70) % 7, normal(70, 2)
    for bad in (69, 33, 5):
        x[bad] = 9
        notes, values = np.zeros((3, flags.BLOCKS), np.int64), np.zeros((flags.BLOCKS, 2), F32)
        words = told.view(np.uint32), notes, values.view(np.uint32)
        blocks = flags.blocks_of(70)
        for _ in range(2):
            run(flags.outside("i8", 64, 4, 2), blocks, x, *words, 70, 0, 6)
        (block,) = [b for b in range(blocks) if notes[1, b] == bad]
        assert notes[0, block] == 1
        assert values[block].tolist() == told[bad].tolist()
    logits, classes = normal(4, 5), np.array([0, 4, -2, 1])
    losses, dx, note = empty(4), empty(4, 5), np.zeros(1, np.int64)
    one = softmax.cross_entropy(
        *(32, "f4", 4), classes=True, smooth=False, weighted=False, noted=True
    )
    run(one, 1, logits, classes, 1.0, losses, dx, 4, 5, 1.0, 0.0, note)
    assert int(note[0]) - 1 == (2 << 32) + (1 << 32) - 2


def numbers() -> None:
    key, counter = 0x0123456789ABCDEF, (1 << 64) - 2
    for kind, bits, code in (("bits", 32, "u4"), ("uniform", 64, "f8"), ("normal", 32, "f4")):
        dtype = np.dtype(code)
        y = np.zeros(13, dtype)
        used = 53 if kind == "uniform" else bits
        one = philox_programs.random(kind, bits, used, code)
        run(one, 1, y, 13, key, counter & (1 << 64) - 1, counter >> 64)
        assert y.tobytes() == philox.random(kind, key, counter, (13,), dtype).tobytes()
    y, held = np.zeros(9, np.float32), np.array([key, counter >> 1, 1], np.uint64)
    run(philox_programs.random("uniform", 32, 24, "f4", True), 1, y, 9, held)
    right = philox.random("uniform", key, (1 << 64) + (counter >> 1), (9,), F32)
    assert y.tobytes() == right.tobytes()
    assert math.isfinite(y.sum())


def staged() -> None:
    x, whole = np.arange(11, dtype=np.uint32), np.arange(40, dtype=np.uint64)
    y, table, parts = np.zeros(11, np.uint32), np.zeros(3, np.uint64), np.zeros(30, np.uint64)
    words = (7, (1 << 64) - 1, 5)
    run(staging.copies(("u4",), 3, False), 2, x, y, 11, table, *words)
    assert (y == x).all()
    assert tuple(table) == words
    run(staging.copies(("u8",), 0, True), 1, whole, parts, 7, 3, 13, 10)
    for part in range(3):
        assert (parts[10 * part :][:7] == whole[13 * part :][:7]).all()
    assert not parts[7:10].any()


for check in (elements, axes, rows, normalised, joined, gathering, checks, numbers, staged):
    check()
print(launches)
