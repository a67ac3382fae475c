"""Instructions of a warp: shuffles, votes, products of matrices."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_tools.ptx_emulator.elements import FaultError, PTXError
from tests.cuda_tools.ptx_text import computed, execute, with_arrays

LANES = np.arange(64)


@pytest.mark.parametrize(
    ("how", "source"),
    [
        ("bfly.b32 %d, %a, 5, 31", LANES ^ 5),
        ("down.b32 %d, %a, 3, 31", np.where(LANES % 32 + 3 < 32, LANES + 3, LANES)),
        ("up.b32 %d, %a, 3, 0", np.where(LANES % 32 - 3 >= 0, LANES - 3, LANES)),
        ("idx.b32 %d, %a, 7, 31", LANES // 32 * 32 + 7),
        # Segments of eight lanes: the mask of the segment is in the second byte of the last operand.
        ("down.b32 %d, %a, 3, 6175", np.where(LANES % 8 + 3 < 8, LANES + 3, LANES)),
        ("idx.b32 %d, %a, 2, 6175", LANES // 8 * 8 + 2),
    ],
)
def test_shuffles(how, source):
    x = np.random.default_rng(0).integers(0, 2**32, 64, np.uint32)
    np.testing.assert_array_equal(computed(f"shfl.sync.{how}, -1", [("u32", x)], "u32"), x[source])


def test_a_shuffle_says_whether_the_lane_exists():
    out = computed("shfl.sync.down.b32 %r1|%p1, %a, 1, 31, -1; selp.u32 %d, 1, 0, %p1", [("u32", LANES)], "u32")
    np.testing.assert_array_equal(out, LANES % 32 < 31)


@pytest.mark.parametrize(
    ("how", "expected"), [("ballot.sync.b32", [0xFFF, 0]), ("any.sync.pred", [1, 0]), ("all.sync.pred", [0, 0])]
)
def test_votes(how, expected):
    pred = "pred" in how
    target = "%p2" if pred else "%d"
    then = "selp.u32 %d, 1, 0, %p2" if pred else "mov.u32 %r1, 0"
    out = computed(f"setp.lt.u32 %p1, %a, 12; vote.{how} {target}, %p1, -1; {then}", [("u32", LANES)], "u32")
    np.testing.assert_array_equal(out, np.repeat(expected, 32))


def test_lanes_that_are_named_and_do_not_come():
    body = "setp.lt.u32 %p1, %r0, 16; @!%p1 bra END; shfl.sync.bfly.b32 %r1, %r0, {}, 31, {}; END: mov.u32 %r2, 0;"
    findings = execute(with_arrays(body.format(1, -1), 0), 32, []).findings
    assert any("do not take part" in text for text in findings)
    execute(with_arrays(body.format(1, 0xFFFF), 0), 32, []).assert_clean()
    findings = execute(with_arrays(body.format(16, 0xFFFF), 0), 32, []).findings
    assert any("value of a lane" in text for text in findings)


MMA = {
    "tf32": ("m16n8k8.row.col.f32.tf32.tf32.f32", 8, np.float32, 1),
    "bf16": ("m16n8k16.row.col.f32.bf16.bf16.f32", 16, np.float32, 2),
    "f16": ("m16n8k16.row.col.f32.f16.f16.f32", 16, np.float16, 2),
}


def packed(values, kind: str) -> int:
    """Return the bits of one register: one TF32, or two small floats, the first one lowest."""
    bits = [int(np.float32(v).view(np.uint32)) for v in values]
    if kind == "tf32":
        return bits[0]
    halves = [b >> 16 for b in bits] if kind == "bf16" else [int(np.float16(v).view(np.uint16)) for v in values]
    return halves[0] | halves[1] << 16


def fragments(a, b, c, kind: str):
    """Return the registers of every lane, as the PTX manual draws them (groupID = lane / 4, threadID = lane % 4)."""
    _, depth, _, each = MMA[kind]
    left, right, sums = np.zeros((32, 4), np.uint32), np.zeros((32, 2), np.uint32), np.zeros((32, 4), np.float32)
    for lane in range(32):
        group, thread = divmod(lane, 4)
        first = thread * each
        rows, columns = (group, group + 8, group, group + 8), (0, 0, depth // 2, depth // 2)
        for n in range(4):
            left[lane, n] = packed(a[rows[n], first + columns[n] :][:each], kind)
            sums[lane, n] = c[group + 8 * (n // 2), 2 * thread + n % 2]
        for n in range(2):
            right[lane, n] = packed(b[first + n * depth // 2 :, group][:each], kind)
    return left, right, sums


@pytest.mark.parametrize("kind", MMA)
def test_products_of_matrices(kind):
    shape, depth, _, _ = MMA[kind]
    rng = np.random.default_rng(1)
    a, b, c = (rng.integers(-8, 9, size).astype(np.float32) for size in ((16, depth), (depth, 8), (16, 8)))
    left, right, sums = fragments(a, b, c, kind)
    body = (
        "shl.b64 %rd4, %rd30, 2; shl.b64 %rd5, %rd30, 1; add.s64 %rd6, %rd0, %rd4; add.s64 %rd7, %rd1, %rd5;"
        "add.s64 %rd8, %rd2, %rd4; ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd6]; ld.global.v2.u32 {%r5, %r6}, [%rd7];"
        f"ld.global.v4.f32 {{%f1, %f2, %f3, %f4}}, [%rd8]; mma.sync.aligned.{shape} {{%f1, %f2, %f3, %f4}},"
        "{%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4}; st.global.v4.f32 [%rd8], {%f1, %f2, %f3, %f4};"
    )
    execute(with_arrays(body, 3), 32, [left, right, sums]).assert_clean()
    np.testing.assert_array_equal(sums, fragments(a, b, a @ b + c, kind)[2])


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("setp.lt.u32 %p1, %r0, 16; @%p1 {}", FaultError, "part of a warp"),
        ("{}", PTXError, "not emulated: mma.sync.aligned.m8n8k4"),
    ],
)
def test_products_that_are_refused(body, error, message):
    shape = "m8n8k4.row.col.f32.f16.f16.f32" if error is PTXError else MMA["tf32"][0]
    sums = "{%f1, %f2, %f3, %f4}"
    product = f"mma.sync.aligned.{shape} {sums}, {{%r1, %r2, %r3, %r4}}, {{%r5, %r6}}, {sums};"
    with pytest.raises(error, match=message):
        execute(with_arrays(body.format(product), 0), 32, [])


def test_matrices_are_loaded_by_rows():
    declarations = "    .shared .align 16 .b8 buffer[512];"
    body = (
        "mov.u32 %r1, buffer; shl.b32 %r2, %r0, 4; add.s32 %r2, %r2, %r1; shl.b64 %rd4, %rd30, 2;"
        "add.s64 %rd5, %rd0, %rd4;"
        "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd5]; st.shared.v4.u32 [%r2], {%r4, %r5, %r6, %r7}; bar.sync 0;"
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r8, %r9, %r10, %r11}, [%r2];"
        "st.global.v4.u32 [%rd5], {%r8, %r9, %r10, %r11};"
    )
    words = np.arange(128, dtype=np.uint32).reshape(32, 4)
    out = words.copy()
    execute(with_arrays(body, 1, declarations), 32, [out]).assert_clean()
    # Lane l has word l % 4 of row l / 4 of each of the four matrices, whose rows are 8 lanes' 16 bytes.
    np.testing.assert_array_equal(out, words.reshape(4, 32).T)
