"""The kernel of a depthwise and a pointwise convolution: when it runs, what it is made of, and bugs seeded into it."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch.cuda_separable import Half, one_kernel
from fastconv.geometry.conv import conv_geometry, output_shape
from tests.cuda.checks.inputs import integers
from tests.cuda.checks.separable import both
from tests.cuda.runtimes import Emulated, installed, ptx_of
from tests.cuda_tools import compile as toolchain
from tests.cuda_tools import mutate, sass
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN

CAPABILITIES = pytest.mark.parametrize("capability", toolchain.CAPABILITIES, ids=["sm_80", "sm_90"])


def fused(x_shape, OC, kernel=3, dtype="float32", precision="default", activation=None, **options):
    """Return whether a separable convolution is one kernel."""
    C, name = x_shape[1], "separable_conv2d"
    g = conv_geometry(name, 2, x_shape, (C, 1, kernel, kernel), groups=C, dtype=dtype, **options)
    h = conv_geometry(name, 2, output_shape(g), (OC, C, 1, 1), dtype=dtype)
    return one_kernel(name, Half(g, None, "auto"), Half(h, activation, "auto"), precision) is not None


def test_layers_that_are_one_kernel():
    layer = (32, 64, 56, 56)
    assert fused(layer, 128, padding=1)
    assert fused(layer, 256, padding=1)
    assert fused(layer, 128, 5, padding=2)
    assert fused(layer, 128, padding=1, dtype="float16", activation="relu6")


def test_layers_that_are_two_kernels():
    layer = (32, 64, 56, 56)
    # The depthwise result would be computed four times, or its many taps twice.
    assert not fused(layer, 512, padding=1)
    assert not fused(layer, 256, 7, padding=3)
    # A strip of four rows has one.
    assert not fused((32, 64, 1, 3136), 128, padding=1)
    assert not fused((1, 64, 7, 7), 512, padding=1)
    assert not fused(layer, 128, padding=1, precision="tf32")
    # Half precision is rounded once.
    assert not fused(layer, 128, padding=1, dtype="float16", activation="silu")


def window(KB, KC, STEP=1, *, unit=False):
    from fastconv.kernels.cuda.conv_depthwise import Window

    return Window(4, KB, KC, STEP, unit)


def literals(code, which, window, *, last=False, whole=True, name=None):
    """Return those of a kernel of one tile of the menu."""
    from fastconv.kernels.cuda.conv_direct import TILES

    return code, "f" if last and code == "e" else code, TILES[code][which], window, whole, last, name


def code_of(literals, capability):
    """Return the machine code of a kernel, compiled as a launch compiles it."""
    from fastconv.kernels.cuda.chain import depthwise_pointwise
    from fastconv.kernels.cuda.runtime import built

    ptx = ptx_of(built(depthwise_pointwise, *literals), capability)
    return sass.MachineCode(toolchain.to_cubin(ptx, capability), capability)


# In the loop nine or twenty-five taps are loaded for each element of the panel, and their bounds looked at.
@pytest.mark.slow
@CAPABILITIES
@pytest.mark.parametrize(
    ("size", "step", "last", "least"),
    [(3, 1, False, 0.70), (3, 2, False, 0.63), (3, 1, True, 0.63), (5, 1, False, 0.65), (5, 1, True, 0.53)],
)
def test_loop_is_mostly_multiply_adds(size, step, last, least, capability):
    code = code_of(literals("f", 1, window(size, size, step, unit=not last), last=last), capability)
    sass.assert_no_local_memory(code)
    sass.assert_registers(code, 168)
    sass.assert_share(code, least)
    sass.assert_wide_shared_loads(code)
    sass.assert_no_float64(code)


@pytest.mark.slow
@CAPABILITIES
@pytest.mark.parametrize("dtype", ["f", "e", "d"])
@pytest.mark.parametrize("last", [False, True])
def test_kernels_with_many_registers_do_not_spill(last, dtype, capability):
    large = window(5, 5, unit=not last), window(3, 3, 2)
    for which in {"f": (2,), "e": (1,), "d": (0,)}[dtype]:
        for each in large:
            code = code_of(literals(dtype, which, each, last=last), capability)
            sass.assert_no_local_memory(code)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(("dtype", "which"), [("float32", n) for n in (1, 2, 3)] + [("float64", 0), ("float64", 1)])
def test_shared_memory_has_no_bank_conflicts(dtype, which, layout):
    from fastconv.kernels.cuda import chain
    from fastconv.kernels.cuda.conv_direct import TILES

    shape = (1, 17, 8, 32) if layout == "channels_first" else (1, 8, 32, 17)
    x, dw, pw = integers(shape, 1, dtype), integers((17, 1, 3, 3), 2, dtype), integers((140, 17), 3, dtype)
    options = {"padding": 1, "layout": layout}
    tile = TILES["f" if dtype == "float32" else "d"][which]
    chain.program.cache_clear()
    with (
        mock.patch.object(chain, "best_tile", return_value=tile),
        mock.patch("fastconv.dispatch.cuda_separable.saved", return_value=1e9),
        installed(Emulated(statistics=True)) as device,
    ):
        got = fc.separable_conv2d(x, dw, pw, device="cuda", **options)
    chain.program.cache_clear()
    np.testing.assert_array_equal(got, both(x, dw, pw, None, None, {}, options))
    (report,) = [report for name, report in device.reports if name == "conv_chain"]
    assert report.memory("ld.shared").ratio == 1
    if dtype == "float32":
        assert report.memory("st.shared").ratio == 1


@pytest.mark.slow
def test_input_is_read_in_few_more_sectors_than_it_must():
    x, dw, pw = np.ones((1, 8, 16, 64), np.float32), np.ones((8, 1, 3, 3), np.float32), np.ones((32, 8), np.float32)
    with installed(Emulated(statistics=True)) as device:
        fc.separable_conv2d(x, dw, pw, padding=1, device="cuda")
    (report,) = [report for name, report in device.reports if name == "conv_chain"]
    # A warp reads 16 neighbours of two channels: where they start off a sector's border three sectors, not two.
    assert report.memory("ld.global").ratio <= 1.35


class Mutated(Emulated):
    """The emulator, with another function in place of the kernel's."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def execute(self, kernel, grid, arguments):
        """Run a kernel, or what takes its place."""
        if kernel.function.__name__ == "conv_chain":
            kernel = kernel._replace(function=self.function)
        super().execute(kernel, grid, arguments)


def judge(function):
    """Hold that a function is right in place of the kernel."""
    x, dw, pw, bias = (integers(s, i) for i, s in enumerate([(2, 9, 6, 7), (9, 1, 3, 3), (33, 9), (33,)]))
    with installed(Mutated(function)):
        try:
            got = fc.separable_conv2d(x, dw, pw, bias, padding=1, device="cuda")
        except IndexError as error:
            raise AssertionError(str(error)) from error
    np.testing.assert_array_equal(got, both(x, dw, pw, bias, None, {}, {"padding": 1}))


@pytest.mark.slow
def test_seeded_bugs_are_caught():
    from fastconv.kernels.cuda.chain import depthwise_pointwise

    kernel = depthwise_pointwise(*literals("f", 3, window(3, 3, unit=True))).function
    judge(kernel)
    mutants = mutate.without_barriers(kernel)
    assert len(mutants) == 2
    replacements = {
        "strips that do not exist read": ("H if s < STRIPS else uint32(0)", "H"),
        "wrong stride": ("uint32(w0 * XW)", "uint32(w0 * XH)"),
        "rows of a strip apart": ("uint32(STRIP - 1)", "uint32(STRIP)"),
        "bound of the pixels dropped": ("min(STRIPS, uint32(p // uint32(STRIP)))", "uint32(0)"),
        "bound of the channels dropped": ("uint32(OC - min(OC, m))", "uint32(BM)"),
        "one buffer": ("here = other", "pass"),
        "weights of the first step again": ("uint32(wa + uint32(A))", "wa"),
    }
    mutants += [mutate.replaced(kernel, *change, name) for name, change in replacements.items()]
    assert not mutate.survivors(mutants, judge)
