"""Every group of checks without a device: the kernels' Python source in the simulator, their PTX in the emulator.

The emulator finds races, accesses out of bounds and misaligned, divergent barriers, and memory that nobody has written.
What it runs are the functions that the simulator runs. ptxas says that they need no local memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.cuda.checks import GROUPS, checks_of
from tests.cuda.machine_code import assemble
from tests.cuda.runtimes import Emulated, installed, kernel_name
from tests.cuda_tools import compile as toolchain

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.cuda


def simulated(group: str, *, bundled: bool = False, every: bool = True) -> Any:
    """Return what a process says in which the device is simulated: by numba-cuda if it is there, else by Numba.

    A file of numba-cuda in site-packages puts it in the place of the `numba.cuda` that comes with Numba. With `bundled`
    the folder is one like any other, whose files of that kind are not read.
    """
    folders = [str(ROOT)] + [sysconfig.get_paths()["purelib"]] * bundled
    done = subprocess.run(
        [sys.executable, *["-S"] * bundled, "-m", "tests.cuda.checks", group, *([] if every else ["quick"])],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "every"])
@pytest.mark.parametrize("group", GROUPS)
def test_group(group, every, subtests):
    found = simulated(group, every=every)
    for name, failure in found["failures"].items():
        with subtests.test(f"simulated: {name}"):
            assert failure is None, failure
    if toolchain.missing() is not None:
        return
    with installed(Emulated()) as device:
        for name, check in checks_of(group, every=every).items():
            with subtests.test(f"emulated: {name}"), warnings.catch_warnings():
                warnings.simplefilter("error")
                check()
    launched = {kernel_name(*key): key for key in device.launched}
    with subtests.test("what is emulated is what is simulated"):
        assert sorted(launched) == found["kernels"]
    for name, key in launched.items():
        for capability in toolchain.CAPABILITIES:
            with subtests.test(f"machine code of {name} for {capability}"):
                assemble(key, capability)


@pytest.mark.parametrize("group", [pytest.param(g, marks=[pytest.mark.slow] * (g != "activations")) for g in GROUPS])
def test_simulator_that_comes_with_numba(group, subtests):
    for name, failure in simulated(group, bundled=True)["failures"].items():
        with subtests.test(name):
            assert failure is None, failure
