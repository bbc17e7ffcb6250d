"""Instructions that move and convert, as Python: registers, memory, types."""

from __future__ import annotations

from .emit import FLOATS, HELD, SPECIAL, TAKEN, Emitter, flags, known
from .text import SIZES, Instruction, UnknownError

_HALVES = {"f16": "float16", "bf16": "bfloat16"}


@known("mov")
def _mov(e: Emitter, one: Instruction) -> None:
    target, source = one.operands
    flags(one)
    if isinstance(source, tuple):
        _joined(e, one, source)
    elif isinstance(target, tuple):
        _parted(e, one, target)
    elif SPECIAL.fullmatch(source):
        e.put(target, f"m.special({source[1:]!r}, i)", "u32")
    elif source.startswith("%"):
        # Not the same array: one of both may be written in place, for some threads.
        e.put(target, f"{e.take(source, one.type)}.copy()", one.type)
    elif source[0].isdigit() or source[0] == "-":
        e.put(target, f"np.full(n, {e.take(source, one.type)})", one.type)
    else:
        e.put(target, f"m.place({source!r}, n)", "u64")


def _joined(e: Emitter, one: Instruction, parts: tuple[str, ...]) -> None:
    """Parts as one number, the lowest first."""
    bits = 8 * SIZES[one.type] // len(parts)
    wide = f"np.uint{8 * SIZES[one.type]}"
    terms = [
        f"({e.take(part, f'b{bits}')}.astype({wide}) << {wide}({bits * k}))"
        for k, part in enumerate(parts)
    ]
    e.put(one.operands[0], " | ".join(terms), f"b{8 * SIZES[one.type]}")


def _parted(e: Emitter, one: Instruction, parts: tuple[str, ...]) -> None:
    bits = 8 * SIZES[one.type] // len(parts)
    wide = f"np.uint{8 * SIZES[one.type]}"
    value = e.take(one.operands[1], f"b{8 * SIZES[one.type]}")
    for k, part in enumerate(parts):
        if part != "_":
            text = f"({value} >> {wide}({bits * k})).astype(np.uint{bits})"
            e.put(part, text, f"b{bits}")


@known("cvta")
def _cvta(e: Emitter, one: Instruction) -> None:
    target, source = one.operands
    (space,) = flags(one, "to", "global", "shared", "local", "const") - {"to"}
    text = e.take(source, "u64") if str(source).startswith("%") else f"m.place({source!r}, n)"
    if space in ("global", "const"):
        e.put(target, f"{text}.copy()", "u64")
    else:
        e.put(target, f"m.{'within' if 'to' in one.parts else 'generic'}({space!r}, {text})", "u64")


def _lanes(one: Instruction) -> tuple[str, int]:
    """The space and the width of an access."""
    how = flags(one, "param", "global", "shared", "local", "const", "v2", "v4", "cluster")
    how -= {"cluster"}
    (width,) = [int(x[1]) for x in how if x[0] == "v"] or [1]
    (space,) = [x for x in how if x[0] != "v"] or [""]
    return space, width


@known("ld")
def _ld(e: Emitter, one: Instruction) -> None:
    target, address = one.operands
    kind = TAKEN[one.type]
    if {"relaxed", "acquire"} & set(one.parts):
        if flags(one, "relaxed", "acquire", "gpu", "global") < {"gpu", "global"}:
            raise UnknownError("whose word")
        e.put(target, f"m.look({e.address(address)}, np.{kind}, i)", one.type)
        return
    space, width = _lanes(one)
    if space == "param":
        if width > 1:
            raise UnknownError("several parameters")
        name, _, more = str(address).strip("[] ").partition("+")
        e.put(target, f"m.parameter({name!r}, {int(more or 0)}, np.{kind}, n)", one.type)
        return
    e.lines.append(f"at = m.load({space!r}, {e.address(address)}, np.{kind}, {width}, i)")
    if isinstance(target, tuple) != (width > 1):
        raise UnknownError("registers and lanes")
    if width == 1:
        e.put(target, "at", one.type)
        return
    for k, register in enumerate(target):
        e.put(register, f"at[:, {k}].copy()", one.type)


@known("st")
def _st(e: Emitter, one: Instruction) -> None:
    address, source = one.operands
    kind = TAKEN[one.type]
    if "relaxed" in one.parts:
        if flags(one, "relaxed", "gpu", "global") != {"relaxed", "gpu", "global"}:
            raise UnknownError("whose word")
        e.lines.append(f"m.tell({e.address(address)}, {e.take(source, one.type)}, np.{kind}, i)")
        return
    space, width = _lanes(one)
    values = source if isinstance(source, tuple) else (source,)
    if len(values) != width:
        raise UnknownError("registers and lanes")
    terms = "".join(f"{e.take(x, one.type)}, " for x in values)
    e.lines.append(f"m.store({space!r}, {e.address(address)}, ({terms}), np.{kind}, i)")


@known("cvt")
def _cvt(e: Emitter, one: Instruction) -> None:
    target, *sources = one.operands
    *how, to, given = one.parts[1:]
    rounding = [x for x in how if x in ("rn", "rz", "rni", "rzi", "rmi", "rpi")]
    rest = set(how) - set(rounding)
    if rest - {"ftz", "sat"} or len(rounding) > 1:
        raise UnknownError(f"{how}")
    mode = rounding[0] if rounding else ""
    values = [e.take(x, given) for x in sources]
    if "ftz" in rest:
        values = [f"A.flushed({x})" for x in values]
    text = _converted(to, given, mode, values)
    if "sat" in rest:
        if to not in FLOATS:
            raise UnknownError("saturated integers")
        text = f"A.saturated({text})"
    if "ftz" in rest and to in FLOATS:
        text = f"A.flushed({text})"
    e.put(target, text, to)


def _converted(to: str, given: str, mode: str, values: list[str]) -> str:
    (first, *more) = values
    half = _HALVES.get(to.removesuffix("x2"))
    if half and given in FLOATS and mode == "rn" and len(values) == 1 + to.endswith("x2"):
        if given == "f64" and half == "bfloat16":
            raise UnknownError("float64 as bfloat16")
        made = [f"A.{half}({x})" for x in values]
        return f"A.pair({', '.join(made)})" if more else made[0]
    if more:
        raise UnknownError("two operands")
    if given in _HALVES and to in FLOATS and not mode:
        wide = f"{first}.view(np.float16)" if given == "f16" else f"A.of_bfloat16({first})"
        return f"{wide}.astype(np.{HELD[to]})"
    if to in FLOATS and given in FLOATS:
        if to == given:
            return f"A.ROUNDED[{mode!r}]({first})" if mode else first
        if (to, mode) in (("f32", "rn"), ("f64", "")):
            return f"{first}.astype(np.{HELD[to]})"
    elif to in FLOATS and mode == "rn" and given[0] in "us":
        return f"{first}.astype(np.{HELD[to]})"
    elif given in FLOATS and to[0] in "us" and mode in ("rni", "rzi", "rmi", "rpi"):
        return f"A.to_integer({first}, np.{TAKEN[to]}, {mode!r})"
    elif not mode and given[0] in "us" and to[0] in "us":
        return f"{first}.astype(np.{TAKEN[to]})"
    raise UnknownError(f"{to} from {given}, {mode}")


@known("mapa")
def _mapa(e: Emitter, one: Instruction) -> None:
    target, address, rank = one.operands
    flags(one)
    e.put(target, f"m.of_rank({e.take(address, 'u64')}, {e.take(rank, 'u32')})", "u64")


@known("bar", "barrier")
def _bar(e: Emitter, one: Instruction) -> None:
    """The machine waits for whom it must before it runs what begins with one."""
    name = ".".join(x for x in one.parts if x not in ("aligned", "sync"))
    text = " ".join((name, *map(str, one.operands)))
    if text in ("bar 0", "barrier 0"):
        e.lines.append("m.meet('block', i)")
    elif text == "bar.warp -1":
        e.lines.append("m.meet('warp', i)")
    elif text == "barrier.cluster.wait":
        e.lines.append("m.meet('cluster', i)")
    elif text != "barrier.cluster.arrive":
        raise UnknownError("which threads meet")


@known("membar", "fence")
def _fence(e: Emitter, one: Instruction) -> None:
    """Accesses are seen in order here."""
