"""Layers of real size: the kernels' LLVM IR compiled for the host."""

from __future__ import annotations

import pytest

from tests.cuda.checks import GROUPS
from tests.cuda.runtimes import Native, installed
from tests.cuda_tools.native import AVAILABLE
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = [*NEEDS_TOOLCHAIN, pytest.mark.skipif(not AVAILABLE, reason="kernels are retargeted to Linux on x86")]


LARGE = [name for name, module in GROUPS.items() if hasattr(module, "LARGE")]


@pytest.mark.parametrize("group", [pytest.param(g, marks=[pytest.mark.slow] * (g != "conv")) for g in LARGE])
def test_large_group(group, subtests):
    with installed(Native()):
        for name, check in GROUPS[group].LARGE.items():
            with subtests.test(name):
                check()
