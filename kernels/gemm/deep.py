"""A large product in machine code: where A is read and C is added to far more often than packed.

    product(n, m, k, a, ra, ca, b, rb, cb, c, rc, kc, mc, nc, mode, scratch)
    pack(n, k, a, ra, ca, kc, packed, line, first, counter)
    panels(n, m, k, b, rb, cb, c, rc, kc, packed, line, more, full, each, counter, scratch)

The arguments are those of driver.py, but that `nc` is of k too: so much of it, a multiple of kc, is
packed of mc rows of A. Then C goes by in panels of columns. For each block of k, the panel of B is
packed into the first cache, and all tiles of the panel of C are computed: they are kept side by
side in memory of their own, in the second cache, until their last block of k. So C is written
once for all of nc, and however its rows are apart, they are in nobody's way. There is one tile for
each number of vectors; those at the edges of C are computed whole, and what is C's is copied.
"""

from __future__ import annotations

from collections.abc import Callable

from .driver import ARGUMENTS, call, function, place, stack, words
from .packing import turned
from .text import Typed, Writer
from .tile import Shape, Tile, declarations, lanes_below, load, store

# Turns of the loop over k that are written out one after the other.
_UNROLLED = 4
# How many turns ahead a panel of A is asked for, which may come from the third cache; and how many
# rows ahead what is copied.
_AHEAD = 32
_SOON = 8
# Vectors of a row of A that are copied at once.
_WIDE = 4
_PACKED_A = ("lines", "k", "place", "ra", "ca", "panel", "za")
_PACKED_B = ("lines", "k", "place", "rb", "cb", "panel")
_PANEL = ("n", "k", "pa", "za", "pb", "c", "rc", "buffer", "lanes", "begins", "ends", "more")
# Of products that several threads make together: their rows of A, then whichever panels are next.
PACK = ("n", "k", "a", "ra", "ca", "kc", "packed", "line", "first", "counter")
PANELS = ("n", "m", "k", "b", "rb", "cb", "c", "rc", "kc", "packed", "line", "more", "full", "each",
          "counter", "scratch")  # fmt: skip
_TILE = ("k", "a", "b", "c", "rc", "d", "rd", "more")
_COPY = ("n", "lanes", "a", "ra", "c", "rc")


def text(shape: Shape) -> str:
    """The module of an element type."""
    parts = [_tile(shape, vectors) for vectors in range(1, shape.vectors + 1)]
    makers = (_copy, _pack_a, _pack_b, _panel, _pack, _panels, _product, stack, words)
    parts += [make(shape) for make in makers]
    return declarations(shape) + "".join(parts)


def scratch(shape: Shape, rows: int, depth: int, block: int) -> int:
    """The bytes that are used for so many rows and so much k, in blocks of k."""
    pitch, width = shape.columns * shape.size, shape.width
    lines = -(-rows // (2 * shape.rows)) * 2 * shape.rows
    return block * pitch + lines * (pitch + -(-depth // width) * width * shape.size)


def _tile(shape: Shape, vectors: int) -> str:
    """`C = D + A @ B`, or without D, of packed panels."""
    made = Tile(shape, shape.rows, vectors, masked=False, by_rows=False)
    text, step_a, step_b = made.text, shape.rows * shape.size, shape.columns * shape.size
    values: list[Typed] = [("ptr", "%a"), ("ptr", "%b")]
    values += [(shape.vector, "zeroinitializer")] * (shape.rows * vectors)
    whole = text.binary("and", "%k", -_UNROLLED)
    # C is asked for little by little: a row in each pass of the first ones.
    some = text.less(whole, _UNROLLED * shape.rows)
    start: str = "0"
    for stop, turns in ((some, _UNROLLED), (whole, _UNROLLED), ("%k", 1)):
        asks = start == "0"
        loop = text.carrying(stop, [("ptr", "%c"), *values] if asks else values, start)
        a, b, *sums = loop.now[asks:]
        if asks:
            _ask(text, loop.now[0], 1, [v * shape.width * shape.size for v in range(vectors)])
        for turn in range(turns):
            if not turn * step_a % 64:
                _ask(text, a, 0, [_AHEAD * step_a])
            sums = made.step([a], b, sums)
            a, b = text.ahead(a, step_a), text.ahead(b, step_b)
        loop.close(turns, [*([text.ahead(loop.now[0], "%rc")] if asks else []), a, b, *sums])
        values = [(kind, x) for (kind, _), x in zip(values, loop.now[asks:], strict=True)]
        start = stop
    sums = [x for _, x in values[2:]]
    flag = text.new("icmp ne i64 %more, 0")
    plain, added = text.name(), text.name()
    text.do(f"br i1 {flag}, label %{added}, label %{plain}")
    for name, adds in ((added, True), (plain, False)):
        text.begin(name)
        d, c = "%d", "%c"
        for i in range(shape.rows):
            for v in range(vectors):
                ahead, x = v * shape.width * shape.size, sums[i * vectors + v]
                if adds:
                    before = load(text, shape, text.ahead(d, ahead), None)
                    x = text.new(f"fadd {shape.vector} {before}, {x}")
                store(text, shape, x, text.ahead(c, ahead), None)
            d, c = text.ahead(d, "%rd"), text.ahead(c, "%rc")
        if adds:
            text.do("ret void")
    return function(f"tile{vectors}", _TILE, text)


def _ask(text: Writer, start: str, writes: int, aheads: list[int]) -> None:
    for ahead in aheads:
        x = text.ahead(start, ahead)
        text.do(f"call void @llvm.prefetch.p0(ptr {x}, i32 {writes}, i32 3, i32 1)")


def _copy(shape: Shape) -> str:
    """Some rows of A, as C."""
    text = Writer()
    with text.loop(0, "%n") as i, text.loop(0, "%lanes", shape.width) as lane:
        mask = lanes_below(text, shape, text.binary("sub", "%lanes", lane))
        there = str(shape.size)
        x = load(text, shape, place(text, "%a", (i, "%ra"), (lane, there)), mask)
        store(text, shape, x, place(text, "%c", (i, "%rc"), (lane, there)), mask)
    return function("copy", _COPY, text)


def _pack_a(shape: Shape) -> str:
    """Lines of A as panels of a tile's rows, one tile after the other.

    As many lines as a vector has lanes are one panel or two: whole ones are written.
    """
    text, size, width = Writer(), shape.size, shape.width
    step = shape.rows * size

    def leave(vector: str, panel: str, p: str) -> None:
        for part in range(0, width, shape.rows):
            lanes = ", ".join(f"i32 {x}" for x in range(part, part + shape.rows))
            half = text.new(
                f"shufflevector {shape.vector} {vector}, {shape.vector} poison, "
                f"<{shape.rows} x i32> <{lanes}>"
            )
            at = place(text, panel, (p, str(step)), (str(part // shape.rows), "%za"))
            text.do(f"store <{shape.rows} x {shape.element}> {half}, ptr {at}, align {size}")

    beside = text.new(f"icmp eq i64 %ra, {size}")
    with text.when(beside):
        wide = text.binary("and", "%lines", -_WIDE * width)
        for start, stop, count in (("0", wide, _WIDE), (wide, "%lines", 1)):
            with text.loop(start, stop, count * width) as line:
                mask = None
                if count == 1:
                    mask = lanes_below(text, shape, text.binary("sub", "%lines", line))
                first = place(text, "%place", (line, "%ra"))
                panel = place(text, "%panel", (text.binary("sdiv", line, shape.rows), "%za"))
                with text.loop(0, "%k") as p:
                    source = place(text, first, (p, "%ca"))
                    soon = place(text, source, (str(_SOON), "%ca"))
                    for v in range(count):
                        ahead = v * width * size
                        _ask(text, soon, 0, [ahead])
                        x = load(text, shape, text.ahead(source, ahead), mask)
                        target = place(text, panel, (str(v * width // shape.rows), "%za"))
                        leave(x, target, p)
    with text.when(text.new(f"xor i1 {beside}, true")):
        last = text.binary("sub", "%lines", 1)
        with text.loop(0, "%lines", width) as line:
            lines = [text.less(text.binary("add", line, i), last) for i in range(width)]
            places = [place(text, "%place", (x, "%ra")) for x in lines]
            panel = place(text, "%panel", (text.binary("sdiv", line, shape.rows), "%za"))
            _turn(text, shape, places, lambda x, p: leave(x, panel, p))
    return function("pack_a", _PACKED_A, text)


def _turn(text: Writer, shape: Shape, places: list[str], leave: Callable[[str, str], None]) -> None:
    """Lines that lie one after the other: squares of them, turned."""
    with text.loop(0, "%k", shape.width) as p:
        mask = lanes_below(text, shape, text.binary("sub", "%k", p))
        rows = []
        for x in places:
            at = place(text, x, (p, str(shape.size)))
            rows.append(load(text, shape, at, mask))
            _ask(text, at, 0, [128])
        for i, column in enumerate(turned(text, shape, rows)):
            leave(column, text.binary("add", p, i))


def _pack_b(shape: Shape) -> str:
    """Columns of B as a panel."""
    text, size, width = Writer(), shape.size, shape.width
    step = shape.columns * size
    beside = text.new(f"icmp eq i64 %cb, {size}")
    with text.when(beside):
        masks = [
            lanes_below(text, shape, text.binary("sub", "%lines", v * width))
            for v in range(shape.vectors)
        ]
        with text.loop(0, "%k") as p:
            source = place(text, "%place", (p, "%rb"))
            target = place(text, "%panel", (p, str(step)))
            soon = place(text, source, (str(_SOON), "%rb"))
            _ask(text, soon, 0, [v * width * size for v in range(shape.vectors + 1)])
            for v, mask in enumerate(masks):
                x = load(text, shape, text.ahead(source, v * width * size), mask)
                store(text, shape, x, text.ahead(target, v * width * size), None)
    with text.when(text.new(f"xor i1 {beside}, true")):
        last = text.binary("sub", "%lines", 1)
        with text.loop(0, "%lines", width) as line:
            lines = [text.less(text.binary("add", line, i), last) for i in range(width)]
            places = [place(text, "%place", (x, "%cb")) for x in lines]
            panel = place(text, "%panel", (line, str(size)))
            _turn(
                text,
                shape,
                places,
                lambda x, p: store(text, shape, x, place(text, panel, (p, str(step))), None),
            )
    return function("pack_b", _PACKED_B, text)


def _panel(shape: Shape) -> str:
    """The tiles of a panel of C, one below the other, with a block of k."""
    text, size = Writer(), shape.size
    pitch = shape.columns * size
    begins, ends, more = (text.new(f"icmp ne i64 %{x}, 0") for x in ("begins", "ends", "more"))
    with text.loop(0, "%n", shape.rows) as i:
        rows = text.less(text.binary("sub", "%n", i), shape.rows)
        inner = text.new(f"icmp eq i64 {rows}, {shape.rows}")
        full = text.new(f"icmp eq i64 %lanes, {shape.columns}")
        whole = text.new(f"and i1 {inner}, {full}")
        edge = text.new(f"xor i1 {whole}, true")
        c = place(text, "%c", (i, "%rc"))
        kept = place(text, "%buffer", (i, str(pitch)))
        a = place(text, "%pa", (text.binary("sdiv", i, shape.rows), "%za"))
        # What C holds is added to when the next stretch of k begins.
        with text.when(text.new(f"and i1 {text.new(f'and i1 {begins}, {more}')}, {edge}")):
            call(text, "copy", _COPY, n=rows, a=c, ra="%rc", c=kept, rc=pitch)
        reads, writes = (text.new(f"and i1 {x}, {whole}") for x in (begins, ends))
        given = {
            "a": a,
            "b": "%pb",
            "c": text.choice(writes, "ptr", c, kept),
            "rc": text.choice(writes, "i64", "%rc", pitch),
            "d": text.choice(reads, "ptr", c, kept),
            "rd": text.choice(reads, "i64", "%rc", pitch),
        }
        vectors = text.binary("sdiv", text.binary("add", "%lanes", shape.width - 1), shape.width)
        for count in range(1, shape.vectors + 1):
            with text.when(text.new(f"icmp eq i64 {vectors}, {count}")):
                call(text, f"tile{count}", _TILE, **given)
        with text.when(text.new(f"and i1 {ends}, {edge}")):
            call(text, "copy", _COPY, n=rows, a=kept, ra=pitch, c=c)
    return function("panel", _PANEL, text)


def _pack(shape: Shape) -> str:
    """So many rows of A, from the tile `first` on, with so much k as stays packed."""
    text = Writer()
    with text.when(text.new("icmp eq i64 %first, 0")):
        text.do("store i64 0, ptr %counter")
    with text.loop(0, text.more("%k", 1), "%kc") as p:
        k = text.less(text.binary("sub", "%k", p), "%kc")
        za = _tile_bytes(text, shape, k)
        a = place(text, "%a", (p, "%ca"))
        panel = place(text, "%packed", (p, "%line"), ("%first", za))
        call(text, "pack_a", _PACKED_A, lines="%n", k=k, place=a, panel=panel, za=za)
    return function("pack", PACK, text, internal=False)


def _panels(shape: Shape) -> str:
    """Panels of C, from n packed rows of A: whichever are next, as long as there are any.

    Of the first ones, `full`, all rows are one piece of work; of the others so many as `each`.
    """
    text, size = Writer(), shape.size
    buffer = place(text, "%scratch", ("%kc", str(shape.columns * size)))
    panels = text.binary("add", "%m", shape.columns - 1)
    panels = text.binary("sdiv", panels, shape.columns)
    parts = text.binary("sub", text.binary("add", "%n", "%each"), 1)
    parts = text.more(text.binary("sdiv", parts, "%each"), 1)
    pieces = text.binary("mul", text.binary("sub", panels, "%full"), parts)
    pieces = text.binary("add", pieces, "%full")
    depth = text.more("%k", 1)  # a sum of nothing is 0, and put there
    text.do("br label %take")
    text.begin("take")
    turn = text.new("atomicrmw add ptr %counter, i64 1 monotonic")
    with text.when(text.new(f"icmp slt i64 {turn}, {pieces}")):
        beyond = text.binary("sub", turn, "%full")
        whole = text.new(f"icmp slt i64 {beyond}, 0")
        number = text.binary("add", "%full", text.binary("sdiv", beyond, parts))
        j = text.binary("mul", text.choice(whole, "i64", turn, number), shape.columns)
        i = text.binary("mul", text.binary("srem", beyond, parts), "%each")
        i = text.choice(whole, "i64", 0, i)
        rest = text.binary("sub", "%n", i)
        n = text.choice(whole, "i64", rest, text.less(rest, "%each"))
        lanes = text.less(text.binary("sub", "%m", j), shape.columns)
        with text.loop(0, depth, "%kc") as p:
            k = text.less(text.binary("sub", "%k", p), "%kc")
            b = place(text, "%b", (p, "%rb"), (j, "%cb"))
            call(text, "pack_b", _PACKED_B, lines=lanes, k=k, place=b, panel="%scratch")
            ends = text.new(f"icmp sge i64 {text.binary('add', p, '%kc')}, {depth}")
            begins = text.new(f"icmp eq i64 {p}, 0")
            more = text.binary("or", "%more", p)
            za = _tile_bytes(text, shape, k)
            tile = text.binary("sdiv", i, shape.rows)
            call(
                text,
                "panel",
                _PANEL,
                n=n,
                k=k,
                pa=place(text, "%packed", (p, "%line"), (tile, za)),
                za=za,
                pb="%scratch",
                c=place(text, "%c", (i, "%rc"), (j, str(size))),
                buffer=buffer,
                lanes=lanes,
                begins=text.new(f"zext i1 {begins} to i64"),
                ends=text.new(f"zext i1 {ends} to i64"),
                more=more,
            )
        text.do("br label %take")
        text.begin(text.name())
    return function("panels", PANELS, text, internal=False)


def _product(shape: Shape) -> str:
    text, size = Writer(), shape.size
    pitch = shape.columns * size
    rows = _lines(text, shape, text.less("%n", "%mc"))
    buffer = place(text, "%scratch", ("%kc", str(pitch)))
    packed = place(text, buffer, (rows, str(pitch)))
    counter = text.new("alloca i64")
    with text.loop(0, text.more("%k", 1), "%nc") as q, text.loop(0, "%n", "%mc") as i:
        given: dict[str, object] = {
            "n": text.less(text.binary("sub", "%n", i), "%mc"),
            "k": text.less(text.binary("sub", "%k", q), "%nc"),
            "packed": packed,
            "line": text.binary("mul", rows, size),
            "counter": counter,
        }
        a = place(text, "%a", (i, "%ra"), (q, "%ca"))
        call(text, "pack", PACK, a=a, first=0, **given)
        panels = text.binary("sdiv", text.binary("add", "%m", shape.columns - 1), shape.columns)
        b, c = place(text, "%b", (q, "%rb")), place(text, "%c", (i, "%rc"))
        call(text, "panels", PANELS, b=b, c=c, more=q, full=panels, each="%mc", **given)
    return function("product", ARGUMENTS, text, internal=False)


def _lines(text: Writer, shape: Shape, rows: str) -> str:
    """So many rows as are packed of some: pairs of tiles."""
    step = 2 * shape.rows
    count = text.binary("sdiv", text.binary("add", rows, step - 1), step)
    return text.binary("mul", count, step)


def _tile_bytes(text: Writer, shape: Shape, k: str) -> str:
    """The bytes from one packed tile of A to the next."""
    return text.binary("mul", _padded(text, shape, k), shape.rows * shape.size)


def _padded(text: Writer, shape: Shape, k: str) -> str:
    """So much k as is packed: whole vectors."""
    return text.binary("and", text.binary("add", k, shape.width - 1), -shape.width)
