"""Sample operands for every op, by which tests that walk the registries reach each of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import gradnet.ops
from gradnet import autodiff, backends, formulas
from gradnet.formulas import Row
from gradnet.ops import elementwise
from gradnet.ops.core import Op
from gradnet.ops.elementwise import Elementwise


class Sample(NamedTuple):
    """Operands for an op: float64 arrays are differentiated, others are not."""

    inputs: tuple[np.ndarray[Any, Any], ...]
    parameters: dict[str, Any]
    fresh: tuple[int, ...] = ()  # operands that the op changes in place, to be copied first


# Rooms whose ops take complex or symmetric operands: test_complex.py and test_linalg.py walk them.
_ELSEWHERE = ("complex", "decompositions", "fourier")


def declared_ops() -> dict[str, Op]:
    """Every op that a module of `gradnet.ops`, or `autodiff`, declares, but for rows of formulas.

    By the name of the variable. An op that two modules name is listed once.
    """
    modules = [
        importlib.import_module(f"gradnet.ops.{found.name}")
        for found in pkgutil.iter_modules(gradnet.ops.__path__)
        if found.name not in _ELSEWHERE
    ]
    found: dict[int, tuple[str, Op]] = {}
    for module in (*modules, autodiff):
        for name, value in vars(module).items():
            if isinstance(value, Op) and not isinstance(value, Elementwise):
                found.setdefault(id(value), (name, value))
    return dict(found.values())


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.asarray(_rng().standard_normal(shape))


def positive(*shape: int) -> np.ndarray[Any, Any]:
    return np.asarray(_rng().uniform(0.5, 1.5, shape))


def distinct(*shape: int) -> np.ndarray[Any, Any]:
    """Values at least 0.1 apart, so that a small step changes no order."""
    count = int(np.prod(shape))
    return 0.1 * _rng().permutation(count).reshape(shape) - 0.25


def probabilities(n: int, k: int) -> np.ndarray[Any, Any]:
    p = positive(n, k)
    return p / p.sum(axis=1, keepdims=True)


_F64 = np.dtype(np.float64)
_reduced = {"axes": (1,), "keepdims": False}


def _moved() -> dict[str, Any]:
    here = backends.default()
    other = backends.get("numpy" if here.name != "numpy" else backends.available()[-1])
    return {"source": here, "target": other}


# Each op's samples: ordinary operands first, then empty axes, size-1 axes and 0-d ones.
SAMPLES: dict[str, Callable[[], list[Sample]]] = {
    "DOT": lambda: [Sample((normal(5), normal(5)), {}), Sample((normal(0), normal(0)), {})],
    "MATMUL": lambda: [
        Sample((normal(3, 4), normal(4, 2)), {}),
        Sample((normal(2, 3, 4), normal(2, 4, 2)), {}),
        Sample((normal(3, 4), normal(2, 4, 2)), {}),
        Sample((normal(2, 3, 4), normal(4, 2)), {}),
        Sample((normal(1, 3, 4), normal(5, 4, 1)), {}),
        Sample((normal(3, 0), normal(0, 2)), {}),
        Sample((normal(0, 3), normal(3, 2)), {}),
    ],
    "CAST": lambda: [
        Sample((normal(3, 4),), {"dtype": _F64}),
        Sample((normal(),), {"dtype": _F64}),
    ],
    "MOVE": lambda: [Sample((normal(3, 4),), _moved())],
    "RESHAPE": lambda: [
        Sample((normal(3, 4),), {"shape": (2, 6)}),
        Sample((normal(1),), {"shape": ()}),
        Sample((normal(0, 4),), {"shape": (2, 0)}),
    ],
    "_RESHAPED_COPY": lambda: [Sample((normal(3, 4),), {"shape": (2, 6)})],
    "PERMUTE": lambda: [
        Sample((normal(2, 3, 4),), {"axes": (2, 0, 1)}),
        Sample((normal(),), {"axes": ()}),
        Sample((normal(0, 4),), {"axes": (1, 0)}),
    ],
    "BROADCAST": lambda: [
        Sample((normal(3, 1),), {"shape": (2, 3, 4)}),
        Sample((normal(),), {"shape": (2,)}),
        Sample((normal(1, 3),), {"shape": (0, 3)}),
    ],
    "CONCATENATE": lambda: [
        Sample((normal(2, 3), normal(2, 3)), {"axis": 1, "new": True}),
        Sample((normal(2, 3), normal(4, 3)), {"axis": 0}),
        Sample((normal(2, 3), normal(2, 0), normal(2, 1)), {"axis": 1}),
    ],
    "VIEW": lambda: [
        Sample((normal(4, 5),), {"index": (slice(1, None, 2), None, -1)}),
        Sample((normal(4, 5),), {"index": (Ellipsis, slice(None, None, -2))}),
        Sample((normal(3),), {"index": (1,)}),
        Sample((normal(3, 2),), {"index": (slice(2, 2),)}),
    ],
    "TAKE": lambda: [
        Sample((normal(4, 5),), {"index": (np.array([0, 2, 2, -1]),)}),
        Sample(
            (normal(4, 5),), {"index": (np.array([[0], [2]]), slice(None), np.array([1, 1]))[::2]}
        ),
        Sample((normal(4, 5),), {"index": (normal(4, 5) > 0,)}),
        Sample((normal(4, 5),), {"index": (np.array([], np.int64), slice(1, 3))}),
    ],
    "SCATTER": lambda: [
        Sample(
            (normal(4, 5),), {"shape": (3, 5), "index": (np.array([0, 2, 2, 0]),), "basic": False}
        ),
        Sample((normal(2, 5),), {"shape": (4, 5), "index": (slice(0, 4, 2),), "basic": True}),
        Sample((normal(),), {"shape": (3,), "index": (1,), "basic": True}),
    ],
    "SETITEM": lambda: [
        Sample((normal(4, 5), normal(2, 5)), {"index": (slice(1, 3),), "basic": True}, (0,)),
        Sample((normal(4, 5), normal(5)), {"index": (slice(1, 3),), "basic": True}, (0,)),
        Sample((normal(4, 5), normal(2, 1)), {"index": (np.array([3, 0]),), "basic": False}, (0,)),
        Sample((normal(4), normal()), {"index": (2,), "basic": True}, (0,)),
        Sample((normal(4, 0), normal(2, 0)), {"index": (slice(1, 3),), "basic": True}, (0,)),
    ],
    "SUM": lambda: [
        Sample((normal(3, 4, 2),), {"axes": (0, 2), "keepdims": False, "dtype": _F64}),
        Sample((normal(3, 4),), {"axes": (1,), "keepdims": True, "dtype": _F64}),
        Sample((normal(),), {"axes": (), "keepdims": False, "dtype": _F64}),
        Sample((normal(0, 3),), {"axes": (0,), "keepdims": False, "dtype": _F64}),
    ],
    "MAX": lambda: [
        Sample((distinct(3, 4),), _reduced),
        Sample((distinct(3, 4),), {"axes": (0, 1), "keepdims": True}),
        Sample((distinct(),), {"axes": (), "keepdims": False}),
        Sample((distinct(0, 3),), _reduced),
    ],
    "MIN": lambda: [Sample((distinct(3, 4),), _reduced), Sample((distinct(0, 3),), _reduced)],
    "PROD": lambda: [
        Sample((positive(3, 5),), _reduced),
        Sample((positive(3, 2, 3),), {"axes": (0, 2), "keepdims": True}),
        Sample((np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 2.0], [1.0, 2.0, 3.0]]),), _reduced),
        Sample((positive(),), {"axes": (), "keepdims": False}),
        Sample((positive(3, 0),), _reduced),
    ],
    "CUMSUM": lambda: [Sample((normal(3, 4),), {"axis": 0}), Sample((normal(3, 0),), {"axis": 1})],
    "CUMPROD": lambda: [
        Sample((positive(2, 5),), {"axis": 1}),
        Sample((np.array([2.0, 0.0, 3.0, 0.0, 1.0]),), {"axis": 0}),
        Sample((positive(3, 0),), {"axis": 1}),
    ],
    "LINEAR": lambda: (
        [
            Sample(
                (normal(5, 3), 0.5 * normal(3, 4), 0.3 * normal(4)),
                {"activation": elementwise(name) if name else None, "scalars": scalars},
            )
            for name, scalars in (("tanh", ()), ("gelu", ()), ("elu", (1.3,)), (None, ()))
        ]
        + [
            Sample(
                (normal(5, 3), normal(3, 4)), {"activation": elementwise("tanh"), "scalars": ()}
            ),
            Sample(
                (normal(0, 3), normal(3, 4), normal(4)),
                {"activation": elementwise("sigmoid"), "scalars": ()},
            ),
        ]
    ),
    "_LINEAR_BACKWARD": lambda: [
        Sample(
            (normal(5, 3), 0.5 * normal(5, 3), normal(5, 4), normal(4, 3)),
            {"activation": activation, "scalars": (), "needs": needs},
        )
        for activation, needs in (
            (elementwise("gelu"), (True, True, True)),
            (elementwise("tanh"), (False, True)),
            (None, (True, False, True)),
        )
    ],
    "_SOFTMAX": lambda: [Sample((normal(3, 4),), {}), Sample((normal(0, 4),), {})],
    "_LOG_SOFTMAX": lambda: [Sample((normal(3, 4),), {}), Sample((normal(2, 1),), {})],
    "CROSS_ENTROPY": lambda: [
        Sample((normal(4, 3), np.array([0, 2, 1, 1])), {"scale": 0.25, "smoothing": 0.0}),
        Sample((normal(4, 3), np.array([0, 2, 1, 1])), {"scale": 1.0, "smoothing": 0.1}),
        Sample((normal(4, 3), probabilities(4, 3)), {"scale": 0.5, "smoothing": 0.1}),
        Sample((normal(4, 3), probabilities(4, 3), positive(4)), {"scale": 1.0, "smoothing": 0.0}),
        Sample((normal(0, 3), np.zeros(0, np.int64)), {"scale": 1.0, "smoothing": 0.0}),
    ],
    "NORMALIZE": lambda: [
        Sample((normal(4, 3), positive(3), normal(3)), {"axis": 0, "eps": 1e-3}),
        Sample((normal(4, 3),), {"axis": 0, "eps": 1e-3}),
        Sample((normal(4, 3), positive(3), normal(3)), {"axis": 1, "eps": 1e-3}),
        Sample((normal(3, 4),), {"axis": 1, "eps": 1e-3}),
        Sample((normal(0, 3), positive(3), normal(3)), {"axis": 1, "eps": 1e-3}),
    ],
    "STANDARDIZE": lambda: [
        Sample((normal(4, 3), normal(3), positive(3), positive(3), normal(3)), {"eps": 1e-3}),
        Sample((normal(4, 3), normal(3), positive(3)), {"eps": 1e-3}),
        Sample((normal(0, 3), normal(3), positive(3)), {"eps": 1e-3}),
    ],
    "_HANDLE": lambda: [Sample((normal(3, 4),), {})],
}


# Rows of the formulas

# Operands of rows whose formula is smooth in a region that `domain` and `kinks` do not describe.
_REGIONS: dict[str, tuple[tuple[float, float], ...]] = {
    "remainder": ((2.1, 2.9), (0.91, 1.04)),
    "clip": ((-1.4, 1.4), (-0.5, -0.3), (0.3, 0.5)),
    "hypot": ((0.3, 1.4), (0.3, 1.4)),
    "atan2": ((0.3, 1.4), (-1.4, 1.4)),
    "pow": ((0.3, 1.4), (-1.4, 1.4)),
    "divide": ((-1.4, 1.4), (0.3, 1.4)),
}


def row_operands(row: Row, shapes: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray[Any, Any], ...]:
    """Float64 operands of these shapes at which a row's formula is smooth (bool for a choice)."""
    rng = np.random.default_rng(len(row.name))
    lo, hi = row.domain
    operands = []
    for i, shape in enumerate(shapes):
        count = int(np.prod(shape))
        if row.name == "where" and i == 0:
            operands.append(rng.integers(0, 2, shape).astype(bool))
            continue
        if row.name in _REGIONS:
            low, high = _REGIONS[row.name][i]
        else:
            low, high = (max(lo, -1.4) + 0.12 * (lo > -1.4), min(hi, max(lo, 0.0) + 1.6) - 0.15)
        # On a grid of its own for each operand: no two are equal, none is a kink, none is 0.
        cells = np.floor((high - low) / 0.1 * rng.random(count))
        values = low + 0.1 * cells + 0.031 + 0.037 * i
        kinks = np.asarray(row.kinks or (0.0,))
        near = np.abs(values[:, None] - kinks).min(axis=1) < 0.02
        operands.append(np.where(near, values + 0.04, values).reshape(shape))
    return tuple(operands)


def differentiable_rows() -> list[str]:
    """Rows with a derivative in at least one operand."""
    return [row.name for row in formulas.rows() if any(d is not None for d in row.derivatives)]
