"""Eager ops and their derivatives by machine code, which a backend may bring.

A small array's sum takes NumPy a third of a microsecond, and the Python around it two: what an op
does with objects before and after is then done by machine code. It knows the usual case, on the
backends whose arrays are NumPy's; everything else goes to the same functions in Python, which are
there as before. Ops are given to it once they have been called often.
"""

from __future__ import annotations

from functools import cache
from threading import Lock, Thread
from typing import Any
from weakref import WeakSet

import numpy as np

import gradnet.ops as _ops
from gradnet import dtypes, exchange, graph, modes, numpy_calls, operators, precision, walk
from gradnet.dtypes import DType
from gradnet.ops import direct, fused, multilinear, probabilities, reduce
from gradnet.ops.core import Op
from gradnet.ops.direct import SWITCH, Whole
from gradnet.ops.elementwise import Elementwise, quicken
from gradnet.tensor import Tensor
from gradnet.ways import Ways

ops: Any = _ops  # its names are made when asked for

_DTYPES = (dtypes.float32, dtypes.float64)

# The operators of two operands, by the op's name; most have one with the operands turned.
_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal",
}  # fmt: skip
_TURNED = ("add", "sub", "mul", "truediv", "pow")
_ONE = {"neg": "negative", "abs": "abs"}

# Of functions on whole arrays, by their names: the machine code, the function of NumPy's that does
# the work, if any, and what else the code is told of.
_WHOLE: dict[str, tuple[Any, ...]] = {
    "where": ("choose", np.where, dtypes.bool_),
    "argmax": ("find", np.ndarray.argmax, np.asarray, False),
    "argmin": ("find", np.ndarray.argmin, np.asarray, False),
    "max": ("extreme", False),
    "min": ("extreme", False),
    "sort": ("order", np.ndarray.sort, np.ndarray.copy, False, ("stable",)),
    "concat": ("join", np.concatenate, np.asarray),
    "astype": ("convert", np.ndarray.astype, None, "C"),
}


class _Plans(list[Any]):
    """How a formula runs on float32 and on float64, for machine code: None before it is known."""

    def __init__(self, ways: Ways) -> None:
        super().__init__([None, None])
        self.ways = ways

    def look(self) -> None:
        """Take over what `ways` knows."""
        for i, dtype in enumerate(_DTYPES):
            way = self.ways.get(dtype)
            if way is not None and way[0] is not None:
                plan = self[i]
                if plan is None or plan[0] is not way[0] or plan[1] is not way[1]:
                    self[i] = (*way, numpy_calls.WITHIN.get(way[1], [None, False]), [None, dtype])


class _Layers(dict[Any, Any]):
    """What machine code is told of a layer's activation, an op or None, for a dtype."""

    def __init__(self, dtype: DType) -> None:
        super().__init__()
        self.dtype = dtype

    def __missing__(self, activation: Any) -> Any:
        self[activation] = told = self._told(activation)
        return told

    def _told(self, activation: Any) -> Any:
        found = fused.plainly(activation)
        if found is None:
            return None
        act, by_output = found
        parameters = {"activation": act, "scalars": ()}
        if act is None:
            return parameters, True, None, None
        formula, (derivative,) = act.row.formula, act.row.derivatives
        codes = _code().layer(formula, derivative, self.dtype, by_output)
        plans = _Plans(act.ways)
        act.ways.of(_code().backend, self.dtype)
        plans.look()
        return None if codes is None else (parameters, by_output, codes, plans)


_QUICK = _Plans(walk.ADD)


def _collect(*given: Any) -> None:
    """As the walk does, where how cotangents add is not known yet."""
    walk.collect(*given)
    _QUICK.look()


def _find(plan: tuple[Any, ...]) -> None:
    """Look for the loop within a plan's function."""
    _, _, parameters, (ufunc, which), slot = plan
    found = _code().loop(ufunc, slot[1], parameters["dtype"], which is not True)
    slot[0] = True if found is None else found


def _check(x: Tensor, name: str) -> None:
    x.check_current(name)


def _as_array(y: Any, parameters: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(y, parameters["dtype"])


_OBJECTS: dict[str, Any] = {
    "TENSOR": Tensor, "NODE": graph.Node, "SPEC": graph.Spec, "NDARRAY": np.ndarray,
    "FLOAT": float, "INT": int, "LIST": list, "TUPLE": tuple, "BUILTIN": type(len),
    "NONE": None, "TRUE": True, "ZERO": 0, "ONE": 1, "LAST": -1, "EMPTY": (),
    "UNSAVED": graph.UNSAVED, "MODES": vars(modes), "OPEN_MODES": "open_modes",
    "MODE": modes.mode, "RECORDING": "recording", "SERIAL": modes.serial,
    "FLOAT32": dtypes.float32, "FLOAT64": dtypes.float64, "VALUE_ERROR": ValueError,
    "QUIET": numpy_calls.quiet_context(), "SHAPE": "shape", "PULL": "pull", "SPECS": [None],
    "CHECKED": _check, "AS_ARRAY": _as_array, "SUM_TO": direct.summed, "COLLECT": _collect,
    "SUMS": _QUICK, "DIRECT": "direct", "FALSE": False, "FIND": _find, "SUM": reduce.SUM,
    "RESUME": walk.carry_arrays, "ALIKE": operators.alike, "MATMUL": multilinear.MATMUL,
    "LINEAR": fused.LINEAR, "ACTIVATION": "activation", "SCALARS": "scalars",
    "CROSS": probabilities.CROSS_ENTROPY,
}  # fmt: skip
# What was in place before: of which class or module, under which name, what.
_before: list[tuple[Any, str, Any]] = []
_installing = Lock()
# The ops that are done by machine code.
_quick: WeakSet[Elementwise] = WeakSet()


def _put(x: Any, name: str, value: Any) -> None:
    _before.append((x, name, vars(x)[name]))
    setattr(x, name, value)


def _put_method(owner: type, name: str, entry: str, state: tuple[Any, ...]) -> None:
    _put(owner, name, _code().method(entry, state, vars(owner)[name]))


@cache
def _code() -> Any:
    """The backend's machine code, None where there is none for this interpreter."""
    made = numpy_calls.machine_code
    code = None if made is None else made(Tensor, graph.Node)
    return code if code is not None and code.possible() else None


@cache
def _known() -> tuple[Any, ...]:
    layers = tuple([_Layers(dtype) for dtype in _DTYPES])
    objects = {**_OBJECTS, "HOME": _code().home(), "LAYERS": layers}
    return tuple([objects[name] for name in _code().known])


@cache
def begin() -> None:
    """Have ops done by machine code now, or when that has been made: nobody waits for it."""
    if _code() is None:
        return
    if SWITCH == "1" or _code().there():
        install()
    else:
        # No daemon: Python cannot end while a compiler is at work.
        Thread(target=install, name="gradnet eager", daemon=False).start()


def install() -> bool:
    """Have ops done by machine code from here on; whether that can be on this interpreter."""
    with _installing:
        if not _before and _code() is not None:
            _install()
    return bool(_before)


def _install() -> None:
    code, known = _code(), _known()
    whole = vars(Elementwise)["__call__"]
    _put(Elementwise, "__call__", code.attribute(code.function("calling", (known, whole))))
    quicken(_quicken)
    for names, entry in ((_OPERATORS, "two"), (_TURNED, "turned"), (_ONE, "one")):
        for name in names:
            op = getattr(ops, {**_OPERATORS, **_ONE}[name])
            reverse = "r" * (entry == "turned")
            known, slow, *rest = _told(op.direct)
            state = known, _asking(slow), *rest
            _put_method(operators.Operators, f"__{reverse}{name}__", entry, state)
    for dtype in _DTYPES:
        walk.ADD.of(code.backend, dtype)
    _QUICK.look()
    _put(walk, "advance", code.function("advance", (known,)))
    _put(walk, "whole", code.function("walked", (known,)))
    total = known, None, None, reduce.SUM, reduce.SUM.name, True, False, False
    _put(reduce, "total", code.function("total", total))
    layer = known, None, precision.state, "rounding", fused.LINEAR.name
    _put(fused, "layer", code.function("layer", layer))
    for name, (entry, *told) in _WHOLE.items():
        getattr(ops, name)  # now it is made
        whole = Whole.made[name]
        state = known, whole.in_python, code.backend, *told, *code.beside(name)
        whole.direct = code.function(entry, state)
    products = [(None, None, None, *_recorded(op)) for op in (multilinear.MATMUL, multilinear.DOT)]
    whole = Whole.made["matmul"]
    state = known, whole.in_python, precision.state, "rounding", *products
    whole.direct = code.function("multiply", state)
    state = known, _asking(whole.in_python), *state[2:]
    _put_method(operators.Operators, "__matmul__", "multiply", state)
    state = known, ops.getitem, code.backend, None, slice, ..., dtypes.int64
    _put_method(exchange.Exchange, "__getitem__", "pick", state)


def _asking(function: Any) -> Any:
    """An operator in Python, which leaves some operands to their own classes."""

    def ask(*operands: Any) -> Any:
        for x in operands:
            if type(x) not in operators.KNOWN and operators.is_foreign(x):
                return NotImplemented
        return function(*operands)

    return ask


def remove() -> None:
    """Have eager ops done in Python again."""
    quicken(None)
    while _before:
        setattr(*_before.pop())
    for whole in Whole.made.values():
        whole.count_no_more()
    for op in list(_quick):
        op.count_no_more()
        if op.pull is not None:
            op.pull = _told(op.pull)[1]
    _quick.clear()


def _told(function: Any) -> tuple[Any, ...]:
    """What a function of words is given as its self."""
    told: tuple[Any, ...] = function.__self__
    return told


def _quicken(op: Elementwise) -> None:
    """Have an op, and its derivatives, done by machine code."""
    if op.arity not in (1, 2):
        return
    plans, python = _Plans(op.ways), op.in_python

    def slow(*operands: Any, **named: Any) -> Tensor:
        if named or len(operands) != op.arity:
            return op.converted(operands, named)
        y = python(*operands)
        plans.look()
        return y

    state = (_known(), slow, plans, *_recorded(op, op.arity))
    entry = "one" if op.arity == 1 else "two"
    op.direct = op.pair = _code().function(entry, state)
    if op.pull is not None:
        parts = [_derivative(part) for part in op.parts]
        op.pull = _code().function("pulled", (_known(), op.pull, *parts))
    _quick.add(op)


def _recorded(op: Op, arity: int = 2) -> tuple[Any, ...]:
    """What machine code is told of an op for its node."""
    needs = [(True,)] if arity == 1 else [(False, True), (True, False), (True, True)]
    saves: list[bool] = []
    for needed in needs:
        operands, output = op.saves(needed)
        saves += [*operands, output]
    return op, op.name, op.differentiable, *saves


def _derivative(part: direct.Part | None) -> Any:
    """What machine code is told of a derivative."""
    if part is None or part is direct.SAME:
        return None if part is None else True
    call, ways, beside = part
    if ways is None:
        return call, [None, None], None
    plans = _Plans(ways)

    def in_python(node: graph.Node, g: Any) -> Any:
        y = call(node, g)
        plans.look()
        return y

    return in_python, plans, beside
