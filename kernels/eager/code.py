"""The machine code of eager ops: made once, and kept on disk."""

from __future__ import annotations

import ctypes
import inspect
import struct
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm

from gradnet import binding, blas
from gradnet.backends import Backend, Formula
from gradnet.dtypes import DType

from .. import compiler, entries, maps, numpy_api, objects, tables, threads
from ..gemm import build
from ..operands import FLOATS
from ..templates import elementwise
from . import (
    arrays,
    backward,
    calls,
    derivatives,
    dots,
    extremes,
    factors,
    indices,
    layers,
    layers_back,
    layout,
    loops,
    plans,
    products,
    references,
    sums,
    walks,
    ways,
    wholes,
    words,
)

_MODULES = (
    *(references, arrays, plans, calls, derivatives, sums, dots, products, factors, layers),
    *(layers_back, walks, backward, wholes, extremes, indices),
)


# Functions on whole arrays that several threads may do, or NumPy alone: see `threads.either`.
_ALONE = frozenset(("argmax", "argmin", "astype", "concat"))
_COLLECTS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


class Code:
    """Functions for objects of two classes, tensors and nodes of their graph.

    `backend` is that whose arrays are NumPy's, which NumPy's functions are called on.
    """

    # What each function is to find first in its self: objects, in this order.
    known = references.KNOWN

    def __init__(self, tensor: type, node: type, backend: Backend) -> None:
        self.backend = backend
        self._places = layout.look(tensor, node)
        # All numbers that names of the modules stand for, theirs and those of others.
        scopes = [vars(module) for module in (*_MODULES, layout)]
        numbers = sorted({(name, x) for y in scopes for name, x in y.items() if type(x) is int})
        places = sorted(self._places.items())
        self._words = objects.texts((*_MODULES, words)), numbers, places, objects.host()

    def possible(self) -> bool:
        """Whether this interpreter has all that the code calls, and objects where it looks."""
        names = ("PyInstanceMethod_New", *words.FUNCTIONS)
        have = [hasattr(ctypes.pythonapi, name) for name in names]
        return bool(self._places) and all(have) and numpy_api.known()

    def there(self) -> bool:
        """Whether the code need not be made, which takes half a second."""
        return objects.there("eager", self._words)

    def function(self, name: str, state: tuple[Any, ...]) -> Callable[..., Any]:
        """A function of Python, with what it finds as its self."""
        return entries.bound(name.encode(), self._engine().address(name), state)

    def method(self, name: str, state: tuple[Any, ...], instead: FunctionType) -> Any:
        """The same as a method of a class, which tells of itself what one in Python does.

        Raises ValueError where that takes more than the object and positional operands.
        """
        taken = instead.__code__
        if taken.co_kwonlyargcount or taken.co_flags & _COLLECTS:
            raise ValueError(f"{instead.__qualname__} takes more than operands by their places")
        names = ", ".join([*taken.co_varnames[: taken.co_argcount], "/"])
        text = f"{instead.__name__}({names})\n--\n\n{instead.__doc__ or ''}"
        address = self._engine().address(name)
        function = entries.bound(instead.__name__.encode(), address, state, text.encode())
        return self.attribute(function)

    def attribute(self, function: Callable[..., Any]) -> Any:
        """What is given the object first, as an attribute of a class: as Python's functions are."""
        make: Any = ctypes.pythonapi.PyInstanceMethod_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.py_object]
        return make(function)

    def loop(self, ufunc: Any, given: DType, dtype: DType, numbers: bool) -> bytes | None:
        """What tells machine code of the loop within a ufunc, None where it may not call that."""
        return loops.block(ufunc, given, dtype, numbers=numbers)

    def layer(
        self, formula: Formula, derivative: Formula, dtype: DType, by_output: bool
    ) -> bytes | None:
        """Where the code is of an activation behind a bias, 0 for none, and of its derivative.

        None where the derivative has none. `by_output` says whether it takes what is given.
        """
        bits, back = FLOATS[dtype], binding.vjp(derivative)
        if not maps.compiles(back):
            return None
        forth = 0
        if maps.compiles(formula):
            kernel = maps.formula_kernel(elementwise.bias_activation, formula, bits, by_output)
            forth = compiler.whole(kernel).address
        kernel = maps.formula_kernel(elementwise.bias_activation_backward, back, bits, False)
        return struct.pack("2q", forth, compiler.whole(kernel).address)

    def beside(self, name: str) -> tuple[Any, ...]:
        """What the code of a function on whole arrays is told beside what all backends' is."""
        if name in _ALONE:
            return (struct.pack("2q", *[threads.free((name, bits)) for bits in FLOATS.values()]),)
        if name in tables.EXTREMES:
            words = [word for bits in FLOATS.values() for word in tables.told(name, bits)]
            return (struct.pack(f"{len(words)}q", *words),)
        return ()

    def home(self) -> tuple[Any, ...]:
        """The backend whose arrays machine code makes, and how it sums them."""
        codes = [struct.pack("q", tables.sum_of_row(bits)) for bits in FLOATS.values()]
        plans = []
        for dtype in FLOATS:
            axes = [tuple(range(ndim)) for ndim in range(sums.MOST + 1)]
            given = [{"axes": x, "keepdims": False, "dtype": dtype} for x in axes]
            plans.append(tuple([(self.backend, None, x) for x in given]))
        columns = [struct.pack("q", tables.sums_of_columns(bits)) for bits in FLOATS.values()]
        plain: tuple[Any, ...] = (self.backend, None, {})
        products = [ways.numpys(dtype) for dtype in FLOATS]
        own = True if all(build.shape(x, objects.host().features) for x in FLOATS) else None
        kept = ways.Ways()
        long = [word for bits in FLOATS.values() for word in tables.told_of_products(bits)]
        rest = own, kept, kept.look, blas.prepare, struct.pack(f"{len(long)}q", *long)
        return (self.backend, *codes, *plans, *columns, plain, *products, *rest)

    @cache  # noqa: B019  # one for each process
    def _engine(self) -> objects.Engine:
        entries.prepare(words.FUNCTIONS)
        for name, place in words.NUMPY.items():
            llvm.add_symbol(name, numpy_api.address("array", place))
        engine = objects.Engine()
        engine.load(objects.kept("eager", self._words, self._made))
        return engine

    def _made(self) -> bytes:
        machine = objects.machine(objects.host(), 2)
        text = words.text(_MODULES, self._places)
        found: bytes = machine.emit_object(objects.optimized(machine, text, 2))
        return found
