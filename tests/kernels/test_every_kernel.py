"""Every kernel of every target, inside a fence: compiled, compiled with checks, and as Python twins.

The fast part runs some twins and finds mistakes that are made on purpose; `python -m tests.guarded` runs the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fastconv.dispatch import load
from tests import guard, guarded_kernels

pytestmark = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")

_SSE = "+sse,+sse2"
_AVX2 = f"{_SSE},+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+movbe,+avx,+f16c,+avx2,+fma,+bmi,+bmi2,+lzcnt"
TARGETS = {
    "native": {},
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": _AVX2},
    "sse2": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": _SSE},
}
x86 = pytest.mark.skipif("sse2" not in load.load("target:features")(), reason="this is no x86 CPU")

# A kernel, or a twin, that reads or writes one element too many.
SEEDS = {
    "lanes": """
from fastconv.kernels.cpu import row_ops
right = row_ops.first_lanes
row_ops.first_lanes = lambda v, count: right(v, v.b.add(count, row_ops.const(1)))
""",
    "twin": """
import sys
right = sys.modules["fastconv.kernels.cpu.row_ops"].finish_rows
wrong = lambda *a: right(*a[:-1], a[-1] + 1)
for module in [m for name, m in sys.modules.items() if name.startswith("fastconv.kernels.cpu.")]:
    if getattr(module, "finish_rows", None) is right:
        module.finish_rows = wrong
""",
}
CODE = """
from tests import guarded
def seeded():
    exec({seed!r}, {{}})
guarded.main({mode!r}, {count}, {families!r}, seeded)
"""


def run(mode, count, families=(), seed="", timeout=3000, **environment):
    """Run calls in a process of their own."""
    code = CODE.format(mode=mode, count=count, families=list(families), seed=seed)
    env = os.environ | {"PYTHONPATH": str(guard.ROOT), "PYTHONFAULTHANDLER": "1"} | environment
    env |= {"NUMBA_DISABLE_JIT": "1"} if mode == "twins" else {}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=env, cwd=guard.ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def ran(done):
    """Return the kernels of a run that has ended well."""
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    *lines, last = done.stdout.splitlines()
    assert last == "done"
    return {name for line in lines for name in json.loads(line)["ran"]}


def available():
    """Return the kernels that this CPU can run."""
    target, found = load.target(), dict(guarded_kernels.KERNELS)
    if not target.dots:
        del found["dot_products"]
    if not target.matrix_unit:
        del found["matrix_unit"]
    return {name for names in found.values() for name in names}


def test_every_kernel_has_calls():
    listed = [name for names in guarded_kernels.KERNELS.values() for name in names]
    assert sorted(listed) == sorted(guarded_kernels.kernels()), "guarded_calls.py needs calls for new kernels"


def test_twins_stay_inside_and_a_seeded_mistake_is_found():
    done = run("twins", 1, ("weights", "activations"), SEEDS["twin"])
    (line,) = done.stdout.splitlines()
    assert "rank_update:rank_update_twin" in json.loads(line)["ran"]
    assert done.returncode == 1
    assert "outside: finish_rows_twin" in done.stderr
    assert "bytes at 0 of a block of" in done.stderr


@pytest.mark.slow
def test_all_twins_stay_inside():
    assert ran(run("twins", 4)) == guarded_kernels.twins()


@pytest.mark.slow
@x86
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("mode", "count"), [("fence", 8), ("checked", 6)])
def test_every_kernel_stays_inside(target, mode, count):
    found = ran(run(mode, count, **TARGETS[target]))
    optional = {name for family in guarded_kernels.OPTIONAL for name in guarded_kernels.KERNELS[family]}
    assert found >= (available() if target == "native" else guarded_kernels.kernels() - optional)


@pytest.mark.slow
def test_one_lane_too_many_is_found():
    done = run("fence", 3, ("activations",), SEEDS["lanes"], FASTCONV_DISABLE_CACHE="1")
    assert done.returncode == -11, done.stderr[-2000:]
    done = run("checked", 3, ("activations",), SEEDS["lanes"])
    assert done.returncode == 97, done.stderr[-2000:]
    assert "outside: llvm.masked.load" in done.stderr
