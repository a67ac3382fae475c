"""Compiling without a GPU, and the assertions on machine code: each is shown to hold and shown to fail."""

from __future__ import annotations

import pytest

from tests.cuda_tools import compile as toolchain
from tests.cuda_tools import sass
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN, sample_kernels

pytestmark = NEEDS_TOOLCHAIN
samples = sample_kernels()

TILE = (64, 64, 8, 8)
CAPABILITIES = pytest.mark.parametrize("capability", toolchain.CAPABILITIES, ids=["sm_80", "sm_90"])


def product(capability, flags=()):
    """Return the machine code of the tiled matrix product."""
    ptx = toolchain.to_ptx(samples.product(*TILE), samples.PRODUCT, capability)
    return sass.MachineCode(toolchain.to_cubin(ptx, capability, flags), capability)


@CAPABILITIES
def test_a_good_tile_passes_all(capability):
    code = product(capability)
    sass.assert_registers(code, 128)
    sass.assert_no_local_memory(code)
    sass.assert_share(code, 0.75)
    sass.assert_wide_shared_loads(code)
    sass.assert_no_float64(code)
    sass.assert_no_division64(code, toolchain.to_ptx(samples.product(*TILE), samples.PRODUCT, capability))
    assert code.assembled.shared == 2 * 64 * 8 * 4
    assert code.assembled.barriers == 1
    assert sum(i.root == "FFMA" for i in code.main_loop()) == 8 * 8


def test_too_many_registers_and_too_small_a_share():
    code = product((9, 0))
    with pytest.raises(AssertionError, match=r"registers, at most 32"):
        sass.assert_registers(code, 32)
    with pytest.raises(AssertionError, match=r"of the loop is FFMA, at least 99"):
        sass.assert_share(code, 0.99)


@CAPABILITIES
def test_spills_are_seen(capability):
    code = product(capability, ("--maxrregcount=40",))
    assert code.assembled.spill_stores > 0
    with pytest.raises(AssertionError, match="spills"):
        sass.assert_no_local_memory(code)


BAD = [
    ("float64", samples.halves_in_float64, samples.COPY, sass.assert_no_float64, "float64 instructions"),
    ("local", samples.indexed_local_array, samples.COPY, sass.assert_no_local_memory, "local accesses"),
    ("narrow", samples.narrow_shared_loads, samples.COPY, sass.assert_wide_shared_loads, "less than 128 bits"),
]


@pytest.mark.parametrize(("kernel", "signature", "check", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_machine_code_is_seen(kernel, signature, check, message):
    code = sass.machine_code(kernel, signature)
    with pytest.raises(AssertionError, match=message):
        check(code)


def test_a_division_of_64_bits_is_seen():
    code = sass.machine_code(samples.divides_64_bits, samples.DIVIDE)
    ptx = toolchain.to_ptx(samples.divides_64_bits, samples.DIVIDE)
    with pytest.raises(AssertionError, match="64-bit divisions"):
        sass.assert_no_division64(code, ptx)
    with pytest.raises(AssertionError, match="calls of subroutines"):
        sass.assert_no_division64(code, "")


def test_a_kernel_without_a_loop():
    with pytest.raises(AssertionError, match="no loop"):
        sass.machine_code(samples.copy, samples.COPY).main_loop()


def test_the_issue_model():
    # 64 FMA of 32 lanes each: 128 clocks on 16 lanes of a scheduler, 64 on 32.
    old, new = product((8, 0)), product((9, 0))
    assert (old.predict().fma, new.predict().fma) == (128, 64)
    assert old.predict().issue == len(old.main_loop())
    assert old.predict().shared == (4 * 4 * 2, 4 * 4 * 4)
    assert old.predict().peak == 1
    assert new.predict().peak == pytest.approx(64 / len(new.main_loop()))
    assert new.predict().peak_with_shared <= new.predict().peak


LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;    /* 0x00000a0000017a02 */
        /*0010*/              @!P0 FFMA R2, R2, R3, R4 ;     /* 0x0 */
        /*0020*/                   LDS.128 R4, [R2] ;        /* 0x0 */
        /*0030*/               @P0 BRA 0x10 ;                /* 0x0 */
        /*0040*/                   EXIT ;                    /* 0x0 */
        /*0050*/                   BRA 0x50;                 /* 0x0 */
"""


def test_a_listing_is_read():
    code = sass.parse(LISTING)
    assert [i.opcode for i in code] == ["MOV", "FFMA", "LDS.128", "BRA", "EXIT", "BRA"]
    assert (code[1].predicate, code[1].address, code[2].root) == ("@!P0", 16, "LDS")


@CAPABILITIES
def test_ptx_is_for_its_architecture(capability):
    ptx = toolchain.to_ptx(samples.copy, samples.COPY, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in ptx
    assert "@" in toolchain.to_llvm(samples.copy, samples.COPY, capability)


def test_ptxas_says_why_it_refuses():
    ptx = toolchain.to_ptx(samples.copy, samples.COPY)
    with pytest.raises(RuntimeError, match=r"ptxas: .*"):
        toolchain.to_cubin(ptx.replace("ret;", "no.such.instruction;"), (8, 0))


def test_options_reach_the_compiler():
    # A fused product and sum that flushes subnormal numbers is what fastmath gives.
    plain = toolchain.to_ptx(samples.product(*TILE), samples.PRODUCT)
    fast = toolchain.to_ptx(samples.product(*TILE), samples.PRODUCT, fastmath=True)
    assert "fma.rn.f32" in plain
    assert "fma.rn.ftz.f32" in fast
