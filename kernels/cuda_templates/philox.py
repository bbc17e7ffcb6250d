"""Philox4x32-10 words, and numbers of them: gradnet/philox.py for the device, the same bits.

Words are integer arithmetic. Normal numbers are computed in float64 whatever their dtype, without
contracting a * b + c, so that CPU and GPU draw the same ones.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradnet import binding, philox

from .elementwise import scalar_code
from .program import Program, definitions, indented, loaded, stored

_ROUND = """    a = U(x0) * U({m0})
    b = U(x2) * U({m1})
    x0 = W(b >> U(32)) ^ x1 ^ W(k0 + U({w0}))
    x1 = W(b)
    x2 = W(a >> U(32)) ^ x3 ^ W(k1 + U({w1}))
    x3 = W(a)
"""


class _Exact(ast.NodeTransformer):
    """Sums and products as calls that no compiler contracts."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Mult):
            return _call("exact_multiply", left, right)
        if isinstance(node.op, ast.Add):
            return _call("exact_add", left, right)
        if isinstance(node.op, ast.Sub):
            return _call("exact_add", left, ast.UnaryOp(op=ast.USub(), operand=right))
        return ast.BinOp(left=left, op=node.op, right=right)


def _call(name: str, *operands: ast.expr) -> ast.expr:
    return ast.Call(func=ast.Name(id=name), args=list(operands), keywords=[])


def _quantile() -> tuple[str, str]:
    """The text of the normal distribution's quantile, and its name."""
    source = binding.source(philox.normal_quantile, "D")
    tree = ast.fix_missing_locations(_Exact().visit(ast.parse(source.text)))
    parts = [ast.unparse(node) for node in tree.body]
    return "".join(f"@device\n{part}\n\n\n" for part in parts), source.name


class Drawn(NamedTuple):
    """What becomes of uniform numbers: `first(number, numbers)`, and `second` of that.

    first    a formula of the drawn number and of numbers, and the code of its results
    second   a formula, its operands, and the code of its results: "v" is what the first gives, "s"
             a number, and the others are codes of arrays; None where there is none
    """

    first: tuple[binding.Source, str]
    second: tuple[binding.Source, tuple[str, ...], str] | None

    def lines(self, value: str, bits: int) -> tuple[list[str], dict[str, str]]:
        """Lines that store what is made of a number, and the parameters, with their codes."""
        formula, code = self.first
        taken = {"y": f"{code}*"}
        numbers = [f"s{k}" for k in range(len(formula.arguments) - 1)]
        lines = [f"v = {formula.name}({', '.join([value, *numbers])})"]
        lines += [f"y[at] = {stored(code, 'v')}"]
        after = dict.fromkeys(numbers, scalar_code(bits))
        if self.second:
            formula, operands, result = self.second
            # As it is read where it is stored.
            lines.append("v = T(v)" if code == "u1" else f"v = {loaded(code, stored(code, 'v'))}")
            given = []
            for k, operand in enumerate(operands):
                if operand == "v":
                    given.append("v")
                elif operand == "s":
                    given.append(f"r{k}")
                    after[f"r{k}"] = scalar_code(bits)
                else:
                    given.append(loaded(operand, f"given{k}[at]"))
                    taken[f"given{k}"] = f"{operand}*"
            taken["z"] = f"{result}*"
            value = f"{formula.name}({', '.join(given)})"
            lines.append(f"z[at] = {stored(result, value)}")
        return lines, taken | {"n": "i8"} | after

    @property
    def text(self) -> str:
        """The definitions that the lines call."""
        return definitions(self.first[0], *(self.second[:1] if self.second else ()))


def random(
    kind: str, bits: int, used: int, target: str, held: bool = False, made: Drawn | None = None
) -> Program:
    """Numbers of a kind, made of `bits` bits each, `used` of them in a uniform number.

    Parameters: y, n, key, low, high: element 0 comes from the block of counter low + 2**64 high.
    With `held` these three are in one array in the device's memory instead, which differs from
    replay to replay of a captured step.

    With `made` what is stored is made of the uniform numbers; parameters: y, arrays, z, n, numbers
    of the formulas, held.
    """
    each = 4 if bits == 32 else 2
    lines = ["step = cuda.gridsize(1)", "i = cuda.grid(1)"]
    lines += ["key = held[0]", "base = held[1]", "up = held[2]"] if held else []
    lines += [] if held else ["base = low", "up = high"]
    lines += [
        f"while i * {each} < n:",
        "    first = U(base + U(i))",
        "    second = U(up + (U(1) if first < base else U(0)))",
        "    x0 = W(first)",
        "    x1 = W(first >> U(32))",
        "    x2 = W(second)",
        "    x3 = W(second >> U(32))",
        "    k0 = U(W(key))",
        "    k1 = U(W(key >> U(32)))",
    ]
    for number in range(philox.ROUNDS):
        m0, m1 = philox.MULTIPLIERS
        w0, w1 = (number * weyl & 0xFFFFFFFF for weyl in philox.WEYL)
        lines += _ROUND.format(m0=m0, m1=m1, w0=w0, w1=w1).splitlines()
    # In a loop, so that what makes a number of a word is compiled once.
    words = "x0 if k == 0 else (x1 if k == 1 else (x2 if k == 2 else x3))"
    if bits == 64:
        words = "U(x0 if k == 0 else x2) | (U(x1 if k == 0 else x3) << U(32))"
    lines += ["    k = 0", f"    while k < {each}:", f"        at = i * {each} + k"]
    lines += ["        if at < n:", f"            w = {words}"]
    store, taken = _number(kind, bits, used, target), {"y": f"{target}*", "n": "i8"}
    if made:
        store, taken = made.lines(_uniform(bits, used), bits)
    lines += [f"            {line}" for line in store]
    lines += ["        k = k + 1", "    i = i + step"]
    text, name = _quantile() if kind == "normal" else ("", "")
    text += made.text if made else ""
    taken |= {"held": "u8*"} if held else dict.fromkeys(("key", "low", "high"), "u8")
    text += f"def kernel({', '.join(taken)}):\n"
    body = indented(lines, 1).replace("quantile(", f"{name}(")
    return Program("drawn" if made else "random", text + body, tuple(taken.values()), bits)


def _uniform(bits: int, used: int) -> str:
    """A uniform number made of the word w, which its dtype holds as it is."""
    wide = "W" if bits == 32 else "U"
    return f"T({wide}(w >> {wide}({bits - used}))) * T(2.0 ** -{used})"


def _number(kind: str, bits: int, used: int, target: str) -> list[str]:
    """The lines that store one number made of the word w."""
    if kind == "bits":
        return ["y[at] = w"]
    wide = "W" if bits == 32 else "U"
    if kind == "uniform":
        return [f"y[at] = {stored(target, _uniform(bits, used))}"]
    return [
        f"upper = w >= {wide}({1 << bits - 1})",
        f"lower = {wide}(w ^ {wide}({(1 << bits) - 1})) if upper else w",
        f"p = exact_multiply(exact_add(D(lower), D(0.5)), D(2.0 ** -{bits}))",
        "q = quantile(p)",
        f"y[at] = {stored(target, 'T(q if upper else -q)')}",
    ]
