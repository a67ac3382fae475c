"""The marks of tests that compile CUDA kernels: `pytestmark = NEEDS_TOOLCHAIN`."""

from __future__ import annotations

import pytest

from tests.cuda_tools import compile as toolchain

_MISSING = toolchain.missing()
NEEDS_TOOLCHAIN = [pytest.mark.cuda, pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))]
