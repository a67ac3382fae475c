"""The thread pool: coverage of the tasks, errors, signals, forks, and where the number of threads comes from."""

from __future__ import annotations

import collections
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fastconv.errors import OptionError

# By this way, since the package may export the context manager of the same name.
pool = import_module("fastconv.threads")

ROOT = Path(__file__).parents[1]
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


@pytest.fixture(autouse=True)
def restored():
    count, default = pool._count, pool._default
    yield
    pool._count, pool._default = count, default


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("seconds", [0.0, 160e-6, 1e-3, 0.2, 100.0, float("inf")])
def test_run_covers_each_task_once(threads, seconds):
    for tasks in (0, 1, 2, 3, 13, 64):
        out = np.zeros(tasks, np.int64)
        with pool.threads(threads):
            pool.run(add_one, None, out, tasks, 0, seconds)
        assert (out == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7, 16])
def test_chunks_are_bounded_and_even(threads):
    shortest, longest = pool.CHUNK_SECONDS
    for tasks, seconds in itertools.product((2, 5, 100, 10_000), (150e-6, 1e-3, 0.1, 3.0)):
        chunk = pool._chunk(tasks, seconds, threads)
        each = chunk * seconds / tasks
        assert 1 <= chunk <= tasks
        # Whole tasks can be longer, and the last step to an even count halves a chunk at most.
        assert chunk == 1 or each <= 2 * longest
        if threads > 1 and chunk < tasks:
            assert each >= shortest / 2 or chunk == 1 or each >= seconds / tasks
            assert chunk == 1 or -(-tasks // chunk) >= min(threads, int(seconds / shortest))


def test_run_passes_arguments_through_and_calls_short_work_once():
    calls = []
    g, io = object(), object()
    with pool.threads(8):
        pool.run(lambda *arguments: calls.append(arguments), g, io, 100, 0, 149e-6)
    assert calls == [(g, io, 0, 0, 100)]


def test_run_uses_helpers():
    names = set()

    def kernel(g, io, scratch, lo, hi):
        names.add(threading.current_thread().name)
        time.sleep(0.005)

    with pool.threads(4):
        pool.run(kernel, None, None, 40, 0, 0.04)
    assert len(names) == 4
    assert sum(name.startswith("fastconv-") for name in names) == 3


@pytest.mark.parametrize(("seconds", "expected"), [(0.02, 2), (0.04, 4)])
def test_short_calls_at_the_same_time_share_the_threads(seconds, expected):
    names = set()
    others = threading.Event()

    def kernel(g, io, scratch, lo, hi):
        names.add(threading.current_thread().name)
        time.sleep(0.005)

    def occupy():
        with pool.threads(1):
            pool.run(lambda *_: others.wait(10), None, None, 2, 0, 200e-6)

    occupant = threading.Thread(target=occupy)
    occupant.start()
    assert wait_for(lambda: pool._pool.callers)
    with pool.threads(4):
        pool.run(kernel, None, None, 40, 0, seconds)
        assert len(names) == expected
        others.set()
        occupant.join(10)
        names.clear()
        pool.run(kernel, None, None, 40, 0, seconds)
    assert len(names) == 4
    assert not pool._pool.callers


def test_result_has_the_same_bits_for_every_thread_count():
    x = np.random.default_rng(0).standard_normal((97, 300))

    def kernel(g, io, scratch, lo, hi):
        for i in range(lo, hi):
            io[i] = np.tanh(x[i]).sum()

    results = []
    for threads in (1, 2, 3, 7):
        out = np.full(97, np.nan)
        with pool.threads(threads):
            pool.run(kernel, None, out, 97, 0, 0.003)
        results.append(out.tobytes())
    assert len(set(results)) == 1


# Scratch.


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("size", [1, 63, 1000, 9 << 20])
@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_scratch_is_aligned_writable_and_private(threads, size, seconds):
    import ctypes

    in_use, clashes = set(), []

    def kernel(g, io, scratch, lo, hi):
        clashes.append(scratch in in_use or scratch % 64 or not scratch)
        in_use.add(scratch)
        ctypes.memset(scratch, 1, size + 64)
        time.sleep(0.0005)
        in_use.remove(scratch)

    with pool.threads(threads):
        pool.run(kernel, None, None, 30, size, seconds)
    assert clashes
    assert not any(clashes)


def test_scratch_of_a_nested_call_is_another():
    seen = []

    def inner(g, io, scratch, lo, hi):
        seen.append(scratch)

    def outer(g, io, scratch, lo, hi):
        seen.append(scratch)
        pool.run(inner, None, None, 1, 500, 0.0)

    pool.run(outer, None, None, 1, 500, 0.0)
    first = seen[:]
    pool.run(outer, None, None, 1, 500, 0.0)
    assert first[0] != first[1]
    assert set(seen[2:]) == set(first), "small buffers are kept"


def test_scratch_above_the_limit_is_freed():
    pool.run(add_one, None, np.zeros(1), 1, pool.KEEP_BYTES + 1, 0.0)
    assert all(scratch.size <= pool.KEEP_BYTES for scratch in pool._state.buffers)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_memory_error_comes_before_any_call(seconds):
    calls = []
    with pool.threads(4), pytest.raises(MemoryError):
        pool.run(lambda *arguments: calls.append(arguments), None, None, 100, 1 << 60, seconds)
    assert calls == []


def test_helper_without_memory_leaves_the_work_to_the_caller(monkeypatch):
    caller = threading.get_ident()
    take = pool._take

    def scarce(size):
        if threading.get_ident() != caller:
            raise MemoryError
        return take(size)

    monkeypatch.setattr(pool, "_take", scarce)
    out = np.zeros(40, np.int64)
    with pool.threads(4):
        pool.run(add_one, None, out, 40, 100, 0.01)
    assert (out == 1).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_chunks_for_which_a_thread_had_no_memory_are_done_at_the_end(threads):
    caller, lacked = threading.get_ident(), []

    def kernel(g, io, scratch, lo, hi):
        time.sleep(0.0003)
        # All helpers, and the caller once.
        if threading.get_ident() != caller or (lo >= 10 and not lacked):
            lacked.append(lo)
            raise MemoryError
        io[lo:hi] += 1

    out = np.zeros(40, np.int64)
    with pool.threads(threads):
        pool.run(kernel, None, out, 40, 100, 4.0)
    assert (out == 1).all()
    assert lacked


@pytest.mark.parametrize("threads", [1, 4])
def test_memory_that_is_not_there_for_the_caller_alone_is_an_error(threads):
    def kernel(g, io, scratch, lo, hi):
        if hi > 20:
            raise MemoryError

    for _ in range(3):
        with pool.threads(threads), pytest.raises(MemoryError):
            pool.run(kernel, None, None, 40, 100, 4.0)


# Errors and signals.


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_error_reaches_the_caller_and_the_pool_goes_on(threads):
    running = []

    def kernel(g, io, scratch, lo, hi):
        running.append(lo)
        time.sleep(0.002)
        running.pop()
        if lo <= 20 < hi:
            raise KeyError("task 20")

    for _ in range(5):
        with pool.threads(threads), pytest.raises(KeyError, match="task 20"):
            pool.run(kernel, None, None, 200, 64, 0.5)
        assert running == []
    out = np.zeros(50, np.int64)
    with pool.threads(threads):
        pool.run(add_one, None, out, 50, 64, 0.01)
    assert (out == 1).all()


def test_error_of_a_helper_stops_the_others():
    caller, done = threading.get_ident(), []

    def kernel(g, io, scratch, lo, hi):
        time.sleep(0.001)
        if threading.get_ident() != caller:
            raise ZeroDivisionError
        done.append(lo)

    with pool.threads(2), pytest.raises(ZeroDivisionError):
        pool.run(kernel, None, None, 1000, 0, 100.0)
    assert len(done) < 900


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("threads", [1, 4])
def test_interrupt_is_quick_and_nothing_writes_later(threads):
    out = python(
        f"""
        def slow(g, io, scratch, lo, hi):
            time.sleep(0.05 * (hi - lo))
            io[lo:hi] += 1

        out = np.zeros(1000, np.int64)
        sent = []
        def interrupt():
            time.sleep(0.4)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        pool.set_num_threads({threads})
        try:
            pool.run(slow, None, out, 1000, 64, 50.0)
        except KeyboardInterrupt:
            late = time.monotonic() - sent[0]
            before = out.copy()
            time.sleep(0.3)
            assert (out == before).all() and 0 < out.sum() < 1000
            assert late < 0.5, late
            check({threads})
            print("interrupted")
        """
    )
    assert out == "interrupted"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_many_interrupts_never_leave_a_helper_running():
    out = python(
        """
        running, violations, interrupts = [], 0, 0
        def slow(g, io, scratch, lo, hi):
            running.append(lo)
            try:
                time.sleep(0.002)
            finally:
                running.pop()

        signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0031)
        armed = False
        def on_alarm(*_):
            if armed:
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, on_alarm)
        pool.set_num_threads(4)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                armed = True
                pool.run(slow, None, None, 60, 64, 0.01)
                armed = False
            except KeyboardInterrupt:
                armed = False
                interrupts += 1
            violations += bool(running)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert interrupts > 50, interrupts
        assert violations == 0, violations
        check()
        print("ok")
        """
    )
    assert out == "ok"


# Threads, nesting, processes.


def test_many_python_threads_at_once():
    wrong = []

    def use():
        for _ in range(40):
            out = np.zeros(30, np.int64)
            pool.run(add_one, None, out, 30, 200, 400e-6)
            wrong.extend(out[out != 1])

    pool.set_num_threads(3)
    users = [threading.Thread(target=use) for _ in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join(20)
    assert not any(user.is_alive() for user in users)
    assert wrong == []


def test_nested_runs_finish_and_keep_the_callers_count():
    counts = set()

    def inner(g, io, scratch, lo, hi):
        counts.add(pool.get_num_threads())
        add_one(g, io, scratch, lo, hi)

    def outer(g, io, scratch, lo, hi):
        for i in range(lo, hi):
            pool.run(inner, None, io[i], 12, 100, 0.002)

    out = np.zeros((24, 12), np.int64)
    pool.set_num_threads(8)
    with pool.threads(3):
        pool.run(outer, None, out, 24, 100, 0.05)
    assert (out == 1).all()
    assert counts == {3}


def test_invitations_do_not_pile_up():
    release = threading.Event()

    def hold(g, io, scratch, lo, hi):
        release.wait(10)

    def occupy():
        with pool.threads(3):
            pool.run(hold, None, None, 3, 0, 1.0)

    occupant = threading.Thread(target=occupy)
    occupant.start()
    with pool.threads(3):
        for _ in range(200):
            pool.run(lambda *_: None, None, None, 8, 0, 400e-6)
    assert pool._pool.queue.qsize() <= pool._pool.workers
    release.set()
    occupant.join(10)
    assert not occupant.is_alive()
    assert wait_for(lambda: pool._pool.queue.qsize() == 0)


def test_helpers_that_cannot_start_are_done_without(monkeypatch):
    monkeypatch.setattr(pool, "_pool", pool._Pool())
    start, started = threading.Thread.start, collections.Counter()

    def start_two(thread):
        started["all"] += 1
        if started["all"] > 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    for _ in range(3):
        out = np.zeros(60, np.int64)
        with pool.threads(8):
            pool.run(add_one, None, out, 60, 0, 0.02)
        assert (out == 1).all()
    assert started["all"] == 3, "a failure is not repeated at each call"


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_one_thread_starts_none_and_idle_helpers_sleep():
    out = python(
        """
        before = len(os.listdir("/proc/self/task"))
        check(1)
        assert len(os.listdir("/proc/self/task")) == before
        check(4)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.02
        print(len([t for t in threading.enumerate() if t.name.startswith("fastconv")]))
        """
    )
    assert out == "3"


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use_and_while_another_thread_computes():
    out = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        def child():
            pid = os.fork()
            if pid:
                return pid
            signal.alarm(10)
            status = 1
            try:
                assert pool._pool.workers == 0
                check(4)
                status = 0
            finally:
                os._exit(status)

        check(4)
        children = [child()]
        stop = []
        def compute():
            while not stop:
                check(4)
        user = threading.Thread(target=compute)
        user.start()
        for _ in range(10):
            children.append(child())
            time.sleep(0.003)
        stop.append(1)
        user.join()
        check(4)
        print([os.waitpid(pid, 0)[1] for pid in children])
        """
    )
    assert out == str([0] * 11)


@needs_fork
def test_fork_inside_a_task_does_not_hang():
    out = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        parent, children = os.getpid(), []
        def kernel(g, io, scratch, lo, hi):
            time.sleep(0.002)
            if threading.current_thread() is threading.main_thread() and os.getpid() == parent and not children:
                pid = os.fork()
                if pid:
                    children.append(pid)
                else:
                    signal.alarm(10)
        pool.set_num_threads(4)
        pool.run(kernel, None, None, 40, 0, 0.05)
        if os.getpid() != parent:
            check(4)
            os._exit(0)
        print(os.waitpid(children[0], 0)[1])
        """
    )
    assert out == "0"


def test_use_at_exit_and_in_a_finalizer():
    out = python(
        """
        import atexit
        class Last:
            def __del__(self):
                check(4)
                print("finalizer")
        def last():
            check(4)
            print("atexit")
        atexit.register(last)
        check(4)
        keep = Last()
        daemon = threading.Thread(target=lambda: [check(3) for _ in iter(int, 1)], daemon=True)
        daemon.start()
        time.sleep(0.05)
        """
    )
    assert out.splitlines()[0] == "atexit"


def test_first_use_at_exit():
    out = python("import atexit; atexit.register(lambda: (check(4), print('done')))")
    assert out == "done"


def test_import_needs_no_numba():
    assert python("print('numba' in sys.modules)") == "False"


# The number of threads.


def test_set_num_threads_is_process_wide_and_threads_is_local():
    seen = []
    pool.set_num_threads(5)
    with pool.threads(2):
        with pool.threads(np.int64(3)):
            assert pool.get_num_threads() == 3
        other = threading.Thread(target=lambda: seen.append(pool.get_num_threads()))
        other.start()
        other.join()
        assert pool.get_num_threads() == 2
    assert seen == [5]
    assert pool.get_num_threads() == 5


def test_threads_restores_after_an_error():
    pool.set_num_threads(5)
    with pytest.raises(KeyError), pool.threads(2):
        raise KeyError
    assert pool.get_num_threads() == 5


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True, float("nan")])
def test_bad_thread_counts_are_refused(n):
    with pytest.raises(OptionError, match=f"set_num_threads: n must be an integer of at least 1, got {n!r}"):
        pool.set_num_threads(n)
    with pytest.raises(ValueError, match="threads: n must"), pool.threads(n):
        pass


@pytest.mark.parametrize("text", ["0", "-1", "abc", "1.5", "2,3"])
def test_bad_environment_is_an_error_at_first_use_that_names_it(monkeypatch, text):
    monkeypatch.setattr(pool, "_count", 0)
    monkeypatch.setattr(pool, "_default", 0)
    monkeypatch.setenv("FASTCONV_NUM_THREADS", text)
    with pytest.raises(OptionError, match=f"FASTCONV_NUM_THREADS must be .*{text}"):
        pool.get_num_threads()


@pytest.mark.parametrize(
    ("ours", "openmp", "expected"),
    [
        (None, None, 8),
        ("3", None, 3),
        (" 3 ", "2", 3),
        ("99", None, 8),
        ("", "2", 2),
        (None, "4,2", 4),
        (None, "0", 8),
        (None, "abc", 8),
    ],
)
def test_default_is_the_smallest_limit(monkeypatch, ours, openmp, expected):
    monkeypatch.setattr(pool, "_count", 0)
    monkeypatch.setattr(pool, "_default", 0)
    monkeypatch.setattr(pool, "cpus", lambda: 8)
    monkeypatch.setattr(pool, "cgroup_cpus", lambda: None)
    for name, value in (("FASTCONV_NUM_THREADS", ours), ("OMP_NUM_THREADS", openmp)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert pool.get_num_threads() == expected
    monkeypatch.setattr(pool, "_default", 0)
    monkeypatch.setattr(pool, "cgroup_cpus", lambda: 1)
    assert pool.get_num_threads() == 1


@pytest.mark.skipif(not LINUX, reason="needs sched_setaffinity")
def test_affinity_of_one_cpu_means_one_thread():
    assert python("os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(pool.get_num_threads())") == "1"
