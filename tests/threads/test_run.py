"""Runs of the thread pool: coverage of the tasks, threads, errors and nesting."""

from __future__ import annotations

import collections
import itertools
import threading
import time

import numpy as np
import pytest

from tests.threads.pool import add_one, pool, wait_for


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
