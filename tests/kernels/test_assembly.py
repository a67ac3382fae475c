"""The machine code of the register tiles: one multiply-add an accumulator and step, nothing on the stack."""

from __future__ import annotations

import json
import platform

import numpy as np
import pytest
from numba.core import config

from fastconv._jit import njit
from fastconv.kernels.cpu import assembly, target
from fastconv.kernels.cpu.conv_tiles import pixels_kernel, planes_kernel
from fastconv.kernels.cpu.ir_builder import DOTS
from tests import guard

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="there is no machine code")
needs_x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="targets of x86")

KERNELS = {"planes": planes_kernel, "pixels": pixels_kernel}
# Each is a compilation; the first one does most of the work.
FIRST, *OTHER = target.current().outer_tiles
TILES = [FIRST, *(pytest.param(tile, id=str(tile), marks=pytest.mark.slow) for tile in OTHER)]
AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+movbe,+avx,+f16c,+avx2,+fma,+bmi,+bmi2,+lzcnt"
# CPU, features, tiles (MR, NV) of its menu.
OTHERS = {
    "avx512": ("skylake-avx512", f"{AVX2},+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx512cd", [(14, 2), (8, 3)]),
    "avx2": ("haswell", AVX2, [(4, 3)]),
    "sse2": ("x86-64", "+sse,+sse2", [(6, 2), (2, 5)]),
}


def report(kind, bits, MR, NV):
    """Return the multiply-adds in the inner loop of a kernel, and what of it touches the stack."""
    kernel = KERNELS[kind](bits, MR, NV, target.current().lanes(bits), False)
    loop = assembly.inner_loop(assembly.of(kernel))
    return assembly.multiply_adds(loop), assembly.spills(loop), loop


@pytest.mark.parametrize("bits", [32, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_inner_loop_is_all_multiply_adds(tile, kind, bits):
    count, spills, loop = report(kind, bits, *tile)
    accumulators = tile[0] * tile[1]
    assert count >= accumulators, loop
    assert count % accumulators == 0, loop
    assert not spills, loop


@pytest.mark.slow
@pytest.mark.skipif(not target.current().dots, reason="this CPU has no dot products of bytes")
@pytest.mark.parametrize("bits", DOTS)
@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("tile", target.current().outer_tiles, ids=str)
def test_inner_loop_is_all_dot_products(tile, kind, bits):
    count, spills, loop = report(kind, bits, *tile)
    accumulators = tile[0] * tile[1]
    assert count == sum("vpdpbusd" in line for line in loop) >= accumulators, loop
    assert count % accumulators == 0, loop
    assert not spills, loop


@pytest.mark.slow
@needs_x86
@pytest.mark.parametrize("name", OTHERS)
def test_inner_loop_of_other_targets(name, tmp_path):
    cpu, features, menu = OTHERS[name]
    # Compiled, not run: this CPU may not have the instructions.
    code = f"""
import json
from fastconv.kernels.cpu import target
from tests.kernels.test_assembly import report
kinds = ("planes", 32), ("pixels", 64)
problems = [(*kind, tile) for tile in {menu} for kind in kinds]
assert set({menu}) <= set(target.current().outer_tiles)
print(json.dumps([target.current().name, [(*p, *report(*p[:2], *p[2])) for p in problems]]))
"""
    environment = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features, "FASTCONV_CACHE_DIR": str(tmp_path / "cache")}
    found, reports = json.loads(guard.run(code, **environment))
    assert found == name
    register = {"avx512": "%zmm", "avx2": "%ymm", "sse2": "%xmm"}[name]
    for kind, bits, (MR, NV), count, spills, loop in reports:
        assert count >= MR * NV, (kind, bits, loop)
        assert count % (MR * NV) == 0, (kind, bits, loop)
        assert not spills, (kind, bits, loop)
        assert any(register in line for line in loop)


LOOPS = """
f:
    testq %rdi, %rdi
    jle .LBB0_9
.LBB0_1:                                # outer
    xorl %eax, %eax
    jmp .LBB0_4
    .p2align 4
.LBB0_3:
    vfmadd231ps (%rsi), %ymm1, %ymm2
.LBB0_4:                                # head, in the middle
    vfmadd231ps (%rsi,%rax), %ymm1, %ymm3
    incq %rax
    cmpq %rdi, %rax
    jl .LBB0_3
    vfmadd231ps %ymm1, %ymm1, %ymm1
    decq %rcx
    jne .LBB0_1
.LBB0_7:
    addps %xmm0, %xmm1
    decq %rdx
    jne .LBB0_7
.LBB0_9:
    retq
"""


def test_inner_loop_is_found_by_its_jumps():
    assert assembly.inner_loop(LOOPS) == [
        "vfmadd231ps (%rsi), %ymm1, %ymm2",
        "vfmadd231ps (%rsi,%rax), %ymm1, %ymm3",
        "incq %rax",
        "cmpq %rdi, %rax",
        "jl .LBB0_3",
    ]
    assert assembly.inner_loop("f:\n  retq\n") == []
    assert assembly.inner_loop("") == []


def test_inner_loop_reads_aarch64():
    text = """
f:
LBB0_1: ; =>This Inner Loop
    ldr q0, [x1], #16
    fmla v2.4s, v0.4s, v1.s[0]
    tbz w8, #0, LBB0_1
    str q2, [sp, #16]
    ret
"""
    loop = assembly.inner_loop(text)
    assert loop == ["ldr q0, [x1], #16", "fmla v2.4s, v0.4s, v1.s[0]", "tbz w8, #0, LBB0_1"]
    assert assembly.multiply_adds(loop) == 1
    assert assembly.spills(["str q2, [sp, #16]"])


def test_multiply_adds_counts_pairs():
    pair = ["vmulps %ymm0, %ymm1, %ymm2", "vaddps %ymm2, %ymm3, %ymm3"]
    assert assembly.multiply_adds(["mulpd %xmm0, %xmm1", "addpd %xmm1, %xmm2", "addpd %xmm1, %xmm2"]) == 1
    assert assembly.multiply_adds([*pair, "vfmadd213pd %ymm0, %ymm1, %ymm2", "addq $1, %rax"]) == 2


def test_spills_are_slots_of_the_stack():
    touching = ["vmovups 32(%rsp), %ymm0", "movq -8(%rbp), %rax", "vmovaps %ymm1, (%rsp,%rax)"]
    # Without a frame pointer %rbp holds what it likes.
    assert assembly.spills([*touching, "vbroadcastss -4(%rbp,%rcx,4), %ymm15", "movq (%rax), %rbp"]) == touching


def test_of_compiled_and_of_new_kernels():
    @njit()
    def axpy(a, x, y):
        for i in range(x.size):
            y[i] += a * x[i]

    axpy(np.float32(2), np.ones(64, np.float32), np.ones(64, np.float32))
    loop = assembly.inner_loop(assembly.of(axpy))
    assert assembly.multiply_adds(loop) > 0
    # A second time it may come from the disk, and still has its assembly.
    assert assembly.inner_loop(assembly.of(axpy)) == loop

    @njit()
    def copied(g, io, scratch, lo, hi):
        for t in range(lo, hi):
            io[t] = g[t]

    assert "ret" in assembly.of(copied)
    assert not copied.signatures
