"""The soaks, short and in full: no growth, the same bits in every thread, and at least the throughput of one."""

from __future__ import annotations

import sys
import threading
import time

import pytest

import fastconv as fc
from tests import calls, guard, soak

LINUX = sys.platform == "linux"
pool = sys.modules["fastconv.threads"]


def small_calls(count=24):
    """Return calls of few kernels."""
    d = calls.Draws(1, 3000)
    kinds = (calls.pool, calls.filtered, calls.planned, calls.rejected)
    return [kinds[i % len(kinds)](d) for i in range(count)]


@pytest.fixture
def restored():
    before = pool._count
    yield
    pool._count = before


def test_sixteen_threads_have_the_bits_of_one():
    work = small_calls()
    expected = [calls.bits(one.make()) for one in work]
    taken, wrong = soak.rounds(work, expected, 16, 6)
    assert taken > 0
    assert wrong == []


def test_wrong_bits_are_found():
    work = small_calls(8)
    expected = [calls.bits(one.make()) for one in work]
    expected[3] = "other"
    assert soak.rounds(work, expected, 3, 2)[1] == [work[3].name] * 2


def test_the_soak_counts_calls_and_growth(monkeypatch):
    monkeypatch.setattr(calls, "KINDS", (lambda _: calls.Call("one float32", int),))
    monkeypatch.setattr(soak.gc, "collect", int)
    # At 100 calls, 150, where it is warm, 200 and 300.
    for sizes, largest in (((90, 100, 101, 100), 1), ((90, 100, 121, 101), 21)):
        left = iter(sizes)
        monkeypatch.setattr(soak, "resident", lambda left=left: next(left) << 20)
        found = soak.soak(300)
        assert found["operations"] == {"one": 300}
        assert found["problems"] == 150 + 15
        assert found["largest_growth_bytes"] == largest << 20
        assert found["good"] == (largest < 20)


def test_scratch_of_ended_threads_is_freed():
    import gc

    def use():
        pool.run(lambda *_: None, None, None, 1, 1 << 20, 0.0)

    def buffers():
        gc.collect()
        return sum(type(each) is pool._Scratch for each in gc.get_objects())

    use()
    before = buffers()
    for _ in range(5):
        users = [threading.Thread(target=use) for _ in range(8)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert buffers() <= before


@pytest.mark.slow
def test_two_hundred_thousand_calls_do_not_grow():
    # A million, as a command: python -m tests.soak --calls 1000000
    code = "from tests import soak; import sys; sys.exit(0 if soak.main(['--calls', '200000']) == 0 else 1)"
    guard.run(code, timeout=3600)


@pytest.mark.slow
def test_sixteen_threads_call_everything_for_a_minute():
    # In full, on a machine that does nothing else: python -m tests.soak --threads 16 --seconds 180
    found = soak.many_threads(16, 60)
    assert found["wrong"] == {}
    assert found["ratio"] > 0.7


@pytest.mark.slow
def test_the_number_of_threads_changes_while_others_call(restored):
    work = soak.shared_calls(80, 100_000, seed=3)
    with fc.threads(1):
        expected = [calls.bits(one.make()) for one in work]
    stop, n = threading.Event(), 0

    def change():
        nonlocal n
        while not stop.wait(0.001):
            n += 1
            fc.set_num_threads(1 + n % 7)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            assert soak.rounds(work, expected, 8, 2)[1] == []
    finally:
        stop.set()
        changer.join()
    assert n > 100


@pytest.mark.slow
def test_calls_nested_in_executors():
    from concurrent.futures import ThreadPoolExecutor

    work = soak.shared_calls(60, 60_000, seed=4)
    expected = [calls.bits(one.make()) for one in work]

    def nested(i):
        # Each job of the executor waits for jobs of another one, which call from threads of their own.
        with ThreadPoolExecutor(2) as inner:
            return [calls.bits(result) for result in inner.map(lambda one: one.make(), work[i : i + 3])]

    with ThreadPoolExecutor(8) as outer:
        for i, found in enumerate(outer.map(nested, range(0, 60, 3), timeout=300)):
            assert found == expected[3 * i : 3 * i + 3]


@pytest.mark.slow
def test_calls_nested_in_the_threads_of_dask():
    dask = pytest.importorskip("dask")
    work = soak.shared_calls(60, 60_000, seed=4)
    expected = [calls.bits(one.make()) for one in work]
    results = dask.compute(*[dask.delayed(one.make)() for one in work], scheduler="threads", num_workers=16)
    assert [calls.bits(result) for result in results] == expected


FORKS = """
import multiprocessing, os, random, signal, sys, threading, time, warnings
import fastconv as fc
from tests import calls, soak

warnings.simplefilter("ignore")
if __name__ == "__main__":
    fc.set_num_threads(3)
    work = soak.shared_calls(40, 60_000, seed=5)
    expected = [calls.bits(one.make()) for one in work]
    stop, statuses = threading.Event(), []
    def compute(first):
        while not stop.is_set():
            for i in range(first, len(work), 4):
                assert calls.bits(work[i].make()) == expected[i]
    users = [threading.Thread(target=compute, args=(i,)) for i in range(4)]
    for user in users: user.start()
    for round in range(20):
        pid = os.fork()
        if not pid:
            signal.alarm(120)
            wrong = [i for i in range(round % 4, len(work), 4) if calls.bits(work[i].make()) != expected[i]]
            # Of a kernel that no one has compiled yet, while the parent may be compiling.
            new = fc.ndimage.correlate([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0, 0.5]])
            os._exit(1 if wrong or new.shape != (2, 2) else 0)
        statuses.append(os.waitpid(pid, 0)[1])
    stop.set()
    for user in users: user.join(60)
    print(statuses == [0] * 20, not any(user.is_alive() for user in users))
"""


@pytest.mark.slow
@pytest.mark.skipif(not LINUX, reason="needs fork")
def test_forks_while_four_threads_compute():
    assert guard.run(FORKS, timeout=900).split() == ["True", "True"]
