"""Quick: the shortest way through Python to a replay, written out for one recording.

Of a small step this way takes as long as its arithmetic. So it is a function of its own, whose text
has a line for each argument and each parameter, in place of loops over lists of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradnet import host
from gradnet.backends import Replay
from gradnet.graph import mode
from gradnet.program.calls import Action, Storage, Value
from gradnet.tensor import Tensor

if TYPE_CHECKING:
    from gradnet.captured.recording import Recording

# Takes the arguments, by place and by name.
Quick = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]

# What a quick way gives where it is not for a call: a function's own result may be None.
NOTHING = object()

# Values that are arguments are compared with those recorded; objects of other types are the same.
_PLAIN = (bool, int, str, bytes)


def never(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a function does that has no recording yet."""
    return NOTHING


class Lines:
    """The lines of a function, and the objects that they name."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.lines: list[str] = []
        self._known: dict[int, str] = {}

    def name(self, x: Any) -> str:
        """A name for an object."""
        if id(x) not in self._known:
            self._known[id(x)] = f"v{len(self.names)}"
            self.names[self._known[id(x)]] = x
        return self._known[id(x)]

    def add(self, line: str, *objects: Any) -> None:
        """A line, with names for objects in its braces."""
        self.lines.append(line.format(*map(self.name, objects)))

    def made(self, head: str, function: str) -> Any:
        """The function of that name and head."""
        text = "\n    ".join((head, *self.lines))
        exec(compile(text, f"<{function}>", "exec"), self.names)
        return self.names[function]


def quickly(recording: Recording, replay: Replay, args: Any, kwargs: Any) -> Quick:
    """A replay of a recording, for arguments like those it was made with.

    Gives NOTHING for others, or where something else has changed. `replay` runs on the arrays of
    the arguments' tensors and of the results.
    """
    text, give_up = Lines(), "return nothing"
    text.names["nothing"] = NOTHING
    _look_at_arguments(text, recording, args, kwargs, give_up)
    for x, without in recording.watched:
        text.add(f"if {{}}._grad is {'not ' if without else ''}None: {give_up}", x)
    begin = len(recording.expected) - len(recording.held)
    for i, x in enumerate(recording.held, begin):
        text.add(f"a{i} = {{}}._grad.array", x)
        _look_at_layout(text, f"a{i}", recording.expected[i], give_up)
    text.add(f"if {{}}[0] != {{}}.version: {give_up}", host.version, recording)
    text.add("try:")
    text.add(f"    same = {recording.watch.within(text.name) or True}")
    text.add("except {}:", (LookupError, AttributeError, ValueError))
    text.add("    same = False")
    text.add(f"if not same and not {{}}(): {give_up}", recording.watch.holds)
    numbers = _act(text, recording.actions, kept=replay.direct is None)
    for counter, more in recording.counted:
        text.add(f"{{}}[0] += {more}", counter)
    made = [f"made{i}" for i in range(len(recording.outputs))]
    for name, output in zip(made, recording.outputs, strict=True):
        text.add(f"{name} = {{}}({{}}, {{}})", recording.backend.empty, output.shape, output.dtype)
    for x, _ in recording.grads:
        text.add("{}()", x.keep_grad)
    arrays = [*(f"a{i}" for i in range(len(recording.expected))), *made]
    given = ", ".join(arrays)
    if replay.direct is None:
        text.add(f"{{}}([{given}])", replay)
    else:
        text.add(f"if {{}}({', '.join([*arrays, *numbers])}):", replay.direct)
        text.add(f"    {{}}([{given}])", replay.verify)
        text.add("    raise AssertionError('a check of values failed, and passes now')")
    known = dict(zip(recording.program.places(), arrays, strict=True))
    for x, value in recording.grads:
        if value is ...:
            text.add("{}._grad = {}()", x, x.grad_in_buffer)
        else:
            text.add(f"{{}}._grad = {_made(text, recording, value, known)}", x)
    text.add(f"return {_made(text, recording, recording.result, known)}")
    found: Quick = text.made("def replay(args, kwargs):", "replay")
    return found


def _made(text: Lines, recording: Recording, x: Any, known: Mapping[Storage, str]) -> str:
    """An expression of a result: tensors over arrays that have names, within what holds them."""

    def several(items: Any) -> str:
        return "".join(f"{_made(text, recording, item, known)}, " for item in items)

    if isinstance(x, Value):
        array = known.get(x.storage) or text.name(x.storage.array)
        if x not in recording.outputs:
            parts = (x.offset, x.shape, x.strides, x.dtype)
            given = ", ".join([array, *map(text.name, parts)])
            array = f"{text.name(recording.backend.window)}({given})"
        return f"{text.name(Tensor.wrap)}({array}, {text.name(recording.backend)})"
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return f"{text.name(type(x))}({several(x)})"
    if isinstance(x, tuple):
        return f"({several(x)})"
    if isinstance(x, list):
        return f"[{several(x)}]"
    if isinstance(x, dict):
        pairs = [(text.name(key), _made(text, recording, x[key], known)) for key in x]
        return f"dict(({''.join(f'({key}, {value}), ' for key, value in pairs)}))"
    return text.name(x)


def _act(text: Lines, actions: Sequence[Action], kept: bool) -> list[str]:
    """Lines that run actions; the names of their numbers, which are `kept` in them or not."""
    numbers: list[str] = []
    for action in actions:
        given = ", ".join("{}" for _ in action.arguments)
        if not action.result:
            text.add(f"{{}}({given})", action.function, *action.arguments)
        elif kept:
            text.add(f"{{}}.result = {{}}({given})", action, action.function, *action.arguments)
        else:
            names = [f"n{len(numbers) + i}" for i in range(len(action.result))]
            text.add(f"{', '.join(names)}, = {{}}({given})", action.function, *action.arguments)
            numbers += names
    return numbers


def _look_at_layout(text: Lines, name: str, layout: tuple[Any, ...], give_up: str) -> None:
    """A line that gives up on an array of that name with another shape, dtype or strides."""
    text.add(
        f"if {name}.shape != {{}} or {name}.dtype is not {{}} or {name}.strides != {{}}: {give_up}",
        *layout,
    )


def _look_at_arguments(
    text: Lines, recording: Recording, args: Any, kwargs: Any, give_up: str
) -> None:
    """Lines that take the arrays a0, a1, ... from `args` and `kwargs`, or give up."""
    records = recording.recording
    text.add(f"if {{}}.recording is not {records}: {give_up}", mode)
    text.add(f"if {{}}.levels or {{}}.recorder is not None: {give_up}", mode, host.state)
    found = 0

    def look(x: Any, name: str) -> None:
        nonlocal found
        if isinstance(x, Tensor):
            array, found = f"a{found}", found + 1
            text.add(f"if type({name}) is not {{}}: {give_up}", Tensor)
            text.add(f"if {name}.backend is not {{}}: {give_up}", recording.backend)
            text.add(f"{array} = {name}.array")
            _look_at_layout(text, array, recording.expected[found - 1], give_up)
            if records:
                text.add(f"if {name}.node is not None: {give_up}")
            else:
                text.add(f"if {name}._grad is not None: {give_up}")
        elif isinstance(x, tuple | list | dict):
            text.add(f"if type({name}) is not {{}} or len({name}) != {len(x)}: {give_up}", type(x))
            if isinstance(x, dict):
                # In that order, which the function may go by.
                text.add(f"if tuple({name}) != {{}}: {give_up}", tuple(x))
            keys: Any = x if isinstance(x, dict) else range(len(x))
            for i, key in enumerate(keys):
                text.add(f"{name}_{i} = {name}[{{}}]", key)
                look(x[key], f"{name}_{i}")
        elif isinstance(x, float | complex):
            # By their text: 0.0 equals -0.0, and NaN not itself.
            text.add(f"if {{}}({name}) != {{}}: {give_up}", repr, repr(x))
            text.add(f"if type({name}) is not {{}}: {give_up}", type(x))
        elif type(x) in _PLAIN:
            text.add(f"if type({name}) is not {{}} or {name} != {{}}: {give_up}", type(x), x)
        else:
            text.add(f"if {name} is not {{}}: {give_up}", x)

    look(args, "args")
    if kwargs:
        look(kwargs, "kwargs")
    else:
        text.add(f"if kwargs: {give_up}")
