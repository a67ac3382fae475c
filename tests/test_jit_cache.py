"""The cache of compiled kernels: never stale, never an error, and a second process compiles nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

jit = pytest.importorskip("fastconv._jit")

ROOT = Path(__file__).parents[1]
POSIX = os.name == "posix"
posix = pytest.mark.skipif(not POSIX, reason="needs POSIX permissions")
unprivileged = pytest.mark.skipif(POSIX and os.geteuid() == 0, reason="root may write everywhere")
compiled = pytest.mark.skipif(jit.config.DISABLE_JIT, reason="needs the JIT")
pytestmark = compiled

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


@pytest.fixture(scope="module")
def forker():
    if not hasattr(os, "fork"):
        yield None
        return
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", FORKER], stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def package(tmp_path, forker):
    return Package(tmp_path, forker)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, forker):
    """Return a cache folder in which value(2, 1) to value(2, 6) are compiled, once for all tests."""
    package = Package(tmp_path_factory.mktemp("filled"), forker)
    assert package.run("print(*(value(2, i) for i in range(1, 7)))") == [5, 6, 7, 8, 9, 10, 6]
    return package.cache


@pytest.fixture
def warm(package, filled):
    """Return a package at another place whose cache is filled."""
    shutil.copytree(filled, package.cache)
    return package


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


# Damage and missing rights.


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


@posix
@pytest.mark.parametrize("home", [None, "/dev/null/home"])
def test_no_home_is_no_error(package, home):
    # Without HOME, Python asks the system's list of users.
    code = """
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
_jit._disk.root.cache_clear()
print(value(2, 1))
"""
    assert package.run(code, FASTCONV_CACHE_DIR=None, HOME=home) == [5, 1]


def test_folder_that_is_a_file_is_no_error(package):
    package.cache.write_text("")
    assert package.run() == [5, 1]


@unprivileged
@posix
def test_read_only_folder_is_no_error(package):
    package.cache.mkdir(mode=0o500)
    assert package.run() == [5, 1]
    assert package.files() == []


def test_failing_save_is_no_error_and_leaves_nothing(package):
    code = """
import os, tempfile
def fail_with(error):
    def fail(*_, **__):
        raise error
    return fail

shift = 0
for module, name in ((os, "replace"), (os, "fdopen"), (tempfile, "mkstemp")):
    right = getattr(module, name)
    for error in (OSError(28, "No space left on device"), PermissionError(13, "denied")):
        setattr(module, name, fail_with(error))
        print(value(2, shift))
        shift += 1
    setattr(module, name, right)
"""
    assert package.run(code) == [4, 5, 6, 7, 8, 9, 6]
    assert package.files() == package.files(".new-*") == []


@posix
@pytest.mark.parametrize("mode", [0o720, 0o1777])
def test_folder_that_others_may_write_is_refused(warm, mode):
    warm.cache.chmod(mode)
    assert warm.run() == [5, 1]


@posix
@pytest.mark.parametrize("level", [0, 1])
def test_folder_inside_that_others_may_write_is_refused(warm, level):
    kernels = warm.cache / "kernels"
    (digest,) = kernels.iterdir()
    folder = (kernels, digest)[level]
    folder.chmod(0o777)
    before = {path: path.read_bytes() for path in warm.files()}
    assert warm.run() == [5, 1]
    # Neither read nor written.
    assert {path: path.read_bytes() for path in warm.files()} == before
    folder.chmod(0o700)
    assert warm.run() == [5, 0]


@posix
def test_every_folder_that_is_made_is_private_whatever_the_umask(package):
    package.cache.mkdir(mode=0o755)
    assert package.run("import os\nos.umask(0)\nprint(value(2, 1))") == [5, 1]
    made = [path for path in package.cache.rglob("*") if path.is_dir()]
    assert len(made) == 2
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in made)


@posix
def test_link_to_a_folder_counts_as_what_it_leads_to(package):
    target = package.folder / "elsewhere"
    target.mkdir(mode=0o700)
    package.cache.symlink_to(target)
    assert package.run() == [5, 1]
    assert package.run() == [5, 0]
    target.chmod(0o777)
    assert package.run() == [5, 1]
    target.chmod(0o700)
    # One that leads nowhere, or to itself, is no folder.
    for leads in ("nowhere", package.cache):
        package.cache.unlink()
        package.cache.symlink_to(leads)
        assert package.run() == [5, 1]


@posix
def test_link_in_the_place_of_a_file_is_replaced(warm):
    (path,) = warm.files()[:1]
    other = warm.folder / "other"
    other.write_bytes(b"precious")
    path.unlink()
    path.symlink_to(other)
    code = "print(*(value(2, i) for i in range(1, 7)))"
    assert warm.run(code) == [5, 6, 7, 8, 9, 10, 1]
    assert other.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert warm.run(code) == [5, 6, 7, 8, 9, 10, 0]


@posix
def test_folder_that_others_may_read_is_used(warm):
    warm.cache.chmod(0o755)
    assert warm.run() == [5, 0]


@posix
def test_folder_of_another_user_is_refused(warm):
    assert warm.run("import os\nos.geteuid = lambda: 12345\nprint(value(2, 1))") == [5, 1]


@posix
def test_created_folder_is_private(package):
    package.run()
    assert package.cache.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in package.files())


def test_folder_is_the_users_cache_by_default(package):
    assert package.run(FASTCONV_CACHE_DIR=None, XDG_CACHE_HOME=None) == [5, 1]
    (path,) = package.home.rglob("*.nbc")
    if sys.platform == "linux":
        assert path.is_relative_to(package.home / ".cache" / "fastconv" / "kernels")
        other = package.folder / "xdg"
        assert package.run(FASTCONV_CACHE_DIR=None, XDG_CACHE_HOME=str(other)) == [5, 1]
        assert len(list((other / "fastconv").rglob("*.nbc"))) == 1


def test_cache_can_be_disabled(package):
    assert package.run(FASTCONV_DISABLE_CACHE="1") == [5, 1]
    assert not package.cache.exists()


def test_missing_private_interface_means_uncached(warm):
    code = """
from numba.core.compiler import CompileResult
del CompileResult._rebuild
print(value(2, 1))
"""
    assert warm.run(code) == [5, 1]


@posix
def test_files_that_may_not_grow_are_no_error(package):
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
print(value(2, 1))
"""
    assert package.run(code) == [5, 1]
    assert package.files() == package.files(".new-*") == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_full_file_system_is_no_error(package):
    package.cache.mkdir(mode=0o700)
    mounted = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
    # Room for folders, not for a kernel.
    mount = f"mount -t tmpfs -o size=16k,mode=700 tmpfs {package.cache}"
    python = f"{sys.executable} -c 'from tiny.kernel import _jit, value; print(value(2, 1), _jit.compilations())'"
    count = f"find {package.cache} -type f | wc -l"
    command = [*mounted, "sh", "-c", f"{mount} || exit 77; {python} && {python} && {count}"]
    done = subprocess.run(command, env=package._environment({}), capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("may not mount")
    assert done.stdout.split() == ["5", "1", "5", "1", "0"], done.stderr


# Many processes, and old files.


@pytest.mark.slow
def test_eight_processes_fill_a_cold_folder_again_and_again(package):
    codes = [
        f"print(value(2, 1, {dtype!r}), value(3, 7, {dtype!r}))" for dtype in ("int64", "float32", "float64", "int32")
    ]
    for _ in range(4):
        shutil.rmtree(package.cache, ignore_errors=True)
        processes = [package.start(code) for code in codes * 2]
        assert all(finish(process)[:2] == [5, 13] for process in processes)
        assert len(package.files()) == 8
        assert not package.files(".new-*")
        for code in codes:
            assert package.run(code) == [5, 13, 0]


def test_processes_that_write_at_once_agree(package):
    codes = [f"print(value(2, 1, {dtype!r}), value(3, 7, {dtype!r}))" for dtype in ("int64", "float32")]
    processes = [package.start(code) for code in codes * 2]
    assert all(finish(process)[:2] == [5, 13] for process in processes)
    assert len(package.files()) == 4
    assert not package.files(".new-*")
    code = "print(*(value(*v, d) for d in ('float32', 'int64') for v in ((2, 1), (3, 7))))"
    assert package.run(code) == [5, 13] * 2 + [0]


def test_first_call_from_many_threads_compiles_once(package):
    code = """
import threading
kernel = make(2, 1)
outs = [np.zeros(3, np.int64) for _ in range(8)]
users = [threading.Thread(target=kernel, args=(np.ones(3, np.int64), out)) for out in outs]
for user in users:
    user.start()
for user in users:
    user.join()
print(*(int(out.sum()) for out in outs))
"""
    assert package.run(code) == [15] * 8 + [1]


def test_old_folders_are_removed(package):
    kernels = package.cache / "kernels"
    package.cache.mkdir(mode=0o700)
    day = 86400
    for age in (1, 20, 40, 400):
        folder = kernels / f"digest{age}"
        folder.mkdir(parents=True)
        (folder / "kernel.nbc").write_bytes(b"x")
        os.utime(folder, (time.time() - age * day,) * 2)
    package.run()
    left = {path.name for path in kernels.iterdir()}
    assert {"digest1", "digest20"} < left
    assert not {"digest40", "digest400"} & left
    for i in range(30):
        (kernels / f"recent{i}").mkdir()
    (package.folder / "tiny" / "helper.py").write_text(HELPER + "# edited\n")
    assert package.run() == [5, 1]
    assert len(list(kernels.iterdir())) == 17
    assert len(package.files()) == 1


def test_use_renews_the_time_of_the_folder(warm):
    (folder,) = (warm.cache / "kernels").iterdir()
    os.utime(folder, (1e9, 1e9))
    assert warm.run() == [5, 0]
    assert folder.stat().st_mtime > time.time() - 100


# The decorators.


def test_without_the_jit_both_decorators_return_the_function(package):
    code = "print(value(2, 1))\nprint(int(make(2, 1).__name__ == 'kernel' and not hasattr(helper.both, 'py_func')))"
    assert package.run(code, NUMBA_DISABLE_JIT="1") == [5, 1, 0]
    assert not package.cache.exists()


def test_compilations_counts_signatures_once():
    @jit.njit()
    def double(x):
        return x + x

    before = jit.compilations()
    assert (double(2), double(3), double(2.5)) == (4, 6, 5.0)
    again = jit.compilations()
    assert again - before <= 2
    double(4)
    assert jit.compilations() == again


def test_inline_takes_defaults_keywords_and_several_results():
    @jit.inline
    def both(a, b=3, c=1):
        if a > 10:
            return b, a
        return a + c, b

    @jit.njit()
    def kernel(a):
        x, y = both(a)
        u, v = both(a, 5, c=2)
        p, q = both(b=a, a=11)
        return x, y, u, v, p, q

    assert kernel(1) == (2, 3, 3, 5, 1, 11)
    assert kernel(20) == (3, 20, 5, 20, 20, 11)


@pytest.mark.parametrize("fastmath", [True, {"nnan"}, {"contract", "ninf"}, {"fast"}])
def test_fastmath_that_loses_nan_is_refused(fastmath):
    with pytest.raises(ValueError, match="njit: fastmath must be False or a subset of"):
        jit.njit(fastmath=fastmath)


@pytest.mark.parametrize("fastmath", [False, jit.FASTMATH])
def test_special_values_survive(fastmath):
    @jit.njit(fastmath=fastmath)
    def kernel(x):
        total = 0.0
        for value in x:
            total += value
        return total, x[0] != x[0], 1.0 / x[1]

    total, is_nan, quotient = kernel(np.array([np.nan, -0.0, 1.0]))
    assert np.isnan(total)
    assert is_nan
    # By NumPy's error model: no ZeroDivisionError.
    assert quotient == -np.inf
    assert kernel(np.array([np.inf, 1.0]))[0] == np.inf


def test_kernel_releases_the_gil_and_keeps_its_function():
    def count(n):
        """Document it."""
        return n + 1

    kernel = jit.njit()(count)
    assert kernel.targetoptions["nogil"]
    assert (kernel.__name__, kernel.__doc__) == ("count", "Document it.")
    assert count.__qualname__.endswith("<locals>.count"), "the function itself is not renamed"
