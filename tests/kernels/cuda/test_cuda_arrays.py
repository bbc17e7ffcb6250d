"""Gathering, order, products and random numbers of the CUDA backend; capture; launch counts."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from fakes.compare import BF16, F16, F32, F64, I64, NUMPY, RNG, both, normal, odd
from fakes.cupy_over_numpy import CaptureError, fake_backend
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet import backends, formulas, nn, optim

C64 = np.dtype(np.complex64)
C128 = np.dtype(np.complex128)
MOVED = (F32, F64, F16, BF16, I64, np.dtype(np.int8), np.dtype(np.bool_), C64, C128)


@pytest.mark.parametrize("dtype", MOVED, ids=str)
def test_rows_are_taken(cuda: CudaBackend, dtype: Any) -> None:
    x = (normal(5, 3) * 4).astype(dtype)
    for rows in (np.array([4, 0, -1, 0]), np.array([[1], [2]]), np.array([], np.int64)):
        both(cuda, lambda k, t, r=rows: k.take(t(x), (t(r),)), exact=True)
    both(cuda, lambda k, t: k.take(t(x[:, 0]), (t(np.array([2, 2], np.int32)),)), exact=True)
    wide = np.zeros((2, 2, 3), dtype)
    rows = np.array([3, 1])
    both(cuda, lambda k, t: k.take(t(x), (t(rows),), out=k.view(t(wide), (1,))), exact=True)


INDICES: list[tuple[Any, ...]] = [
    (np.array([0, 2]), np.array([1, -1])),
    (slice(None), np.array([1, 1, 0])),
    (Ellipsis, np.array([0])),
    (np.array([True, False, True]),),
    (np.array([[0, 1], [2, 0]]), None, slice(1, 3)),
    (1, np.array([0, 2, 2])),
]


@pytest.mark.parametrize("number", range(len(INDICES)))
def test_any_index(cuda: CudaBackend, number: int) -> None:
    x = normal(3, 4)

    def index(t: Any) -> Any:
        return tuple(t(i) if isinstance(i, np.ndarray) else i for i in INDICES[number])

    both(cuda, lambda k, t: k.take(t(x), index(t)), exact=True)
    shape = x[INDICES[number]].shape
    for values, add in itertools.product((normal(*shape), normal(1), 2.5), (False, True)):

        def put(k: Any, t: Any, values: Any = values, add: Any = add) -> Any:
            target = t(x)
            k.put(target, index(t), values if isinstance(values, float) else t(values), add=add)
            return target

        both(cuda, put)


@pytest.mark.parametrize("dtype", MOVED, ids=str)
@pytest.mark.parametrize("add", [False, True])
def test_repeated_places(cuda: CudaBackend, dtype: Any, add: bool) -> None:
    if dtype == np.bool_ and add:
        return
    x = (normal(6, 2) * 3).astype(dtype)
    rows = RNG.integers(-6, 6, 40)
    values = (normal(40, 2) * 3).astype(dtype)

    def put(k: Any, t: Any) -> Any:
        target = t(x)
        k.put(target, (t(rows),), t(values), add=add)
        return target

    both(cuda, put, exact=dtype not in (F16, BF16))

    def strided(k: Any, t: Any) -> Any:
        target = t(x)
        k.put(k.permute(target, (1, 0)), (slice(None), t(rows)), t(values.T.copy()), add=add)
        return target

    both(cuda, strided, exact=dtype not in (F16, BF16))


def test_joining_searching_ordering(cuda: CudaBackend) -> None:
    a, b = normal(2, 3), normal(2, 2)
    both(cuda, lambda k, t: k.concatenate([t(a), t(b)], -1), exact=True)
    both(cuda, lambda k, t: k.concatenate([k.permute(t(a), (1, 0)), t(b)[:0]], 0)
         if k is NUMPY else k.concatenate([k.permute(t(a), (1, 0)), k.view(t(b), (slice(0),))], 0),
         exact=True)  # fmt: skip
    line = np.sort(normal(9))
    for side in ("left", "right"):
        both(cuda, lambda k, t, s=side: k.searchsorted(t(line), t(a), s))
        both(cuda, lambda k, t, s=side: k.searchsorted(t(line.astype(F16)), t(a.astype(F16)), s))
    both(cuda, lambda k, t: k.nonzero(t((a > 0).astype(I64))))
    for x, axis, down in itertools.product((odd(4, 6), np.round(normal(5, 5))), (0, 1), (0, 1)):
        both(cuda, lambda k, t, x=x, a=axis, d=down: k.argsort(t(x), a, bool(d)))
        both(cuda, lambda k, t, x=x, a=axis, d=down: k.sort(t(x), a, bool(d)), exact=True)
    both(cuda, lambda k, t: k.sort(t(a.astype(BF16)), 1, False))


def test_making_arrays(cuda: CudaBackend) -> None:
    both(cuda, lambda k, t: k.full((2, 3), 2.5, F16))
    both(cuda, lambda k, t: k.full((2,), True, np.dtype(bool), out=t(np.zeros(2, bool))))
    for dtype in (F32, F64, F16, I64):
        both(cuda, lambda k, t, d=dtype: k.arange(1, 3, 7, d), exact=True)
    both(cuda, lambda k, t: k.arange(0.5, -0.25, 9, F32), exact=True)
    both(cuda, lambda k, t: k.bits(t(normal(4)), np.dtype(np.int32)) if k is None else
         k.bits(t(np.ones(4, F32)), np.dtype(np.int32)))  # fmt: skip
    x = np.asfortranarray(normal(3, 4))
    both(cuda, lambda k, t: k.permute(k.from_host(x, copy=True), (1, 0)), exact=True)
    base = normal(12)
    both(cuda, lambda k, t: k.window(t(base), 8, (2, 3), (20, 4), F32), exact=True)


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16, C64, I64], ids=str)
def test_products(cuda: CudaBackend, dtype: Any) -> None:
    shapes = (((3, 4), (4, 5)), ((2, 3, 4), (4, 1)), ((0, 4), (4, 2)), ((3, 0), (0, 2)))
    for left, right in shapes:
        a, b = (normal(*left) * 2).astype(dtype), (normal(*right) * 2).astype(dtype)
        both(cuda, lambda k, t, a=a, b=b: k.matmul(t(a), t(b)), rtol=1e-5)
    a, b, wide = normal(3, 4), normal(4, 5), np.zeros((3, 2, 5), F32)
    both(cuda, lambda k, t: k.matmul(t(a), t(b), out=k.view(t(wide), (slice(None), 1))))


def test_libraries_by_name(cuda: CudaBackend) -> None:
    a = normal(4, 4) + 4 * np.eye(4, dtype=F32)
    both(cuda, lambda k, t: k.linalg("linalg.solve", t(a), t(a[:, :2])), rtol=1e-4)
    both(cuda, lambda k, t: tuple(k.linalg("linalg.qr", t(a), mode="reduced")), rtol=1e-4)
    both(cuda, lambda k, t: k.linalg("linalg.pinv", t(a), rtol=None), rtol=1e-3)
    both(cuda, lambda k, t: k.linalg("fft.fft", t(a.astype(C64)), axis=0, norm=None), rtol=1e-4)


@pytest.mark.parametrize("kind", ["bits", "uniform", "normal"])
def test_random_bits_are_the_cpus(cuda: CudaBackend, kind: str) -> None:
    dtypes = (np.dtype(np.uint32), np.dtype(np.uint64)) if kind == "bits" else (F16, BF16, F32, F64)
    draws = ((0, 0, 5), (77**9, (1 << 64) - 3, 301), (-1, (1 << 128) - 1, 9), (3, 5, 0))
    for dtype, (key, counter, size) in itertools.product(dtypes, draws):
        if dtype == BF16 and size == 301:
            continue

        def draw(k: Any, t: Any, dtype: Any = dtype, place: Any = (key, counter, size)) -> Any:
            return k.random(kind, place[0], place[1], (place[2],), dtype)

        expected = draw(NUMPY, None)
        assert cuda.to_host(draw(cuda, None)).tobytes() == expected.tobytes()


# A step under capture


def test_a_captured_step_allocates_and_waits_for_nothing(cuda: CudaBackend) -> None:
    device = cuda._device
    x, y = (cuda.from_host(normal(4, 3), copy=True) for _ in range(2))
    cuda.map(formulas.add, x, y, dtype=F32)
    own = device.cupy.cuda.MemoryPool()
    with device.cupy.cuda.using_allocator(own.malloc):
        cuda.map(formulas.add, x, y, dtype=F32)
    with device.cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        for forbidden in (
            lambda: cuda.map(formulas.add, x, y, dtype=F32),
            lambda: cuda.to_host(x),
            lambda: cuda.from_host(np.ones(3), copy=True),
            lambda: cuda.synchronize(),
        ):
            with pytest.raises(CaptureError, match="while a step is captured"):
                forbidden()
        with device.cupy.cuda.using_allocator(own.malloc):
            cuda.map(formulas.add, x, y, dtype=F32)  # a block that was given back
            with pytest.raises(CaptureError, match="grow while a step is captured"):
                cuda.empty((999,), F32)
        graph = stream.end_capture()
    before = cuda.to_host(x) + cuda.to_host(y)
    with device.cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        cuda.map(formulas.add, x, y, dtype=F32, out=y)
        graph = stream.end_capture()
    for _ in range(2):
        assert not np.array_equal(cuda.to_host(y), before)
        graph.launch()
        np.testing.assert_array_equal(cuda.to_host(y), before)
        before = cuda.to_host(x) + before


def test_freed_memory_is_poisoned(cuda: CudaBackend) -> None:
    x = cuda.full((4,), 1.0, F32)
    kept = x.host.__array_interface__["data"][0]
    del x
    y = cuda.empty((4,), F32)
    assert y.host.__array_interface__["data"][0] == kept
    assert np.isnan(cuda.to_host(y)).all()


# What a training step launches


STEPS: dict[str, tuple[dict[str, Any], Any, dict[str, int]]] = {
    "relu and adam": (
        {"activation": "relu"},
        lambda parameters: optim.Adam(parameters, lr=0.01),
        {
            "cupy.matmul": 5,
            "launch bias_activation": 2,
            "launch cross_entropy": 1,
            "launch backward": 1,
            "launch columns": 1,
            "launch update": 1,
        },
    ),
    "gelu and momentum": (
        {"activation": "gelu"},
        lambda parameters: optim.SGD(parameters, lr=0.01, momentum=0.9),
        {
            "cupy.matmul": 5,
            "launch bias_activation": 2,
            "launch cross_entropy": 1,
            "launch backward": 1,
            "launch columns": 1,
            "launch update": 1,
        },
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_launches_of_a_step(name: str) -> None:
    settings, optimizer_of, expected = STEPS[name]
    cuda = fake_backend()
    with backends.use(cuda):
        model = nn.MLP((6, 8, 3), output="softmax", seed=0, **settings)
        optimizer = optimizer_of(model.parameters())
        x, y = gn.asarray(normal(10, 6)), gn.asarray(RNG.integers(0, 3, 10))
        log = cuda._device.cupy.done
        for _ in range(2):
            log.clear()
            model.output.loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    counted = Counter(log)
    assert not {"to host", "from host", "synchronize"} & set(counted)
    work = {what: n for what, n in counted.items() if what.startswith(("launch", "cupy"))}
    for what, count in expected.items():
        assert work.pop(what, 0) == count, (what, counted)
    # What the loss's mean and its gradient's spread take.
    assert sum(work.values()) <= 6, work
