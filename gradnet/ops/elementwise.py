"""The table of elementwise ops: one for every row of the formulas.

Forward is the formula, bound by the backend. The first derivative is one fused map, `g * df(...)`;
higher ones are those of the same formula bound to Tensors, where it is an expression of ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, Signature
from typing import Any

import gradnet.ops as _ops
from gradnet import binding, dtypes, formulas, modes
from gradnet.backends import Array, Backend, Scalar, Shape
from gradnet.dtypes import DType
from gradnet.formulas import Row
from gradnet.formulas.complex import HOLOMORPHIC
from gradnet.graph import Context, Edge, Node, Pending
from gradnet.ops.core import Cost, Op, common_backend
from gradnet.ops.creation import asarray, astype
from gradnet.ops.mapped import Mapped, map_on
from gradnet.ops.mapped import broadcast_shape as broadcast_shape
from gradnet.ops.mapped import elementwise_cost as elementwise_cost
from gradnet.ops.mapped import sum_to as sum_to
from gradnet.ops.promotion import Promotion
from gradnet.tensor import Tensor, fresh

ops: Any = _ops  # what is above this file, looked up when it is used

# The ops that leave integers as they are.
_ROUNDING = ("round", "floor", "ceil", "trunc")

# Python's numbers that stand beside floats as a float.
_SIMPLE = frozenset((int, float))


def _multiple(backend: Backend, g: Array, factor: float) -> Array:
    """`g` times a derivative that is one number, not zero."""
    if factor == 1:
        return g
    if factor == -1:
        return backend.map(NEGATIVE.formula, g, dtype=g.dtype)
    return backend.map(MULTIPLY.formula, g, factor, dtype=g.dtype)


def _multiple_of(g: Tensor, factor: float) -> Tensor | None:
    """As `_multiple`, of a Tensor; None for zero."""
    if factor in (0, 1):
        return g if factor else None
    return NEGATIVE(g) if factor == -1 else MULTIPLY(g, factor)


class Elementwise(Promotion, Op):
    """An elementwise op from a row: `op(*operands)` broadcasts, promotes, runs and records.

    Operands are Tensors, Python scalars (weak), or what `asarray` takes. Raises ShapeError for
    shapes that do not broadcast and DTypeError for a dtype that the op does not take.
    """

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
        # Dtypes of operands that need no thought, with the parameters of `forward` for them.
        self._simple: dict[DType, dict[str, Any]] = {}
        self.selects = row.name == "where"
        if row.kind in ("float", "numeric", "compare"):
            for dtype in (dtypes.float32, dtypes.float64):
                self._simple[dtype] = {"dtype": self.result_dtype(dtype)}
        self.uses: list[tuple[str, ...] | None] = []
        self.products: list[Mapped | float | None] = []
        # Where a derivative's arguments are found: at an operand's place, or -1 for the output.
        self._places: list[tuple[int, ...]] = []
        for name, derivative in zip(self.names, row.derivatives, strict=True):
            uses = None if derivative is None else binding.arguments(derivative)
            self.uses.append(uses)
            self._places.append(
                tuple(-1 if use == "y" else self.names.index(use) for use in uses or ())
            )
            if derivative is None:
                self.products.append(None)
            elif uses == ():
                self.products.append(float(derivative()))
            else:
                product = binding.vjp(derivative)
                self.products.append(Mapped(f"{row.name}_d{name}", product, row.flops + 1))
        # What complex operands take in place of this op, or of its derivative in x.
        self.on_complex: Op | None = None
        holomorphic = HOLOMORPHIC.get(row.name)
        self._holomorphic = (
            None
            if holomorphic is None
            else Mapped(f"{row.name}_dx", binding.vjp(holomorphic), row.flops + 1)
        )

    def __call__(self, *operands: Any, **named: Any) -> Tensor:
        count = len(operands)
        if count == self.arity and not named:
            # The common cases, in few steps.
            if count == 2:
                return self.pair(*operands)
            first = operands[self.selects]
            if isinstance(first, Tensor):
                array, backend = first.array, first.backend
                parameters = self._simple.get(array.dtype)
                if parameters is not None:
                    if count == 1:
                        result = backend.map(self.formula, array, dtype=parameters["dtype"])
                        if first.node is None and not modes.open_modes:
                            return fresh(result, backend)
                        return self.finish(backend, operands, result, parameters)
                    arrays = self._arrays(first, operands)
                    if arrays is not None:
                        result = backend.map(self.formula, *arrays, dtype=parameters["dtype"])
                        if not modes.open_modes:
                            for x in operands:
                                if isinstance(x, Tensor) and x.node is not None:
                                    break
                            else:
                                return fresh(result, backend)
                        return self.finish(backend, operands, result, parameters)
        return self._converted(operands, named)

    def pair(self, a: Any, b: Any) -> Tensor:
        """The op on two operands, in few steps for tensors of one dtype and Python's scalars."""
        parameters = None
        if isinstance(a, Tensor):
            x, backend, free = a.array, a.backend, a.node is None
            if isinstance(b, Tensor):
                y = b.array
                if y.dtype is x.dtype and b.backend is backend:
                    parameters = self._simple.get(y.dtype)
                    free = free and b.node is None
                    if y.shape != x.shape and parameters is not None:
                        broadcast_shape(self.name, (x.shape, y.shape))
            elif type(b) in _SIMPLE:
                y = float(b)
                parameters = self._simple.get(x.dtype)
        elif isinstance(b, Tensor) and type(a) in _SIMPLE:
            x, y, backend, free = float(a), b.array, b.backend, b.node is None
            parameters = self._simple.get(y.dtype)
        if parameters is None:
            return self._converted((a, b), {})
        result = backend.map(self.formula, x, y, dtype=parameters["dtype"])
        if free and not modes.open_modes:
            return fresh(result, backend)
        return self.finish(backend, (a, b), result, parameters)

    def _converted(self, operands: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        """The op on operands of any kind."""
        if len(operands) < self.arity:
            operands = self._complete(operands, named)
        elif named or len(operands) > self.arity:
            raise TypeError(f"{self.name} takes ({', '.join(self.names)})")
        inputs, dtype = self.prepare(operands)
        if self.on_complex is not None and dtype.kind == "c":
            return self.on_complex(*inputs)
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
            elif type(x) in _SIMPLE and not (i == 0 and self.selects):
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

    def pull(self, node: Node, g: Array, pending: Pending) -> Sequence[tuple[Edge, Array]]:
        """`vjp` of a node for a cotangent that is not differentiated again: on arrays."""
        backend: Any = node.backend
        inputs: Any = node.inputs
        dtype = g.dtype
        if dtype.kind == "c":
            needs = tuple([parent is not None for parent in node.parents])
            context = Context(node, inputs, needs, node.parameters)
            tensors = self._complex_vjp(context, fresh(g, backend))
            pairs = zip(node.parents, tensors, strict=True)
            return [(edge, t.array) for edge, t in pairs if edge is not None and t is not None]
        found: list[tuple[Edge, Array]] = []
        i = -1
        for edge in node.parents:
            i += 1
            if edge is None:
                continue
            product = self.products[i]
            if isinstance(product, Mapped):
                arrays = [g]
                for place in self._places[i]:
                    value = inputs[place] if place >= 0 else node.output(0)
                    arrays.append(value.array if isinstance(value, Tensor) else value)
                y = map_on(backend, product.formula, arrays, dtype)
            elif product:
                y = _multiple(backend, g, product)
            else:
                continue
            if i or len(inputs) > 1:
                x = inputs[i]
                shape = x.array.shape if isinstance(x, Tensor) else x.shape
                if y.shape != shape:
                    y = sum_to(fresh(y, backend), shape).array
            found.append((edge, y))
        return found

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
    return _CLIP(x, min, max)
