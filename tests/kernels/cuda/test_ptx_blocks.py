"""PTX by hand for blocks that tell each other numbers, copies that are waited for, and warps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ptx import tensor
from ptx.launching import Loaded
from ptx.memory import Fault

RNG = np.random.default_rng(6)

TEXT = """
.version 9.0
.target sm_90
.address_size 64
.visible .shared .align 16 .b8 memory[512];

.visible .entry kernel(
    .param .u64 x,
    .param .u64 y
)
{
    .local .align 4 .b8 own[8];
    .reg .pred %p<9>;
    .reg .b32 %r<19>;
    .reg .f32 %f<19>;
    .reg .b64 %a<19>;
    ld.param.u64 %a0, [x];
    ld.param.u64 %a1, [y];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    mul.wide.u32 %a4, %r1, 4;
    add.s64 %a5, %a0, %a4;
    add.s64 %a6, %a1, %a4;
    mov.u64 %a7, memory;
    add.s64 %a9, %a7, %a4;
"""


def run(body: str, x: Any, y: Any, blocks: int = 1, seeds: int = 1, cluster: int = 1) -> Any:
    """Run the head above and a body by 32 threads a block; y."""
    loaded = Loaded(f"{TEXT}{body}\n    ret;\n}}\n")
    start = x.copy(), y.copy()
    found = []
    for loaded.seed in range(seeds):
        x[...], y[...] = start
        loaded(blocks, 32, (x, y), cluster=cluster)
        found.append(y.copy())
    assert all(np.array_equal(one, found[0]) for one in found)
    return y


# Block 0 tells what block 1 waits for; the word's upper half says that it is there.
TELL = """
    setp.ne.s32 %p1, %r2, 0;
    setp.ne.s32 %p2, %r1, 0;
    @%p1 bra WAIT;
    @%p2 bra END;
    {before}
    mov.u64 %a10, 0x100000007;
    st.relaxed.gpu.global.b64 [%a0], %a10;
    bra.uni END;
WAIT:
    ld.relaxed.gpu.global.b64 %a10, [%a0];
    shr.u64 %a11, %a10, 32;
    setp.ne.s64 %p3, %a11, {number};
    @%p3 bra WAIT;
    cvt.u32.u64 %r5, %a10;
    st.global.u32 [%a6], %r5;
END:"""


def words() -> tuple[Any, Any]:
    return np.zeros(4, np.uint64), np.zeros(32, np.uint32)


def test_a_block_waits_for_a_word() -> None:
    body = TELL.format(before="", number=1)
    assert set(run(body, *words(), blocks=2, seeds=5, cluster=2)) == {7}


def test_blocks_that_wait_forever_and_give_up() -> None:
    with pytest.raises(Fault, match=r"blocks \[1\] wait for one another forever"):
        run(TELL.format(before="", number=2), *words(), blocks=2, cluster=2)
    with pytest.raises(Fault, match="gives up"):
        run(TELL.format(before="trap;", number=1), *words(), blocks=2, cluster=2)
    body = "ld.relaxed.gpu.global.b64 %a10, [%a0]; st.relaxed.gpu.global.b64 [%a0], %a4;"
    with pytest.raises(Fault, match="different things in the same word"):
        run(body, *words())


# All blocks add to a word and wait for the others before they read what those wrote.
MEET = """
    mul.wide.u32 %a10, %r2, 4;
    add.s64 %a10, %a1, %a10;
    setp.ne.s32 %p1, %r1, 0;
    @%p1 bra ALL;
    st.global.u32 [%a10], %r2;
    atom.acq_rel.gpu.global.add.u64 %a11, [%a0], 1;
WAIT:
    ld.acquire.gpu.global.b64 %a11, [%a0];
    setp.lt.u64 %p2, %a11, {all};
    @%p2 bra WAIT;
ALL:
    bar.sync 0;
    ld.global.u32 %r5, [%a1+4];
    ld.global.u32 %r6, [%a1];"""


def test_blocks_that_meet() -> None:
    found = run(MEET.format(all=2), *words(), blocks=2, seeds=5, cluster=2)
    assert found[:2].tolist() == [0, 1]
    with pytest.raises(Fault, match=r"a race: thread .* of the memory of y"):
        run(MEET.format(all=1), *words(), blocks=2, seeds=5, cluster=2)


COPY = """
    cvt.u32.u64 %r4, %a9;
    cp.async.ca.shared.global [%r4], [%a5], 4;
    {wait}
    ld.shared.f32 %f1, [%a9];
    st.global.f32 [%a6], %f1;"""


def test_copies_are_waited_for() -> None:
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    assert np.array_equal(run(COPY.format(wait="cp.async.wait_all;"), x, y), x)
    with pytest.raises(Fault, match="to which a copy is under way"):
        run(COPY.format(wait=""), x, y)
    # Another thread's copy is done after that one has waited, and a barrier.
    other = "xor.b32 %r5, %r1, 1; mul.wide.u32 %a9, %r5, 4; add.s64 %a9, %a7, %a9;"
    body = COPY.format(wait=f"cp.async.wait_all; {{0}} {other}")
    assert np.array_equal(run(body.format("bar.sync 0;"), x, y)[::2], x[1::2])
    with pytest.raises(Fault, match="a race"):
        run(body.format(""), x, y)


def test_blocks_of_a_cluster_reach_each_other() -> None:
    body = """
    st.shared.u32 [%a9], %r2;
    {barrier}
    cvta.shared.u64 %a10, %a9;
    mov.u32 %r5, %cluster_ctarank;
    xor.b32 %r5, %r5, 1;
    mapa.u64 %a10, %a10, %r5;
    ld.u32 %r6, [%a10];
    setp.ne.s32 %p1, %r2, 0;
    @%p1 bra END;
    st.global.u32 [%a6], %r6;
END:"""
    barrier = "barrier.cluster.arrive; barrier.cluster.wait;"
    _, y = words()
    assert set(run(body.format(barrier=barrier), y.copy(), y, blocks=2, cluster=2)) == {1}
    with pytest.raises(Fault, match="a race"):
        run(body.format(barrier="bar.sync 0;"), y.copy(), y, blocks=2, cluster=2)


def test_memory_of_a_thread_alone_and_carries() -> None:
    body = """
    mov.u64 %a10, own;
    st.local.u32 [%a10+4], %r1;
    mov.u32 %r3, 0xFFFFFFFF;
    mad.lo.cc.u32 %r4, %r3, %r1, %r1;
    madc.hi.u32 %r5, %r3, %r1, 0;
    ld.local.u32 %r6, [%a10{place}];
    add.s32 %r7, %r6, %r5;
    st.global.u32 [%a6], %r7;"""
    _, y = words()
    # (2^32 - 1) t + t is t in the upper word.
    found = run(body.format(place="+4"), y.copy(), y)
    assert found.tolist() == [2 * t for t in range(32)]
    with pytest.raises(Fault, match="local memory that was never written"):
        run(body.format(place=""), y.copy(), y)


def test_products_of_a_warp() -> None:
    """Each number where the manual says that a thread has it."""
    a, b = RNG.normal(size=(16, 16)).astype(np.float16), RNG.normal(size=(16, 8)).astype(np.float16)
    c = RNG.normal(size=(16, 8)).astype(np.float32)
    lane = np.arange(32)
    row, column = lane // 4, 2 * (lane % 4)

    def word(matrix: Any, rows: Any, columns: Any, across: bool) -> Any:
        low = matrix[rows, columns].view(np.uint16).astype(np.uint32)
        high = matrix[rows + (not across), columns + across].view(np.uint16).astype(np.uint32)
        return low | high << np.uint32(16)

    left = [word(a, row + 8 * (k % 2), column + 8 * (k // 2), True) for k in range(4)]
    right = [word(b, column + 8 * k, row, False) for k in range(2)]
    sums = [c[row + 8 * (k // 2), column + k % 2] for k in range(4)]
    found = tensor.product("f16", tuple(left), tuple(right), tuple(sums))
    exact = a.astype(np.float64) @ b.astype(np.float64) + c
    for k in range(4):
        np.testing.assert_allclose(found[k], exact[row + 8 * (k // 2), column + k % 2], 1e-6)
    matrix = RNG.integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
    for transposed in (False, True):
        words_ = tensor.rows(matrix.reshape(32, 8), 4, transposed)
        for k in range(4):
            right_ = matrix[k].T if transposed else matrix[k]
            assert np.array_equal(words_[k] & np.uint32(0xFFFF), right_[row, column])
            assert np.array_equal(words_[k] >> np.uint32(16), right_[row, column + 1])
    straight, turned = (tensor.rows(matrix.reshape(32, 8), 4, x)[0] for x in (False, True))
    assert np.array_equal(tensor.transposed(straight), turned)
