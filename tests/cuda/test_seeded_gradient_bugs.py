"""Bugs seeded into the kernel of the weight's gradient: the emulator, or the values, must tell of every one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.checks.gradients import drawn, reference
from tests.cuda.runtimes import Emulated, installed
from tests.cuda_tools import mutate
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN


class Mutated(Emulated):
    """The emulated device, with one kernel in the place of another."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def execute(self, kernel, grid, arguments):
        if kernel.function.__name__ == self.function.__name__:
            kernel = kernel._replace(function=self.function)
        super().execute(kernel, grid, arguments)


def judge(function):
    import fastconv as fc

    _, g, x, w, dy, options = drawn("seeded")
    with installed(Mutated(function)):
        got = fc.grad.conv2d_weight(x, w.shape, dy, device="cuda", **options)
    np.testing.assert_array_equal(got, reference.weight_gradient(x, dy, g))


@pytest.mark.slow
def test_bugs_of_the_weight_gradient_are_caught():
    from fastconv.kernels.cuda.conv_direct import TILES
    from fastconv.kernels.cuda.weight_gradient import correlate

    kernel = correlate("f", TILES["f"][-1], False).function
    # What is fetched beyond the last step is not used.
    bounds = [mutant for mutant in mutate.without_bounds(kernel) if "STEPS" not in mutant.name]
    bounds = [mutant for mutant in bounds if "< D" not in mutant.name]
    barriers = mutate.without_barriers(kernel)
    assert (len(barriers), len(bounds)) == (1, 3)
    strides = [
        mutate.replaced(kernel, "uint32(oh * SH)", "uint32(oh * SW)", "wrong stride"),
        mutate.replaced(kernel, "uint32(od + CD) + carry", "uint32(od + CD)", "carry dropped"),
    ]
    judge(kernel)
    assert not mutate.survivors([*barriers, *bounds, *strides], judge)
