"""The Python source of the kernels in the CUDA simulator: numba-cuda's where it is installed, else Numba's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.cuda.checks import GROUPS

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.cuda


@cache
def simulated(group: str) -> Any:
    """Return what a process in which the device is simulated says about a group."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cuda.checks", group],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("group", GROUPS)
def test_simulated_device(group, subtests):
    for name, failure in simulated(group)["failures"].items():
        with subtests.test(name):
            assert failure is None, failure
