"""Record: the calls that one run of a function makes on a backend, as a Program."""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradnet import host, modes
from gradnet.backends import Array, Backend
from gradnet.errors import CaptureError
from gradnet.numpy_calls import LINE
from gradnet.program.calls import Action, Call, Live, Program, Storage, Value, mapped
from gradnet.tensor import Tensor

# Methods that give another view of an array's memory.
_VIEWS = {"reshape", "permute", "broadcast", "view", "bits"}
# Methods that change an array they are given, at that place of their arguments.
_IN_PLACE = {"put": (0,), "update": ()}


class _LiveInt(int):
    """A whole number that an action gave."""

    source: Live


class _LiveFloat(float):
    """A float that an action gave."""

    source: Live


class _Span:
    """The memory of an argument: from its lowest byte to its highest, and where it starts."""

    def __init__(self, array: Array) -> None:
        self.root = _root(array)
        self.start = address(array)
        self.low: int = self.start
        self.high: int = self.start + array.dtype.itemsize
        for n, stride in zip(array.shape, array.strides, strict=True):
            if stride < 0:
                self.low += (n - 1) * stride
            else:
                self.high += (n - 1) * stride
        self.storage = Storage("input", self.high - self.low, None)

    def meets(self, other: _Span) -> bool:
        """Whether they have bytes in common."""
        return self.low < other.high and other.low < self.high


def overlaps(arrays: Sequence[Array], others: Sequence[Array] | None = None) -> tuple[Any, ...]:
    """Which arrays share memory with which: pairs of places, and the bytes between their starts.

    The arrays with one another, or, where others are given, with those.
    """
    spans = [(i, _Span(x)) for i, x in enumerate(arrays) if x.size]
    pairs: Any = itertools.combinations(spans, 2)
    if others is not None:
        pairs = itertools.product(spans, [(i, _Span(x)) for i, x in enumerate(others) if x.size])
    return tuple((i, j, b.start - a.start) for (i, a), (j, b) in pairs if a.meets(b))


def _placed(array: Array, storage: Storage, offset: int) -> Value:
    return Value(storage, offset, tuple(array.shape), tuple(array.strides), array.dtype)


class Recorder:
    """Notes what this thread asks of a backend, and lets it be done.

    `inputs` are the arrays that differ from run to run, `watched` NumPy arrays, by id, that the
    function has within reach.
    """

    def __init__(
        self, backend: Backend, inputs: Sequence[Array], watched: Mapping[int, Any]
    ) -> None:
        self.backend = backend
        self._watched = watched
        self.program = Program([], [])
        # By the id of the array that owns the memory, with its address and what has it forgotten
        # when that dies.
        self._storages: dict[int, tuple[Storage, int, Any]] = {}
        self._hosts: dict[int, tuple[host.Stateful, Any]] = {}
        self._depth = 0
        self._reading = False
        self._thread = threading.get_ident()
        # Arguments may be parts of one array: each is a piece of memory of its own.
        self._inputs = [_Span(array) for array in inputs]

    # Memory

    def _storage(self, array: Array, kind: str) -> tuple[Storage, int]:
        """The memory that an array is in, and its address."""
        root = _root(array)
        number = id(root)
        known = self._storages.get(number)
        if known is not None:
            return known[:2]
        if kind == "external":
            found, start = Storage(kind, int(root.nbytes), root), address(root)
            self._storages[number] = found, start, None
        else:
            # What the run makes is freed when it would be without a recording. Bytes around a
            # result, which have it begin at a line of the cache, are nobody's.
            whole = array if _padded(array, root) else root
            found, start = Storage(kind, int(whole.nbytes), None), address(whole)
            gone = weakref.ref(root, lambda _: self._storages.pop(number, None))
            self._storages[number] = found, start, gone
        return found, start

    def value(self, array: Array, kind: str = "external") -> Value:
        """An array as a place in memory; of memory not seen before, of that kind."""
        place, root = address(array), _root(array)
        for span in self._inputs:
            if span.root is root and span.low <= place < span.high:
                own = _Span(array)
                if span.low <= own.low and own.high <= span.high:
                    return _placed(array, span.storage, place - span.start)
        storage, start = self._storage(array, kind)
        return _placed(array, storage, place - start)

    def _argument(self, x: Any) -> Any:
        if isinstance(x, _LiveInt | _LiveFloat):
            return x.source
        return self.value(x) if _is_array(x) else x

    def _result(self, x: Any) -> Value | None:
        return self.value(x, "temporary") if _is_array(x) else None

    @property
    def inputs(self) -> list[Storage]:
        """The memory of each argument; of what several share, the first one's is read."""
        return [span.storage for span in self._inputs]

    # Calls

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record within a `with` block. Raises CaptureError where another recording is open."""
        if host.state.recorder is not None:
            raise CaptureError("a captured function was called while another one was recorded")
        wrapped = [name for name in dir(type(self.backend)) if not name.startswith("_")]
        methods = {
            name: getattr(self.backend, name)
            for name in wrapped
            if callable(getattr(self.backend, name))
        }
        own = vars(self.backend)
        for name, method in methods.items():
            own[name] = self._wrapper(name, method)
        host.state.recorder = self
        modes.opened(1)
        try:
            yield
        finally:
            modes.opened(-1)
            host.state.recorder = None
            for name in methods:
                del own[name]

    def _wrapper(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._depth or self._reading or threading.get_ident() != self._thread:
                return method(*args, **kwargs)
            self._depth += 1
            try:
                return self._call(name, method, args, kwargs)
            finally:
                self._depth -= 1

        return call

    def _call(self, name: str, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if name in ("synchronize", "window", "compile", "mapper", "shares"):
            return method(*args, **kwargs)
        if name == "to_host":
            raise CaptureError(
                f"a captured function reads the values of a tensor of shape {args[0].shape}, by "
                "bool(), item(), numpy() or printing, and a replay could not follow what depends "
                "on them; return the tensor and read it outside, or use gradnet.where"
            )
        if name == "nonzero" or (name == "take" and _by_condition(args[1])):
            raise CaptureError(
                f"a captured function selects by condition ({name}), so that shapes depend on "
                "values; use gradnet.where, or leave it outside"
            )
        if name == "from_host":
            if id(_root(args[0])) in self._watched or id(args[0]) in self._watched:
                raise CaptureError(
                    f"a captured function makes a tensor of a NumPy array of shape "
                    f"{args[0].shape}, whose values a replay would not see; make the tensor "
                    "outside, or pass it as an argument"
                )
            array = method(*args, **kwargs)
            if array is args[0]:
                array = method(args[0], copy=True)
            self.value(array, "external")
            return array
        if name == "empty":
            array = method(*args, **kwargs)
            self.value(array, "temporary")
            return array
        taken = mapped((args, kwargs), self._argument)
        writes = self._written(name, taken)
        if any(value.storage.kind != "temporary" for value in writes):
            result = self._standing_in(name, method, args, dict(kwargs))
        elif name in _VIEWS:
            result = method(*args, **kwargs)
            if _root(result) is _root(args[0]):
                return result
        else:
            result = method(*args, **kwargs)
        results = result if isinstance(result, tuple) else (result,)
        outs = tuple(self._result(x) for x in results)
        if name == "linalg" and any(out is None for out in outs):
            raise CaptureError(f"a captured function calls {args[0]}, which gives no arrays")
        fresh = tuple(out for out in outs if out is not None and out not in writes)
        given, named = taken
        self.program.calls.append(Call(name, given, named, outs, (*writes, *fresh)))
        return result

    def _written(self, name: str, taken: tuple[Any, dict[str, Any]]) -> tuple[Value, ...]:
        """What a call changes of the memory that was there before it."""
        args, kwargs = taken
        found = [args[i] for i in _IN_PLACE.get(name, ())]
        if name in ("update", "scaled_update"):
            p, _, *moments = args[1 if name == "update" else 2]
            found += [p, *moments]
        if name == "bias_activation":
            found.append(args[0])
        for what in ("out", "running"):
            value = kwargs.get(what)
            found += value if isinstance(value, tuple) else () if value is None else (value,)
        return tuple(dict.fromkeys(found))

    def _standing_in(self, name: str, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The result of a call that would change memory which stays; it is not made.

        Values do not matter to a recording. So nothing need be put back when it is over.
        """
        if name == "normalize":
            return method(*args, **{**kwargs, "running": None})
        target = args[0] if kwargs.get("out") is None else kwargs["out"]
        if not getattr(getattr(target, "flags", None), "writeable", True):
            return method(*args, **kwargs)  # which refuses to write
        if name == "put":
            _check_fits(self.backend, *args)
        if name in _IN_PLACE:
            return None
        out = kwargs.pop("out")
        if name == "bias_activation_backward":
            return out, method(*args, **kwargs)[1]
        return out

    def undo(self) -> None:
        """Give the host's numbers the state before the recorded run."""
        for owner, snapshot in reversed(self._hosts.values()):
            owner.rewind(snapshot)

    # The host's part

    def act(
        self,
        action: Callable[..., Any],
        arguments: tuple[Any, ...],
        several: Callable[..., Any] | None,
    ) -> Any:
        """Run an action, and note it; its numbers are recognised when they are passed on."""
        if self._depth:
            return action(*arguments)
        owner = getattr(action, "__self__", None)
        if isinstance(owner, host.Stateful) and id(owner) not in self._hosts:
            self._hosts[id(owner)] = (owner, owner.snapshot())
        self._depth += 1
        try:
            noted = Action(action, arguments, action(*arguments), several)
        finally:
            self._depth -= 1
        self.program.actions.append(noted)
        if noted.result is None:
            return None
        return tuple(_live(x, Live(noted, i)) for i, x in enumerate(noted.result))

    def once(self, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Make what stays, without noting how."""
        self._depth += 1
        try:
            return make(*arguments)
        finally:
            self._depth -= 1

    def check(
        self,
        values: Callable[..., None],
        arguments: tuple[Any, ...],
        bounds: tuple[float, float] | None,
    ) -> None:
        """Run a check, and note it with the arrays in place of tensors."""
        self._reading = True
        try:
            values(*arguments)
        finally:
            self._reading = False
        tensors = [isinstance(x, Tensor) for x in arguments]
        backend = self.backend

        def again(*taken: Any) -> None:
            pairs = zip(taken, tensors, strict=True)
            values(*(Tensor.wrap(x, backend) if wrapped else x for x, wrapped in pairs))

        taken = mapped(arguments, lambda x: self.value(x.array) if isinstance(x, Tensor) else x)
        self.program.calls.append(Call("check", (again, *taken), {"bounds": bounds}, (), ()))


def _live(x: Any, source: Live) -> Any:
    made: Any = _LiveInt(x) if isinstance(x, int) else _LiveFloat(x)
    made.source = source
    return made


def _is_array(x: Any) -> bool:
    return hasattr(x, "strides") and hasattr(x, "nbytes") and not isinstance(x, np.generic)


def _root(array: Array) -> Array:
    """The array that owns the memory."""
    while _is_array(getattr(array, "base", None)):
        array = array.base
    return array


def _padded(array: Array, root: Array) -> bool:
    """Whether an array is all of the memory that another owns, but for less than a line's bytes."""
    return (
        array is not root
        and root.dtype == np.uint8
        and 0 <= root.nbytes - array.nbytes <= LINE
        and bool(array.flags.c_contiguous)
    )


def address(array: Array) -> int:
    """Where an array's first element is."""
    interface = getattr(array, "__array_interface__", None)
    if interface is None:
        interface = array.__cuda_array_interface__
    return int(interface["data"][0])


def _by_condition(index: tuple[Any, ...]) -> bool:
    return any(_is_array(part) and part.dtype.kind == "b" for part in index)


def _check_fits(backend: Backend, target: Array, index: tuple[Any, ...], values: Any) -> None:
    """Raise ValueError for values that `put` could not broadcast into the indexed part."""
    shape = getattr(values, "shape", ())
    if not shape or _by_condition(index):
        return
    pick = backend.take if any(map(_is_array, index)) else backend.view
    wanted = pick(target, index).shape
    lead = math.prod(shape[: max(len(shape) - len(wanted), 0)])
    if (
        not wanted
        or lead != 1
        or any(n not in (1, m) for n, m in zip(shape[::-1], wanted[::-1], strict=False))
    ):
        raise ValueError(f"they do not broadcast to its shape {wanted}")
