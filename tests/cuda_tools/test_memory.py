"""What the emulator says about memory: bounds, alignment, races, barriers, bank conflicts, coalescing.

Every finding is shown on a kernel that has the fault, and shown to be absent from the same kernel without it.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_tools.ptx_emulator.elements import FaultError, PTXError
from tests.cuda_tools.ptx_text import execute, with_arrays

SHARED = "    .shared .align 16 .b8 buffer[4096];"
# %r1 becomes the shared address of this thread's word, %r2 of its neighbour's (thread ^ distance).
OWN = "mov.u32 %r5, buffer; shl.b32 %r6, %r0, 2; add.s32 %r1, %r5, %r6;"
OTHER = "xor.b32 %r7, %r6, {}; add.s32 %r2, %r5, %r7;"
BARRIER = "bar.sync 0;"


def shared(body: str, threads: int = 64, blocks: int = 1, distance: int = 4, **options):
    """Run a body between the addresses in shared memory and a store of %f2; returns the output and the report."""
    body = f"{OWN} {OTHER.format(distance)} cvt.rn.f32.u32 %f1, %r0; {body}"
    body += "add.s64 %rd1, %rd0, %rd30; st.global.f32 [%rd1], %f2;"
    out = np.full(threads, np.nan, np.float32)
    report = execute(with_arrays(body, 1, SHARED), threads, [out], blocks, **options)
    return out, report


STORE, LOAD = "st.shared.f32 [%r1], %f1;", "ld.shared.f32 %f2, [%r2];"
# Without and with what makes it right.
RACES = {
    "RAW": (f"{STORE} {LOAD}", f"{STORE} {BARRIER} {LOAD}"),
    "WAR": (
        f"{STORE} {BARRIER} {LOAD} st.shared.f32 [%r1], %f2;",
        f"{STORE} {BARRIER} {LOAD} {BARRIER} st.shared.f32 [%r1], %f2;",
    ),
    "WAW": (
        f"{STORE} st.shared.f32 [%r2], %f1; {BARRIER} {LOAD}",
        f"{STORE} {BARRIER} st.shared.f32 [%r2], %f1; {BARRIER} {LOAD}",
    ),
}


@pytest.mark.parametrize("kind", RACES)
@pytest.mark.parametrize("distance", [4, 128])
def test_races_within_a_barrier_interval(kind, distance):
    wrong, right = RACES[kind]
    assert any(kind in text for text in shared(wrong, distance=distance)[1].findings)
    shared(right, distance=distance)[1].assert_clean()
    with pytest.raises(AssertionError, match=f"{kind} race"):
        shared(wrong, distance=distance)[1].assert_clean()


def test_a_race_within_one_instruction():
    body = "mov.u32 %r3, buffer; st.shared.f32 [%r3], %f1; mov.f32 %f2, %f1;"
    assert any("of one instruction" in text for text in shared(body)[1].findings)


def test_a_warp_barrier_orders_its_warp_only():
    body = f"{STORE} bar.warp.sync -1; {LOAD} bar.warp.sync -1; st.shared.f32 [%r1], %f2;"
    shared(body, distance=4)[1].assert_clean()
    assert any("RAW" in text for text in shared(body, distance=128)[1].findings)


def test_race_checks_know_bytes():
    body = (
        "mov.u32 %r3, buffer; add.s32 %r3, %r3, %r0; st.shared.u8 [%r3], %r0; ld.shared.u8 %r4, [%r3{}];"
        "mov.b32 %f2, %r4;"
    )
    shared(body.format(""))[1].assert_clean()
    assert any("RAW" in text for text in shared(body.format("+1"), threads=63)[1].findings)


def test_uninitialised_shared_memory():
    out, report = shared("ld.shared.f32 %f2, [%r2];")
    assert np.isnan(out).all()
    assert any("uninitialised" in text for text in report.findings)


def test_shared_memory_is_fresh_in_every_block():
    body = f"mov.u32 %r3, %ctaid.x; setp.eq.u32 %p1, %r3, 0; @%p1 {STORE} {BARRIER} {LOAD}"
    assert any("uninitialised" in text for text in shared(body, blocks=2, checks=True)[1].findings)


def test_a_register_that_nobody_wrote():
    assert any("register" in text for text in shared("mov.f32 %f2, %f9;")[1].findings)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"setp.lt.u32 %p1, %r0, 32; @%p1 {BARRIER} mov.f32 %f2, %f1;", "ended before"),
        (f"setp.lt.u32 %p1, %r0, 32; @%p1 bra A; {BARRIER} bra B; A: {BARRIER} B: mov.f32 %f2, %f1;", "different ones"),
    ],
)
def test_divergent_barriers(body, message):
    assert any(message in text for text in shared(body)[1].findings)


def test_a_barrier_that_counts():
    out, report = shared("setp.lt.u32 %p1, %r0, 11; bar.red.popc.u32 %r3, 0, %p1; cvt.rn.f32.u32 %f2, %r3;")
    report.assert_clean()
    np.testing.assert_array_equal(out, 11)


def test_a_named_barrier_is_refused():
    with pytest.raises(PTXError, match="barrier 0"):
        shared("bar.sync 1; mov.f32 %f2, %f1;")


GLOBAL = "add.s64 %rd5, %rd0, {}; {}"


@pytest.mark.parametrize(
    ("address", "access", "message"),
    [
        ("256", "ld.global.f32 %f1, [%rd5];", "out of bounds of global"),
        ("-4", "ld.global.f32 %f1, [%rd5];", "out of bounds of global"),
        ("256", "st.global.f32 [%rd5], 0f00000000;", "out of bounds of global"),
        ("252", "ld.global.v2.f32 {%f1, %f2}, [%rd5];", "misaligned access of 8"),
        ("4", "ld.global.nc.v4.f32 {%f1, %f2, %f3, %f4}, [%rd5];", "misaligned access of 16"),
        ("248", "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd5];", "misaligned access of 16"),
        ("256", "atom.global.add.u32 %r1, [%rd5], 1;", "out of bounds of global"),
    ],
)
def test_faults_in_global_memory(address, access, message):
    with pytest.raises(FaultError, match=rf"{message}.*first block 0 thread 0.*global"):
        execute(with_arrays(GLOBAL.format(address, access), 1), 1, [np.zeros(64, np.float32)])


@pytest.mark.parametrize(
    ("address", "access", "message"),
    [
        ("buffer+4096", "ld.shared.f32 %f1, [%r1];", "out of bounds of shared"),
        ("buffer-4", "st.shared.f32 [%r1], 0f00000000;", "out of bounds of shared"),
        ("buffer+4088", "ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r1];", "misaligned access of 16"),
    ],
)
def test_faults_in_shared_memory(address, access, message):
    base, offset = address.replace("-", "+-").split("+")
    with pytest.raises(FaultError, match=message):
        execute(with_arrays(f"mov.u32 %r1, {base}; add.s32 %r1, %r1, {offset}; {access}", 0, SHARED), 1, [])


def test_vectors_arrive_in_order():
    x, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    body = (
        "shl.b64 %rd2, %rd30, 2; add.s64 %rd3, %rd0, %rd2; add.s64 %rd4, %rd1, %rd2;"
        "ld.global.nc.v4.f32 {%f1, %f2, %f3, %f4}, [%rd3]; st.global.v2.f32 [%rd4], {%f4, %f3};"
        "st.global.v2.f32 [%rd4+8], {%f2, %f1};"
    )
    execute(with_arrays(body, 2), 16, [x, out]).assert_clean()
    np.testing.assert_array_equal(out, x.reshape(16, 4)[:, ::-1].reshape(-1))


def test_blocks_that_write_the_same_place_race():
    body = "add.s64 %rd1, %rd0, %rd30; st.global.u32 [%rd1], %r0;"
    report = execute(with_arrays(body, 1), 32, [np.zeros(32, np.uint32)], blocks=2)
    assert any("WAW" in text and "global" in text for text in report.findings)
    execute(with_arrays(body, 1), 32, [np.zeros(32, np.uint32)], blocks=1).assert_clean()


def test_a_read_only_load_of_what_the_kernel_writes():
    body = f"add.s64 %rd1, %rd0, %rd30; st.global.u32 [%rd1], %r0; {BARRIER} ld.global{{}}.u32 %r1, [%rd1];"
    for way, clean in (("", True), (".nc", False)):
        report = execute(with_arrays(body.format(way), 1), 32, [np.zeros(32, np.uint32)])
        assert any("read-only" in text for text in report.findings) != clean


@pytest.mark.parametrize(("stride", "ratio"), [(0, 1), (1, 1), (2, 2), (8, 8), (32, 32), (33, 1)])
def test_bank_conflicts_of_words(stride, ratio):
    body = f"mul.lo.u32 %r1, %r0, {4 * stride}; mov.u32 %r2, buffer; add.s32 %r1, %r1, %r2; ld.shared.f32 %f1, [%r1];"
    cost = execute(with_arrays(body, 0, SHARED.replace("4096", "8192")), 32, []).memory("ld.shared")
    assert (cost.requests, cost.ratio) == (1, ratio)


@pytest.mark.parametrize(("stride", "wavefronts"), [(4, 4), (8, 8), (0, 4)])
def test_bank_conflicts_of_four_words(stride, wavefronts):
    body = (
        f"mul.lo.u32 %r1, %r0, {4 * stride}; mov.u32 %r2, buffer; add.s32 %r1, %r1, %r2;"
        "ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r1];"
    )
    cost = execute(with_arrays(body, 0, SHARED), 32, []).memory("ld.shared")
    assert (cost.cost, cost.minimum) == (wavefronts, 4)


@pytest.mark.parametrize(("stride", "sectors", "minimum"), [(1, 4, 4), (2, 8, 4), (8, 32, 4), (0, 1, 1)])
def test_coalescing(stride, sectors, minimum):
    body = f"mul.wide.u32 %rd2, %r0, {4 * stride}; add.s64 %rd3, %rd0, %rd2; ld.global.f32 %f1, [%rd3];"
    cost = execute(with_arrays(body, 1), 64, [np.zeros(512, np.float32)]).memory("ld.global")
    assert (cost.requests, cost.cost, cost.minimum) == (2, 2 * sectors, 2 * minimum)
    assert cost.per_request == sectors


def test_atomics_are_no_race_and_all_count():
    out, tickets = np.zeros(3, np.int32), np.zeros(64, np.int32)
    body = (
        "atom.global.add.u32 %r1, [%rd0], 1; red.global.max.s32 [%rd0+4], %r0; atom.global.cas.b32 %r2, [%rd0+8], 0, 5;"
        "add.s64 %rd2, %rd1, %rd30; st.global.u32 [%rd2], %r1;"
    )
    execute(with_arrays(body, 2), 64, [out, tickets]).assert_clean()
    np.testing.assert_array_equal(out, [64, 63, 5])
    np.testing.assert_array_equal(np.sort(tickets), np.arange(64))


COPY = "add.s64 %rd2, %rd1, %rd30; cp.async.ca.shared.global [%r1], [%rd2], 4{};"
COMMIT, WAIT = "cp.async.commit_group;", "cp.async.wait_group {};"


def copied(body: str, threads: int = 64):
    """Run a body that copies from the second array; returns the first one and the report."""
    out, x = np.full(threads, np.nan, np.float32), np.arange(1, threads + 1, dtype=np.float32)
    body = f"{OWN} {OTHER.format(4)} {body} add.s64 %rd3, %rd0, %rd30; st.global.f32 [%rd3], %f2;"
    return out, execute(with_arrays(body, 2, SHARED), threads, [out, x]), x


def test_an_asynchronous_copy_arrives_at_its_wait():
    out, report, x = copied(f"{COPY.format('')} {COMMIT} {WAIT.format(0)} {BARRIER} {LOAD}")
    report.assert_clean()
    np.testing.assert_array_equal(out, x.reshape(-1, 2)[:, ::-1].reshape(-1))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"{COPY.format('')} {COMMIT} {BARRIER} {LOAD}", "in flight"),
        (f"{COPY.format('')} {COMMIT} {WAIT.format(1)} {BARRIER} {LOAD}", "in flight"),
        (f"{COPY.format('')} {WAIT.format(0)} {BARRIER} {LOAD}", "in flight"),
        (f"{COPY.format('')} {COMMIT} {WAIT.format(0)} {LOAD}", "RAW"),
        (f"{STORE.replace('%f1', '%r0')} {BARRIER} {LOAD} {COPY.format('')} {COMMIT} {WAIT.format(0)}", "WAR"),
        (f"{COPY.format('')} {COMMIT} mov.f32 %f2, 0f00000000;", "never waited"),
    ],
)
def test_what_an_asynchronous_copy_may_not(body, message):
    assert any(message in text for text in copied(body)[1].findings)


def test_an_asynchronous_copy_fills_with_zeros():
    # Only even threads read; the odd ones' addresses may be anything.
    size = "and.b32 %r8, %r0, 1; setp.eq.u32 %p1, %r8, 0; selp.u32 %r9, 4, 0, %p1;"
    out, report, x = copied(f"{size} {COPY.format(', %r9')} {COMMIT} {WAIT.format(0)} {BARRIER} {LOAD}")
    report.assert_clean()
    np.testing.assert_array_equal(out, np.where(np.arange(64) % 2, x - 1, 0))


def test_arguments_are_counted():
    with pytest.raises(TypeError, match="1 parameters, 2 arguments"):
        execute(with_arrays("", 1), 1, [np.uint32(1), np.uint32(2)])


def test_read_only_arrays_are_not_written():
    x = np.zeros(32, np.uint32)
    x.flags.writeable = False
    with pytest.raises(FaultError, match="read-only"):
        execute(with_arrays("add.s64 %rd1, %rd0, %rd30; st.global.u32 [%rd1], 1;", 1), 32, [x])
