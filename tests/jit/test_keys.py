"""The cache of compiled kernels is never stale, and a second process compiles nothing."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from tests.jit.package import HELPER, KERNEL, finish

jit = pytest.importorskip("fastconv._jit")

pytestmark = pytest.mark.skipif(jit.config.DISABLE_JIT, reason="needs the JIT")


def test_second_process_compiles_nothing(package):
    assert finish(package.start()) == [5, 1]
    assert finish(package.start()) == [5, 0]
    assert len(package.files()) == 1
    assert not package.files(".new-*")
    assert not list(package.home.rglob("*")), "nothing outside the chosen folder"
    assert not list((package.folder / "tiny").rglob("*.nb*"))


def test_closures_of_one_line_do_not_mix(package):
    # Each is the first that its process compiles, so by Numba's own naming they would have the same symbols.
    assert package.run("print(value(2, 1))") == [5, 1]
    assert package.run("print(value(3, 7))") == [13, 1]
    both = "print(value({}), value({}), value({}))"
    assert package.run(both.format("2, 1", "3, 7", "2, 1")) == [5, 13, 5, 0]
    assert package.run(both.format("3, 7", "2, 1", "3, 7")) == [13, 5, 13, 0]
    assert len(package.files()) == 2


def test_helpers_of_one_line_do_not_mix(package):
    """They are stored with the kernels that call them, where LLVM has not merged them."""
    code = """
def long(SCALE):
    @_jit.helper
    def power(x):
        {steps}
        return x
    @_jit.njit()
    def kernel(x):
        return power(x) - power(x + 1)
    return kernel, power.py_func

def value(SCALE):
    kernel, power = long(SCALE)
    assert kernel(5) == power(5) - power(6)
    return kernel(5)
print({calls})
"""
    steps = "\n        ".join(f"x = (x * SCALE + x // {n}) % 1000003" for n in range(2, 80))
    first = package.run(code.format(steps=steps, calls="value(2)"))
    second = package.run(code.format(steps=steps, calls="value(3)"))
    assert first[0] != second[0]
    both = package.run(code.format(steps=steps, calls="value(2), value(3), value(2)"))
    assert both == [first[0], second[0], first[0], 0]


def test_signatures_do_not_mix(package):
    code = "print(value(2, 1, 'float32'), value(2, 1, 'int64'), value(2, 1, 'float64'))"
    assert package.run(code) == [5, 5, 5, 3]
    assert package.run(code) == [5, 5, 5, 0]
    assert len(package.files()) == 3


def test_edit_of_a_helper_is_seen_by_the_next_process(warm):
    helper = warm.folder / "tiny" / "helper.py"
    status = helper.stat()
    helper.write_text(HELPER.replace("OFFSET = 0", "OFFSET = 4"))
    # The worst case: same size, same time. Only Python's own bytecode cache believes the time.
    os.utime(helper, ns=(status.st_atime_ns, status.st_mtime_ns))
    shutil.rmtree(warm.folder / "tiny" / "__pycache__", ignore_errors=True)
    assert warm.run() == [13, 1]


def test_options_and_cpu_are_part_of_the_key(warm):
    assert warm.run(NUMBA_OPT="1") == [5, 1]
    assert warm.run(NUMBA_BOUNDSCHECK="1") == [5, 1]
    assert finish(warm.start(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")) == [5, 1]
    assert warm.run() == [5, 0]


def test_machine_dependent_constant_is_part_of_the_key(package):
    kernel = package.folder / "tiny" / "kernel.py"
    kernel.write_text(
        KERNEL.replace("SHIFT\n    return", "SHIFT + LANES\n    return").replace(
            "def make", "import os\nLANES = int(os.environ['LANES'])\n\ndef make"
        )
    )
    assert package.run(LANES="10") == [15, 1]
    assert package.run(LANES="20") == [25, 1]


def test_kernel_that_sees_another_kernel_is_cached(package):
    code = """
def outer(inner):
    @_jit.njit()
    def twice(x, out):
        inner(x, out)
        inner(out, out)
    return twice

for scale in (2, 3):
    x = np.ones(2, np.int64); out = x.copy()
    outer(make(scale, 0))(x, out)
    print(int(out[0]))
"""
    cold = package.run(code)
    assert cold[:2] == [16, 36]
    assert package.run(code) == [16, 36, 0]


def test_value_that_cannot_be_described_means_uncached(package):
    code = """
table = np.arange(3)

def make(table):
    @_jit.njit()
    def kernel(i):
        return table[i]
    return kernel
print(make(table)(2))
"""
    assert package.run(code) == [2, 1]
    assert package.files() == []


def test_damaged_files_are_misses_and_heal(warm):
    empty, short, noise, zeros, folder, other = warm.files()
    data = zeros.read_bytes()
    middle = len(data) // 2
    empty.write_bytes(b"")
    short.write_bytes(short.read_bytes()[:middle])
    noise.write_bytes(np.random.default_rng(0).bytes(len(data)))
    zeros.write_bytes(data[:middle] + bytes(16) + data[middle + 16 :])
    other.write_bytes(bytes(16) + other.read_bytes()[16:])
    folder.unlink()
    folder.mkdir()
    code = "print(*(value(2, i) for i in range(1, 7)))"
    assert warm.run(code) == [5, 6, 7, 8, 9, 10, 6]
    # All but the one whose place is taken.
    assert warm.run(code) == [5, 6, 7, 8, 9, 10, 1]
    assert not warm.files(".new-*")


def test_any_bit_that_flips_is_noticed(package):
    """In the same process, since reading and checking come before all else."""
    code = """
import random
value(2, 1)
(path,) = _jit._folder().iterdir()
data, found = path.read_bytes(), 0
rng = random.Random(0)
for i in [0, 15, 16, 17, len(data) - 1, *(rng.randrange(len(data)) for _ in range(300))]:
    bad = bytearray(data)
    bad[i] ^= 1 << rng.randrange(8)
    path.write_bytes(bad)
    try:
        _jit._read(path)
    except ValueError:
        found += 1
path.write_bytes(data)
assert _jit._read(path) == data[16:]
print(found)
"""
    assert package.run(code) == [305, 1]


def test_code_for_other_types_is_refused(package):
    assert package.run("print(value(2, 1, 'float32'))") == [5, 1]
    (old,) = package.files()
    assert package.run("print(value(2, 1, 'int64'))") == [5, 1]
    (new,) = set(package.files()) - {old}
    # A whole file at the wrong name, which only the check of the signature can tell.
    new.write_bytes(old.read_bytes())
    assert package.run("print(value(2, 1, 'int64'))") == [5, 1]
