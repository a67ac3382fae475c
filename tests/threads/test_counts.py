"""Where the number of threads comes from."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastconv.errors import OptionError
from tests.threads.pool import LINUX, pool, python


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
