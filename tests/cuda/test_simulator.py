"""The public API in the CUDA simulator: numba-cuda's where that is installed, else the one that Numba brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.cuda.checks import GROUPS

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.cuda


@cache
def results(group):
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


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, checks in GROUPS.items() for name in checks])
def test_simulated_device(group, name):
    failure = results(group)[name]
    assert failure is None, failure
