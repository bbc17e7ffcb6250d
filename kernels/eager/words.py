"""Functions of words: a small part of Python's language, as text of LLVM's.

What such a function computes with are whole numbers of 64 bits, which may be places in memory: of
Python's objects, of arrays, of anything. There are assignments to names, `if`, `while`, `return`,
comparisons, `and`, `or`, `not`, sums, differences and products, bits that two have (`&`), halves
of halves (`>>`); calls of other
such functions; and of `c`:

    c.load(place, offset)            the word there
    c.half(place, offset)            half a word there, as a number
    c.store(place, offset, word)     puts a word there
    c.store_half(place, offset, n)   puts half a word there
    c.single(word)                   of a number in float64, the bits of it in float32
    c.room(count)                    the place of so many words, for as long as the function runs
    c.run(place, a, b)               calls the code there, which gives nothing
    c.PyTuple_New(2)                 any function of Python's C API in `FUNCTIONS`, or of NumPy's
                                     in `NUMPY`

Names in capitals are whole numbers of the function's module, put into the code.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any


class _Calls:
    """What functions of words call; in Python there is nothing."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        raise AttributeError(f"{name} is called by machine code alone")


c = _Calls()

# Functions of Python's C API by what they give: a word, a C int, or nothing.
_WORD = (
    *("PyObject_Vectorcall", "PyObject_GetAttr", "PyType_GenericAlloc", "PyIter_Next"),
    *("PyDict_GetItemWithError", "PyTuple_New", "PyList_New", "PyDict_New"),
    *("PyLong_AsSsize_t", "PyNumber_Float", "PyErr_Occurred"),
    *("PyCFunction_GetFunction", "PyCFunction_GetSelf", "PyObject_GetItem"),
    *("PyLong_FromSsize_t", "PyDict_Size", "PyMem_RawMalloc", "PyEval_SaveThread"),
)
_INT = (
    *("PyContext_Enter", "PyContext_Exit", "PyErr_ExceptionMatches", "PyDict_SetItem"),
    *("PyObject_IsTrue", "PyDict_Next"),
)
_NOTHING = ("Py_IncRef", "Py_DecRef", "PyErr_Clear", "PyMem_RawFree", "PyEval_RestoreThread")
FUNCTIONS = (*_WORD, *_INT, *_NOTHING)
# Functions of NumPy's C API, by where its table has them; they give a word.
NUMPY = {"PyArray_NewFromDescr": 94, "PyArray_SetBaseObject": 282}

_SIGNS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.RShift: "lshr"}
_COMPARISONS = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt", ast.GtE: "sge",
}  # fmt: skip


def text(modules: Iterable[ModuleType], places: dict[str, int]) -> str:
    """LLVM's text of all functions of modules: those in their `ENTRIES` are called from without.

    `places` are numbers that the modules' names stand for. Raises SyntaxError where one of them
    stands for another one.
    """
    called: dict[str, int] = {}
    parts = []
    for module in modules:
        other = [name for name in places if vars(module).get(name)]
        if other:
            raise SyntaxError(f"{module.__name__} has its own {', '.join(other)}")
        source = Path(module.__file__ or "").read_text(encoding="utf-8")
        parts.append(lowered(source, {**vars(module), **places}, called))
    heads = []
    for name, count in called.items():
        kind = "i32" if name in _INT else "void" if name in _NOTHING else "i64"
        heads.append(f"declare {kind} @{name}({', '.join(['i64'] * count)})")
    return "\n".join([*sorted(heads), *parts])


def lowered(source: str, scope: dict[str, Any], called: dict[str, int]) -> str:
    """LLVM's text of the functions of a module's, with its names.

    Functions of Python's that they call are noted in `called`, with how many arguments. Raises
    SyntaxError for what a function of words has not.
    """
    parts = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            linkage = "" if node.name in scope.get("ENTRIES", ()) else "internal "
            parts.append(_Lowered(node, scope, linkage, called).text)
    return "\n".join(parts)


class _Lowered:
    """One function, in the scope of its module."""

    def __init__(
        self,
        definition: ast.FunctionDef,
        scope: dict[str, Any],
        linkage: str,
        called: dict[str, int],
    ) -> None:
        self.scope, self.called = scope, called
        self.head: list[str] = []
        self.lines: list[str] = []
        self.count = 0
        names = [x.arg for x in definition.args.args]
        stored = [
            x.id
            for x in ast.walk(definition)
            if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)
        ]
        self.variables = dict.fromkeys([*names, *stored])
        self.head += [f"%v.{name} = alloca i64" for name in self.variables]
        self.head += [f"store i64 %a.{name}, ptr %v.{name}" for name in names]
        self.block(definition.body)
        given = ", ".join(f"i64 %a.{name}" for name in names)
        body = "\n".join(["entry:", *self.head, "br label %start", "start:", *self.lines])
        self.text = f"define {linkage}i64 @{definition.name}({given}) {{\n{body}\nret i64 0\n}}\n"

    def new(self) -> str:
        self.count += 1
        return str(self.count)

    def emit(self, line: str) -> str:
        """A line that gives a value, which is returned."""
        name = f"%t.{self.new()}"
        self.lines.append(f"{name} = {line}")
        return name

    def place(self, label: str) -> None:
        """Begin a block of instructions, into which what is before it goes on."""
        self.lines += [f"br label %{label}", f"{label}:"]

    def block(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant()):
                pass  # a docstring
            case ast.Expr(value=value):
                self.value(value)
            case ast.Assign(targets=targets, value=value):
                found = self.value(value)
                for target in targets:
                    assert isinstance(target, ast.Name)
                    self.lines.append(f"store i64 {found}, ptr %v.{target.id}")
            case ast.Return(value=ast.expr() as value):
                self.lines.append(f"ret i64 {self.value(value)}")
                self.lines.append(f"l.{self.new()}:")
            case ast.If(test=test, body=body, orelse=orelse):
                yes, no, end = (f"l.{self.new()}" for _ in range(3))
                self.condition(test, yes, no)
                self.lines.append(f"{yes}:")
                self.block(body)
                self.lines += [f"br label %{end}", f"{no}:"]
                self.block(orelse)
                self.place(end)
            case ast.While(test=test, body=body):
                look, go, end = (f"l.{self.new()}" for _ in range(3))
                self.place(look)
                self.condition(test, go, end)
                self.lines.append(f"{go}:")
                self.block(body)
                self.lines += [f"br label %{look}", f"{end}:"]
            case _:
                raise SyntaxError(f"a function of words has no `{ast.unparse(node)}`")

    def condition(self, node: ast.expr, yes: str, no: str) -> None:
        """Go on at one label or the other."""
        match node:
            case ast.BoolOp(op=sign, values=parts):
                for part in parts[:-1]:
                    rest = f"l.{self.new()}"
                    both = isinstance(sign, ast.And)
                    self.condition(part, *((rest, no) if both else (yes, rest)))
                    self.lines.append(f"{rest}:")
                self.condition(parts[-1], yes, no)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.condition(operand, no, yes)
            case _:
                found = self.emit(f"icmp ne i64 {self.value(node)}, 0")
                self.lines.append(f"br i1 {found}, label %{yes}, label %{no}")

    def value(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=int() as number):
                return str(int(number))
            case ast.Name(id=name) if name in self.variables:
                return self.emit(f"load i64, ptr %v.{name}")
            case ast.Name(id=name) if name.isupper():
                return str(int(self.scope[name]))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
                return str(-number)
            case ast.BinOp(left=left, op=sign, right=right):
                a, b = self.value(left), self.value(right)
                return self.emit(f"{_SIGNS[type(sign)]} i64 {a}, {b}")
            case ast.Compare(left=left, ops=[sign], comparators=[right]):
                a, b = self.value(left), self.value(right)
                found = self.emit(f"icmp {_COMPARISONS[type(sign)]} i64 {a}, {b}")
                return self.emit(f"zext i1 {found} to i64")
            case ast.Call(func=ast.Name(id=name), args=args):
                given = ", ".join([f"i64 {self.value(x)}" for x in args])
                return self.emit(f"call i64 @{name}({given})")
            case ast.Call(func=ast.Attribute(attr=name), args=args):
                return self.own(name, args)
        raise SyntaxError(f"a function of words has no `{ast.unparse(node)}`")

    def own(self, name: str, args: list[ast.expr]) -> str:
        """What `c` has."""
        if name == "room":
            (size,) = args
            assert isinstance(size, ast.Constant)
            assert isinstance(size.value, int)
            place = f"%r.{self.new()}"
            self.head.append(f"{place} = alloca [{size.value} x i64]")
            return self.emit(f"ptrtoint ptr {place} to i64")
        given = [self.value(x) for x in args]
        if name == "single":
            narrow = self.emit(f"bitcast i64 {given[0]} to double")
            narrow = self.emit(f"fptrunc double {narrow} to float")
            narrow = self.emit(f"bitcast float {narrow} to i32")
            return self.emit(f"zext i32 {narrow} to i64")
        if name == "run":
            place = self.emit(f"inttoptr i64 {given[0]} to ptr")
            self.lines.append(f"call void {place}({', '.join(f'i64 {x}' for x in given[1:])})")
            return "0"
        if name in ("load", "half", "store", "store_half"):
            place = self.emit(f"add i64 {given[0]}, {given[1]}")
            place = self.emit(f"inttoptr i64 {place} to ptr")
            if name == "store":
                self.lines.append(f"store i64 {given[2]}, ptr {place}")
                return "0"
            if name == "store_half":
                half = self.emit(f"trunc i64 {given[2]} to i32")
                self.lines.append(f"store i32 {half}, ptr {place}")
                return "0"
            if name == "load":
                return self.emit(f"load i64, ptr {place}")
            return self.emit(f"sext i32 {self.emit(f'load i32, ptr {place}')} to i64")
        if name not in FUNCTIONS and name not in NUMPY:
            raise SyntaxError(f"functions of words do not call {name}")
        if self.called.setdefault(name, len(given)) != len(given):
            raise SyntaxError(f"{name} is called with different counts of arguments")
        call = f"@{name}({', '.join(f'i64 {x}' for x in given)})"
        if name in _NOTHING:
            self.lines.append(f"call void {call}")
            return "0"
        if name in _INT:
            return self.emit(f"sext i32 {self.emit(f'call i32 {call}')} to i64")
        return self.emit(f"call i64 {call}")
