"""What the depthwise kernel costs on a device by counting: sectors of memory, and instructions for each output.

And that its tests test: bugs that are seeded into the separable kernel, the one of these with a barrier, are found.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests.cuda.runtimes import Emulated, installed
from tests.cuda_tools import mutate
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN

# An H100 SXM: multiprocessors, instructions of a thread per clock of each, clocks and bytes per second.
MULTIPROCESSORS, ISSUED, CLOCK, BANDWIDTH = 132, 128, 1.98e9, 3.35e12
# The input is read and the result written once.
BYTES = 8


def report(x_shape, layout="channels_first"):
    """Return what the emulator counts of a depthwise 3x3 convolution, and its number of outputs."""
    channels = x_shape[1] if layout == "channels_first" else x_shape[3]
    x, w = np.ones(x_shape, np.float32), np.ones((channels, 1, 3, 3), np.float32)
    with installed(Emulated((9, 0), statistics=True)) as device:
        out = fc.depthwise_conv2d(x, w, padding=1, layout=layout, activation="relu", device="cuda")
    name, counted = device.reports[-1]
    assert name == "conv_depthwise"
    return counted, out.size


# A row that starts off a sector's border costs one more sector than it fills, and a warp on two rows another.
@pytest.mark.parametrize(
    ("x_shape", "layout", "most"),
    [
        ((1, 2, 16, 64), "channels_first", 1.1),
        ((1, 2, 56, 56), "channels_first", 1.15),
        ((1, 16, 4, 32), "channels_last", 1.0),
    ],
)
def test_depthwise_moves_few_more_sectors_than_it_must(x_shape, layout, most):
    counted, _ = report(x_shape, layout)
    assert counted.memory("ld.global").ratio <= most
    assert counted.memory("st.global").ratio == 1


def test_depthwise_is_bound_by_memory():
    counted, outputs = report((1, 2, 16, 64))
    # Those of PTX, of which ptxas makes fewer.
    instructions = sum(counted.executed.values()) / outputs
    compute = instructions / (MULTIPROCESSORS * ISSUED * CLOCK)
    assert compute < BYTES / BANDWIDTH, f"{instructions:.1f} instructions for each output"


class Mutated(Emulated):
    """The emulator, with another function in place of the separable kernel's."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def execute(self, kernel, grid, arguments):
        """Run a kernel, or what takes its place."""
        if kernel.function.__name__ == "conv_separable":
            kernel = kernel._replace(function=self.function)
        super().execute(kernel, grid, arguments)


def judge(function):
    """Hold that a function is right in place of the separable kernel."""
    x = np.arange(2 * 9 * 35, dtype=np.float32).reshape(1, 2, 9, 35) % 7
    column, row = np.array([1, 2, 3], np.float32), np.array([2, 1, 3], np.float32)
    w = np.broadcast_to(np.outer(column, row), (2, 1, 3, 3))
    with installed(Mutated(function)):
        got = fc.spatially_separable_conv2d(x, column, row, padding=1, device="cuda")
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    np.testing.assert_array_equal(got, np.einsum("nchwij,cij->nchw", windows, w[:, 0]))


@pytest.mark.slow
def test_bugs_of_the_separable_kernel_are_found():
    from fastconv.kernels.cuda.conv_separable import THREADS, two_passes

    kernel = two_passes("f", THREADS).function
    judge(kernel)
    mutants = [
        *mutate.without_barriers(kernel),
        mutate.replaced(kernel, "(i < L) & (w < W)", "i < L"),
        mutate.replaced(kernel, "if oh < OH:", "if oh <= OH:"),
        mutate.replaced(kernel, "uint32(SH * uint32(LANES))", "uint32(SH * uint32(LANES + 1))"),
    ]
    assert len(mutants) == 4
    assert not mutate.survivors(mutants, judge)
