"""The folders of the cache: whatever they are, a call is no error, and nothing of others is trusted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

jit = pytest.importorskip("fastconv._jit")

POSIX = os.name == "posix"
posix = pytest.mark.skipif(not POSIX, reason="needs POSIX permissions")
unprivileged = pytest.mark.skipif(POSIX and os.geteuid() == 0, reason="root may write everywhere")
pytestmark = pytest.mark.skipif(jit.config.DISABLE_JIT, reason="needs the JIT")


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
