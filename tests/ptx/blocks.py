"""A kernel as Python functions, one for each stretch of instructions without a branch.

A function runs a stretch for a group of threads that are at its beginning; registers that only one
stretch uses are never stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from . import choices, exchange, moves, tensor
from .emit import NAMES, SPECIAL, Emitter, local
from .text import Instruction, Kernel, UnknownError

# Who must be together before a stretch with such an instruction begins.
_LEVELS = ("", "warp", "block", "cluster")


class Stretch:
    """Instructions that follow one another.

    level   which threads must come together: those of a "warp", a "block", a "cluster"
    go      (machine, places of threads or None, how many) -> where they go on: the number of a
            stretch; or a condition, and the numbers of two
    """

    def __init__(self, number: int, body: list[Instruction]) -> None:
        self.number = number
        self.body = body
        self.level = max(map(level_of, body), key=_LEVELS.index, default="")
        self.following: tuple[int, ...] = ()
        self.condition = ""
        # With its branch, where it has one.
        self.length = len(body)
        # Whether it reads what other blocks write meanwhile.
        self.looks = any(map(exchange.looks, body))
        self.read: set[str] = set()
        self.written: set[str] = set()
        for one in body:
            read, written = registers(one)
            self.read |= read - self.written
            self.written |= written
        self.go: Callable[..., Any] = lambda machine, places, count: number + 1
        self.doubtful: set[str] = set()


class Compiled(NamedTuple):
    """A kernel to run; registers between stretches have numbers."""

    kernel: Kernel
    stretches: list[Stretch]
    numbers: dict[str, int]
    # The instruction that a line of the functions is of.
    origins: dict[int, str]

    def where(self, error: BaseException) -> str:
        """The instruction that raised an error."""
        trace, found = error.__traceback__, ""
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == _FILE:
                found = self.origins.get(trace.tb_lineno, "")
            trace = trace.tb_next
        return f"at {found!r} of {self.kernel.name[:60]}"


_FILE = "<a kernel>"


def level_of(one: Instruction) -> str:
    """Which threads an instruction brings together."""
    if one.base in ("bar", "barrier"):
        if one.parts[1:3] == ("cluster", "arrive"):
            return ""
        return {"warp": "warp", "cluster": "cluster"}.get(one.parts[1], "block")
    return "warp" if one.base in tensor.TOGETHER else ""


def registers(one: Instruction) -> tuple[set[str], set[str]]:
    """The registers that an instruction reads, and those that it writes."""
    found = [
        set(re.findall(r"%\w+(?:\.\w+)?", " ".join(o) if isinstance(o, tuple) else o))
        for o in one.operands
    ]
    found = [{x for x in group if not SPECIAL.fullmatch(x)} for group in found]
    written: set[str] = set()
    if one.operands and one.base not in ("st", "bra", "bar", "barrier", "cp", "trap"):
        written = found.pop(0)
    read = set().union(*found)
    return read | ({one.guard.lstrip("!")} if one.guard else set()), written


def stretches(kernel: Kernel) -> list[Stretch]:
    """The body of a kernel, cut where it branches and where it is branched to."""
    labels: dict[str, int] = {}
    bodies: list[list[Instruction]] = [[]]
    ends: list[Instruction | None] = [None]
    for one in kernel.body:
        if isinstance(one, str):
            if bodies[-1] or ends[-1] is not None:
                bodies.append([])
                ends.append(None)
            labels[one] = len(bodies) - 1
        elif one.base in ("bra", "ret", "exit"):
            ends[-1] = one
            bodies.append([])
            ends.append(None)
        else:
            bodies[-1].append(one)
    if bodies[-1]:
        raise UnknownError(f"the end of {kernel.name}")
    found = [Stretch(k, body) for k, body in enumerate(bodies[:-1])]
    for one_, end in zip(found, ends, strict=False):
        after = one_.number + 1
        if end is None:
            one_.following = (after,)
            continue
        target = labels[str(end.operands[0])] if end.base == "bra" else len(found)
        one_.following = (target, after) if end.guard else (target,)
        one_.condition = end.guard
        one_.length += 1
        name = end.guard.lstrip("!")
        if name and name not in one_.written:
            one_.read.add(name)
    return found


def _unassigned(found: Sequence[Stretch]) -> Iterator[tuple[Stretch, set[str]]]:
    """What a stretch reads that some way to it does not write: compilers write all, mostly."""
    every = set().union(*(one.read | one.written for one in found))
    missing: list[set[str] | None] = [None] * (len(found) + 1)
    missing[0] = every
    waiting = [0]
    while waiting:
        at = waiting.pop()
        if at == len(found):
            continue
        left = (missing[at] or set()) - found[at].written
        for after in found[at].following:
            before = missing[after]
            if before is None or not left <= before:
                missing[after] = left | (before or set())
                waiting.append(after)
    for one in found:
        yield one, one.read & (missing[one.number] or set())


def compiled(kernel: Kernel) -> Compiled:
    """The functions of a kernel. Raises UnknownError for what is not known."""
    found = stretches(kernel)
    between = sorted(set().union(*(one.read for one in found)))
    numbers = {name: k for k, name in enumerate(between)}
    emitter = Emitter(kernel)
    doubtful: set[str] = set()
    for stretch, names in _unassigned(found):
        stretch.doubtful = names
        doubtful |= names
    texts: list[str] = []
    origins: dict[int, str] = {}
    for stretch in found:
        texts.append(f"def stretch{stretch.number}(m, i, n):")
        for name in sorted(stretch.doubtful):
            origins[len(texts) + 1] = _reader(stretch, name)
            texts.append(f"    m.must_be_written({numbers[name]}, {name!r}, i)")
        texts += _opening(stretch, numbers)
        emitter.stretch = []
        for one in stretch.body:
            emitter.lines = []
            emitter.emit(one)
            emitter.stretch += emitter.lines
            origins |= {len(texts) + k + 1: one.text for k in range(len(emitter.lines))}
            texts += [f"    {line}" for line in emitter.lines]
        texts += _closing(stretch, numbers, doubtful)
    scope: dict[str, Any] = {**NAMES, **tensor.NAMES, **emitter.constants}
    exec(compile("\n".join(texts), _FILE, "exec"), scope)
    for stretch in found:
        stretch.go = scope[f"stretch{stretch.number}"]
    return Compiled(kernel, found, numbers, origins)


def _reader(stretch: Stretch, name: str) -> str:
    """The first instruction of a stretch that reads a register."""
    readers = (one.text for one in stretch.body if name in registers(one)[0])
    return next(readers, f"@{stretch.condition} bra")


def _opening(stretch: Stretch, numbers: dict[str, int]) -> list[str]:
    """What a function reads."""
    text = ["    R = m.registers"]
    read = sorted(stretch.read)
    if read:
        text.append("    if i is None:")
        text += [f"        {local(name)} = R[{numbers[name]}]" for name in read]
        text.append("    else:")
        text += [f"        {local(name)} = R[{numbers[name]}][i]" for name in read]
    return text


def _closing(stretch: Stretch, numbers: dict[str, int], doubtful: set[str]) -> list[str]:
    """What a function leaves, and where its threads go on."""
    text: list[str] = []
    kept = sorted(name for name in stretch.written if name in numbers)
    if kept:
        text.append("    if i is None:")
        text += [f"        R[{numbers[name]}] = {local(name)}" for name in kept]
        text.append("    else:")
        text += [f"        R[{numbers[name]}][i] = {local(name)}" for name in kept]
    text += [f"    m.is_written({numbers[name]}, i)" for name in kept if name in doubtful]
    following = ", ".join(map(str, stretch.following))
    if stretch.condition:
        sign = "~" if stretch.condition[0] == "!" else ""
        following = f"{sign}{local(stretch.condition.lstrip('!'))}, {following}"
    return [*text, f"    return {following}"]


assert choices  # their instructions are known once they are loaded
assert moves
