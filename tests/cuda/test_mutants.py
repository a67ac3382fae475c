"""Bugs seeded into the implicit GEMM are caught: values that differ, or what the emulator finds."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers
from tests.cuda.runtimes import Emulated, installed
from tests.cuda_tools import mutate
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN

# Sizes that fill no tile: more channels and pixels than one, and taps of several steps, the last one not whole.
X, W = (1, 3, 9, 8), (33, 3, 3, 3)
OPTIONS = {"padding": 1, "stride": (1, 2)}


def judge(kernel):
    """Raise if a kernel in the place of the implicit GEMM is wrong."""
    from fastconv.kernels.cuda import conv_direct

    class Replaced(Emulated):
        def execute(self, built, grid, arguments):
            own = built.function.__name__ == "conv_implicit_gemm"
            super().execute(built._replace(function=kernel) if own else built, grid, arguments)

    x, w, bias = integers(X, 1), integers(W, 2), integers(W[:1], 3)
    conv_direct.tap_table.cache_clear()
    try:
        with installed(Replaced()):
            got = fc.conv2d(x, w, bias, device="cuda", algorithm="direct", **OPTIONS)
    except IndexError as error:
        raise AssertionError(str(error)) from error
    finally:
        conv_direct.tap_table.cache_clear()
    np.testing.assert_array_equal(got, definition("conv2d", x, w, OPTIONS, bias))


@pytest.fixture(scope="module")
def original():
    from fastconv.kernels.cuda.conv_direct import TILES, implicit_gemm

    return implicit_gemm("f", TILES["f"][-1], True, False).function


def test_the_kernel_itself_is_right(original):
    judge(original)


@pytest.mark.parametrize("which", range(2))
def test_a_removed_barrier_is_caught(original, which):
    mutants = mutate.without_barriers(original)
    assert len(mutants) == 2
    assert mutate.caught(mutants[which], judge)


REPLACEMENTS = {
    "bound of the pixels dropped": ("uint32(P - min(P, p))", "uint32(BN)"),
    "bound of the channels dropped": ("uint32(OCG - min(OCG, m))", "uint32(BM)"),
    "padding not looked at": ("uint32(bits | uint32(NEVER))", "uint32(NEVER)"),
    "wrong stride": ("uint32(w0 * XW)", "uint32(w0 * XH)"),
    "one buffer": ("from_a, from_b = uint32(from_a ^ uint32(PANEL)), uint32(from_b ^ uint32(PANEL))", "pass"),
}


@pytest.mark.parametrize("name", REPLACEMENTS)
def test_a_seeded_bug_is_caught(original, name):
    assert mutate.caught(mutate.replaced(original, *REPLACEMENTS[name], name), judge)
