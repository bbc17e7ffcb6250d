"""The device under test: the GPU, or the one made of NumPy, on which nothing is timed."""

from __future__ import annotations

import importlib
import pkgutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

from benchmarks.gpu.notes import NotThere

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "float64")


class Bench:
    """A backend, CuPy beneath it, and a clock."""

    def __init__(self, name: str) -> None:
        from gradnet import backends

        # The samples of the tests, and the device made of NumPy, are in the tests' folder.
        sys.path.append(str(ROOT / "tests"))
        self.dry = name == "fake"
        if self.dry:
            backends.register("fake", "fakes.cupy_over_numpy")
        self.backend: Any = backends.get(name)
        self.device: Any = self.backend._device
        self.cupy: Any = self.device.cupy
        self.before = 0  # bytes that the pool had

    @contextmanager
    def inside(self) -> Iterator[Any]:
        """New tensors are made on the device."""
        from gradnet import backends

        with backends.use(self.backend):
            yield self.backend

    def seconds(self, job: Callable[[], object], repeats: int = 20, inner: int = 1) -> float | None:
        """The median time of a job by the device's events; None in a dry run, which runs it once.

        `inner` calls are timed together.
        """
        job()
        if self.dry:
            return None
        event, elapsed = self.cupy.cuda.Event, self.cupy.cuda.get_elapsed_time
        found = []
        for _ in range(repeats + 2):
            start, end = event(), event()
            start.record()
            for _ in range(inner):
                job()
            end.record()
            end.synchronize()
            found.append(elapsed(start, end) * 1e-3 / inner)
        return statistics.median(found[2:])

    def host_seconds(self, job: Callable[[], object], calls: int = 1000) -> dict[str, Any]:
        """Seconds of a call on the host alone, and with the wait for the device after all calls."""
        job()
        self.wait()
        if self.dry:
            return {"host": None, "with_wait": None}
        hosts, waits = [], []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(calls):
                job()
            hosts.append((time.perf_counter() - start) / calls)
            self.wait()
            waits.append((time.perf_counter() - start) / calls)
        return {"host": statistics.median(hosts), "with_wait": statistics.median(waits)}

    def wait(self) -> None:
        """Until the device has done all."""
        self.backend.synchronize()

    def random(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of normal numbers, never the same twice."""
        import numpy as np

        from gradnet import dtypes
        from gradnet.errors import DeviceError

        wide = dtypes.float64 if np.dtype(dtype).itemsize == 8 else dtypes.float32
        seed = int(np.random.SeedSequence().generate_state(1)[0])
        try:
            x = self.backend.random("normal", seed, 0, shape, wide)
        except DeviceError:
            # Without a compiler there are copies and products still to be measured.
            host = np.random.default_rng(seed).standard_normal(shape, wide)
            x = self.backend.from_host(host, copy=True)
        return x if wide == dtype else self.backend.cast(x, np.dtype(dtype))

    def poisoned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array to write to that is NaN wherever it can be."""
        value = float("nan") if dtype.kind in "fV" else 1
        return self.backend.full(shape, value, dtype)

    def poison_pool(self, sizes: tuple[int, ...]) -> None:
        """Leave blocks of NaN in the pool, from which new arrays are taken."""
        kept = [self.poisoned((size,), _float32()) for size in sizes for _ in range(4)]
        del kept

    def start_memory(self) -> None:
        """Count the memory of the pool from here on."""
        if not self.dry:
            pool = self.cupy.get_default_memory_pool()
            pool.free_all_blocks()
            self.before = int(pool.total_bytes())

    def peak_memory(self) -> int | None:
        """Bytes that the pool has taken since: it gives none back by itself."""
        if self.dry:
            return None
        return int(self.cupy.get_default_memory_pool().total_bytes()) - self.before

    def launches(self, job: Callable[[], object]) -> dict[str, int]:
        """What a job launches: our kernels, and matrix products."""
        counts = {"kernels": 0, "products": 0}
        device, backend = self.device, self.backend
        launch, matmul = device.launch, backend.matmul

        def counted_launch(*arguments: Any, **options: Any) -> None:
            counts["kernels"] += 1
            launch(*arguments, **options)

        def counted_matmul(_: Any, *arguments: Any, **options: Any) -> Any:
            counts["products"] += 1
            return matmul(*arguments, **options)

        # As a method: who records calls asks whose they are.
        device.launch, backend.matmul = counted_launch, MethodType(counted_matmul, backend)
        try:
            job()
            self.wait()
        finally:
            device.launch = launch
            del backend.matmul
        return counts


def _float32() -> Any:
    from gradnet import dtypes

    return dtypes.float32


def module(part: str) -> Any:
    """The module of `gradnet.kernels` whose name has that part. Raises NotThere without one."""
    import gradnet.kernels

    for found in pkgutil.iter_modules(gradnet.kernels.__path__):
        if part in found.name:
            return importlib.import_module(f"gradnet.kernels.{found.name}")
    raise NotThere(f"gradnet.kernels has no module with {part!r} in its name")


def needs_precision(name: str) -> dict[str, Any]:
    """The arguments of `nn.MLP` for a precision. Raises NotThere where it has none."""
    import inspect

    import gradnet as gn

    if name in ("float32", "float64"):
        return {"dtype": name}
    if "precision" not in inspect.signature(gn.nn.MLP).parameters:
        raise NotThere(f"nn.MLP takes no precision, so there is no {name}")
    return {"precision": name}
