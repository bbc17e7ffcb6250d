"""Quick: the shortest way through Python to a replay, written out for one recording.

Of a small step this way takes as long as its arithmetic. So it is a function of its own, whose text
has a line for each argument and each parameter, in place of loops over lists of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradnet import host
from gradnet.backends import Replay
from gradnet.graph import mode
from gradnet.program.calls import Action
from gradnet.tensor import Tensor

if TYPE_CHECKING:
    from gradnet.captured.recording import Recording

Quick = Callable[[tuple[Any, ...]], Any]


def never(args: tuple[Any, ...]) -> None:
    """What a function does that has no recording yet."""


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


def quickly(recording: Recording, replay: Replay) -> Quick:
    """A replay of a recording whose arguments are all tensors, and whose result is a new one.

    Takes the arguments; gives None where they are not such as were recorded, or something else has
    changed. `replay` runs on their arrays and the result's.
    """
    text, give_up = Lines(), "return None"
    _look_at_arguments(text, recording, give_up)
    for x, without in recording.watched:
        text.add(f"if {{}}._grad is {'not ' if without else ''}None: {give_up}", x)
    text.add(f"if {{}}[0] != {{}}.version: {give_up}", host.version, recording)
    text.add("try:")
    text.add(f"    same = {recording.watch.within(text.name) or True}")
    text.add("except {}:", LookupError)
    text.add("    same = False")
    text.add(f"if not same and not {{}}(): {give_up}", recording.watch.holds)
    numbers = _act(text, recording.actions, kept=replay.direct is None)
    for counter, more in recording.counted:
        text.add(f"{{}}[0] += {more}", counter)
    (output,) = recording.outputs
    text.add("made = {}({}, {})", recording.backend.empty, output.shape, output.dtype)
    arrays = ", ".join([*(f"a{i}" for i in range(len(recording.expected))), "made"])
    if replay.direct is None:
        text.add(f"{{}}([{arrays}])", replay)
    else:
        text.add(f"if {{}}({', '.join([arrays, *numbers])}):", replay.direct)
        text.add(f"    {{}}([{arrays}])", replay.verify)
        text.add("    raise AssertionError('a check of values failed, and passes now')")
    text.add("return {}(made, {})", Tensor.wrap, recording.backend)
    found: Quick = text.made("def replay(args):", "replay")
    return found


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


def _look_at_arguments(text: Lines, recording: Recording, give_up: str) -> None:
    """Lines that take the arrays a0, a1, ... from `args`, or give up."""
    records, count = recording.recording, len(recording.expected)
    text.add(f"if {{}}.recording is not {records}: {give_up}", mode)
    text.add(f"if {{}}.levels or {{}}.recorder is not None: {give_up}", mode, host.state)
    text.add(f"if len(args) != {count}: {give_up}")
    for i, (shape, dtype, strides) in enumerate(recording.expected):
        text.add(f"x = args[{i}]")
        text.add(
            f"if type(x) is not {{}} or x.backend is not {{}}: {give_up}", Tensor, recording.backend
        )
        text.add(f"a{i} = x.array")
        text.add(
            f"if a{i}.shape != {{}} or a{i}.dtype is not {{}} or a{i}.strides != {{}}: {give_up}",
            shape, dtype, strides,
        )  # fmt: skip
        if records:
            text.add(f"if x.node is not None: {give_up}")
