"""What tests of the thread pool share: the module, a kernel, and new processes that use both."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path

import pytest

# By this way, since the package may export the context manager of the same name.
pool = import_module("fastconv.threads")

ROOT = Path(__file__).parents[2]
LINUX = sys.platform == "linux"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PRELUDE = """
import os, signal, sys, threading, time
from importlib import import_module
import numpy as np
pool = import_module("fastconv.threads")

def add_one(g, io, scratch, lo, hi):
    time.sleep(0.0005)
    io[lo:hi] += 1

def check(threads=3, tasks=40):
    out = np.zeros(tasks, np.int64)
    with pool.threads(threads):
        pool.run(add_one, None, out, tasks, 256, 0.01)
    assert (out == 1).all(), out
"""


def python(code, timeout=20, **environment):
    """Run code after the prelude in a new process and return what it prints."""
    names = ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in names} | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout.strip()


def add_one(g, io, scratch, lo, hi):
    """Add one to the elements of each task, slowly and without the GIL."""
    time.sleep(0.0003)
    io[lo:hi] += 1


def wait_for(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()
