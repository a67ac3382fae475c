"""The kernels executed from their PTX, and their machine code: values, bounds, races, barriers; registers, float64.

What runs here are the functions that the simulator runs.
"""

from __future__ import annotations

import warnings

import pytest

from tests.cuda.checks import GROUPS
from tests.cuda.runtimes import Emulated, installed, kernel_name, ptx_of
from tests.cuda.test_simulator import simulated
from tests.cuda_tools import compile as toolchain
from tests.cuda_tools import sass
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN


@pytest.mark.parametrize("group", GROUPS)
def test_emulated_device(group, subtests):
    with installed(Emulated()) as device:
        for name, check in GROUPS[group].CHECKS.items():
            with subtests.test(name), warnings.catch_warnings():
                warnings.simplefilter("error")
                check()
    launched = {kernel_name(*key): key for key in device.launched}
    with subtests.test("the same kernels as in the simulator"):
        assert sorted(launched) == simulated(group)["kernels"]
    for name, key in launched.items():
        for capability in toolchain.CAPABILITIES:
            with subtests.test(f"machine code of {name} for {capability}"):
                judge(key, capability)


def judge(key, capability):
    """Hold what holds for every kernel."""
    from fastconv.kernels.cuda.runtime import built

    kernel = built(key[0], *key[1])
    ptx = ptx_of(kernel, capability)
    code = sass.MachineCode(toolchain.to_cubin(ptx, capability), capability)
    sass.assert_no_local_memory(code)
    sass.assert_no_division64(code, ptx)
    if "d" not in key[1]:
        sass.assert_no_float64(code)
