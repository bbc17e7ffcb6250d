"""What the tests of compiled kernels stand on: PTX by hand, and faults that must be seen in it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from ptx import arithmetic
from ptx.counts import Tally
from ptx.launching import Loaded
from ptx.memory import Fault
from ptx.text import UnknownError, parsed

RNG = np.random.default_rng(5)
F32, U32 = np.float32, np.uint32

HEAD = """
.version 9.0
.target sm_80
.address_size 64
.visible .shared .align 4 .b8 memory[256];

.visible .entry kernel(
    .param .u64 x,
    .param .u64 y,
    .param .u32 n
)
.maxntid 256, 1, 1
{
    .reg .pred %p<9>;
    .reg .b16 %h<9>;
    .reg .b32 %r<19>;
    .reg .f32 %f<19>;
    .reg .f64 %d<9>;
    .reg .b64 %a<19>;
    ld.param.u64 %a0, [x];
    ld.param.u64 %a1, [y];
    ld.param.u32 %r0, [n];
    cvta.to.global.u64 %a2, %a0;
    cvta.to.global.u64 %a3, %a1;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mad.lo.s32 %r4, %r2, %r3, %r1;
    mul.wide.u32 %a4, %r4, 4;
    add.s64 %a5, %a2, %a4;
    add.s64 %a6, %a3, %a4;
    mov.u64 %a7, memory;
    mul.wide.u32 %a8, %r1, 4;
    add.s64 %a9, %a7, %a8;
"""


def run(
    body: str, x: Any, y: Any, n: int = 0, blocks: int = 1, threads: int = 64, **more: Any
) -> Any:
    """Run the head above and a body; a thread has its number in the launch in %r4, its element of
    x and y at %a5 and %a6, and 4 bytes of shared memory at %a9."""
    Loaded(f"{HEAD}{body}\n    ret;\n}}\n")(blocks, threads, (x, y, np.uint32(n)), **more)
    return y


def numbers(n: int = 64) -> tuple[Any, Any]:
    return np.arange(n, dtype=F32), np.full(n, np.nan, F32)


COPY = "ld.global.f32 %f1, [%a5]; st.global.f32 [%a6], %f1;"


def test_a_copy() -> None:
    x, y = numbers(192)
    assert np.array_equal(run(COPY, x, y, blocks=3), x)


def test_threads_part_and_meet_again() -> None:
    """A loop of as many turns as a thread's number, within a branch."""
    body = """
    and.b32 %r5, %r1, 1;
    setp.eq.s32 %p1, %r5, 0;
    mov.u32 %r6, 0;
    mov.u32 %r7, 0;
    @%p1 bra END;
LOOP:
    add.s32 %r6, %r6, %r7;
    add.s32 %r7, %r7, 1;
    setp.le.u32 %p2, %r7, %r1;
    @%p2 bra LOOP;
    bra.uni NEXT;
END:
    mov.u32 %r6, 7;
NEXT:
    bar.sync 0;
    st.global.u32 [%a6], %r6;"""
    y = run(body, np.zeros(64, U32), np.zeros(64, U32))
    t = np.arange(64)
    assert np.array_equal(y, np.where(t % 2, t * (t + 1) // 2, 7))


EXCHANGE = """
    ld.global.f32 %f1, [%a5];
    st.shared.f32 [%a9], %f1;
    {barrier}
    xor.b32 %r5, %r1, 63;
    mul.wide.u32 %a10, %r5, 4;
    add.s64 %a10, %a7, %a10;
    ld.shared.f32 %f2, [%a10];
    st.global.f32 [%a6], %f2;"""


def test_shared_memory() -> None:
    x, y = numbers(128)
    found = run(EXCHANGE.format(barrier="bar.sync 0;"), x, y, blocks=2)
    assert np.array_equal(found.reshape(2, 64), x.reshape(2, 64)[:, ::-1])


def test_a_race_is_seen() -> None:
    """One thread reads what another writes: with no barrier, or one of a warp alone."""
    for barrier in ("", "bar.warp.sync -1;"):
        with pytest.raises(Fault, match=r"a race: thread \d+ reads byte \d+ of shared memory"):
            run(EXCHANGE.format(barrier=barrier), *numbers())
    # Within a warp that is enough.
    x, y = numbers(32)
    body = EXCHANGE.replace("63", "31").format(barrier="bar.warp.sync -1;")
    assert np.array_equal(run(body, x, y, threads=32), x[::-1])


def test_two_that_write_are_seen() -> None:
    with pytest.raises(Fault, match=r"a race: thread .* writes byte 0 of shared memory"):
        run("st.shared.u32 [memory], %r1;", *numbers())
    # And one that overwrites what others may not have read yet.
    body = EXCHANGE.format(barrier="bar.sync 0;") + "st.shared.f32 [%a9], %f2;"
    with pytest.raises(Fault, match=r"a race: thread .* writes byte"):
        run(body, *numbers())
    run(body.replace("st.global.f32 [%a6], %f2;", "bar.sync 0;"), *numbers())


def test_a_race_in_global_memory_is_seen() -> None:
    x, y = numbers(128)
    with pytest.raises(Fault, match=r"a race: thread .* of the memory of y"):
        run("st.global.u32 [%a3], %r1;", x, y)
    run("st.global.u32 [%a3], %r1;", x, y, told=[1])
    # No barrier orders the blocks of a launch; the array is the same by whichever pointer.
    body = "ld.global.f32 %f1, [%a2]; bar.sync 0; st.global.f32 [%a6], %f1;"
    with pytest.raises(Fault, match="a race"):
        run(body, x, x, blocks=2)
    assert run(body, x + 3, y, blocks=2).tolist() == [3] * 128
    run(body, x, x, blocks=1)


def test_a_barrier_that_some_do_not_reach() -> None:
    body = """
    setp.gt.u32 %p1, %r1, 9;
    @%p1 bra {target};
    bar.sync 0;
    bra.uni END;
OTHER:
    bar.sync 0;
END:"""
    for target in ("OTHER", "END"):
        with pytest.raises(Fault, match="threads wait for others that never come"):
            run(body.format(target=target), *numbers())
    with pytest.raises(Fault, match=r"'warp', 'bar.warp.sync -1'"):
        run(body.format(target="END").replace("bar.sync 0", "bar.warp.sync -1"), *numbers())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.global.f32 %f1, [%a5+4];", "thread 63 reads bytes 256 to 260 of x, which has 256"),
        ("ld.global.f32 %f1, [%a5+-4];", "thread 0 reads bytes -4 to 0 of x"),
        ("st.global.f32 [%a6+4], 0f00000000;", "thread 63 writes bytes 256 to 260 of y"),
        ("ld.global.f32 %f1, [%a8];", "reads address 0x0, which is no array's"),
        ("ld.global.v2.f32 {%f1, %f2}, [%a2+4];", "an address that is 4 bytes beyond"),
        ("ld.global.f64 %d1, [%a2+4];", "an address that is 4 bytes beyond"),
        ("ld.shared.f32 %f1, [%a9];", "byte 0 of shared memory, which was never written"),
        ("st.shared.f32 [%a9+4], 0f00000000;", "from byte 256 of shared memory on, which has 256"),
        ("st.shared.u32 [memory+2], 1;", "shared memory that are not aligned"),
        ("add.f32 %f1, %f2, %f2;", "read of register %f2, which was never written"),
        ("div.u32 %r5, %r4, %r0;", "divided by zero"),
    ],
)
def test_faults(body: str, message: str) -> None:
    x, y = numbers()
    error = ZeroDivisionError if "zero" in message else Fault
    with pytest.raises(error, match=message.replace("+", r"\+")) as caught:
        run(body, x, y)
    assert body[:8] in "".join(caught.value.__notes__)


def test_an_array_ends_where_its_view_does() -> None:
    """Neither what is beyond it in the same memory, nor memory that is for reading alone."""
    memory = np.zeros(96, F32)
    memory[:64] = np.arange(64)
    y = np.zeros(63, F32)
    with pytest.raises(Fault, match="thread 63 reads bytes 252 to 256 of x"):
        run(COPY, memory[:63], y)
    assert np.array_equal(run(COPY, memory[1:], np.zeros(64, F32)), memory[1:65])
    memory.flags.writeable = False
    with pytest.raises(Fault, match="writes to y, which is read-only"):
        run(COPY, np.zeros(64, F32), memory)
    with pytest.raises(Fault, match="4 bytes beyond"):
        run("ld.global.v2.f32 {%f1, %f2}, [%a2];", memory[1:], y)


def test_a_register_that_some_threads_never_write() -> None:
    body = """
    setp.gt.u32 %p1, %r1, {least};
    @%p1 bra NEXT;
    mov.f32 %f1, 0f3F800000;
NEXT:
    st.global.f32 [%a6], %f1;"""
    with pytest.raises(Fault, match="register %f1"):
        run(body.format(least=62), *numbers())
    assert run(body.format(least=63), *numbers()).tolist() == [1] * 64


def test_arguments_of_another_kind() -> None:
    loaded = Loaded(f"{HEAD}ret;\n}}\n")
    x, y = numbers()
    for arguments, message in (
        ((x, y), "2 arguments for 3 parameters"),
        ((x, y, np.int64(1)), "8 bytes of .*int64.* for u32 n"),
        ((x, y, np.float32(1)), "float32.* for u32 n"),
        ((x, np.uint32(1), np.uint32(1)), "4 bytes of .* for u64 y"),
        ((x, y, [1]), "list"),
    ):
        with pytest.raises(Fault, match=message):
            loaded(1, 64, arguments)
    for blocks, threads in ((0, 64), (1, 257)):
        with pytest.raises(Fault, match="of a kernel of 256"):
            loaded(blocks, threads, (x, y, np.uint32(1)))


@pytest.mark.parametrize(
    "text",
    [
        "frobnicate.f32 %f1, %f2;",
        "add.rn.ftz.odd.f32 %f1, %f1, %f1;",
        "mov.u32 %r1, %clock;",
        "mov.u32 %r44, 1;",
        "@%p1 mov.u32 %r5, 1;",
        "add.f32 %f1, %r1, 1;",
        "atom.global.add.u32 %r5, [%a5], 1;",
        "bar.sync 1, 32;",
    ],
)
def test_what_is_not_known(text: str) -> None:
    with pytest.raises(UnknownError, match="an instruction: "):
        run(text, *numbers())


def test_inner_registers_and_tables() -> None:
    text = HEAD.replace(
        ".visible .shared",
        ".global .align 4 .b8 table[8] = {1, 2, 0, 0, 0x10};\n.visible .shared",
        1,
    )
    text += """
    { .reg .b32 %r5; .reg .b32 %low; mov.u32 %r5, 5; mov.b64 {%low, %r6}, %a4; }
    { .reg .b32 %r5; mov.u32 %r5, 6; add.s32 %r7, %r5, %r6; }
    mov.u64 %a10, table;
    ld.global.u32 %r8, [%a10];
    ld.global.u32 %r9, [%a10+4];
    add.s32 %r7, %r7, %r8;
    add.s32 %r7, %r7, %r9;
    st.global.u32 [%a6], %r7;
    ret;
}
"""
    y = np.zeros(64, U32)
    Loaded(text)(1, 64, (y.copy(), y, np.uint32(0)))
    assert set(y) == {6 + 0x201 + 0x10}
    assert len(parsed(text).kernels["kernel"].body) == 15 + 11


def exact(a: Any, b: Any, c: Any) -> list[Fraction]:
    return [
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        for x, y, z in zip(a, b, c, strict=True)
    ]


def test_sums_of_products_are_rounded_once() -> None:
    """Against fractions: ties, cancellation and denormal numbers among them."""
    for kind, fma in ((F32, arithmetic.fma4), (np.float64, arithmetic.fma8)):
        a, b = (RNG.integers(1, 1 << 13, 400).astype(kind) for _ in range(2))
        c = (RNG.choice([-1, 1], 400) * 2.0 ** RNG.integers(-30, 60, 400)).astype(kind)
        c[:100] = -a[:100] * b[:100]
        small = kind(2.0**-80 if kind is F32 else 2.0**-540)
        a[100:200] *= small
        b[100:200] *= small
        c[100:200] *= small * small
        a[200:], b[200:] = RNG.normal(size=(2, 200)).astype(kind)
        found = fma(a, b, c)
        for one, right in zip(found, exact(a, b, c), strict=True):
            around = (one, np.nextafter(one, kind(np.inf)), np.nextafter(one, kind(-np.inf)))
            assert abs(Fraction(float(one)) - right) == min(
                abs(Fraction(float(x)) - right) for x in around
            )
    down = arithmetic.FMA4["rm"](a.astype(F32), b.astype(F32), c.astype(F32))
    for one, right in zip(down, exact(*(x.astype(F32) for x in (a, b, c))), strict=True):
        assert Fraction(float(one)) <= right < Fraction(float(np.nextafter(one, F32(np.inf))))


def test_special_sums_of_products() -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 3e38, 1e-45], F32)
    a, b, c = (x.ravel() for x in np.meshgrid(special, special, special))
    with np.errstate(all="ignore"):
        right = a.astype(np.float64) * b + c
        np.testing.assert_array_equal(arithmetic.fma4(a, b, c), right.astype(F32))
        wide = [x.astype(np.float64) for x in (a, b, c)]
        np.testing.assert_allclose(arithmetic.fma8(*wide), right, rtol=1e-15)


def test_integers() -> None:
    a, b = RNG.integers(0, 1 << 32, (2, 500), dtype=np.uint64).astype(U32)
    wide = RNG.integers(-(1 << 63), 1 << 63, (2, 200))
    for k in range(200):
        x, y = int(wide[0, k]), int(wide[1, k])
        high = arithmetic.high8(wide[0, k : k + 1], wide[1, k : k + 1], True)
        assert int(high.view(np.int64)[0]) == x * y >> 64
        quotient, rest = arithmetic.divided(wide[0, k : k + 1], wide[1, k : k + 1] >> 40)
        divisor = y >> 40
        assert int(quotient[0]) * divisor + int(rest[0]) == x
        assert abs(int(rest[0])) < abs(divisor)
        assert int(rest[0]) * x >= 0
    for k in (0, 1, 5, 31, 32, 40):
        place = np.full(500, k, U32)
        right = [int(x) << k & 0xFFFFFFFF for x in a]
        assert arithmetic.shifted_left(a, place).tolist() == right
        assert arithmetic.shifted_right(a, place).tolist() == [int(x) >> k for x in a]
        both = [
            (int(y) << 32 | int(x)) >> min(k, 32) & 0xFFFFFFFF for x, y in zip(a, b, strict=True)
        ]
        assert arithmetic.funnel(a, b, place, False, False).tolist() == both
    field = arithmetic.inserted(a, b, U32(4), U32(7))
    assert field.tolist() == ((b & ~U32(0x7F0)) | ((a & U32(0x7F)) << U32(4))).tolist()
    assert arithmetic.extracted(a, U32(4), U32(7)).tolist() == ((a >> U32(4)) & U32(0x7F)).tolist()
    assert (
        arithmetic.permuted(a, b, U32(0x5410)).tolist()
        == ((b << U32(16)) | (a & U32(0xFFFF))).tolist()
    )
    assert arithmetic.logic(a, b, a ^ b, 0x96).tolist() == (a ^ b ^ (a ^ b)).tolist()


def test_conversions() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 2.5, 3.5, -2.5, 3e9, -3e9, 0.4], F32)
    nearest = arithmetic.to_integer(x, np.int32, "rni").tolist()
    assert nearest == [0, 2**31 - 1, -(2**31), 2, 4, -2, 2**31 - 1, -(2**31), 0]
    assert arithmetic.to_integer(x, np.uint32, "rzi").tolist() == [
        *(0, 2**32 - 1, 0, 2, 3, 0, 3000000000, 0, 0)
    ]
    assert arithmetic.saturated(x).tolist() == [0, 1, 0, 1, 1, 0, 1, 0, F32(0.4)]
    body = """
    ld.global.f32 %f1, [%a5];
    cvt.rn.f16.f32 %h1, %f1;
    cvt.f32.f16 %f2, %h1;
    st.global.f32 [%a6], %f2;"""
    x = (RNG.normal(size=64) * 10.0 ** RNG.integers(-9, 6, 64)).astype(F32)
    with np.errstate(over="ignore"):
        right = x.astype(np.float16).astype(F32)
    assert np.array_equal(run(body, x, np.zeros(64, F32)), right)
    body = body.replace("rn.f16.f32 %h1, %f1", "rn.bf16x2.f32 %r5, %f1, %f1")
    body = body.replace("cvt.f32.f16 %f2, %h1", "and.b32 %r6, %r5, 0xFFFF0000; mov.b32 %f2, %r6")
    found = run(body, x, np.zeros(64, F32))
    assert np.all(np.abs(found - x) <= np.abs(x) * 2.0**-8)


def test_approximations_can_err() -> None:
    x = np.array([0.0, -0.0, 1.5, -3.25, np.inf, np.nan, 1e-40], F32)
    for units in (-2, 0, 2):
        found = arithmetic.Approximations(units)("ex2", False, x)
        right = np.exp2(x)
        moved = found.view(np.int32) - right.view(np.int32)
        assert moved[[2, 3]].tolist() == [units, units]
        assert found[[0, 1, 4]].tolist() == [1, 1, np.inf]
        assert np.isnan(found[5])
    flushed = arithmetic.Approximations()("rcp", True, x)
    assert flushed[6] == np.inf


def test_a_tally() -> None:
    """Bytes, and sectors: side by side, from an odd place on, and far from one another."""
    x, y = np.zeros(300, F32), np.zeros(300, F32)
    for given, body, sectors in (
        (x, COPY, 8 + 8),
        (x[1:], COPY, 10 + 8),
        (x, COPY.replace("[%a5]", "[%a2]"), 2 + 8),
        (x, "shl.b64 %a4, %a4, 2; add.s64 %a5, %a2, %a4;" + COPY, 32 + 8),
    ):
        tally = Tally()
        run(body, given, y, tally=tally)
        assert (tally.requests, tally.sectors) == (4, sectors)
        assert tally.bytes == {"reads": 256, "writes": 256}
        assert tally.touched["y", "writes"].tolist() == [1] * 256 + [0] * 944
        assert tally.instructions == 64 * (15 + body.count(";") + 1)
