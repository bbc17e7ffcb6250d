"""Products with what follows them as one call, where cublasLt has an epilogue for it.

In the calls of a captured step, `paired` finds

    a product, then bias and activation                        relu, gelu_tanh, or bias alone
    a product, then the activation's gradient with its bias's  relu, gelu_tanh
    a product, and the sum of the rows of its second operand   the bias gradient of a last layer

and puts one call of the backend's `product_epilogue` in the place of each. ReLU's gradient then
takes a mask of bits, which the forward product leaves, and not the activation; that is still named,
for where cublasLt turns out to have no such product. GELU by the error function is not the function
that cublasLt has; its layers, and all others, stay a product and one fused kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradnet.dtypes import uint8
from gradnet.program.calls import Call, Storage, Value
from gradnet.program.plan import extent

from .cublaslt import mask_row, multiplies
from .cuda_products import ACTIVATIONS, DERIVATIVES, Mask

if TYPE_CHECKING:
    from gradnet.program.calls import Program

_KINDS = {formula: kind for kind, formula in (ACTIVATIONS | DERIVATIVES).items()}
# GELU's input is stored with rows of a multiple of so many elements.
_GELU_COLUMNS = 8


def paired(program: Program) -> Program:
    """The program with products and what is done to their results as one call each."""
    return program.with_calls(list(_Pairing(program.calls).calls()))


def overlap(x: Value, y: Value) -> bool:
    """Whether two places in memory may have bytes in common."""
    if x.storage is not y.storage:
        return False
    (low, high), (begin, end) = extent(x), extent(y)
    return low < end and begin < high


@dataclass
class _Layer:
    """A forward product with its activation: which call it is, and the mask it leaves, if any."""

    place: int
    saved: Value
    mask: Mask | None = None
    bits: Value | None = None


class _Pairing:
    """The calls of a program by number; those that others took up are None.

    Every pair stands where its later call stood, and is checked against the order of before: what
    moves are reads and writes to a later place, over calls that do not touch that memory.
    """

    def __init__(self, calls: list[Call]) -> None:
        self._before = calls
        self._calls: list[Call | None] = list(calls)
        self._layers: list[_Layer] = []
        for i, call in enumerate(calls):
            if len(call.args) != 4:
                continue
            if call.method == "bias_activation":
                self._forward(i, call)
            elif call.method == "bias_activation_backward":
                self._backward(i, call)
        for i, call in enumerate(calls):
            if call.method == "reduce" and len(call.args) == 4:
                self._sum(i, call)

    def calls(self) -> Iterator[Call]:
        """What is left, in order."""
        return (call for call in self._calls if call is not None)

    # What stands between

    def _touching(self, x: Value, after: int, until: int, *, writing: bool = False) -> bool:
        """Whether a call between two others reads or writes a place, or writes it."""
        return any(
            overlap(x, y)
            for call in self._before[after + 1 : until]
            for y in (call.writes if writing else (*call.reads, *call.writes))
        )

    def _product(self, i: int, z: Any) -> tuple[int, Call] | None:
        """The product whose result the call `i` is the first to look at."""
        if not isinstance(z, Value) or len(z.shape) != 2 or not z.contiguous:
            return None
        for j in reversed(range(i)):
            call = self._before[j]
            if any(overlap(z, y) for y in (*call.reads, *call.writes)):
                made = self._calls[j] is call and call.method == "matmul" and call.outs[0] == z
                return (j, call) if made and self._moves(j, i) else None
        return None

    def _moves(self, j: int, i: int) -> bool:
        """Whether a product of matrices can be made at a later place."""
        call = self._before[j]
        a, b = call.args[:2]
        return (
            len(a.shape) == len(b.shape) == 2
            and multiplies(a.dtype)
            and not any(self._touching(x, j, i, writing=True) for x in (a, b))
        )

    def _pair(
        self,
        i: int,
        j: int,
        kind: str,
        out: Value,
        options: dict[str, Any],
        written: tuple[Value, ...],
    ) -> bool:
        """Put one call in the place of the calls `i` and `j`, the product, if nothing forbids."""
        product = self._before[j]
        a, b = product.args[:2]
        length = a.shape[0] if kind == "sum_a" else b.shape[1]
        vector = options.get("bias", options.get("dbias"))
        fits = vector is None or (
            vector.shape == (length,) and vector.contiguous and vector.dtype == out.dtype
        )
        # What is read when the result is written already, or may be.
        read = [x for x in (a, b, *map(options.get, ("bias", "saved"))) if isinstance(x, Value)]
        if not fits or not out.contiguous or any(overlap(x, y) for x in read for y in written):
            return False
        if product.kwargs.get("tf32"):
            options["tf32"] = True
        call = Call("product_epilogue", (a, b, kind), options, (out,), written)
        self._calls[i] = self._calls[j] = None
        self._calls[max(i, j)] = call
        return True

    # Pairs

    def _forward(self, i: int, call: Call) -> None:
        z, bias, formula, parameters = call.args
        kind = "" if formula is None else _KINDS.get(formula)
        found = self._product(i, z)
        (y,) = call.outs
        if kind is None or parameters or found is None or y is None or y.dtype != z.dtype:
            return
        if kind == "" and bias is None:
            return
        options: dict[str, Any] = {} if bias is None else {"bias": bias}
        written: tuple[Value, ...] = (y,)
        if y != z:
            if overlap(y, z) or z.storage.kind != "temporary":
                return
            if self._touching(z, i, len(self._before)):
                # z + bias is asked for later: GELU leaves it.
                if kind != "gelu" or z.shape[1] % _GELU_COLUMNS:
                    return
                options["aux"] = z
                written = (y, z)
        if self._pair(i, found[0], kind, y, options, written) and kind == "relu":
            self._layers.append(_Layer(i, y))

    def _backward(self, i: int, call: Call) -> None:
        g, saved, derivative, parameters = call.args
        kind = _KINDS.get(derivative)
        found = self._product(i, g)
        dz, dbias = call.outs
        if kind is None or parameters or found is None or dz is None or dz.dtype != g.dtype:
            return
        j, product = found
        if product.args[0].shape[1] < 2 or saved.dtype != dz.dtype or not saved.contiguous:
            return  # cublasLt has no gradients of a product of vectors
        if g != dz and (
            overlap(g, dz)
            or g.storage.kind != "temporary"
            or self._touching(g, i, len(self._before))
        ):
            return
        options: dict[str, Any] = {"saved": saved}
        layer = None
        if kind == "dgelu":
            if dz.shape[1] % _GELU_COLUMNS:
                return
            options["aux"] = saved
        else:
            layer = self._layer(i, saved)
            if layer is None:
                return
            options |= {"aux": layer.bits, "mask": layer.mask}
        written: tuple[Value, ...] = (dz,)
        if dbias is not None:
            options["dbias"] = dbias
            written = (dz, dbias)
        if self._pair(i, j, kind, dz, options, written) and layer is not None:
            self._leave(layer)

    def _layer(self, i: int, saved: Value) -> _Layer | None:
        """The layer whose activation is `saved`, unchanged until the call `i`."""
        for layer in reversed(self._layers):
            if layer.saved == saved and not self._touching(saved, layer.place, i, writing=True):
                if layer.mask is None:
                    n, row = saved.shape[0], mask_row(saved.shape[1])
                    storage = Storage("temporary", n * row, None)
                    layer.mask, layer.bits = Mask(), Value(storage, 0, (n, row), (row, 1), uint8)
                return layer
        return None

    def _leave(self, layer: _Layer) -> None:
        """Let a layer's product write its mask."""
        call = self._calls[layer.place]
        assert call is not None
        assert layer.bits is not None
        options = {**call.kwargs, "aux": layer.bits, "mask": layer.mask}
        written = (layer.saved, layer.bits)
        self._calls[layer.place] = Call(call.method, call.args, options, call.outs, written)

    def _sum(self, i: int, call: Call) -> None:
        """Put a sum of rows into a product that reads them."""
        kind, x, axes, keepdims = call.args
        (out,) = call.outs
        if kind != "sum" or axes != (0,) or keepdims or len(x.shape) != 2 or x.shape[0] < 2:
            return
        if out is None or not x.contiguous:
            return
        turned = Value(x.storage, x.offset, x.shape[::-1], x.strides[::-1], x.dtype)
        for j, product in enumerate(self._before):
            if product.method != "matmul" or self._calls[j] is not product:
                continue
            first, last = min(i, j), max(i, j)
            if product.args[1] == x:
                name = "sum_b"
            elif product.args[0] == turned:
                name = "sum_a"
            else:
                continue
            (y,) = product.outs
            if (
                y is None
                or y.dtype != out.dtype
                or overlap(y, out)
                or self._touching(out if i < j else y, first, last)
                or self._touching(x, first, last, writing=True)
                or not self._moves(j, last)
            ):
                continue
            if self._pair(i, j, name, y, {"dbias": out}, (y, out)):
                return
