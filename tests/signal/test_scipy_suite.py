"""SciPy's own tests of the functions of fastconv.signal, from the installed wheel, with ours in SciPy's place."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("test_signaltools.py", "test_bsplines.py")
# All of what runs on our kernels; of the transforms, whose tests are thousands, one in the daily run.
FEW = "TestConvolve or TestConvolve2d or TestCorrelate or TestSepfir2d or (TestOAConvolve and 1d and same)"
ALL = "Convolve or Correlate or FreqConv or Sepfir2d"


def run(folder, expression):
    """Run SciPy's tests in a process of their own; return how many passed, and the calls that were left to SciPy."""
    tests = Path(importlib.util.find_spec("scipy.signal").origin).parent / "tests"
    if not tests.is_dir():
        pytest.skip("this SciPy was installed without its tests")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    fail_asan: of SciPy\n")
    handed = folder / "handed.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.signal.scipy_plugin", "-p", "no:cacheprovider"]
    command += ["-c", str(folder / "pytest.ini"), "-k", expression, *(str(tests / name) for name in FILES)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "HANDED_TO_SCIPY": str(handed)}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout)[1]), json.loads(handed.read_text())


def test_scipys_tests_of_what_runs_on_the_kernels(tmp_path):
    passed, handed = run(tmp_path, FEW)
    assert passed > 250
    assert handed == []


@pytest.mark.slow
def test_all_of_scipys_tests(tmp_path):
    passed, handed = run(tmp_path, ALL)
    assert passed > 5000
    # One test convolves arrays of longdouble and of clongdouble.
    assert handed == ["convolve", "convolve"]
