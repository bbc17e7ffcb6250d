"""A whole product in machine code: blocks, panels and tiles, and stacks of matrices.

    product(n, m, k, a, ra, ca, b, rb, cb, c, rc, kc, mc, nc, mode, scratch)
    stack(count, za, zb, zc, n, m, k, ...)
    places(a, b, c, words, scratch)    objects(a, b, c, words, scratch)

`C = A @ B`, (n, k) @ (k, m) -> (n, m); C's rows are contiguous. Strides are in bytes: `ra` from row
to row, `ca` from column to column, one of which is an element's size, and `za` from matrix to
matrix. Blocks have kc of k, mc rows and nc columns. For each block of k, all of C's blocks are
computed or added to in turn, so that a value's sum depends on k and kc alone. `places` takes the
other arguments of `stack` as words side by side, and `objects` NumPy's arrays instead of places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from . import packing, tile
from .text import Writer
from .tile import Shape

# Bits of `mode`: what is packed, and what is stored by columns.
PACK_A, PACK_B, COLUMNS_A, COLUMNS_B = range(4)
ARGUMENTS = ("n", "m", "k", "a", "ra", "ca", "b", "rb", "cb", "c", "rc", "kc", "mc", "nc",
             "mode", "scratch")  # fmt: skip
STACK = ("count", "za", "zb", "zc", *ARGUMENTS)
# Of a block of C, w columns wide, and of one panel of its columns. Where A is packed, tile t is at
# `pa + t * za`, and panels of B are `zb` apart; `new` says which of them are yet to be packed.
_COLUMNS = ("n", "w", "k", "a", "ra", "ca", "pa", "za", "sa", "b", "rb", "cb", "pb", "zb", "sb",
            "c", "rc", "more", "first", "mode", "new")  # fmt: skip
_PANEL = ("n", "k", "a", "ra", "ca", "pa", "za", "sa", "b", "sb", "c", "rc", "lanes", "more",
          "first", "mode", "new")  # fmt: skip
POINTERS = {"a", "b", "c", "d", "pa", "pb", "place", "panel", "buffer", "scratch", "words",
            "packed", "counter"}  # fmt: skip


def heights(shape: Shape) -> tuple[int, ...]:
    """The rows of the tiles there are: one, or an even number."""
    return (1, *range(2, shape.rows + 1, 2))


def widths(shape: Shape) -> tuple[tuple[int, bool], ...]:
    """The vectors of the tiles there are, and whether the last is masked.

    Where masks cost nothing, whole tiles have one too.
    """
    return ((1, True), (2, True)) if shape.masks_freely else ((1, True), (2, True), (2, False))


def text(shape: Shape) -> str:
    """The module of an element type."""
    tiles, names = "", []
    for by_rows in (False, True):
        for vectors, masked in widths(shape):
            for rows in heights(shape):
                tiles += tile.function(shape, rows, vectors, masked, by_rows)
                names.append(f"ptr @{tile.name(rows, vectors, masked, by_rows)}")
    table = f"@tiles = internal constant [{len(names)} x ptr] [{', '.join(names)}]\n"
    parts = (_panel, _columns, _product, stack, words)
    rest = "".join(part(shape) for part in parts)
    return tile.declarations(shape) + tiles + table + packing.functions(shape) + rest


def typed(names: Sequence[str]) -> list[tuple[str, str]]:
    """Parameters with their types."""
    return [("ptr" if name in POINTERS else "i64", name) for name in names]


def function(name: str, parameters: Sequence[str], text: Writer, internal: bool = True) -> str:
    """A function without a result, of a body."""
    body = "\n".join(text.lines)
    kind = "define internal void" if internal else "define void"
    head = ", ".join(f"{type_} %{x}" for type_, x in typed(parameters))
    return f"{kind} @{name}({head}) {{\n{body}\nret void\n}}\n"


def call(text: Writer, name: str, parameters: Sequence[str], **given: object) -> None:
    """Call a function; parameters that are not given have the caller's values."""
    arguments = ", ".join(f"{kind} {given.get(x, f'%{x}')}" for kind, x in typed(parameters))
    text.do(f"call void @{name}({arguments})")


@contextmanager
def _over_tiles(text: Writer, shape: Shape) -> Iterator[tuple[str, str, str]]:
    """For each tile of n rows: its first row, its number and its rows.

    Pairs of rows are dealt out evenly; an odd row at the end is a tile by itself.
    """
    pairs, most = text.binary("ashr", "%n", 1), shape.rows // 2
    count = text.binary("sdiv", text.binary("add", pairs, most - 1), most)
    some = text.more(count, 1)
    least, extra = text.binary("sdiv", pairs, some), text.binary("srem", pairs, some)
    whole = text.binary("add", count, text.binary("and", "%n", 1))
    with text.loop(0, whole) as t:
        # The first `extra` tiles have a pair more than the others.
        longer = text.new(f"zext i1 {text.new(f'icmp slt i64 {t}, {extra}')} to i64")
        rows = text.binary("shl", text.binary("add", least, longer), 1)
        before = text.binary("add", text.binary("mul", t, least), text.less(t, extra))
        odd = text.new(f"icmp eq i64 {t}, {count}")
        yield text.binary("shl", before, 1), t, text.choice(odd, "i64", 1, rows)


def _panel(shape: Shape) -> str:
    """The tiles of a panel of columns, one below the other."""
    text = Writer()
    flag = text.new("icmp ne i64 %more, 0")
    packed, new = text.bit("%mode", PACK_A), text.bit("%new", PACK_A)
    columns = text.bit("%mode", COLUMNS_A)
    with _over_tiles(text, shape) as (i, t, rows):
        source = text.ahead("%a", text.binary("mul", i, "%ra"))
        panel = text.ahead("%pa", text.binary("mul", t, "%za"))
        with text.when(new):
            pitch = shape.pitch * shape.size
            _pack(text, columns, source, ("%ca", "%ra"), rows, panel, pitch)
        a = text.choice(packed, "ptr", panel, source)
        c = text.ahead("%c", text.binary("mul", i, "%rc"))
        number = text.binary("add", "%first", text.binary("ashr", rows, 1))
        entry = text.new(f"load ptr, ptr {text.ahead('@tiles', text.binary('shl', number, 3))}")
        text.do(
            f"call void {entry}(i64 %k, ptr {a}, i64 %sa, ptr %b, i64 %sb, ptr {c}, i64 %rc, "
            f"i64 %lanes, i1 {flag})"
        )
    return function("panel", _PANEL, text)


def _columns(shape: Shape) -> str:
    """The panels of a block of C, side by side.

    What is packed is used at once, while it is in the cache: a panel of B by the first tiles below
    it, and one of A by the first panel of columns.
    """
    text, width = Writer(), shape.width
    packed, new = text.bit("%mode", PACK_B), text.bit("%new", PACK_B)
    by_rows = text.new(f"xor i1 {text.bit('%mode', COLUMNS_B)}, true")
    with text.loop(0, "%w", shape.columns) as j:
        left = text.less(text.binary("sub", "%w", j), shape.columns)
        both = text.new(f"icmp sgt i64 {left}, {width}")
        lanes = text.choice(both, "i64", text.binary("sub", left, width), left)
        kind = text.choice(both, "i64", len(heights(shape)), 0)
        if not shape.masks_freely:
            whole = text.new(f"icmp eq i64 {left}, {shape.columns}")
            kind = text.choice(whole, "i64", 2 * len(heights(shape)), kind)
        source = text.ahead("%b", text.binary("mul", j, "%cb"))
        number = text.binary("sdiv", j, shape.columns)
        panel = text.ahead("%pb", text.binary("mul", number, "%zb"))
        with text.when(new):
            pitch = shape.columns * shape.size
            _pack(text, by_rows, source, ("%rb", "%cb"), left, panel, pitch)
        call(
            text,
            "panel",
            _PANEL,
            b=text.choice(packed, "ptr", panel, source),
            c=text.ahead("%c", text.binary("mul", j, shape.size)),
            lanes=lanes,
            first=text.binary("add", "%first", kind),
            new=text.choice(text.new(f"icmp eq i64 {j}, 0"), "i64", "%new", 0),
        )
    return function("columns", _COLUMNS, text)


def _pack(
    text: Writer,
    beside: str,
    source: str,
    strides: tuple[str, str],
    lines: str,
    target: str,
    pitch: int,
) -> None:
    """Pack lines that lie side by side, with a stride along k, or one after the other."""
    rest = f"i64 {lines}, i64 %k, ptr {target}, i64 {pitch}"
    apart = text.new(f"xor i1 {beside}, true")
    for condition, name, stride in ((beside, "copied", 0), (apart, "transposed", 1)):
        with text.when(condition):
            text.do(f"call void @{name}(ptr {source}, i64 {strides[stride]}, {rest})")


def _padded(text: Writer, number: str, step: int) -> str:
    """A number rounded up to a multiple of a power of two."""
    return text.binary("and", text.binary("add", number, step - 1), -step)


def place(text: Writer, start: str, *steps: tuple[str, str]) -> str:
    """A place so many strides on."""
    for count, stride in steps:
        start = text.ahead(start, text.binary("mul", count, stride))
    return start


def _product(shape: Shape) -> str:
    text, size, width = Writer(), shape.size, shape.width
    pack_a, pack_b, by_columns = (text.bit("%mode", x) for x in (PACK_A, PACK_B, COLUMNS_A))
    # Where A is one block, panels of B serve once: all are packed into the same place.
    once = text.new("icmp sle i64 %n, %mc")
    several = _padded(text, text.less("%nc", "%m"), shape.columns)
    columns = text.choice(once, "i64", shape.columns, several)
    zone = text.binary("mul", text.binary("mul", columns, _padded(text, "%kc", width)), size)
    after = text.choice(pack_b, "i64", _padded(text, zone, 64), 0)
    by_panels = text.new(f"or i1 {pack_a}, {by_columns}")
    first = text.choice(by_panels, "i64", 0, len(heights(shape)) * len(widths(shape)))
    apart = text.choice(by_columns, "i64", "%ca", "%ra")
    sa = text.choice(pack_a, "i64", shape.pitch * size, apart)
    sb = text.choice(pack_b, "i64", shape.columns * size, "%rb")
    of_a = text.binary("and", "%mode", 1 << PACK_A)
    packs = text.binary("and", "%mode", 1 << PACK_A | 1 << PACK_B)
    depth = text.more("%k", 1)  # a sum of nothing is 0, and put there
    with text.loop(0, "%m", "%nc") as j, text.loop(0, depth, "%kc") as p:
        k = text.less(text.binary("sub", "%k", p), "%kc")
        whole = text.binary("mul", _padded(text, k, width), size)
        more = text.new(f"zext i1 {text.new(f'icmp ne i64 {p}, 0')} to i64")
        with text.loop(0, "%n", "%mc") as i:
            call(
                text,
                "columns",
                _COLUMNS,
                n=text.less(text.binary("sub", "%n", i), "%mc"),
                w=text.less(text.binary("sub", "%m", j), "%nc"),
                k=k,
                a=place(text, "%a", (i, "%ra"), (p, "%ca")),
                pa=text.ahead("%scratch", after),
                za=text.binary("mul", whole, shape.pitch),
                sa=sa,
                b=place(text, "%b", (p, "%rb"), (j, "%cb")),
                pb="%scratch",
                zb=text.choice(once, "i64", 0, text.binary("mul", whole, shape.columns)),
                sb=sb,
                c=place(text, "%c", (i, "%rc"), (j, str(size))),
                more=more,
                first=first,
                new=text.choice(text.new(f"icmp eq i64 {i}, 0"), "i64", packs, of_a),
            )
    return function("product", ARGUMENTS, text, internal=False)


def stack(_: Shape) -> str:
    """Products of matrices, one after the other."""
    text = Writer()
    with text.loop(0, "%count") as i:
        a, b, c = (text.ahead(f"%{x}", text.binary("mul", i, f"%z{x}")) for x in "abc")
        call(text, "product", ARGUMENTS, a=a, b=b, c=c)
    return function("stack", STACK, text, internal=False)


def words(_: Shape) -> str:
    """The same, of arguments that are read from memory."""
    functions = ""
    for name in ("places", "objects"):
        text, given = Writer(), {}
        for i, word in enumerate(STACK):
            if word not in POINTERS:
                given[word] = text.new(f"load i64, ptr {text.ahead('%words', 8 * i)}")
            elif name == "objects" and word != "scratch":
                # The data's address follows the head that every Python object has.
                data = text.ahead(f"%{word}", object.__basicsize__)
                given[word] = text.new(f"load ptr, ptr {data}")
        call(text, "stack", STACK, **given)
        functions += function(name, ("a", "b", "c", "words", "scratch"), text, internal=False)
    return functions
