"""The cache of compiled kernels between threads, processes and versions."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from tests.jit.package import HELPER, finish

jit = pytest.importorskip("fastconv._jit")

pytestmark = pytest.mark.skipif(jit.config.DISABLE_JIT, reason="needs the JIT")


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


def test_without_the_jit_both_decorators_return_the_function(package):
    code = "print(value(2, 1))\nprint(int(make(2, 1).__name__ == 'kernel' and not hasattr(helper.both, 'py_func')))"
    assert package.run(code, NUMBA_DISABLE_JIT="1") == [5, 1, 0]
    assert not package.cache.exists()
