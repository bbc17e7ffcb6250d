"""What a PTX text says: its kernels, their parameters and variables, and their instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

Operand = str | tuple[str, ...]

SIZES = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2}
SIZES |= {"b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4}
SIZES |= {"b64": 8, "u64": 8, "s64": 8, "f64": 8}


class UnknownError(Exception):
    """PTX that this reader does not know."""


class Variable(NamedTuple):
    """A parameter, or memory that a text declares. A size of 0 is left to the launch."""

    name: str
    type: str
    size: int
    align: int
    initial: bytes = b""


class Instruction(NamedTuple):
    """An instruction; the guard is "" or a predicate, with "!" before it where it is inverted."""

    parts: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: str
    text: str

    @property
    def base(self) -> str:
        return self.parts[0]

    @property
    def type(self) -> str:
        return self.parts[-1]


class Kernel:
    """An entry of a text.

    body       instructions, and labels as strings
    registers  the type of each register, by name
    limits     `maxntid` and others, by name
    """

    def __init__(self, name: str, parameters: list[Variable]) -> None:
        self.name = name
        self.parameters = parameters
        self.registers: dict[str, str] = {}
        self.families: dict[str, tuple[str, int]] = {}
        self.shared: list[Variable] = []
        self.local: list[Variable] = []
        self.body: list[Instruction | str] = []
        self.limits: dict[str, tuple[int, ...]] = {}

    def register(self, name: str) -> str:
        """The type of a register. Raises UnknownError for one that is not declared."""
        found = self.registers.get(name)
        if found is None:
            family = _NUMBERED.fullmatch(name)
            type_, count = self.families.get(family[1], ("", 0)) if family else ("", 0)
            if family is None or int(family[2]) >= count:
                raise UnknownError(f"a register {name} that is not declared")
            found = self.registers[name] = type_
        return found


class Module(NamedTuple):
    """A PTX text: kernels by name, and the variables outside of them."""

    kernels: dict[str, Kernel]
    shared: list[Variable]
    tables: list[Variable]


_NUMBERED = re.compile(r"(%\w*?[a-zA-Z_$])(\d+)")
_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak|common) )*\.(shared|local|global|const|param)"
    r"(?: \.align (\d+))? \.(\w+) ([\w$]+)(?:\[(\d*)\])?(?: = (.*))?"
)
_HEAD = re.compile(r"(?:\.visible )?\.entry ([\w$]+)\s*\((.*)\)((?:\s*\.\w+[\s\d,]*)*)", re.DOTALL)
_IGNORED: tuple[str, ...] = (
    ".version",
    ".target",
    ".address_size",
    ".file",
    ".pragma",
    ".loc",
    ".section",
)
_IGNORED += (".weak .func", ".extern .func")


def statements(text: str) -> Iterator[tuple[str, int]]:
    """Statements without comments, labels ending in ":", "{", "}", and how deep they are nested."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    at, depth, end = 0, 0, len(text)
    label = re.compile(r"\s*([\w$]+):")
    while at < end:
        if text[at].isspace():
            at += 1
            continue
        if text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            yield text[at], depth
            at += 1
            continue
        named = label.match(text, at)
        if named:
            yield named[1] + ":", depth
            at = named.end()
            continue
        if text.startswith(_IGNORED[:3], at):  # lines without a semicolon
            at = text.index("\n", at)
            continue
        stop = text.index(";", at)
        if depth == 0 and ".entry" in text[at : stop if stop >= 0 else end]:
            # A kernel's head ends where its body begins.
            stop = text.index("{", at)
            yield " ".join(text[at:stop].split()), depth
            at = stop
            continue
        yield " ".join(text[at:stop].split()), depth
        at = stop + 1


def variable(text: str) -> tuple[str, Variable]:
    """The space and the variable of a declaration."""
    found = _VARIABLE.fullmatch(text)
    if found is None:
        raise UnknownError(f"a declaration: {text}")
    space, align, type_, name, count, initial = found.groups()
    each = SIZES[type_]
    many = 1 if count is None else int(count or 0)
    return space, Variable(
        name, type_, each * many, int(align or each), _initial(initial, each, many)
    )


def _initial(text: str | None, each: int, many: int) -> bytes:
    if text is None:
        return b""
    numbers = re.findall(r"[^\s,{}]+", text)
    if any(not re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)", number) for number in numbers):
        return b""  # floats of tables that no instruction reads; those that are read are refused
    made = b"".join((int(x, 0) % (1 << 8 * each)).to_bytes(each, "little") for x in numbers)
    return made + bytes(each * many - len(made))


def parsed(text: str) -> Module:
    """The text as kernels and variables. Raises UnknownError for what is not known."""
    module = Module({}, [], [])
    kernel: Kernel | None = None
    scopes: list[dict[str, str]] = []
    made = 0
    for one, depth in statements(text):
        if kernel is None:
            if one.startswith(_IGNORED):
                continue
            if ".entry" in one:
                kernel = _head(one)
                module.kernels[kernel.name] = kernel
            else:
                space, found = variable(one)
                (module.shared if space == "shared" else module.tables).append(found)
        elif one == "{":
            scopes.append({})
        elif one == "}":
            scopes.pop()
            if depth == 0:
                kernel = None
        elif one.startswith(".reg"):
            made += 1
            _declare(kernel, one, scopes, made)
        elif one.startswith((".shared", ".local")):
            space, found = variable(one)
            (kernel.shared if space == "shared" else kernel.local).append(found)
        elif not one.startswith(_IGNORED):
            for names in scopes[1:]:
                for name, renamed in names.items():
                    one = re.sub(re.escape(name) + r"(?!\w)", renamed, one)
            kernel.body.append(one[:-1] if one.endswith(":") else instruction(one))
    return module


def _head(text: str) -> Kernel:
    found = _HEAD.fullmatch(text.strip())
    if found is None:
        raise UnknownError(f"a kernel: {text}")
    name, inside, limits = found.groups()
    parameters = [variable(part.strip())[1] for part in inside.split(",") if part.strip()]
    kernel = Kernel(name, parameters)
    for limit, numbers in re.findall(r"\.(\w+)([\s\d,]*)", limits):
        kernel.limits[limit] = tuple(int(x) for x in re.findall(r"\d+", numbers))
    return kernel


def _declare(kernel: Kernel, text: str, scopes: list[dict[str, str]], made: int) -> None:
    type_, names = text.removeprefix(".reg").strip().removeprefix(".").split(None, 1)
    for name in (part.strip() for part in names.split(",")):
        many = re.fullmatch(r"(%?[\w$]+)<(\d+)>", name)
        if many and len(scopes) == 1:
            kernel.families[many[1]] = type_, int(many[2])
        elif many:
            raise UnknownError(f"registers of an inner scope: {text}")
        elif len(scopes) == 1:
            kernel.registers[name] = type_
        else:
            # Its name may be that of another scope's too.
            scopes[-1][name] = f"{name}_in_{made}"
            kernel.registers[scopes[-1][name]] = type_


def instruction(text: str) -> Instruction:
    """A statement as an instruction."""
    found = re.fullmatch(r"(?:@(!?%\w+)\s+)?([\w.:]+)\s*(.*)", text)
    if found is None:
        raise UnknownError(f"a statement: {text}")
    guard, opcode, rest = found.groups()
    return Instruction(tuple(opcode.split(".")), _operands(rest), guard or "", text)


def _operands(text: str) -> tuple[Operand, ...]:
    found: list[Operand] = []
    for part in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,{\[]*", text):
        part = part.strip()
        if part.startswith("{"):
            found.append(tuple(x.strip() for x in part[1:-1].split(",")))
        elif part:
            found.append(part)
    return tuple(found)
