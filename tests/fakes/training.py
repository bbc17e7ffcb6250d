"""The kernels that training launches: steps of every kind are taken, and nothing is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_device import Device
from gradnet.kernels.cuda_templates.program import Program

import gradnet as gn
from fakes import lockstep
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import THREADS, Cupy
from gradnet import backends, formulas, nn, optim

RNG = np.random.default_rng(3)


class Recorder:
    """A launcher that runs nothing: which programs there are depends on no value."""

    def __init__(self) -> None:
        self.programs: set[Program] = set()

    def __call__(self, program: Program, blocks: int, *arguments: Any) -> None:
        self.programs.add(program)


def trained(
    cuda: CudaBackend, precision: str, optimizer: Any = "sgd", loss: str = "", **settings: Any
) -> None:
    """A step of training, its batch gathered by a shuffle, and a prediction."""
    with backends.use(cuda):
        settings = {"activation": "relu", "output": "softmax", **settings}
        model = nn.MLP((6, 8, 4), seed=0, **settings)
        model.to(precision)
        name, options = optimizer if isinstance(optimizer, tuple) else (optimizer, {})
        step = optim.create(name, model.parameters(), lr=0.01, **options)
        data = gn.astype(gn.asarray(RNG.standard_normal((12, 6))), precision)
        rows = gn.random.permutation(12)[:8]
        z = model(data[rows])
        found = LOSSES[loss](z) if loss else model.output.loss(z, targets(model.output.name)[rows])
        found.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        step.step()
        step.zero_grad()
        model.output.predict(model(data))


def targets(output: str) -> gn.Tensor:
    """Twelve targets for four units."""
    if output == "softmax":
        return gn.asarray(RNG.integers(0, 4, 12))
    return gn.asarray(RNG.integers(0, 2, (12, 4)))


def weighted(z: gn.Tensor) -> gn.Tensor:
    """Cross-entropy with weights and smoothing."""
    w = gn.asarray(RNG.uniform(1, 2, len(z)).astype(np.float32))
    y = gn.asarray(RNG.integers(0, 4, len(z)))
    return nn.cross_entropy(z, y, label_smoothing=0.1, sample_weight=gn.astype(w, z.dtype))


LOSSES: dict[str, Any] = {
    "classes, weighted": weighted,
    "probabilities": lambda z: nn.cross_entropy(z, gn.full_like(z, 0.25)),
    "hinge": lambda z: nn.hinge(z, gn.asarray(RNG.integers(0, 4, len(z)))),
    "mae": lambda z: nn.mae(z, gn.zeros_like(z)),
    "huber": lambda z: nn.huber(z, gn.zeros_like(z)),
}
ACTIVATIONS = tuple(row.name for row in formulas.rows() if row.activation)
OPTIMIZERS: tuple[Any, ...] = (
    *(name for name in optim.names() if name not in ("lbfgs", "conjugate_gradient")),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", {"momentum": 0.9}),
    ("rmsprop", {"centered": True}),
)
PRECISIONS = ("float32", "bfloat16", "float16", "float64")
# All combinations of activation, optimizer and precision take four minutes: without it, those
# other than float32 are compiled with one activation and one optimizer each, which is every
# signature all the same.
EVERY = bool(os.environ.get("GRADNET_COMPILE_EVERY_KERNEL"))


def in_precision(precision: str, cuda: CudaBackend) -> None:
    """Steps in one dtype: each activation, optimizer, output, loss and norm."""
    whole = EVERY or precision == "float32"
    for activation in ACTIVATIONS if whole else ("gelu",):
        trained(cuda, precision, activation=activation)
    for optimizer in OPTIMIZERS if whole else ("adam",):
        trained(cuda, precision, optimizer, dropout=0.5)
    for output in ("linear", "sigmoid", "gaussian") if whole else ("linear",):
        trained(cuda, precision, output=output)
    for loss in LOSSES if whole else ():
        trained(cuda, precision, loss=loss)
    for norm in ("batch", "layer") if whole else ():
        trained(cuda, precision, norm=norm)


def of_factors(products: str, cuda: CudaBackend) -> None:
    """Steps whose products have factors of fewer bits."""
    for norm in ("batch", "layer", None) if EVERY or products == "bfloat16" else ("batch", None):
        mixed(cuda, products, norm)


def with_norms(cuda: CudaBackend) -> None:
    for dtype in PRECISIONS if EVERY else ("float32",):
        normalised(cuda, dtype)


def normalised(cuda: CudaBackend, dtype: str) -> None:
    """Norms of many rows, those of columns in two launches; of few; without an affine step."""
    with backends.use(cuda):
        norms: list[Any] = [nn.BatchNorm1d(8, dtype=dtype)]
        if EVERY:
            norms += [nn.LayerNorm(8, dtype=dtype)]
            norms += [kind(8, affine=False) for kind in (nn.BatchNorm1d, nn.LayerNorm)]
        for norm, rows in [(norm, rows) for norm in norms for rows in (4000, 8)]:
            x = gn.asarray(np.zeros((rows, 8)), dtype=dtype, requires_grad=True)
            norm(x).backward(gn.zeros((rows, 8), dtype=dtype))


def mixed(cuda: CudaBackend, precision: str, norm: str | None) -> None:
    """A step on weights of float32 whose products have factors of fewer bits."""
    with backends.use(cuda):
        model = nn.MLP((6, 8, 4), "gelu", output="softmax", norm=norm, precision=precision, seed=0)
        made = optim.Adam(model.parameters(), lr=0.01)
        loss = nn.cross_entropy(model(gn.zeros((8, 6))), gn.zeros((8,), dtype=gn.int64))
        if precision == "float16":
            scale = optim.LossScale(made)
            scale(loss).backward()
            scale.step()
            scale.step(scale.unscale())
        else:
            loss.backward()
            made.step()


# Settings whose captured steps have kernels that make more than one call.
REPLAYED: tuple[dict[str, Any], ...] = (
    {"dropout": 0.5},
    {"norm": "batch", "dropout": 0.5, "precision": "bfloat16"},
    {"norm": "layer", "activation": "gelu"},
    {"norm": "batch", "precision": "float16"},
)


def replayed(settings: dict[str, Any], cuda: CudaBackend) -> None:
    """Steps as CUDA graphs, one and several, whose numbers are in the device's memory."""
    with backends.use(cuda):
        model = nn.MLP((6, 8, 4), output="softmax", seed=0, **settings)
        made = optim.Adam(model.parameters(), lr=0.01)
        scale = optim.LossScale(made) if settings.get("precision") == "float16" else None

        def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
            loss = nn.cross_entropy(model(x), y)
            (scale(loss) if scale else loss).backward()
            if scale is None:
                optim.clip_grad_norm(made, 1.0)
            (scale or made).step()
            made.zero_grad()
            return loss

        # Several steps per graph have kernels of their own for what they are given, once.
        count = 9 if settings == REPLAYED[0] else 1
        x, y = gn.zeros((count * 8, 6)), gn.zeros((count * 8,), dtype=gn.int64)
        gn.capture(step).each(x, y, rows=8)


# The training steps whose kernels are compiled, by name.
STEPS: dict[str, Callable[[CudaBackend], None]] = {
    **{precision: partial(in_precision, precision) for precision in PRECISIONS},
    **{f"factors of {x}": partial(of_factors, x) for x in ("tf32", "bfloat16", "float16")},
    "norms": with_norms,
    **{f"replayed, {k}": partial(replayed, settings) for k, settings in enumerate(REPLAYED)},
}


def programs(threads: int) -> list[Program]:
    """The programs of all these steps, with blocks of so many threads."""
    recorder = Recorder()
    lockstep.use_blocks(threads)
    try:
        cuda = CudaBackend(Device(Cupy(), 0, recorder))
        attach(cuda)
        for step in STEPS.values():
            step(cuda)
    finally:
        lockstep.use_blocks(THREADS)
    return sorted(recorder.programs, key=lambda one: one.key)
