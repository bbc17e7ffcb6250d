"""A team of threads that run one step together, and wait for the next without the interpreter.

Between steps that follow at once a member spins, for waking a thread takes longer than a small
step; after some milliseconds without work it sleeps until it is needed. What a member has not begun
when the caller is done, the caller does itself: on a busy machine nobody waits for one to wake.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Sequence
from functools import cache

import numpy as np

from .. import threads
from . import machine, waits

# Turns of a waiting loop, of some 50 nanoseconds each.
_PATIENCE = 100_000
# Each member's box: its state, and 64 bytes on the function and the slots of its next step.
_BOX = 128
# What is odd is work: given, or begun.
_READY, _ASSIGNED, _ASLEEP, _BEGUN = 0, 1, 2, 3


def _text() -> str:
    arrived = f"""%state = load atomic i64, ptr %box acquire, align 8
%assigned = icmp eq i64 %state, {_ASSIGNED}
%late = icmp sge i64 %turn, %patience
%done = or i1 %assigned, %late"""
    free = """%old = load atomic i64, ptr %box acquire, align 8
%odd = and i64 %old, 1
%done = icmp eq i64 %odd, 0"""
    work = f"""%place = getelementptr i8, ptr %box, i64 64
%function = load ptr, ptr %place
%second = getelementptr i8, ptr %box, i64 72
%slots = load ptr, ptr %second
call void %function(ptr %slots)
store atomic i64 {_READY}, ptr %box release, align 8"""
    return f"""
define void @serve(ptr %box, i64 %patience) {{
br label %wait
wait:
{waits.waiting(arrived, "out")}
out:
br i1 %assigned, label %begin, label %leave
begin:
%taken = cmpxchg ptr %box, i64 {_ASSIGNED}, i64 {_BEGUN} acq_rel monotonic
%begun = extractvalue {{ i64, i1 }} %taken, 1
br i1 %begun, label %work, label %wait
work:
{work}
br label %wait
leave:
%exchanged = cmpxchg ptr %box, i64 {_READY}, i64 {_ASLEEP} acq_rel monotonic
%slept = extractvalue {{ i64, i1 }} %exchanged, 1
br i1 %slept, label %end, label %begin
end:
ret void
}}

define i64 @give(ptr %box, i64 %function, i64 %slots) noinline {{
br label %wait
wait:
{waits.waiting(free, "out")}
out:
%place = getelementptr i8, ptr %box, i64 64
store i64 %function, ptr %place
%second = getelementptr i8, ptr %box, i64 72
store i64 %slots, ptr %second
%before = atomicrmw xchg ptr %box, i64 {_ASSIGNED} acq_rel
%asleep = icmp eq i64 %before, {_ASLEEP}
%answer = zext i1 %asleep to i64
ret i64 %answer
}}

define void @leave(ptr %box) noinline {{
%taken = cmpxchg ptr %box, i64 {_ASSIGNED}, i64 {_BEGUN} acq_rel monotonic
%mine = extractvalue {{ i64, i1 }} %taken, 1
br i1 %mine, label %work, label %wait
work:
{work}
ret void
wait:
{waits.waiting(free, "out")}
out:
ret void
}}

define void @finish(ptr %boxes, i64 %members, ptr %functions, i64 %slots) noinline {{
entry:
%mine = load ptr, ptr %functions
%given = inttoptr i64 %slots to ptr
call void %mine(ptr %given)
br label %each
each:
%i = phi i64 [ 0, %entry ], [ %following, %next ]
%more = icmp slt i64 %i, %members
br i1 %more, label %next, label %end
next:
%following = add i64 %i, 1
%bytes = mul i64 %i, {_BOX}
%box = getelementptr i8, ptr %boxes, i64 %bytes
call void @leave(ptr %box)
br label %each
end:
ret void
}}

define i64 @go(ptr %boxes, i64 %members, ptr %functions, i64 %slots) {{
entry:
br label %each
each:
%i = phi i64 [ 0, %entry ], [ %following, %next ]
%asleep = phi i64 [ 0, %entry ], [ %mask, %next ]
%more = icmp slt i64 %i, %members
br i1 %more, label %next, label %own
next:
%following = add i64 %i, 1
%bytes = mul i64 %i, {_BOX}
%box = getelementptr i8, ptr %boxes, i64 %bytes
%at = getelementptr i64, ptr %functions, i64 %following
%function = load i64, ptr %at
%bit = call i64 @give(ptr %box, i64 %function, i64 %slots)
%shifted = shl i64 %bit, %i
%mask = or i64 %asleep, %shifted
br label %each
own:
%ready = icmp eq i64 %asleep, 0
br i1 %ready, label %run, label %end
run:
call void @finish(ptr %boxes, i64 %members, ptr %functions, i64 %slots)
br label %end
end:
ret i64 %asleep
}}
"""


class Team:
    """The calling thread and the members that it is joined by.

    replayed   whether a replay has run on it
    go, boxes  where the code is that gives a step to all, and what it takes first
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._code = machine.Code(_text(), keep=True)
        self._memory = np.zeros((size + 2) * _BOX // 8 + 16, np.int64)
        start = -(-self._memory.ctypes.data // _BOX) * _BOX
        # Two lines for the barrier, then the boxes.
        self.control, self.boxes = start, start + 2 * _BOX
        self._states = [(2 + i) * _BOX // 8 for i in range(size - 1)]
        words = ctypes.c_int64 * ((size + 2) * _BOX // 8)
        self._words = words.from_address(start)
        self.go = self._code.address("go")
        self._go = ctypes.CFUNCTYPE(
            ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
        )(self.go)
        self._finish = ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
        )(self._code.address("finish"))
        self._serve = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(
            self._code.address("serve")
        )
        self._reset()
        atexit.register(self._rest)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Be without members: in a forked process the threads are gone."""
        self.replayed = False
        self.lock = threading.Lock()
        self._events: list[threading.Event] = []
        for i in range(len(self._words)):
            self._words[i] = 0
        for state in self._states:
            self._words[state] = _ASLEEP

    def _start(self) -> None:
        self._events = [threading.Event() for _ in range(self.size - 1)]
        for i in range(self.size - 1):
            name = f"gradnet-step-{i + 1}"
            threading.Thread(target=self._member, args=(i,), name=name, daemon=True).start()

    def _rest(self) -> None:
        """Wait until no member is in the machine code, which the process is about to leave."""
        while any(self._words[state] != _ASLEEP for state in self._states):
            time.sleep(0.001)

    def _member(self, i: int) -> None:
        event, box = self._events[i], self.boxes + i * _BOX
        while True:
            event.wait()
            event.clear()
            self._serve(box, _PATIENCE)

    @property
    def awake(self) -> bool:
        """Whether all members wait for work without sleeping."""
        # Each large call asks: a generator would take longer than all else here.
        for state in self._states:  # noqa: SIM110
            if self._words[state] == _ASLEEP:
                return False
        return True

    def run(self, functions: int, slots: int) -> None:
        """Run a step and wait for all: `functions` is the address of one address per thread."""
        with self.lock:
            self.step(functions, slots)

    def step(self, functions: int, slots: int) -> None:
        """`run` for a caller that holds the lock, over several steps."""
        self.ready()
        asleep = self._go(self.boxes, self.size - 1, functions, slots)
        if asleep:
            self.wake(asleep, functions, slots)

    def ready(self) -> None:
        """Have members. Only with the lock held, as what follows."""
        if not self._events:
            self._start()

    def wake(self, asleep: int, functions: int, slots: int) -> None:
        """Run a step that `go` has given to all, of whom some sleep, as its answer says."""
        for i, event in enumerate(self._events):
            if asleep >> i & 1:
                event.set()
        self._finish(self.boxes, self.size - 1, functions, slots)


@cache
def current() -> Team | None:
    """The team of this process, or None where it has one processor."""
    size = threads.processors()
    return Team(size) if size > 1 else None


def ranges(total: int, parts: int, step: int = 1) -> Sequence[tuple[int, int]]:
    """0 ... total in so many ranges, the first ones multiples of `step`; the last may be empty."""
    each = -(-total // (parts * step)) * step
    return [(min(i * each, total), min((i + 1) * each, total)) for i in range(parts)]
