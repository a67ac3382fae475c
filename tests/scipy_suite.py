"""SciPy's own tests, from the installed wheel, with a namespace of fastconv in SciPy's place."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(namespace, files, expression, folder):
    """Run SciPy's tests in a process of their own; return how many passed, and the calls that were left to SciPy."""
    tests = Path(importlib.util.find_spec(f"scipy.{namespace}").origin).parent / "tests"
    if not tests.is_dir():
        pytest.skip("this SciPy was installed without its tests")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    fail_asan: of SciPy\n    xfail_on_32bit: of SciPy\n")
    handed = folder / "handed.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.scipy_plugin", "-p", "no:cacheprovider"]
    command += ["-c", str(folder / "pytest.ini"), "-k", expression, *(str(tests / name) for name in files)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "HANDED_TO_SCIPY": str(handed), "SCIPY_NAMESPACE": namespace}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout)[1]), json.loads(handed.read_text())
