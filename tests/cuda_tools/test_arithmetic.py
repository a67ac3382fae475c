"""Instructions of the emulator that compute, one by one, beside NumPy or exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest

from tests.cuda_tools.ptx_emulator.elements import PTXError
from tests.cuda_tools.ptx_text import computed, execute, module

F32, F64, U32, I32 = np.float32, np.float64, np.uint32, np.int32


def rounded(exact: Fraction, bits: int, lowest: int) -> float:
    """Return a fraction rounded once, to nearest even, to floats of so many bits."""
    if not exact:
        return 0.0
    exponent = abs(exact.numerator).bit_length() - exact.denominator.bit_length()
    exponent -= abs(exact) < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, lowest) - bits + 1)
    return float(round(exact / unit) * unit)


@pytest.mark.parametrize(("kind", "bits", "lowest"), [("f32", 24, -126), ("f64", 53, -1022)])
def test_fma_rounds_once(kind, bits, lowest):
    rng = np.random.default_rng(0)
    dtype = {"f32": F32, "f64": F64}[kind]
    x, y, z = (rng.standard_normal(3000).astype(dtype) for _ in range(3))
    z *= (2.0 ** rng.integers(-60, 4, 3000)).astype(dtype)
    expected = [
        rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), bits, lowest)
        for a, b, c in zip(x, y, z, strict=True)
    ]
    np.testing.assert_array_equal(
        computed(f"fma.rn.{kind} %d, %a, %b, %c", [(kind, x), (kind, y), (kind, z)], kind), np.array(expected, dtype)
    )


def test_copysign_takes_the_sign_of_the_first():
    signs, values = F32([-1, 1, -0.0, 0.0]), F32([2, -3, 4, -np.inf])
    out = computed("copysign.f32 %d, %a, %b", [("f32", signs), ("f32", values)], "f32")
    np.testing.assert_array_equal(out, F32([-2, 3, -4, np.inf]))


def test_fma_rounds_down():
    rng = np.random.default_rng(1)
    x, y, z = (rng.standard_normal(500).astype(F32) for _ in range(3))
    z[:250] *= F32(2.0**-40)
    out = computed("fma.rm.f32 %d, %a, %b, %c", [("f32", x), ("f32", y), ("f32", z)], "f32")
    for a, b, c, got in zip(x, y, z, out, strict=True):
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        assert Fraction(float(got)) <= exact < Fraction(float(np.nextafter(got, F32(np.inf))))


def test_fma_f32_where_rounding_twice_is_wrong():
    # The product is a tie between two float32, and the tiny third operand decides it.
    x, y = F32([1 + 2**-12] * 4 + [2.0**-70]), F32([1 + 2**-12] * 4 + [2.0**-70 * (1 + 2**-20)])
    z = F32([2.0**-80, -(2.0**-80), 0, -1, 2.0**-149])
    exact = [Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)) for a, b, c in zip(x, y, z, strict=True)]
    expected = F32([rounded(value, 24, -126) for value in exact])
    twice = (x.astype(F64) * y.astype(F64) + z.astype(F64)).astype(F32)
    assert (twice != expected).any()
    out = computed("fma.rn.f32 %d, %a, %b, %c", [("f32", x), ("f32", y), ("f32", z)], "f32")
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("eq", "100010"),
        ("ne", "011000"),
        ("lt", "010000"),
        ("le", "110010"),
        ("gt", "001000"),
        ("ge", "101010"),
        ("equ", "100111"),
        ("neu", "011101"),
        ("ltu", "010101"),
        ("leu", "110111"),
        ("gtu", "001101"),
        ("geu", "101111"),
        ("num", "111010"),
        ("nan", "000101"),
    ],
)
def test_setp_holds_the_rules_of_nan(how, expected):
    x, y = F32([1, 1, 2, nan, 0.0, nan]), F32([1, 2, 1, 1, -0.0, nan])
    out = computed(f"setp.{how}.f32 %d, %a, %b", [("f32", x), ("f32", y)], "pred")
    # -0 equals 0; the last one has two NaN.
    assert "".join(map(str, out)) == expected


@pytest.mark.parametrize(("name", "expected"), [("%p2", [0, 1, 0, 0]), ("%p3", [1, 0, 1, 1])])
def test_setp_combines_and_inverts(name, expected):
    body = f"setp.ne.u32 %p1, %a, 0; setp.lt.and.u32 %p2|%p3, %a, 2, %p1; selp.u32 %d, 1, 0, {name}"
    np.testing.assert_array_equal(computed(body, [("u32", np.arange(4))], "u32"), expected)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("max.f32", [2, 1, 1, nan, 0.0]), ("min.f32", [1, 1, 1, nan, -0.0]), ("max.NaN.f32", [2, nan, nan, nan, 0.0])],
)
def test_extremes_of_nan_and_zeros(op, expected):
    x, y = F32([1, nan, 1, nan, -0.0]), F32([2, 1, nan, nan, 0.0])
    out = computed(f"{op} %d, %a, %b", [("f32", x), ("f32", y)], "f32")
    np.testing.assert_array_equal(out, F32(expected))
    np.testing.assert_array_equal(np.signbit(out[-1:]), np.signbit(F32(expected[-1:])))


def test_selp_takes_the_bits_of_its_choice():
    x, y = F32([nan, 1, -0.0]), F32([2, nan, 0.0])
    out = computed("setp.gt.f32 %p1, %b, 0f3FC00000; selp.f32 %d, %a, %b, %p1", [("f32", x), ("f32", y)], "f32")
    np.testing.assert_array_equal(out, F32([nan, nan, 0.0]))


INTEGERS = [
    ("add.u32", "u32", lambda x, y: x + y),
    ("sub.s32", "s32", lambda x, y: x - y),
    ("mul.lo.s32", "s32", lambda x, y: x * y),
    ("mul.hi.u32", "u32", lambda x, y: (x.astype("u8") * y.astype("u8") >> np.uint64(32)).astype("u4")),
    ("mul.hi.s32", "s32", lambda x, y: (x.astype("i8") * y.astype("i8") >> 32).astype("i4")),
    ("div.s32", "s32", lambda x, y: np.trunc(x / np.where(y == 0, 1, y)).astype("i4")),
    ("rem.s32", "s32", lambda x, y: np.fmod(x, np.where(y == 0, 1, y))),
    ("div.u32", "u32", lambda x, y: x // np.where(y == 0, 1, y).astype("u4")),
    ("max.s32", "s32", np.maximum),
    ("min.u32", "u32", np.minimum),
    ("and.b32", "u32", np.bitwise_and),
    ("xor.b32", "u32", np.bitwise_xor),
]


@pytest.mark.parametrize(("op", "kind", "definition"), INTEGERS, ids=[case[0] for case in INTEGERS])
def test_integers_wrap_as_numpy_does(op, kind, definition):
    rng = np.random.default_rng(1)
    dtype = {"u32": U32, "s32": I32}[kind]
    x, y = (rng.integers(0, 2**32, 500, U32).view(dtype) for _ in range(2))
    y[:4] = [1, 2, 3, 1000]
    y = np.where(y == 0, dtype(1), y)
    with np.errstate(over="ignore"):
        expected = definition(x, y)
    np.testing.assert_array_equal(computed(f"{op} %d, %a, %b", [(kind, x), (kind, y)], kind), expected)


def test_wide_products_and_sums():
    x, y, z = I32([-(2**31), 7, -3]), I32([2**31 - 1, -9, -5]), np.int64([2**40, -1, 5])
    out = computed("mad.wide.s32 %d, %a, %b, %c", [("s32", x), ("s32", y), ("s64", z)], "s64")
    np.testing.assert_array_equal(out, x.astype("i8") * y.astype("i8") + z)


@pytest.mark.parametrize(
    ("op", "kind", "expected"),
    [
        ("shl.b32", "u32", [2**31, 0, 0x20]),
        ("shr.u32", "u32", [2**30, 0, 0]),
        ("shr.s32", "s32", [-(2**30), -1, 0]),
    ],
)
def test_shifts_by_more_than_the_bits(op, kind, expected):
    x, count = I32([-(2**31) + (op == "shl.b32") * (2**30), -5, 1]), U32([1, 40, 5])
    out = computed(f"{op} %d, %a, %b", [(kind, x.view(U32) if kind == "u32" else x), ("u32", count)], kind)
    np.testing.assert_array_equal(out, np.array(expected, out.dtype))


BITS = [
    ("bfe.u32 %d, %a, 4, 8", lambda x: x >> 4 & 255),
    ("bfe.s32 %d, %a, 4, 8", lambda x: ((x >> 4 & 255) ^ 128) - 128),
    ("bfi.b32 %d, %a, -1, 8, 4", lambda x: 0xFFFFF0FF | (x & 15) << 8),
    ("prmt.b32 %d, %a, 0, 0x0123", lambda x: int.from_bytes(x.to_bytes(4, "little"), "big")),
    ("lop3.b32 %d, %a, 0xFF, 0xF0F0, 0xE8", lambda x: x & 0xFF | x & 0xF0F0 | 0xFF & 0xF0F0),
    ("shf.l.wrap.b32 %d, %a, %a, 5", lambda x: x << 5 | x >> 27),
    ("popc.b32 %d, %a", lambda x: x.bit_count()),
    ("clz.b32 %d, %a", lambda x: 32 - x.bit_length()),
    ("brev.b32 %d, %a", lambda x: int(f"{x:032b}"[::-1], 2)),
    ("not.b32 %d, %a", lambda x: ~x),
    ("neg.s32 %d, %a", lambda x: -x),
]


@pytest.mark.parametrize(("instruction", "definition"), BITS, ids=[case[0].split()[0] for case in BITS])
def test_bits(instruction, definition):
    x = np.append(np.random.default_rng(2).integers(0, 2**32, 100, U32), U32([0, 1, 2**32 - 1]))
    expected = U32([definition(int(value)) % 2**32 for value in x])
    np.testing.assert_array_equal(computed(instruction, [("u32", x)], "u32"), expected)


CONVERSIONS = [
    ("cvt.rzi.s32.f32", "f32", [1.9, -1.9, nan, inf, -inf, 3e9], "s32", [1, -1, 0, 2**31 - 1, -(2**31), 2**31 - 1]),
    ("cvt.rni.s32.f32", "f32", [0.5, 1.5, 2.5, -0.5], "s32", [0, 2, 2, 0]),
    ("cvt.rzi.u8.f32", "f32", [-1.0, 300.0, 7.7], "u16", [0, 255, 7]),
    ("cvt.s32.s8", "s16", [-1, 127], "s32", [-1, 127]),
    ("cvt.sat.s8.s32", "s32", [300, -300, 5], "s16", [127, -128, 5]),
    ("cvt.rn.f32.s32", "s32", [2**24 + 1, -3], "f32", [2**24, -3]),
    ("cvt.rn.f16.f32", "f32", [1 + 2**-11, 1e6, nan], "f16", [1, inf, nan]),
    ("cvt.f32.f16", "f16", [1.5, -0.0], "f32", [1.5, -0.0]),
    ("cvt.f64.f32", "f32", [0.1], "f64", [float(np.float32(0.1))]),
    ("cvt.u32.u64", "u64", [2**32 + 5], "u32", [5]),
    ("cvt.s64.s32", "s32", [-7], "s64", [-7]),
    ("cvt.rmi.f32.f32", "f32", [1.5, -1.5], "f32", [1, -2]),
    ("cvt.rn.bf16.f32", "f32", [1.0, 1 + 2**-8, 1 + 3 * 2**-8, nan], "u16", [0x3F80, 0x3F80, 0x3F82, 0x7FFF]),
    ("cvt.rna.tf32.f32", "f32", [1.0, 1 + 2**-11], "u32", [0x3F800000, 0x3F802000]),
]


@pytest.mark.parametrize(
    ("op", "source", "values", "target", "expected"), CONVERSIONS, ids=[case[0] for case in CONVERSIONS]
)
def test_conversions(op, source, values, target, expected):
    out = computed(f"{op} %d, %a", [(source, np.array(values))], target)
    np.testing.assert_array_equal(out, np.array(expected).astype(out.dtype))


def test_bfloat16_unpacks_and_packs():
    out = computed("cvt.rn.bf16x2.f32 %d, %a, %b", [("f32", F32([1.0])), ("f32", F32([2.0]))], "b32")
    assert out[0] == 0x3F804000
    out = computed("mov.b32 {%h1, %h2}, %a; cvt.f32.bf16 %d, %h2", [("b32", U32([0x3F804000]))], "f32")
    assert out[0] == 1.0


@pytest.mark.parametrize(
    ("op", "definition"),
    [
        ("sqrt.rn.f32", np.sqrt),
        ("rcp.rn.f32", lambda x: 1 / x),
        ("ex2.approx.f32", np.exp2),
        ("lg2.approx.f32", np.log2),
    ],
)
def test_functions(op, definition):
    x = np.random.default_rng(3).uniform(0.1, 9, 100).astype(F32)
    np.testing.assert_allclose(computed(f"{op} %d, %a", [("f32", x)], "f32"), definition(x), rtol=2e-7)


def test_ftz_flushes_a_subnormal_sum():
    tiny = F32([1e-38])
    for suffix, expected in (("", tiny - F32(5e-39)), (".ftz", F32([0]))):
        out = computed(f"sub{suffix}.f32 %d, %a, %b", [("f32", tiny), ("f32", F32([5e-39]))], "f32")
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    "text",
    [
        "tcgen05.mma %r1, %r2;",
        "vadd.s32 %r1, %r2, %r3;",
        "add.f16x2 %r1, 0, 0;",
        "add.rz.f32 %f1, 0f00000000, 0f00000000;",
        "cvt.rp.f32.s32 %f1, 3;",
        "add.sat.s32 %r1, 1, 2;",
        "fma.rn.bf16 %h1, 0, 0, 0;",
        "atom.global.add.f16x2 %r1, [%rd1], 0;",
        "bar.arrive 0, 32;",
        "barrier.cluster.arrive;",
    ],
)
def test_an_instruction_that_is_not_emulated_is_named(text):
    with pytest.raises(PTXError, match=re.escape(text.split()[0].removesuffix(";"))):
        execute(module(text), 1, [])


def test_an_unknown_element_type_is_named():
    with pytest.raises(PTXError, match="f128"):
        execute(module("add.f128 %r1, %r2, %r3;"), 1, [])
