"""What pools move and how many instructions they are, and that the checks would notice broken kernels."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests.cuda.runtimes import Emulated, installed, kernel_of, ptx_of, to_device
from tests.cuda_tools import mutate
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN

# Instructions of a thread that an H100 SXM (132 multiprocessors of 4 warps of 32 an instruction, 1.755 GHz) starts
# while it moves a byte (3.35 TB/s).
INSTRUCTIONS_PER_BYTE = 132 * 4 * 32 * 1.755e9 / 3.35e12
POOLS = {
    "max 2x2": ("max_pool2d", {"kernel_size": 2}),
    "max 2x2 and where": ("max_pool2d", {"kernel_size": 2, "return_indices": True}),
    "max 3x3 apart": ("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    "max 3x3": ("max_pool2d", {"kernel_size": 3, "stride": 1, "padding": 1}),
    "average 2x2": ("avg_pool2d", {"kernel_size": 2}),
    "average 3x3": ("avg_pool2d", {"kernel_size": 3, "stride": 1, "padding": 1}),
    "adaptive": ("adaptive_avg_pool2d", {"output_size": (7, 7)}),
    "global": ("global_avg_pool", {}),
}
SHAPES = {"channels_first": (1, 2, 32, 128), "channels_last": (1, 16, 32, 32)}


# Adaptive windows start at any place of a row, so with channels_first warps share sectors, which the L1 cache keeps.
CASES = [(name, layout) for name in POOLS for layout in SHAPES if (name, layout) != ("adaptive", "channels_first")]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_pools_are_bound_by_memory(name, layout):
    function, keywords = POOLS[name]
    x = np.random.default_rng(0).standard_normal(SHAPES[layout]).astype(np.float32)
    with installed(Emulated((9, 0), statistics=True)) as device:
        results = getattr(fc, function)(to_device(x), layout=layout, **keywords)
    results = results if isinstance(results, tuple) else (results,)
    ((build, literals),) = device.launched
    ((_, report),) = device.reports
    assert report.memory("ld.global").ratio <= 1.1
    assert report.memory("st.global").ratio <= 1.1
    # Parameters are operands of machine code, and moves are mostly names of registers.
    ptx = ptx_of(kernel_of(build, literals), (9, 0))
    free = ptx.count("ld.param") * report.executed["ret"] + report.executed["mov"]
    moved = x.nbytes + sum(result.values.nbytes for result in results)
    assert sum(report.executed.values()) - free <= INSTRUCTIONS_PER_BYTE * moved


def judge_with(name, call):
    """Return a judge of mutants of the kernel of a launch: that it is clean and gives the same."""

    def judge(kernel):
        class Mutated(Emulated):
            def execute(self, record, grid, arguments):
                chosen = kernel is not None and record.function.__name__ == name
                super().execute(record._replace(function=kernel) if chosen else record, grid, arguments)

        with installed(Mutated()):
            got = call()
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    with installed(Emulated()):
        expected = call()
    judge(None)
    return judge


def function_of(name, call):
    """Return the Python function of a kernel that a call launches."""
    from fastconv.kernels.cuda.runtime import built

    with installed(Emulated()) as device:
        call()
    (key,) = [key for key in device.launched if built(key[0], *key[1]).function.__name__ == name]
    return built(key[0], *key[1]).function


@pytest.mark.slow
def test_broken_trees_are_noticed():
    x = np.random.default_rng(1).permutation(2 * 300).reshape(1, 2, 20, 15).astype(np.float32)

    def call():
        return fc.adaptive_max_pool2d(x, 1, return_indices=True, device="cuda")

    kernel, judge = function_of("reduce_planes", call), judge_with("reduce_planes", call)
    mutants = [
        *mutate.without_barriers(kernel),
        *mutate.divergent_barriers(kernel, "t < 64"),
        mutate.replaced(kernel, "half >> uint32(1)", "half >> uint32(2)", "a step of the tree left out"),
        mutate.replaced(kernel, "v > value or v != v", "v != v", "maxima not looked for"),
    ]
    assert len(mutants) == 6
    assert not mutate.survivors(mutants, judge)


@pytest.mark.slow
def test_broken_windows_are_noticed():
    x = np.random.default_rng(1).permutation(2 * 99).reshape(1, 2, 9, 11).astype(np.float32)

    def call():
        return (fc.max_pool2d(x, 3, 1, padding=1, device="cuda"),)

    kernel, judge = function_of("slide_windows", call), judge_with("slide_windows", call)
    mutants = [
        mutate.replaced(kernel, "i >= total", "False", "bound dropped: threads"),
        mutate.replaced(kernel, "while oh < end", "while oh < uint32(end + uint32(1))", "a row too many"),
        mutate.replaced(kernel, "uint32(ow + uint32(1)) < OW", "True", "bound dropped: the last column"),
    ]
    assert not mutate.survivors(mutants, judge)
