"""The table of elementwise ops: one for every row of the formulas.

Forward is the formula, bound by the backend. The first derivative is one fused map, `g * df(...)`;
higher ones are those of the same formula bound to Tensors, where it is an expression of ops.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from threading import Lock
from types import ModuleType
from typing import Any
from weakref import WeakSet

import gradnet.ops as _ops
from gradnet import binding, dtypes, formulas, modes
from gradnet.backends import Array, Backend, Scalar, Shape
from gradnet.dtypes import DType
from gradnet.formulas import Row
from gradnet.formulas.complex import HOLOMORPHIC
from gradnet.graph import Context, Edge, Node, Pending
from gradnet.ops.core import Cost, Op, common_backend
from gradnet.ops.creation import asarray, astype
from gradnet.ops.direct import SIMPLE, Part, choice, counted, multiple, one, part, pull, two
from gradnet.ops.mapped import Mapped
from gradnet.ops.mapped import broadcast_shape as broadcast_shape
from gradnet.ops.mapped import elementwise_cost as elementwise_cost
from gradnet.ops.mapped import sum_to as sum_to
from gradnet.ops.promotion import Promotion
from gradnet.tensor import Tensor, fresh
from gradnet.ways import Ways

ops: Any = _ops  # what is above this file, looked up when it is used

# The ops that leave integers as they are.
_ROUNDING = ("round", "floor", "ceil", "trunc")
# Those that `ops/complex.py` has other ops for.
_OF_PARTS = ("abs", "sign")


def _multiple_of(g: Tensor, factor: float) -> Tensor | None:
    """`g` times a derivative that is one number; None for zero."""
    if factor in (0, 1):
        return g if factor else None
    return NEGATIVE(g) if factor == -1 else MULTIPLY(g, factor)


class Elementwise(Promotion, Op):
    """An elementwise op from a row: `op(*operands)` broadcasts, promotes, runs and records.

    Operands are Tensors, Python scalars (weak), or what `asarray` takes. Raises ShapeError for
    shapes that do not broadcast and DTypeError for a dtype that the op does not take.
    """

    pair: Callable[[Any, Any], Tensor]  # of an op of two operands: the op itself

    def __init__(self, row: Row) -> None:
        super().__init__(row.name)
        self.row = row
        self.differentiable = row.kind in ("float", "numeric")
        self.__doc__ = row.formula.__doc__
        self.names = binding.arguments(row.formula)
        self.__signature__ = Signature(
            [
                Parameter(
                    name,
                    Parameter.POSITIONAL_OR_KEYWORD,
                    default=row.defaults.get(name, Parameter.empty),
                )
                for name in self.names
            ]
        )
        self.arity = len(self.names)
        self.formula = row.formula
        self.selects = row.name == "where"
        # How it runs on operands that need no thought, by their dtype.
        self.ways = Ways(row.formula, self.result_dtype)
        if row.kind in ("float", "numeric", "compare"):
            for dtype in (dtypes.float32, dtypes.float64):
                self.ways.__missing__(dtype)
        self.uses: list[tuple[str, ...] | None] = []
        self.products: list[Mapped | float | None] = []
        self.parts: list[Part | None] = []  # the same on arrays
        for name, derivative in zip(self.names, row.derivatives, strict=True):
            uses = None if derivative is None else binding.arguments(derivative)
            self.uses.append(uses)
            if derivative is None or not uses:
                constant = None if derivative is None else float(derivative())
                self.products.append(constant)
                self.parts.append(multiple(constant or 0.0))
            else:
                product = binding.vjp(derivative)
                self.products.append(Mapped(f"{row.name}_d{name}", product, row.flops + 1))
                places = [-1 if use == "y" else self.names.index(use) for use in uses]
                self.parts.append(part(product, places))
        self.pull = pull(self.parts, self._pull_complex)
        # The op on all its operands, in the fewest steps that their number allows.
        self.direct: Callable[..., Tensor] = lambda *operands: self.plain(operands)
        if self.arity < 3:
            self.in_python: Callable[..., Tensor] = one(self) if self.arity == 1 else two(self)
            self.direct = self.pair = counted(self)
        elif self.selects:
            self.direct = choice(self)
        # What complex operands take in place of its derivative in x.
        holomorphic = HOLOMORPHIC.get(row.name)
        self._holomorphic = (
            None
            if holomorphic is None
            else Mapped(f"{row.name}_dx", binding.vjp(holomorphic), row.flops + 1)
        )
        with _making:
            _made.add(self)
        if _quicken is not None:
            _quicken(self)

    def __call__(self, *operands: Any, **named: Any) -> Tensor:
        if len(operands) == self.arity and not named:
            return self.direct(*operands)
        return self.converted(operands, named)

    def count_no_more(self) -> None:
        """Be done in Python, uncounted."""
        self.direct = self.pair = self.in_python

    def plain(self, operands: tuple[Any, ...]) -> Tensor:
        """The op on all its operands: in few steps where these are of one dtype, or numbers."""
        first = operands[self.selects]
        if isinstance(first, Tensor):
            backend, dtype = first.backend, first.array.dtype
            way = self.ways.get(dtype)
            arrays = None if way is None else self._arrays(first, operands)
            if way is not None and arrays is not None:
                result = self.ways.of(backend, dtype)(*arrays)
                for x in operands:
                    if modes.open_modes or (isinstance(x, Tensor) and x.node is not None):
                        return self.finish(backend, operands, result, way[2])
                return fresh(result, backend)
        return self.converted(operands, {})

    def converted(self, operands: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        """The op on operands of any kind."""
        if len(operands) < self.arity:
            operands = self._complete(operands, named)
        elif named or len(operands) > self.arity:
            raise TypeError(f"{self.name} takes ({', '.join(self.names)})")
        inputs, dtype = self.prepare(operands)
        if self.name in _OF_PARTS and dtype.kind == "c":
            from gradnet.ops.complex import IN_PLACE_OF

            return IN_PLACE_OF[self.name](*inputs)
        if self.name in _ROUNDING and dtype.kind in "iu":
            return astype(inputs[0], dtype)
        return super().__call__(*inputs, dtype=dtype)

    def _arrays(self, first: Tensor, operands: tuple[Any, ...]) -> list[Any] | None:
        """What `forward` takes for operands that need no conversion; None where one does."""
        backend, shape, dtype = first.backend, first.array.shape, first.array.dtype
        arrays = []
        mixed = False
        for i, x in enumerate(operands):
            if isinstance(x, Tensor):
                array = x.array
                wanted = dtypes.bool_ if i == 0 and self.selects else dtype
                if array.dtype is not wanted or x.backend is not backend:
                    return None
                if array.shape != shape:
                    mixed = True
                arrays.append(array)
            elif type(x) in SIMPLE and not (i == 0 and self.selects):
                arrays.append(float(x))
            else:
                return None
        if mixed:
            broadcast_shape(self.name, [x.shape for x in arrays if hasattr(x, "shape")])
        return arrays

    def into(self, target: Tensor, *others: Any) -> Tensor:
        """`target = op(target, *others)` in the memory of `target`, outside of the graph."""
        inputs, dtype = self.prepare((target, *others))
        common_backend(self.name, inputs)
        shapes = [x.shape for x in inputs if isinstance(x, Tensor)]
        if broadcast_shape(self.name, shapes) != target.shape or dtype != target.dtype:
            return target.replace(super().__call__(*inputs, dtype=dtype))
        arrays = [x.array if isinstance(x, Tensor) else x for x in inputs]
        try:
            target.backend.map(self.row.formula, *arrays, dtype=dtype, out=target.array)
        except ValueError as error:
            raise target.unwritable(error) from None
        target.changed()
        return target

    def forward(self, backend: Backend, *xs: Array | Scalar, dtype: DType) -> Array:
        return backend.map(self.row.formula, *xs, dtype=dtype)

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        used = {
            name
            for need, names in zip(needs, self.uses, strict=True)
            if need and names is not None
            for name in names
        }
        return tuple(name in used for name in self.names), "y" in used

    def _arguments(self, context: Context, names: tuple[str, ...]) -> list[Any]:
        return [
            context.output if name == "y" else context.inputs[self.names.index(name)]
            for name in names
        ]

    def _product(self, context: Context, i: int, g: Tensor) -> Tensor | None:
        """`g` times the derivative in operand i."""
        product, names = self.products[i], self.uses[i]
        if product is None or names is None:
            return None
        if self._holomorphic is not None and g.array.dtype.kind == "c":
            return self._holomorphic(g, *context.inputs, dtype=g.dtype)
        if isinstance(product, float):
            return _multiple_of(g, product)
        return product(g, *self._arguments(context, names), dtype=g.dtype)

    def _pull_complex(self, node: Node, g: Array, leaves: Pending) -> Sequence[tuple[Edge, Array]]:
        """`pull` for complex cotangents."""
        backend: Any = node.backend
        needs = tuple([parent is not None for parent in node.parents])
        context = Context(node, node.inputs or (), needs, node.parameters)
        tensors = self._complex_vjp(context, fresh(g, backend))
        pairs = zip(node.parents, tensors, strict=True)
        return [(edge, t.array) for edge, t in pairs if edge is not None and t is not None]

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        if g.array.dtype.kind == "c":
            return self._complex_vjp(context, g)
        found: list[Tensor | None] = []
        for i, need in enumerate(context.needs):
            product = self._product(context, i, g) if need else None
            found.append(None if product is None else sum_to(product, context.inputs[i].shape))
        return found

    def _complex_vjp(self, context: Context, g: Tensor) -> list[Tensor | None]:
        """g conj(f'(z)), which is conj(conj(g) f'(z)): see ops/complex.py for the convention."""
        from gradnet.ops.complex import CONJ

        g = CONJ(g)
        found: list[Tensor | None] = []
        for i, need in enumerate(context.needs):
            product = self._product(context, i, g) if need else None
            found.append(
                None if product is None else CONJ(sum_to(product, context.inputs[i].shape))
            )
        return found

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        from gradnet.ops.shape import broadcast_to

        total: Tensor | None = None
        for i, t in enumerate(tangents):
            product = None if t is None else self._product(context, i, t)
            if product is not None:
                total = product if total is None else ADD(total, product)
        if total is None:
            return None
        shape = broadcast_shape(
            self.name, [x.shape for x in context.inputs if isinstance(x, Tensor)]
        )
        return total if total.shape == shape else broadcast_to(total, shape)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return elementwise_cost(self.row.flops, shapes, itemsize)


_OPS: dict[str, Elementwise] = {}
# All ops, and what each is given to as soon as it is made: to have it done in fewer steps.
_made: WeakSet[Elementwise] = WeakSet()
_making = Lock()
_quicken: Callable[[Elementwise], None] | None = None


def quicken(by: Callable[[Elementwise], None] | None) -> None:
    """Have all ops, and those that will be made, given to a function; None for no longer."""
    global _quicken
    _quicken = by
    with _making:
        made = list(_made)
    if by is not None:
        for op in made:
            by(op)


def op(name: str) -> Elementwise:
    """The elementwise op of a formula's row, by the row's name or another name of it.

    Raises KeyError, with close matches, for an unknown name.
    """
    row = formulas.row(name)
    found = _OPS.get(row.name)
    if found is None or found.row is not row:
        found = _OPS[row.name] = Elementwise(row)
    return found


MULTIPLY, ADD, NEGATIVE, _CLIP = op("multiply"), op("add"), op("negative"), op("clip")


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """Values below `min` or above `max` set to those; a bound of None does nothing."""
    if min is None and max is None:
        return asarray(x)
    if max is None:
        return op("maximum")(x, min)
    if min is None:
        return op("minimum")(x, max)
    if isinstance(x, Tensor) and type(min) in SIMPLE and type(max) in SIMPLE:
        array, backend = x.array, x.backend
        dtype = array.dtype
        if dtype in _CLIP.ways and x.node is None and not modes.open_modes:
            run = _CLIP.ways.of(backend, dtype)
            return fresh(run(array, float(min), float(max)), backend)
    return _CLIP.direct(x, min, max)


class _Called(ModuleType):
    """This module: `gradnet.ops.elementwise` is `op` too, for the name says best what it gives."""

    def __call__(self, name: str) -> Elementwise:
        return op(name)


sys.modules[__name__].__class__ = _Called
