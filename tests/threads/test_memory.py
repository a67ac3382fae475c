"""Scratch of the thread pool, and what happens where there is none."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
import pytest

from tests.threads.pool import add_one, pool


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("size", [1, 63, 1000, 9 << 20])
@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_scratch_is_aligned_writable_and_private(threads, size, seconds):
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
