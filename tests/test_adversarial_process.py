"""Whole processes that use the package: cold caches, many threads, child processes, little memory, no traces."""

from __future__ import annotations

import os
import sys

import pytest

import fastconv as fc
from tests import cases, guard

LINUX = sys.platform == "linux"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PRELUDE = """
import os, sys, threading, warnings
import numpy as np
import fastconv as fc
from tests import cases
warnings.simplefilter("ignore")
TEXT = "n2ic16h40w41_oc24k3s1p1"
a = cases.draw(TEXT)
call = lambda: fc.conv2d(a.x, a.w, a.b, **a.keywords)
expected = fc.testing.reference(a.x, a.w, a.b, **a.keywords)
right = lambda got: got.shape == expected.shape and np.abs(got - expected).max() < 1e-3
"""


def python(code, **environment):
    """Run code after the prelude in a new process and return what it prints."""
    return guard.run(PRELUDE + code, timeout=150, **environment).strip()


def test_plain_calls_from_many_threads():
    import threading

    problems = [cases.draw(text, layout) for text in cases.TINY.values() for layout in cases.LAYOUTS]
    wrong, start = [], threading.Barrier(8)
    expected = [fc.conv2d(a.x, a.w, a.b, **a.keywords).tobytes() for a in problems]

    def use(first):
        start.wait(20)
        for i in range(first, first + 500):
            a = problems[i % len(problems)]
            if fc.conv2d(a.x, a.w, a.b, **a.keywords).tobytes() != expected[i % len(problems)]:
                wrong.append(i)

    users = [threading.Thread(target=use, args=(i,)) for i in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert not any(user.is_alive() for user in users)
    assert wrong == []


def test_calls_inside_a_task_of_the_pool():
    a = cases.draw("n1ic32h40w41_oc48k3s1p1")
    from importlib import import_module

    expected, results = fc.conv2d(a.x, a.w, **a.keywords).tobytes(), []

    def task(g, io, scratch, lo, hi):
        results.extend(fc.conv2d(a.x, a.w, **a.keywords).tobytes() == expected for _ in range(lo, hi))

    with fc.threads(3):
        import_module("fastconv.threads").run(task, None, None, 8, 0, 1.0)
    assert results == [True] * 8


def test_dask_threads():
    dask = pytest.importorskip("dask")
    a = cases.draw(cases.TINY["3x3"])
    calls = [dask.delayed(fc.conv2d)(a.x, a.w, **a.keywords) for _ in range(40)]
    results = dask.compute(*calls, scheduler="threads")
    assert len({result.tobytes() for result in results}) == 1


FIRST = """
from fastconv._jit import compilations
ready, results = threading.Barrier(8), []
def use():
    ready.wait(20)
    results.append(right(call()))
users = [threading.Thread(target=use) for _ in range(8)]
for user in users: user.start()
for user in users: user.join(100)
print(results == [True] * 8, compilations())
"""


def test_first_call_from_many_threads_in_a_cold_cache_then_a_warm_one(tmp_path):
    cache = tmp_path / "cache"
    cold = python(FIRST, FASTCONV_CACHE_DIR=str(cache)).split()
    assert cold[0] == "True"
    # Kernels and packers, each once.
    assert 1 <= int(cold[1]) == len(list(cache.rglob("*.nbc")))
    assert python(FIRST, FASTCONV_CACHE_DIR=str(cache)).split() == ["True", "0"]


def test_no_cache_folder_at_all():
    code = "from fastconv._jit import compilations; print(right(call()), compilations() > 0)"
    assert python(code, FASTCONV_CACHE_DIR="/dev/null/none").split() == ["True", "True"]


@pytest.mark.parametrize("layer", [None, "workqueue", "omp"])
def test_numbas_threads_are_never_started(layer):
    code = """
import numba
with fc.threads(4):
    big = np.ones((4, 64, 60, 60), np.float32)
    fc.conv2d(big, np.ones((64, 64, 3, 3), np.float32))
assert right(call())
try:
    print(numba.threading_layer())
except ValueError as error:
    print("not initialized" in str(error), numba.config.THREADING_LAYER)
"""
    environment = {} if layer is None else {"NUMBA_THREADING_LAYER": layer}
    assert python(code, **environment).split() == ["True", layer or "default"]


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_one_thread_by_environment_starts_none():
    code = """
import time
def living():
    # Threads in which something was imported or compiled have ended, but perhaps not for the system.
    time.sleep(0.2)
    return len(os.listdir("/proc/self/task"))
# The imports that the first call needs are not counted.
fc.conv2d(a.x[:, :1, :4, :4], a.w[:, :1])
before = living()
fc.conv2d(np.ones((4, 64, 60, 60), np.float32), np.ones((64, 64, 3, 3), np.float32))
print(living() - before, fc.get_num_threads())
"""
    assert python(code, FASTCONV_NUM_THREADS="1").split() == ["0", "1"]


def test_bad_number_of_threads_in_the_environment_is_named():
    code = """
big = np.ones((4, 64, 60, 60), np.float32)
try:
    fc.conv2d(big, np.ones((64, 64, 3, 3), np.float32))
except ValueError as error:
    print(error)
"""
    assert "FASTCONV_NUM_THREADS" in python(code, FASTCONV_NUM_THREADS="abc")


def test_calls_at_exit_and_in_a_finalizer():
    code = """
import atexit
class Last:
    def __del__(self):
        print("finalizer", right(call()))
keep = Last()
atexit.register(lambda: print("atexit", right(call())))
print("main", right(call()))
"""
    lines = python(code).splitlines()
    assert lines[:2] == ["main True", "atexit True"]
    assert lines[2:] in ([], ["finalizer True"])


# Children.


@needs_fork
def test_fork_from_a_thread_while_another_computes():
    code = """
import signal, time
fc.set_num_threads(4)
call()
stop, statuses = [], []
def compute():
    while not stop:
        call()
def fork():
    for _ in range(4):
        pid = os.fork()
        if not pid:
            signal.alarm(30)
            # The second problem is new to the child.
            b = cases.draw("n1ic5h9w9_oc5k3s1p1g5")
            new = np.array_equal(fc.conv2d(b.x, b.w, **b.keywords), fc.testing.reference(b.x, b.w, **b.keywords))
            os._exit(0 if right(call()) and new else 1)
        statuses.append(os.waitpid(pid, 0)[1])
        time.sleep(0.003)
users = [threading.Thread(target=compute), threading.Thread(target=fork)]
for user in users: user.start()
users[1].join(120)
stop.append(1)
users[0].join(20)
print(statuses == [0] * 4, right(call()))
"""
    assert python(code).split() == ["True", "True"]


POOL = """
import functools, multiprocessing
if __name__ == "__main__":
    call()
    context = multiprocessing.get_context({method!r})
    with context.Pool({workers}) as pool:
        one = functools.partial(fc.conv2d, weight=a.w, bias=a.b, **a.keywords)
        results = pool.map_async(one, [a.x] * 8).get(120)
    print(all(map(right, results)))
"""


@pytest.mark.parametrize(("method", "workers"), [("fork", 4), ("forkserver", 1), ("spawn", 1)])
def test_pools_of_processes(method, workers):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    assert python(POOL.format(method=method, workers=workers)) == "True"


# Memory.


@pytest.mark.skipif(not LINUX, reason="needs RLIMIT_AS and /proc")
def test_large_kernel_on_a_large_image_in_little_memory():
    # All columns of im2col would be 14 GiB.
    code = """
import resource
call()
x, w = np.ones((1, 1, 4096, 4096), np.float32), np.ones((1, 1, 15, 15), np.float32)
fc.conv2d(x[:, :, :64], w)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + (700 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for algorithm in ("direct", "im2col", "depthwise"):
    assert (fc.conv2d(x, w, algorithm=algorithm) == 225).all()
try:
    fc.conv2d(x, w, padding=20000)
except MemoryError:
    print("no memory", right(call()))
"""
    assert python(code) == "no memory True"


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_thousands_of_calls_keep_no_memory():
    code = """
import resource
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def rejected():
    try:
        fc.conv2d(a.x, a.w, padding=-1)
    except ValueError:
        pass
for one in (call, rejected):
    for _ in range(200): one()
    before = resident()
    for _ in range(1000): one()
    assert resident() - before < 5 << 20, (one, resident() - before)
plan = fc.plan_conv2d(a.x.shape, a.w, a.b, **a.keywords)
out = np.empty_like(expected)
before = resident()
for _ in range(1000): plan(a.x, out)
assert resident() - before < 5 << 20
# Problems that are met once are forgotten again.
x, w = np.ones((1, 1, 3, 3000), np.float32), np.ones((1, 1, 3, 3), np.float32)
def many(n):
    for i in range(n, n + 1500): fc.conv2d(x[..., : 8 + i % 2900], w)
many(0)
before = resident()
many(1400)
assert resident() - before < 30 << 20, resident() - before
print("ok")
"""
    assert python(code) == "ok"
