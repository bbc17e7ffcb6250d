"""Runs the text of a CUDA kernel on the CPU, the threads of a block in step between barriers.

Each thread is a generator that stops at every `cuda.syncthreads()`. Between two barriers the
threads run one after the other, in an order that can be turned round: a kernel that lacks a
barrier gives other results then. Addresses are checked against the allocation that they are in.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from gradnet.kernels import (
    cuda_arrays,
    cuda_checks,
    cuda_elementwise,
    cuda_graph,
    cuda_moves,
    cuda_names,
    cuda_norms,
    cuda_rows,
    cuda_scaled,
    launch,
)
from gradnet.kernels.cuda_templates import flags, norms, program, reductions, scaled, softmax
from gradnet.kernels.cuda_templates.program import Program
from gradnet.kernels.nvrtc import CudaProgram

from fakes import clustered, fused

ELEMENTS = {"b2": np.dtype(ml_dtypes.bfloat16)}


def owner(host: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array whose memory an array is a view of."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    return host


class Divergence(AssertionError):
    """Some threads of a block came to a barrier that others never reach."""


class Pointer:
    """The memory from an array's first element on, as far as its allocation goes."""

    __slots__ = ("begin", "flat", "size")

    def __init__(self, host: np.ndarray[Any, Any], code: str) -> None:
        dtype = ELEMENTS.get(code[:-1]) or np.dtype(code[:-1])
        if host.dtype.itemsize % dtype.itemsize:  # a complex number is two
            raise TypeError(f"a kernel takes {code} and got an array of {host.dtype}")
        owner_ = owner(host)
        self.flat = owner_.reshape(-1).view(np.uint8)
        self.flat = self.flat[: self.flat.size // dtype.itemsize * dtype.itemsize].view(dtype)
        place = host.__array_interface__["data"][0] - owner_.__array_interface__["data"][0]
        if place % dtype.itemsize:
            raise ValueError(f"an array of {dtype} begins at byte {place}")
        self.begin = place // dtype.itemsize
        self.size = self.flat.size

    def __getitem__(self, i: int) -> Any:
        place = self.begin + i
        if not 0 <= place < self.size:
            raise IndexError(f"a kernel reads element {place} of {self.size}")
        return self.flat[place]

    def __setitem__(self, i: int, value: Any) -> None:
        place = self.begin + i
        if not 0 <= place < self.size:
            raise IndexError(f"a kernel writes element {place} of {self.size}")
        self.flat[place] = value

    def check(self, place: int, width: int) -> None:
        if (self.begin + place) % width:
            raise ValueError(f"{width} elements from {self.begin + place} on are not aligned")


class Cuda:
    """What `cuda` is to a kernel: where its thread is, and its block's shared memory."""

    def __init__(self, blocks: int, threads: int) -> None:
        self.blockDim = SimpleNamespace(x=threads)
        self.gridDim = SimpleNamespace(x=blocks)
        self.threadIdx = SimpleNamespace(x=0)
        self.blockIdx = SimpleNamespace(x=0)
        self.shared = SimpleNamespace(array=self._array)
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.asked = 0

    def grid(self, dimensions: int) -> int:
        return int(self.blockIdx.x * self.blockDim.x + self.threadIdx.x)

    def gridsize(self, dimensions: int) -> int:
        return int(self.gridDim.x * self.blockDim.x)

    def _array(self, size: int, dtype: Any) -> np.ndarray[Any, Any]:
        if self.asked == len(self.arrays):
            bytes_ = np.full(size * np.dtype(dtype).itemsize, 0xFF, np.uint8)
            self.arrays.append(bytes_.view(dtype))
        self.asked += 1
        return self.arrays[self.asked - 1]


class _Barriers(ast.NodeTransformer):
    """`cuda.syncthreads()` as `yield`."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if ast.unparse(node) == "cuda.syncthreads()":
            return ast.Expr(ast.Yield())
        return node


def _load(width: int) -> Callable[..., Any]:
    def load(array: Pointer, place: int) -> tuple[Any, ...]:
        array.check(place, width)
        return tuple(array[place + k] for k in range(width))

    return load


def _store(width: int) -> Callable[..., Any]:
    def store(array: Pointer, place: int, lanes: Sequence[Any]) -> None:
        array.check(place, width)
        for k in range(width):
            array[place + k] = lanes[k]

    return store


@cache
def _function(text: Program) -> tuple[Callable[..., Any], dict[str, Any], bool]:
    """The kernel, its names, and whether it has barriers."""
    tree = ast.fix_missing_locations(_Barriers().visit(ast.parse(text.text)))
    scope = dict(cuda_names.host_names(text.bits))
    for width in cuda_names.WIDTHS:
        scope[f"load{width}"], scope[f"store{width}"] = _load(width), _store(width)
    exec(compile(tree, f"<{text.kind} in step>", "exec"), scope)
    return scope["kernel"], scope, "cuda.syncthreads()" in text.text


def run(text: Program, blocks: int, arguments: Sequence[Any], *, backwards: bool) -> None:
    """Run a launch; arguments are NumPy arrays for pointers, and numbers."""
    if isinstance(text, CudaProgram):
        (clustered if text.entry == "cluster_step" else fused).run(text, arguments)
        return
    kernel, scope, barriers = _function(text)
    values = []
    typed = launch.numbers(text, arguments)
    for code, value in zip(text.signature, typed, strict=True):
        if code.endswith("*"):
            values.append(Pointer(value, code))
        else:
            values.append(int(value) if code == "i8" else value)
    order = range(text.threads)[:: -1 if backwards else 1]
    with np.errstate(all="ignore"):
        for block in range(blocks)[:: -1 if backwards else 1]:
            cuda = scope["cuda"] = Cuda(blocks, text.threads)
            cuda.blockIdx.x = block
            if barriers:
                _in_step(kernel, values, cuda, order)
            else:
                for t in order:
                    cuda.threadIdx.x = t
                    kernel(*values)


def _in_step(
    kernel: Callable[..., Iterator[None]], values: list[Any], cuda: Cuda, order: Sequence[int]
) -> None:
    running = {t: kernel(*values) for t in order}
    while running:
        ended = []
        for t, thread in running.items():
            cuda.threadIdx.x = t
            cuda.asked = 0
            try:
                next(thread)
            except StopIteration:
                ended.append(t)
        if ended and len(ended) < len(running):
            raise Divergence(f"threads {ended[:4]}... ended, and others wait at a barrier")
        if ended:
            return


_PARTS = (program, reductions, softmax, norms, flags, scaled, cuda_rows, cuda_norms)
_BUILDERS = (
    *(cuda_elementwise.map_program, cuda_elementwise.bias_program, cuda_elementwise.update_program),
    *(cuda_rows._rows, cuda_rows._columns, cuda_rows._argreduce, cuda_rows._scan),
    *(cuda_rows._softmax, cuda_rows._cross_entropy),
    *(cuda_arrays._take_rows, cuda_arrays._place_rows, cuda_arrays._random, cuda_graph._copies),
    *(cuda_norms._moments, cuda_norms._columns, cuda_norms._rows, cuda_norms._slope_sums),
    *(cuda_norms._columns_backward, cuda_norms._rows_backward, cuda_norms._affine_sums),
    *(cuda_checks._outside, cuda_scaled._finite, cuda_scaled._scaled_update, cuda_moves._moves),
)


def use_blocks(threads: int) -> None:
    """Build programs with blocks of so many threads from now on."""
    for part in _PARTS:
        part.THREADS = threads  # type: ignore[attr-defined]
    for build in _BUILDERS:
        build.cache_clear()
