"""What tests of the cache of compiled kernels share: a small package of their own, in new processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HELPER = """
from tiny._jit import inline
OFFSET = 0

@inline
def both(a, b=3):
    return a + b + OFFSET, a - b
"""
KERNEL = """
import sys
import numpy as np
from tiny import _jit, helper

def make(SCALE, SHIFT):
    @_jit.njit()
    def kernel(x, out):
        for i in range(x.shape[0]):
            up, down = helper.both(x[i])
            out[i] = (up + down) * SCALE + SHIFT
    return kernel

def value(SCALE, SHIFT, dtype="int64"):
    x, out = np.ones(3, dtype), np.zeros(3, dtype)
    make(SCALE, SHIFT)(x, out)
    assert (out == out[0]).all()
    return int(out[0])
"""


# Forks a child per request from a process that has imported Numba and initialised its compiler, which takes longer than
# all else. The environment counts as in a new process, except that the CPU is fixed.
FORKER = """
import json, os, sys
import numba
numba.njit(lambda: 0)()
sys.dont_write_bytecode = True
for line in sys.stdin:
    code, environment, output = json.loads(line)
    pid = os.fork()
    if not pid:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = 1
        try:
            os.environ.clear()
            os.environ.update(environment)
            numba.core.config.reload_config()
            sys.path.insert(0, environment["PYTHONPATH"])
            exec(code, {"__name__": "__main__"})
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Package:
    """A small package with copies of `_jit.py` and its imports, a helper and a kernel, and processes that use it."""

    def __init__(self, folder, forker):
        self.folder = folder
        self.forker = forker
        self.home = folder / "home"
        self.cache = folder / "cache"
        self.home.mkdir()
        package = folder / "tiny"
        package.mkdir()
        (package / "__init__.py").write_text("")
        for name in ("_jit.py", "_compiler.py", "_disk.py", "interrupts.py", "system.py"):
            text = (ROOT / "fastconv" / name).read_text()
            (package / name).write_text(text.replace("from fastconv", "from tiny"))
        (package / "helper.py").write_text(HELPER)
        (package / "kernel.py").write_text(KERNEL)

    def start(self, code="print(value(2, 1))", **environment):
        """Start a new process."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", self._code(code)]
        return subprocess.Popen(command, env=self._environment(environment), stdout=pipe, stderr=pipe, text=True)

    def run(self, code="print(value(2, 1))", **environment):
        """Run code in a process and return the integers that it prints, the number of compilations last."""
        if self.forker is None:
            return finish(self.start(code, **environment))
        output = self.folder / "output"
        request = json.dumps((self._code(code), self._environment(environment), str(output)))
        print(request, file=self.forker.stdin, flush=True)
        status = int(self.forker.stdout.readline())
        assert status == 0, output.read_text()
        return [int(word) for word in output.read_text().split()]

    def files(self, pattern="*.nbc"):
        return sorted(self.cache.rglob(pattern))

    def _code(self, code):
        return f"from tiny.kernel import _jit, helper, make, np, value\n{code}\nprint(_jit.compilations())"

    def _environment(self, changes):
        names = ("FASTCONV_DISABLE_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA")
        env = {k: v for k, v in os.environ.items() if k not in names}
        env |= {"PYTHONPATH": str(self.folder), "HOME": str(self.home), "FASTCONV_CACHE_DIR": str(self.cache)}
        return {k: v for k, v in (env | changes).items() if v is not None}


def finish(process):
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert not error, error
    return [int(word) for word in out.split()]
