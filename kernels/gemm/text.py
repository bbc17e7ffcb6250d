"""LLVM's language, written line by line: values, loops and branches of one function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

Typed = tuple[str, str]


class Writer:
    """The lines of a function's body, and the block that the next line is in."""

    def __init__(self) -> None:
        self.lines: list[str] = ["entry:"]
        self.block = "entry"
        self.count = 0

    def name(self) -> str:
        """A new name, for a value or a block."""
        self.count += 1
        return f"v{self.count}"

    def new(self, code: str) -> str:
        """The value of an instruction."""
        name = f"%{self.name()}"
        self.lines.append(f"{name} = {code}")
        return name

    def do(self, code: str) -> None:
        """An instruction without a value."""
        self.lines.append(code)

    def begin(self, block: str) -> None:
        """Start a block."""
        self.lines.append(f"{block}:")
        self.block = block

    def binary(self, op: str, a: object, b: object) -> str:
        """`op i64 a, b`."""
        return self.new(f"{op} i64 {a}, {b}")

    def less(self, a: object, b: object) -> str:
        """The smaller of two whole numbers."""
        return self.new(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def more(self, a: object, b: object) -> str:
        """The larger of two whole numbers."""
        return self.new(f"call i64 @llvm.smax.i64(i64 {a}, i64 {b})")

    def ahead(self, place: str, nbytes: object) -> str:
        """A place so many bytes on."""
        return self.new(f"getelementptr i8, ptr {place}, i64 {nbytes}")

    def bit(self, number: str, which: int) -> str:
        """Whether a bit of a number is set."""
        return self.new(f"icmp ne i64 {self.binary('and', number, 1 << which)}, 0")

    def choice(self, condition: str, kind: str, yes: object, no: object) -> str:
        """One of two values of a type."""
        return self.new(f"select i1 {condition}, {kind} {yes}, {kind} {no}")

    @contextmanager
    def loop(self, start: object, stop: object, step: object = 1) -> Iterator[str]:
        """The body for i = start, start + step, ... below stop."""
        before, head, body, end = self.block, self.name(), self.name(), self.name()
        i, following, latch = f"%{self.name()}", f"%{self.name()}", self.name()
        self.do(f"br label %{head}")
        self.begin(head)
        self.do(f"{i} = phi i64 [ {start}, %{before} ], [ {following}, %{latch} ]")
        self.do(f"br i1 {self.new(f'icmp slt i64 {i}, {stop}')}, label %{body}, label %{end}")
        self.begin(body)
        yield i
        self.do(f"br label %{latch}")
        self.begin(latch)
        self.do(f"{following} = add i64 {i}, {step}")
        self.do(f"br label %{head}")
        self.begin(end)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """The body where a condition holds."""
        body, end = self.name(), self.name()
        self.do(f"br i1 {condition}, label %{body}, label %{end}")
        self.begin(body)
        yield
        self.do(f"br label %{end}")
        self.begin(end)

    def carrying(self, stop: str, values: Sequence[Typed], start: object = 0) -> Carrying:
        """A loop that hands values on from turn to turn."""
        return Carrying(self, start, stop, values)


class Carrying:
    """A loop over i from start, as long as it is below stop, that hands typed values on.

    `now` are their names within the loop and after it; `close` ends the body with what is added to
    i and with their next ones.
    """

    def __init__(self, text: Writer, start: object, stop: str, values: Sequence[Typed]) -> None:
        self.text, self.values = text, values
        before, head, body, self.end = text.block, text.name(), text.name(), text.name()
        i = f"%{text.name()}"
        self.now = [f"%{text.name()}" for _ in values]
        text.do(f"br label %{head}")
        text.begin(head)
        self.at = len(text.lines)
        starts = [("i64", str(start)), *values]
        text.lines += [
            f"{name} = phi {kind} [ {value}, %{before} ], "
            for name, (kind, value) in zip([i, *self.now], starts, strict=True)
        ]
        goes_on = text.new(f"icmp slt i64 {i}, {stop}")
        text.do(f"br i1 {goes_on}, label %{body}, label %{self.end}")
        text.begin(body)
        self.head, self.i = head, i

    def close(self, step: object, following: Sequence[str]) -> None:
        """End the body."""
        text = self.text
        next_i = text.binary("add", self.i, step)
        for at, value in enumerate([next_i, *following], self.at):
            text.lines[at] += f"[ {value}, %{text.block} ]"
        text.do(f"br label %{self.head}")
        text.begin(self.end)
