"""What the machine code of the matrix kernels must be, beyond what holds for every kernel."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import fastconv as fc
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers
from tests.cuda.runtimes import Emulated, installed, kernel_of, ptx_of
from tests.cuda_tools import compile as toolchain
from tests.cuda_tools import sass
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN

CAPABILITIES = pytest.mark.parametrize("capability", toolchain.CAPABILITIES, ids=["sm_80", "sm_90"])
# For each tile of float32 and of float16, registers, and shares of FFMA in the main loop for sm_80 and sm_90.
LEAST = {
    (128, 128): (128, 0.82, 0.81),
    (128, 64): (128, 0.82, 0.81),
    (64, 64): (170, 0.75, 0.75),
    (32, 64): (128, 0.68, 0.68),
}


def code_of(build, literals, capability):
    """Return the machine code of a kernel, compiled as a launch compiles it."""
    ptx = ptx_of(kernel_of(build, literals), capability)
    return sass.MachineCode(toolchain.to_cubin(ptx, capability), capability)


def judged(code, most, share):
    """Hold what holds for every tile."""
    sass.assert_no_local_memory(code)
    sass.assert_registers(code, most)
    sass.assert_share(code, share)
    sass.assert_wide_shared_loads(code)


@CAPABILITIES
@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("dtype", ["f", pytest.param("e", marks=pytest.mark.slow)])
def test_tile_is_mostly_multiply_adds(dtype, which, capability):
    from fastconv.kernels.cuda.conv_direct import TILES, implicit_gemm

    tile = TILES[dtype][which]
    most, *shares = LEAST[tile.BM, tile.BN]
    code = code_of(implicit_gemm, (dtype, tile, True, False), capability)
    judged(code, most, shares[capability > (8, 0)])
    assert code.predict().peak >= 0.68
    if tile.BM == 32 and dtype == "f":
        sass.assert_share(code, 0.70)


@CAPABILITIES
def test_large_tile_of_large_kernels(capability):
    from fastconv.kernels.cuda.conv_direct import TILES, implicit_gemm

    code = code_of(implicit_gemm, ("f", TILES["f"][0], False, False), capability)
    judged(code, 128, 0.82 if capability == (8, 0) else 0.81)
    assert code.predict().peak >= 0.70


@CAPABILITIES
def test_tensor_cores_multiply(capability):
    from fastconv.kernels.cuda.conv_direct import TILES, implicit_gemm

    for tile, most, least in zip(TILES["tf32"], (170, 170), (0.20, 0.14), strict=True):
        code = code_of(implicit_gemm, ("f", tile, True, False), capability)
        sass.assert_no_local_memory(code)
        sass.assert_registers(code, most)
        sass.assert_share(code, least, "HMMA")


@CAPABILITIES
@pytest.mark.slow
def test_tensor_cores_of_large_kernels(capability):
    from fastconv.kernels.cuda.conv_direct import TILES, implicit_gemm

    for tile in TILES["tf32"]:
        sass.assert_no_local_memory(code_of(implicit_gemm, ("f", tile, False, False), capability))


def forget(conv_direct):
    """Forget what was prepared, and what lies in the memory of another device."""
    conv_direct.program.cache_clear()
    conv_direct.tap_table.cache_clear()


@pytest.mark.parametrize(("dtype", "which"), [("float32", n) for n in range(4)] + [("float64", 0), ("float64", 1)])
def test_shared_memory_has_no_bank_conflicts(dtype, which):
    from fastconv.kernels.cuda import conv_direct

    x, w = np.ones((1, 3, 9, 9), dtype), np.ones((4, 3, 3, 3), dtype)
    forget(conv_direct)
    tile = conv_direct.TILES["f" if dtype == "float32" else "d"][which]
    with mock.patch.object(conv_direct, "best_tile", return_value=tile), installed(Emulated(statistics=True)) as device:
        np.testing.assert_array_equal(fc.conv2d(x, w, device="cuda"), 27)
    forget(conv_direct)
    (report,) = [report for name, report in device.reports if name == "conv_implicit_gemm"]
    assert report.memory("ld.shared").ratio == 1
    if dtype == "float32":
        assert report.memory("st.shared").ratio == 1


# More than two steps of taps, and channels or pixels of more than one block; 33 taps along an axis are no bits.
@pytest.mark.parametrize(("which", "size", "kernel"), [(0, 9, 3), (1, 9, 3), (1, 34, 33)])
def test_fragments_have_no_bank_conflicts(which, size, kernel):
    from fastconv.kernels.cuda import conv_direct, conv_tf32

    x = integers((1, 5, size, size), 1, low=-1024, high=1025)
    w = integers((130 if kernel == 3 else 3, 5, kernel, kernel if kernel == 3 else 1), 2)
    forget(conv_direct)
    conv_tf32.program.cache_clear()
    tile = conv_direct.TILES["tf32"][which]
    with mock.patch.object(conv_tf32, "best_tile", return_value=tile), installed(Emulated(statistics=True)) as device:
        got = fc.conv2d(x, w, device="cuda", precision="tf32")
    np.testing.assert_array_equal(got, definition("conv2d", x, w, {}))
    forget(conv_direct)
    conv_tf32.program.cache_clear()
    (report,) = [report for name, report in device.reports if name == "conv_implicit_gemm"]
    assert report.executed["mma"]
    assert report.memory("ld.shared").ratio == 1
    assert report.memory("st.shared").ratio == 1
