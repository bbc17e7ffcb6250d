"""The stage `probe`: what the machine is, its ceilings, and what a launch costs by each route."""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.gpu.device import PRECISIONS, Bench
from benchmarks.gpu.notes import Notebook, NotThere, Wrong, main

PACKAGES = (
    *("cupy-cuda13x", "cupy-cuda12x", "numba-cuda", "nvmath-python", "nvidia-nvvm", "triton"),
    *("cuda-bindings", "cuda-core", "cuda-toolkit", "nvidia-cublas", "jax-cuda13-plugin"),
    *("ml-dtypes", "pytest", "pytest-xdist", "hypothesis"),
)
TOOLS = ("nvidia-smi", "nvcc", "compute-sanitizer", "ncu", "cuobjdump")
# Parts with the ceilings of products, the one that knows most first.
PRODUCTS = ("products by torch", "products")
# Where a tool is that is not on the PATH.
FOLDERS = ("/usr/local/cuda/bin", "/opt/nvidia/cuda/bin")
QUERY = "name,driver_version,memory.total,clocks.max.sm,power.limit,compute_cap"
STATE = "clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active"


def tool(name: str) -> str | None:
    """The path of one of NVIDIA's tools, if it is there."""
    return shutil.which(name) or next(
        (str(Path(folder) / name) for folder in FOLDERS if (Path(folder) / name).exists()), None
    )


def about(dry: bool) -> dict[str, Any]:
    """Machine, driver, libraries and tools, as far as they can be told without the backend."""
    found: dict[str, Any] = {**machine.describe(), "tools": {name: tool(name) for name in TOOLS}}
    for package in PACKAGES:
        try:
            found["packages"][package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if dry:
        return {**found, "device": "NumPy in the place of a GPU", "driver": None}
    told = said(QUERY)
    names = dict(zip(QUERY.split(","), told.split(", "), strict=False))
    found["nvidia_smi"] = told
    return {**found, "device": names.get("name"), "driver": names.get("driver_version")}


def versions(bench: Bench) -> dict[str, Any]:
    """The same, and what the runtime tells of the device."""
    found = about(bench.dry)
    runtime = bench.cupy.cuda.runtime
    found["driver_supports_cuda"] = runtime.driverGetVersion()
    found["cupy_is_for_cuda"] = runtime.runtimeGetVersion()
    if bench.dry:
        return found
    properties = runtime.getDeviceProperties(bench.device.index)
    name = properties["name"]
    found["device"] = name.decode() if isinstance(name, bytes) else name
    found["compute_capability"] = bench.cupy.cuda.Device(bench.device.index).compute_capability
    found["multiprocessors"] = properties["multiProcessorCount"]
    found["memory_on_device_bytes"] = properties["totalGlobalMem"]
    found["l2_bytes"] = properties["l2CacheSize"]
    return found


def said(query: str) -> str:
    """What nvidia-smi says of the device; why it says nothing, where it does not."""
    smi = tool("nvidia-smi")
    if smi is None:
        return ""
    command = [smi, f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return done.stdout.strip()


def copies(bench: Bench) -> dict[str, Any]:
    """Bytes per second, read and written both counted: a copy, and our kernels by precision."""
    from gradnet import dtypes, formulas

    count = 1 << 10 if bench.dry else 1 << 30  # 1 GiB each: twenty times the L2 of a large device
    x, y = (bench.random((count // 4,), dtypes.float32) for _ in range(2))
    seconds = bench.seconds(lambda: y.data.copy_from_device_async(x.data, x.nbytes))
    found: dict[str, Any] = {"copy": seconds and 2 * count / seconds}
    told = {"bytes": 2 * count, "bytes_per_second": found}
    wrong = []
    for precision in PRECISIONS:
        if precision == "tf32":
            continue  # numbers of float32, but for products
        dtype = dtypes.canonical(precision)
        a, b = (bench.backend.bits(array, dtype) for array in (x, y))

        def doubled(a: Any = a, b: Any = b, dtype: Any = dtype) -> None:
            bench.backend.map(formulas.multiply, a, 2.0, dtype=dtype, out=b)

        try:
            seconds = bench.seconds(doubled)
        except Exception as error:  # noqa: BLE001  the copy is the ceiling
            wrong.append(f"{precision}: {type(error).__name__}: {error}"[:500])
        else:
            found[f"kernel, {precision}"] = seconds and 2 * count / seconds
    if wrong:
        raise Wrong("; ".join(wrong), told)
    return told


class Products:
    """Flops per second of a large square product of random numbers, by each route there is."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.found: dict[str, dict[str, Any]] = {}
        for precision in PRECISIONS:
            n = 16 if bench.dry else 4096 if precision == "float64" else 8192
            row = {"n": n, "routes": {}, "left_out": {}, "flops_per_second": None}
            self.found[precision] = row

    def by(self, name: str, make: Callable[[Bench, str, int], Callable[[], Any]]) -> dict[str, Any]:
        """All that is known with this route. Raises Wrong where it failed in a precision."""
        wrong = []
        for precision, row in self.found.items():
            try:
                repeats = 5 if precision == "float64" else 10
                seconds = self.bench.seconds(make(self.bench, precision, row["n"]), repeats)
            except NotThere as error:
                row["left_out"][name] = str(error)
            except Exception as error:  # noqa: BLE001  the other precisions are worth more
                row["left_out"][name] = f"{type(error).__name__}: {error}"[:500]
                wrong.append(f"{precision}: {row['left_out'][name]}")
            else:
                row["routes"][name] = seconds and 2.0 * row["n"] ** 3 / seconds
            best = [rate for rate in row["routes"].values() if rate]
            row["flops_per_second"] = max(best) if best else None
        if wrong:
            raise Wrong("; ".join(wrong), self.found)
        return self.found


def _ours(bench: Bench, precision: str, n: int) -> Callable[[], Any]:
    from gradnet import dtypes

    tf32 = precision == "tf32"
    dtype = dtypes.float32 if tf32 else dtypes.canonical(precision)
    a, b = (bench.random((n, n), dtype) for _ in range(2))
    y = bench.poisoned((n, n), dtype)
    return lambda: bench.backend.matmul(a, b, out=y, tf32=tf32)


def _torch(bench: Bench, precision: str, n: int) -> Callable[[], Any]:
    if bench.dry:
        raise NotThere("not in a dry run")
    try:
        import torch
    except ImportError as error:
        raise NotThere("PyTorch is not installed") from error
    if not torch.cuda.is_available():
        raise NotThere("this PyTorch sees no GPU")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
    y = torch.empty_like(a)
    # Bench times the stream that CuPy calls current: that of PyTorch is the same, the default one.
    return lambda: torch.matmul(a, b, out=y)


def launches(bench: Bench) -> dict[str, Any]:
    """Seconds of a launch that does next to nothing, by each route, on the host and with waiting.

    launcher  our compiled kernel, given to CuPy
    map       a backend's call: broadcasting and the look-up of the kernel come on top
    tensor    an op of gradnet
    product   a backend's matrix product, by cublasLt where there are its bindings
    cupy      an op of CuPy
    cublas    a matrix product of CuPy
    numba     the same kernel by Numba's own launcher
    torch     an op of PyTorch
    """
    import gradnet as gn
    from gradnet import dtypes, formulas

    x, y = (bench.random((32,), dtypes.float32) for _ in range(2))
    backend, cupy, launch = bench.backend, bench.cupy, bench.device.launch

    def mapped() -> None:
        backend.map(formulas.multiply, x, y, dtype=dtypes.float32, out=y)

    last: list[Any] = []

    def seen(*arguments: Any) -> None:
        last[:] = arguments
        launch(*arguments)

    bench.device.launch = seen
    mapped()
    bench.device.launch = launch
    a, b = (bench.random((8, 8), dtypes.float32) for _ in range(2))
    product = bench.poisoned((8, 8), dtypes.float32)
    with bench.inside():
        t = gn.asarray(np.ones(32, np.float32))
    routes: dict[str, Callable[[], Callable[[], Any]]] = {
        "launcher": lambda: lambda: launch(*last),
        "map": lambda: mapped,
        "product": lambda: lambda: backend.matmul(a, b, out=product),
        "cupy": lambda: lambda: cupy.multiply(x, y, out=y),
        "cublas": lambda: lambda: cupy.matmul(a, b, out=product),
        "tensor": lambda: lambda: gn.multiply(t, t),
        "numba": lambda: _numba_launch(bench, last),
        "torch": lambda: _torch_launch(bench, last),
    }
    found: dict[str, Any] = {}
    wrong = []
    for name, make in routes.items():
        try:
            with bench.inside():
                calls = 200 if name in ("numba", "torch") else 1000
                found[name] = bench.host_seconds(make(), calls)
        except NotThere as error:
            found[name] = {"left_out": str(error)}
        except Exception as error:  # noqa: BLE001  the other routes are timed all the same
            found[name] = {"left_out": f"{type(error).__name__}: {error}"[:500]}
            wrong.append(f"{name}: {found[name]['left_out']}")
    if wrong:
        raise Wrong("; ".join(wrong), found)
    return found


def _numba_launch(bench: Bench, launched: list[Any]) -> Callable[[], Any]:
    if bench.dry:
        raise NotThere("not in a dry run")
    from gradnet.kernels.launch import numbers, plain

    program, blocks, *arguments = launched
    kernel, given = plain(program), numbers(program, arguments)
    return lambda: kernel[blocks, program.threads](*given)


def _torch_launch(bench: Bench, launched: list[Any]) -> Callable[[], Any]:
    if bench.dry:
        raise NotThere("not in a dry run")
    try:
        import torch
    except ImportError as error:
        raise NotThere("PyTorch is not installed") from error
    x = torch.ones(32, device="cuda")
    return lambda: torch.mul(x, x, out=x)


def graph_nodes(bench: Bench) -> dict[str, Any]:
    """Seconds of a graph's replay by its number of nodes, and of a further node.

    The nodes are launches of one small kernel of ours, one after another on a captured stream.
    """
    from gradnet import dtypes, formulas

    cuda = bench.cupy.cuda
    if not hasattr(cuda, "Stream"):
        raise NotThere("the device made of NumPy has no graphs")
    x = bench.random((32,), dtypes.float32)
    y = bench.poisoned((32,), dtypes.float32)

    def one() -> None:
        bench.backend.map(formulas.multiply, x, 0.5, dtype=dtypes.float32, out=y)

    one()
    bench.wait()
    stream = cuda.Stream(non_blocking=True)
    found: dict[int, float | None] = {}
    with stream:
        for nodes in (1, 10, 100):
            stream.begin_capture()
            for _ in range(nodes):
                one()
            graph = stream.end_capture()
            found[nodes] = bench.seconds(lambda graph=graph: graph.launch(stream), 20, 20)
        stream.synchronize()
    few, many = found[10], found[100]
    further = None if few is None or many is None else (many - few) / 90
    return {"seconds": found, "seconds_of_a_node": further}


def read_beforehand(dry: bool) -> None:
    """Have the peers' libraries, some gigabytes, read from the disk by the time they are needed."""
    for name in () if dry else ("torch", "jax"):
        if importlib.util.find_spec(name) is not None:
            subprocess.Popen(
                [sys.executable, "-c", f"import {name}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


def run(notes: Notebook) -> None:
    """The parts, the most needed first."""
    read_beforehand(notes.options.dry)
    notes.part("machine", lambda: about(notes.options.dry))
    bench = Bench(notes.options.backend)
    rates = Products(bench)
    notes.part("versions", lambda: versions(bench))
    notes.part("copies", lambda: copies(bench))
    notes.part("products", lambda: rates.by("gradnet", _ours))
    notes.part("graph_nodes", lambda: graph_nodes(bench))
    notes.part("products by torch", lambda: rates.by("torch", _torch))
    if not notes.options.dry:
        notes.part("state", lambda: {STATE: said(STATE)})
    notes.part("launches", lambda: launches(bench))


if __name__ == "__main__":
    main("probe", run)
