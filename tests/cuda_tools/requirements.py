"""What tests that compile CUDA kernels need: ``pytestmark = NEEDS_TOOLCHAIN``, and the sample kernels."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.cuda_tools import compile as toolchain

_MISSING = toolchain.missing()
NEEDS_TOOLCHAIN = [pytest.mark.cuda, pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))]


def sample_kernels() -> Any:
    """Return the module of sample kernels, or skip the calling module: nothing else may import it where parts miss."""
    if _MISSING is not None:
        pytest.skip(_MISSING, allow_module_level=True)
    return importlib.import_module("tests.cuda_tools.sample_kernels")
