"""As much of CuPy as the CUDA backend uses, over NumPy; and a device that notes what is done.

Arrays are boxes that NumPy cannot read without `get`. Memory comes from a pool that fills what it
takes back, and what it gives out, with bytes that make every float NaN.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from gradnet.kernels import cuda_timing
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_device import Device
from gradnet.kernels.cuda_templates.program import Program
from ptx import launching

from fakes import lockstep, repeats, streams, surface
from fakes.arrays import Host, Ndarray, in_tf32
from fakes.memory import CUDARuntimeError, Memory, OutOfMemoryError
from fakes.streams import CaptureError
from gradnet.backends import Replay
from gradnet.program import calls
from gradnet.program.calls import Action

__all__ = ["BACKEND", "CaptureError", "Cupy", "Launches", "backend", "fake_backend"]

FORBIDDEN = {
    *("grow", "to host", "from host", "synchronize", "wait", "record"),
    *("cupy.argsort", "cupy.sort", "cupy.nonzero"),
}
# CuPy's number of that kind of products.
TF32 = 7
# By the runtime's numbers: processors, the major compute capability, whether there are cooperative
# launches, and a block's shared memory.
ATTRIBUTES = {16: 132, 75: 9, 95: 1, 97: 227 << 10}
# So that small tests run quickly, and cross the boundaries of blocks.
THREADS = 32
# What runs a launch: the kernel's text in Python, or what is compiled of it.
RUN = launching.run if os.environ.get("GRADNET_FAKE_RUNS") == "ptx" else lockstep.run
lockstep.use_blocks(THREADS)
# Nor is this device's clock disturbed by anything.
cuda_timing.ROUNDS, cuda_timing.IN_A_ROW = 3, 1


class Cupy:
    """The module: its own functions below, NumPy's for the rest."""

    def __init__(self, devices: int = 1) -> None:
        self.memory = self.pool = Memory()
        self.done: list[str] = []
        # Pieces of work so far: what events tell the time by.
        self.clock = 0
        # The work of the step that is being captured.
        self.recorded: list[streams.Work] | None = None
        # What changes numbers of the host between the runs of the program that is compiled.
        self.actions: Sequence[Action] = ()
        # How many there are, and the one that work goes to.
        self.devices, self.current = devices, 0
        self.streams = [streams.Stream(self)]
        self.ordered: list[tuple[streams.Stream, streams.Stream]] = []
        self.driver, self.runtime_version = 13000, 13000
        self.attributes = dict(ATTRIBUTES)
        self.ndarray = type("ndarray", (Ndarray,), {"cupy": self})
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: self.driver,
            runtimeGetVersion=lambda: self.runtime_version,
            getDeviceCount=lambda: self.devices,
            deviceGetAttribute=lambda attribute, index: self.attributes[attribute],
            getDeviceProperties=lambda index: {"name": b"NumPy"},
            memGetInfo=lambda: (self.memory.limit - self.memory.used, self.memory.limit),
        )
        self.cuda = SimpleNamespace(
            runtime=runtime,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            get_current_stream=lambda: self.streams[-1],
            Stream=partial(streams.Stream, self),
            Event=streams.Event,
            get_elapsed_time=streams.elapsed,
            MemoryPool=self._new_pool,
            using_allocator=partial(streams.using, self),
            Device=self._device,
        )
        # How float32 is multiplied: as it is.
        self.products = 1
        self._core = SimpleNamespace(
            get_compute_type=lambda dtype: self.products,
            set_compute_type=lambda dtype, kind: setattr(self, "products", kind),
            _routines_linalg=SimpleNamespace(COMPUTE_TYPE_TF32=TF32),
        )
        self.linalg = _Room(self, "linalg")
        self.fft = _Room(self, "fft")
        self.get_default_memory_pool = lambda: self.memory

    def _new_pool(self) -> Memory:
        made = Memory()
        made.growing = partial(self.note, "grow")
        return made

    @property
    def capturing(self) -> bool:
        """Whether a stream is being captured."""
        return self.recorded is not None

    @contextmanager
    def _device(self, index: int) -> Iterator[None]:
        self.done.append(f"device {index}")
        before, self.current = self.current, index
        try:
            yield
        finally:
            self.current = before

    def note(self, what: str) -> None:
        """Remember something done, and refuse what a step under capture must not do."""
        if self.recorded is not None and (
            what in FORBIDDEN or (what == "allocate" and self.pool is self.memory)
        ):
            raise CaptureError(f"{what} while a step is captured")
        if self.recorded is None and what != "grow":
            self.done.append(what)
            self.clock += what != "graph"

    def opened(self, value: Any, reached: Callable[[Host], Host] = lambda host: host) -> Any:
        """The host's arrays within arguments."""
        if isinstance(value, Ndarray):
            return reached(value.host)
        if isinstance(value, tuple | list):
            return type(value)(self.opened(item, reached) for item in value)
        if isinstance(value, dict):
            return {key: self.opened(item, reached) for key, item in value.items()}
        return value

    def tell(self, what: str, function: Any, arguments: Any, options: dict[str, Any]) -> None:
        """Have the stream that is captured, or will be, know of work and its numbers."""
        stream = self.streams[-1]
        if stream.non_blocking:
            one = repeats.told(what, getattr(function, "program", None), arguments, options)
            (stream.tape.note if self.recorded is None else stream.tape.compare)(one)

    def do(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Give work to the device: done now, or whenever the graph under capture is launched."""
        self.note(what)
        self.tell(what, function, arguments, options)
        given = (arguments, options)
        if self.recorded is None:
            args, named = self.opened(given)
            with np.errstate(all="ignore"):
                function(*args, **named)
            return
        args, named = self.opened(given, streams.unowned)
        self.recorded.append((what, partial(function, **named), args))

    def made(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The result of a function in memory of the device, or of its argument `out`."""
        if options.get("out") is not None:
            self.do(what, function, *arguments, **options)
            return options["out"]
        if what:
            self.note(what)
        args, named = self.opened((arguments, options))
        with np.errstate(all="ignore"):
            result = function(*args, **named)
        found = self.wrapped(result)
        fresh = isinstance(found, Ndarray)
        for x in arguments:
            if fresh and isinstance(x, Ndarray) and found.data.mem is x.data.mem:
                found.parent = x if x.parent is None else x.parent
                return found
        if fresh:
            self.tell(what or function.__name__, function, arguments, options)
        if self.recorded is not None and fresh:
            args, named = self.opened((arguments, options), streams.unowned)
            target = streams.unowned(found.host)

            def again() -> None:
                with np.errstate(all="ignore"):
                    target[...] = function(*args, **named)

            self.recorded.append((what or function.__name__, again, ()))
        return found

    def at(self, address: int, code: str) -> Host:
        """The memory from an address on; none of a block that was given back."""
        found, dtype = self.memory.at(address), np.dtype(code[:-1])
        if found is None:
            raise CUDARuntimeError(f"cudaErrorIllegalAddress: {address:#x}")
        return found[: found.size // dtype.itemsize * dtype.itemsize].view(dtype)

    def wrapped(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            host = np.asarray(value)
            if lockstep.owner(host).base is None:
                # NumPy's own memory: what CuPy would have taken from its pool.
                host = self.empty(host.shape, host.dtype).host
                host[...] = value
            return self.ndarray(host)
        if isinstance(value, tuple | list):
            return tuple(self.wrapped(item) for item in value)
        return value

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Ndarray:
        self.note("allocate")
        dtype = np.dtype(dtype)
        block = self.pool.block(math.prod(shape) * dtype.itemsize)
        return self.ndarray(np.ndarray(shape, dtype, block) if block.size else _none(shape, dtype))

    def copyto(self, y: Ndarray, x: Any, casting: str = "same_kind") -> None:
        surface.refuse_host((y, x))
        self.do("copyto", np.copyto, y, x, casting=casting)

    def asarray(self, a: Any, dtype: Any = None) -> Ndarray:
        if isinstance(a, Ndarray):
            return self.made("cupy.asarray", np.asarray, a, dtype=dtype)
        self.note("from host")
        return self.wrapped(np.asarray(a, dtype))

    def from_dlpack(self, x: Any) -> Ndarray:
        return self.wrapped(np.from_dlpack(x))

    def __getattr__(self, name: str) -> Any:
        if not surface.known(name):
            raise AttributeError(f"module 'cupy' has no attribute {name!r} in fakes.surface")
        return _function(self, getattr(np, name), name)


def _none(shape: tuple[int, ...], dtype: Any) -> Host:
    return np.empty(shape, dtype)


def _function(cupy: Cupy, function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        surface.check(name, arguments, options)
        if cupy.recorded is not None and (name == "matmul" or name.startswith("linalg.")):
            raise NotImplementedError("calling cuBLAS API during stream capture is unsupported")
        if name == "matmul" and cupy.products == TF32 and arguments[0].dtype == np.float32:
            return cupy.made("cupy.matmul", _in_tf32, *arguments, **options)
        return cupy.made(f"cupy.{name}", function, *arguments, **options)

    return call


def _in_tf32(a: Host, b: Host, **options: Any) -> Host:
    return np.matmul(in_tf32(a), in_tf32(b), **options)


class _Room:
    """A module within the module."""

    def __init__(self, cupy: Cupy, name: str) -> None:
        self.cupy, self.name = cupy, name

    def __getattr__(self, name: str) -> Any:
        whole = f"{self.name}.{name}"
        if not surface.known(whole):
            raise AttributeError(f"module 'cupy' has no attribute {whole!r} in fakes.surface")
        return _function(self.cupy, getattr(getattr(np, self.name), name), whole)


class Launches:
    """The launcher: runs kernels in step on the CPU, and counts them."""

    def __init__(self, cupy: Cupy) -> None:
        self.cupy = cupy
        self.programs: Counter[Program] = Counter()
        self.backwards = False
        self.run: Callable[..., None] = RUN

    def __call__(self, program: Program, blocks: int, *arguments: Any) -> None:
        self.programs[program] += 1
        given = [
            self.cupy.at(int(value), code)
            if isinstance(value, np.uintp) and value and "*" in code
            else value
            for code, value in zip(program.signature, arguments, strict=True)
        ]

        run = _Run(program, blocks, self)
        self.cupy.do(f"launch {program.kind}", run, *given)


class _Run:
    """A launch without its arguments."""

    def __init__(self, program: Program, blocks: int, launches: Launches) -> None:
        self.program, self.blocks, self.launches = program, blocks, launches

    def __call__(self, *hosts: Any) -> None:
        launches = self.launches
        launches.run(self.program, self.blocks, hosts, backwards=launches.backwards)


class FakeCuda(CudaBackend):
    """The CUDA backend, whose device knows which numbers of the host a program has."""

    def compile(self, program: calls.Program) -> Replay | None:
        cupy = self._device.cupy
        cupy.actions = program.actions
        try:
            return super().compile(program)
        finally:
            cupy.actions = ()


def fake_backend(index: int = 0, devices: int = 1) -> CudaBackend:
    """The CUDA backend over this device."""
    cupy = Cupy(devices)
    return FakeCuda(Device(cupy, index, Launches(cupy)))


def backend(index: int) -> CudaBackend:
    """The backend on one of two such devices."""
    return fake_backend(index, devices=2)


BACKEND = fake_backend()
