"""Training steps of a small network, several in one launch, by blocks of threads that stay.

Where weights and moments fit into the shared memory of a device's blocks, nothing but the rows of
each batch is read from global memory, and there is no launch between two steps. How blocks share
the work and what they exchange is told in `cluster_layout.cu`; here is when it applies, what it is
compiled for, and how it is launched. All is float32, as are the sums: the same training as step by
step, within rounding. All of the blocks must be resident at once, which a cooperative launch sees
to; the hardware's own clusters have 16 blocks at most, too few for the arithmetic.

    training = Training((784, 128, 10), batch=128)
    room = zeros(room_of(training), uint64)  # once
    train(device.launch, training, x, classes, order, scalars, p, states, losses, room)

The text is compiled for the sizes: some seconds for each network, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradnet.errors import DeviceError

from . import c_formulas
from .cluster_split import (
    CLUSTERS,
    Training,
    cluster_of,
    room_of,
    rule,
    shared_bytes,
    split_of,
    splits,
)
from .fused_mlp import activations
from .nvrtc import CudaProgram

_SIGNATURE = ("f4*", "i8*", "i8*", *("f4*",) * 6, "i8*", "u8*", *("i8",) * 5, "i4")
_MOST_STATES = 2
_NULL = np.uintp(0)


def refusal(training: Training) -> str:
    """Why the kernel cannot do a training; empty where it can."""
    sizes = training.sizes
    if len(sizes) < 2 or min(*sizes, training.batch) < 1:
        return (
            f"its sizes are {sizes} and its batch {training.batch}: two sizes or more of 1 or more"
        )
    if training.cluster not in (0, *CLUSTERS):
        return f"a cluster has {', '.join(map(str, CLUSTERS))} blocks, not {training.cluster}"
    row = activations().get(training.activation)
    if row is None or not row.activation or row.derivatives[0] is None:
        return f"{training.activation!r} is no activation that has a derivative"
    if training.offsets and len(training.offsets) != 2 * (len(sizes) - 1):
        return f"it has {len(training.offsets)} offsets for {len(sizes) - 1} layers"
    if not splits(training):
        rows, most = training.batch, training.most
        return f"{training.cluster or 1} blocks are too many for {rows} rows or {most} processors"
    needed = shared_bytes(training)
    if needed > training.shared:
        return (
            f"each of {cluster_of(training)} blocks needs {needed} bytes of shared memory, and has "
            f"{training.shared}; take a smaller batch"
        )
    return ""


@cache
def program(training: Training) -> CudaProgram:
    """The kernel of a training. Raises DeviceError where it cannot be done, with the reason."""
    if reason := refusal(training):
        raise DeviceError(f"the cluster kernel cannot train this network: {reason}")
    sizes = training.threads, shared_bytes(training), tuple(training), cluster_of(training)
    return CudaProgram("cluster_step", text(training), _SIGNATURE, *sizes)


def text(training: Training) -> str:
    """The CUDA C++: what is chosen, the formulas, then `cluster_step.cu`."""
    update, (down, across, tiled) = rule(training), split_of(training)
    definitions, name = c_formulas.define(update.formula)
    states, scalars = len(update.state), len(update.scalars)
    moments = [f"p[{i} * apart]" for i in range(1, states + 1)]
    numbers = [f"scalars[{i}]" for i in range(scalars)]
    given = ", ".join(["results", "p[0]", "g", *moments, *numbers])
    functions, keeps_input = c_formulas.activation(activations()[training.activation])
    sizes, places = (", ".join(map(str, x)) for x in (training.sizes, training.places[:-1]))
    return "".join(
        (
            f"constexpr int LAYERS = {len(training.sizes) - 1}, BATCH = {training.batch};\n",
            f"constexpr int DOWN = {down}, ACROSS = {across}, THREADS = {training.threads};\n",
            f"constexpr bool TILED = {str(bool(tiled)).lower()};\n",
            f"constexpr int STATES = {states}, SCALARS = {scalars};\n",
            f"constexpr int SHARED_BYTES = {shared_bytes(training)};\n",
            f"constexpr int ROOM_WORDS = {room_of(training)};\n",
            f"static __device__ constexpr int SIZES[] = {{{sizes}}};\n",
            f"static __device__ constexpr long long OFFSETS[] = {{{places}}};\n",
            f"constexpr bool KEEPS_INPUT = {str(keeps_input).lower()};\n",
            functions,
            f"namespace update_ {{\n{definitions}}}\n",
            "static __device__ void updated(float* results, const float* p, int apart, float g,\n"
            "                               const float* scalars) {\n",
            f"    update_::{name}({given});\n}}\n",
            _body(),
        )
    )


def train(
    launch: Callable[..., None],
    training: Training,
    x: Any,
    classes: Any,
    order: Any,
    scalars: Any,
    p: Any,
    states: Sequence[Any],
    losses: Any,
    room: Any,
) -> None:
    """Steps of training in one launch; p and states are changed in place, losses written.

    x (n, inputs), classes (n,) of int64, order (steps, batch) of int64: the rows of each step;
    scalars (steps, k): what the update takes besides g and its states; p (size,), each of the
    states (size,), losses (steps,), the mean over each batch; room (room_of(training),) of uint64.
    All float32 where not said otherwise.
    A row out of range counts as NaN, and so does the loss of a class out of range. Raises
    DeviceError for other arrays, and where the kernel cannot do it.
    """
    update = rule(training)
    n, steps, size = x.shape[0], order.shape[0], p.shape[0]
    if len(states) != len(update.state):
        raise DeviceError(
            f"the cluster kernel's states are {len(states)}, and {training.update!r} has "
            f"{len(update.state)}"
        )
    wanted: dict[str, tuple[Any, tuple[int, ...], str]] = {
        "x": (x, (n, training.sizes[0]), "float32"),
        "classes": (classes, (n,), "int64"),
        "order": (order, (steps, training.batch), "int64"),
        "scalars": (scalars, (steps, len(update.scalars)), "float32"),
        "p": (p, (max(size, training.places[-1]),), "float32"),
        **{f"state {i}": (one, (size,), "float32") for i, one in enumerate(states)},
        "losses": (losses, (steps,), "float32"),
        "room": (room, (room_of(training),), "uint64"),
    }
    for name, (array, shape, dtype) in wanted.items():
        right = array.dtype == np.dtype(dtype) and array.flags.c_contiguous
        if array.shape != shape or not right:
            raise DeviceError(
                f"the cluster kernel's {name} has shape {array.shape} and dtype {array.dtype} "
                f"where it needs a contiguous {dtype} array of shape {shape}"
            )
    if steps:
        apart = Apart(0, 0, len(update.scalars), 1)
        places = Places(x, classes, scalars, p, tuple(states), losses, room, order)
        give(launch, training, places, n, apart, steps)


class Places(NamedTuple):
    """Arrays, or addresses of them as `np.uintp`: see `train`.

    room      by what blocks exchange; of no more than one launch at a time
    order     None where each step has its own rows, one after the other
    gradient  where the last step's gradient is written, laid out as p; None for nowhere
    notes     where a class out of range is told, see the kernel's text; None for nowhere
    """

    x: Any
    classes: Any
    scalars: Any
    p: Any
    states: tuple[Any, ...]
    losses: Any
    room: Any
    order: Any = None
    gradient: Any = None
    notes: Any = None


class Apart(NamedTuple):
    """How many elements after those of a step those of the next begin."""

    x: int
    classes: int
    scalars: int
    losses: int


def give(
    launch: Callable[..., None],
    training: Training,
    places: Places,
    n: int,
    apart: Apart,
    steps: int,
) -> None:
    """Give so many steps to the device, on arrays that have been looked at; n rows there are."""
    kernel = program(training)
    optional = (places.order, places.gradient, places.notes)
    order, gradient, notes = (_NULL if x is None else x for x in optional)
    moments = (*places.states, *(_NULL,) * (_MOST_STATES - len(places.states)))
    arrays = (places.x, places.classes, order, places.scalars, places.p, *moments)
    arrays += (gradient, places.losses, notes, places.room)
    launch(kernel, kernel.cluster, *arrays, n, *apart, steps)


def flops(training: Training) -> float:
    """Multiplications and additions of a step's products."""
    first, *others = [math.prod(pair) for pair in pairwise(training.sizes)]
    return 2.0 * training.batch * (2 * first + 3 * sum(others))


@cache
def _body() -> str:
    names = ("cluster_layout.cu", "cluster_parts.cu", "cluster_step.cu")
    return "\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in names)
