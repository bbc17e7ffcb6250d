"""Instructions by which blocks that run at the same time tell each other numbers, as Python."""

from __future__ import annotations

from .emit import Emitter, flags, known
from .text import Instruction, UnknownError


def looks(one: Instruction) -> bool:
    """Whether an instruction reads what another block may write meanwhile."""
    return one.base == "ld" and bool({"relaxed", "acquire"} & set(one.parts))


@known("atom")
def _atom(e: Emitter, one: Instruction) -> None:
    target, address, value = one.operands
    how = flags(one, "acq_rel", "gpu", "global", "add")
    if how != {"acq_rel", "gpu", "global", "add"} or one.type != "u64":
        raise UnknownError("which operation")
    e.put(target, f"m.arrive({e.address(address)}, {e.take(value, 'u64')}, i)", "u64")


@known("cp")
def _cp(e: Emitter, one: Instruction) -> None:
    """`cp.async`: a copy that is done where it is waited for, and not before."""
    if one.parts == ("cp", "async", "wait_all"):
        e.lines.append("m.copied(i)")
        return
    if one.parts not in (("cp", "async", x, "shared", "global") for x in ("ca", "cg")):
        raise UnknownError("which copy")
    target, source, size = one.operands
    given = f"{e.address(target)}, {e.address(source)}, {int(str(size))}"
    e.lines.append(f"m.copy({given}, i)")


@known("trap")
def _trap(e: Emitter, one: Instruction) -> None:
    e.lines.append("m.trap(i)")
