"""How threads wait for one another in machine code: spinning, and giving way now and then."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm


def _pause() -> str:
    """An instruction that tells the processor of a waiting loop."""
    machine = llvm.get_process_triple().partition("-")[0]
    if machine in ("x86_64", "i686", "amd64"):
        return 'call void asm sideeffect "pause", ""()'
    if machine in ("aarch64", "arm64"):
        return 'call void asm sideeffect "yield", ""()'
    return ""


@cache
def yields() -> bool:
    """Whether a waiting thread can let another program run."""
    return llvm.address_of_symbol("sched_yield") is not None


def waiting(condition: str, done: str) -> str:
    """A loop that runs the lines of `condition`, which set %done, until it holds."""
    give_way = "%ignored = call i32 @sched_yield()" if yields() else ""
    return f"""
br label %look
look:
%turn = phi i64 [ 0, %wait ], [ %next, %again ], [ %next, %rest ]
{condition}
br i1 %done, label %{done}, label %more
more:
{_pause()}
%next = add i64 %turn, 1
%low = and i64 %next, 1023
%tired = icmp eq i64 %low, 0
br i1 %tired, label %rest, label %again
rest:
{give_way}
br label %look
again:
br label %look
"""


def barrier() -> str:
    condition = """%now = load atomic i64, ptr %place acquire, align 8
%done = icmp ne i64 %now, %generation"""
    return f"""
define internal void @barrier(ptr %control, i64 %threads) noinline {{
%place = getelementptr i8, ptr %control, i64 64
%generation = load atomic i64, ptr %place acquire, align 8
%before = atomicrmw add ptr %control, i64 1 acq_rel
%arrived = add i64 %before, 1
%last = icmp eq i64 %arrived, %threads
br i1 %last, label %open, label %wait
open:
store atomic i64 0, ptr %control monotonic, align 8
%after = add i64 %generation, 1
store atomic i64 %after, ptr %place release, align 8
ret void
wait:
{waiting(condition, "out")}
out:
ret void
}}
"""
