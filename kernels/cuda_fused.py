"""Stacks of linear layers in a captured program, each as one or two calls of the fused MLP.

A stack (see cuda_stacks.py) is replaced where nothing else reads what lies between its ends. Where
gradients of it are computed too, all of them must be. Whether that pays is found out by
cuda_fused_replay.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet.dtypes import DType
from gradnet.program.calls import Call, Program, Storage, Value
from gradnet.program.plan import extent, simplified

from . import fused_mlp
from .cuda_stacks import FLOAT32, Calls, Layer, backward_of, cast, network_of, stacks

# The methods of the backend that compute a stack.
FORWARD, BACKWARD = "_fused_mlp_forward", "_fused_mlp_backward"
METHODS = (FORWARD, BACKWARD)


def fused_stacks(program: Program) -> Program:
    """The program, with its stacks of equally wide linear layers as calls of the fused MLP.

    The same object where there are none, or where that is switched off.
    """
    refused: set[Call] = set()
    while fused_mlp.switched() != fused_mlp.NEVER:
        calls = Calls(program.calls)
        stack = next((s for s in stacks(calls) if calls[s[0].product] not in refused), None)
        if stack is None:
            break
        changed = Replacement(calls, stack).calls()
        if changed is None:
            refused.add(calls[stack[0].product])
        else:
            program = simplified(program.with_calls(changed))
    return program


class Replacement:
    """A stack's calls replaced by those of the fused kernels."""

    def __init__(self, calls: Calls, stack: tuple[Layer, ...]) -> None:
        self.old = calls
        self.stack = stack
        self.network = network_of(stack)
        self.backward = backward_of(calls, stack)
        self.forward_at = stack[-1].after
        self.gone = {i for layer in stack for i in (layer.product, layer.after)}
        # Where the program goes on to use a result, by what it is now.
        self.given: dict[Value, Value] = {}
        self.instead: dict[int, Call | None] = {}

    def calls(self) -> list[Call] | None:
        """The program's calls with the stack replaced, or None where it cannot be."""
        network, stack, backward = self.network, self.stack, self.backward
        assert network is not None
        n = stack[0].x.shape[0]
        before: list[Call] = []
        x = self._plain(stack[0].x, before)
        parts = [value for layer in stack for value in (layer.weights, layer.bias)]
        parameters = consecutive(parts)
        if parameters is None:
            parameters = temporary((network.parameters,), FLOAT32)
            before += [copied(a, b) for a, b in zip(parts, split(parameters, parts), strict=True)]
        y = self._result(stack[-1].y)
        kept = gradient = None
        after: list[Call] = []
        if backward is not None:
            kept = temporary(network.kept(n), np.dtype(np.uint16))
            self.gone |= backward.calls
            dy = self._plain(backward.dy, after)
            dx = None if backward.dx is None else self._result(backward.dx)
            pairs = zip(backward.weights, backward.biases, strict=True)
            made = [value for pair in pairs for value in pair]
            gradient = temporary((network.parameters,), FLOAT32)
            self.given.update(zip(made, split(gradient, parts), strict=True))
        if not self._inner_only() or not self._lasting([stack[0].x, *parts]):
            return None
        if backward is not None and gradient is not None:
            gradient = self._placed(gradient, made)
            scratch = temporary(fused_mlp.Kernels.of(network, n).parts(n), FLOAT32)
            out: tuple[Value | None, ...] = (dx, scratch, gradient)
            given = (network, x, parameters, kept, dy)
            after.append(_call(BACKWARD, given, out))
        before.append(_call(FORWARD, (network, x, parameters), (kept, y)))
        return self._joined(before, after)

    @property
    def backward_at(self) -> int:
        """Where the backward call stands: before all calls that it replaces."""
        return min(self.backward.calls) if self.backward is not None else -1

    def _plain(self, x: Value, before: list[Call]) -> Value:
        """An array as the kernels take it, by a call before theirs where it is not such."""
        if x.dtype == FLOAT32 and x.contiguous:
            return x
        y = temporary(x.shape, FLOAT32)
        before.append(copied(x, y))
        return y

    def _result(self, x: Value) -> Value:
        """Where the kernels write a result of the program: there, if it can be."""
        fits = x.dtype == FLOAT32 and x.contiguous and x.storage.kind in ("temporary", "output")
        self.given[x] = y = x if fits else temporary(x.shape, FLOAT32)
        return y

    def _inner_only(self) -> bool:
        """Whether what the calls write is used by them alone, but for their results.

        Casts of it that they alone use go with them.
        """
        old, waiting = self.old, sorted(self.gone)
        while waiting:
            for value in old[waiting.pop()].writes:
                if value in self.given:
                    continue
                if value.storage.kind != "temporary":
                    return False
                for i in {*old.uses.reads.get(value.storage, ()), *old.uses.writes[value.storage]}:
                    if i in self.gone:
                        continue
                    if not cast(old[i]) or i not in old.uses.reads[value.storage]:
                        return False
                    if any(x in self.given for x in old[i].reads):
                        continue
                    self.gone.add(i)
                    waiting.append(i)
        return all(
            set(old.uses.writes[value.storage]) <= self.gone
            for value in self.given
            if value.storage.kind == "temporary"
        )

    def _lasting(self, values: list[Value]) -> bool:
        """Whether what the kernels read is the same as where the program's own calls read it."""
        old, last = self.old, max(self.forward_at, self.backward_at)
        first = min(layer.since for layer in self.stack)
        if any(old.uses.written_within(value.storage, first, last) for value in values):
            return False
        backward = self.backward
        if backward is None:
            return True
        # The gradient that the kernels take may be a cast's operand, read a little later now.
        made = old.maker(backward.dy, self.backward_at)
        return not old.uses.written_within(backward.dy.storage, made, self.backward_at)

    def _placed(self, gradient: Value, made: list[Value]) -> Value:
        """The flat gradient where the program wants it, if its parts go there and nowhere else."""
        targets = []
        for value in made:
            copies = [i for i in self.old.uses.reads.get(value.storage, ()) if i not in self.gone]
            if value.storage.kind != "temporary" and value.dtype == FLOAT32:
                made_at = next(i for i in self.gone if value in self.old[i].writes)
                targets.append((made_at, value))
            elif len(copies) == 1 and self._widens(copies[0], value):
                targets.append((copies[0], self.old[copies[0]].outs[0] or value))
            else:
                return gradient
        place = consecutive([value for _, value in targets])
        if place is None:
            return gradient
        low, high = extent(place)
        ends = {i for i, _ in targets}
        for i in range(self.backward_at, max(ends) + 1):
            if i in ends or i in self.gone:
                continue
            for value in (*self.old[i].reads, *self.old[i].writes):
                begin, end = extent(value)
                if value.storage is place.storage and begin < high and low < end:
                    return gradient
        for (i, _), value in zip(targets, made, strict=True):
            del self.given[value]
            self.instead[i] = None
        return place

    def _widens(self, i: int, value: Value) -> bool:
        """Whether a call casts that array to float32."""
        call = self.old[i]
        out = call.outs[0] if call.outs else None
        return cast(call) and call.args[0] == value and out is not None and out.dtype == FLOAT32

    def _joined(self, before: list[Call], after: list[Call]) -> list[Call]:
        """All calls: the kernels' in place of those that are gone, and their results passed on."""
        passed: dict[bool, list[Call]] = {False: [], True: []}
        for value, now in self.given.items():
            if value == now:
                continue
            readers = self.old.uses.reads.get(value.storage, ())
            left = [i for i in readers if i not in self.gone]
            wide = [i for i in left if self._widens(i, value)]
            for i in wide:
                self.instead[i] = copied(now, self.old[i].outs[0])
            if len(wide) < len(left) or value.storage.kind != "temporary":
                passed[value != self.stack[-1].y].append(copied(now, value))
        found: list[Call] = []
        for i, call in enumerate(self.old.all):
            if i == self.forward_at:
                found += [*before, *passed[False]]
            if i == self.backward_at:
                found += [*after, *passed[True]]
            chosen = self.instead.get(i, None if i in self.gone else call)
            if chosen is not None:
                found.append(chosen)
        return found


def contiguous(value: Value, dtype: DType) -> Value:
    """An array at that place and of that shape, contiguous and of that dtype."""
    strides, step = [], dtype.itemsize
    for n in reversed(value.shape):
        strides.append(step)
        step *= n
    return Value(value.storage, value.offset, value.shape, tuple(strides[::-1]), dtype)


def temporary(shape: tuple[int, ...], dtype: DType) -> Value:
    """An array in memory of its own."""
    size = int(np.prod(shape)) * dtype.itemsize
    return contiguous(Value(Storage("temporary", size, None), 0, shape, (), dtype), dtype)


def copied(x: Value, y: Value | None) -> Call:
    """The values of an array in another one, as its dtype."""
    assert y is not None
    return Call("cast", (x, y.dtype), {}, (y,), (y,))


def _call(method: str, given: tuple[Any, ...], out: tuple[Value | None, ...]) -> Call:
    """A call of a method that writes into arrays it is given."""
    return Call(method, given, {"out": out}, (), tuple(x for x in out if x is not None))


def split(flat: Value, like: list[Value]) -> list[Value]:
    """Parts of a flat array, one after the other, in these shapes."""
    found, offset = [], flat.offset
    for value in like:
        part = Value(flat.storage, offset, value.shape, (), FLOAT32)
        found.append(contiguous(part, FLOAT32))
        offset += value.size * FLOAT32.itemsize
    return found


def consecutive(parts: list[Value]) -> Value | None:
    """Float32 arrays that follow one another in memory, as one flat array."""
    offset = parts[0].offset
    for value in parts:
        same = value.storage is parts[0].storage and value.dtype == FLOAT32
        if not same or not value.contiguous or value.offset != offset:
            return None
        offset += value.size * FLOAT32.itemsize
    total = sum(value.size for value in parts)
    flat = Value(parts[0].storage, parts[0].offset, (total,), (), FLOAT32)
    return contiguous(flat, FLOAT32)
