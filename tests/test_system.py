"""What the operating system grants: the quota of processors, and memory, before the kernel ends the process for it."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

import fastconv as fc
from fastconv import system
from tests import guard

LINUX = sys.platform == "linux"
MIB = 1 << 20


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_systems_without_affinity_count_cpus(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert system.cpus() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.cpus() == 1


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/../x\n", {"cpu.max": "350000 100000"}, 4),
        ("4:memory:/\n3:cpu,cpuacct:/d\n", {"cpu,cpuacct/cpu.cfs_quota_us": "250000"}, 3),
        ("3:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1"}, None),
        ("3:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "garbage"}, None),
        ("", {}, None),
        ("nonsense", {}, None),
    ],
)
def test_quota_of_processors(tmp_path, groups, files, expected):
    periods = {name.replace("quota", "period"): "100000\n" for name in files if name.endswith("quota_us")}
    written(tmp_path, files | periods | {"proc/self/cgroup": groups})
    assert system.cgroup_cpus(str(tmp_path / "proc"), str(tmp_path)) == expected
    assert system.cgroup_cpus(str(tmp_path / "missing"), str(tmp_path)) is None


MEMINFO = "MemTotal: 9000 kB\nMemAvailable: {} kB\nSwapFree: {} kB\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"proc/meminfo": MEMINFO.format(100, 0)}, 100 << 10),
        ("0::/\n", {"proc/meminfo": MEMINFO.format(100, 20)}, 120 << 10),
        # The limit of each group on the way counts; pages of files can be freed.
        (
            "0::/a/b\n",
            {
                "proc/meminfo": MEMINFO.format(100, 0),
                "a/memory.max": "9000\n",
                "a/memory.current": "5000\n",
                "a/memory.stat": "anon 4000\ninactive_file 500\nactive_file 7\n",
                "a/b/memory.max": "max\n",
                "a/b/memory.current": "5000\n",
            },
            4500,
        ),
        ("0::/\n", {"memory.max": "1000", "memory.current": "3000"}, 0),
        (
            "4:memory:/d\n3:cpu:/\n",
            {
                "memory/d/memory.limit_in_bytes": "9000",
                "memory/d/memory.usage_in_bytes": "1000",
                "memory/d/memory.stat": "inactive_file 1\ntotal_inactive_file 30\n",
                "memory/memory.limit_in_bytes": str(2**63 - 4096),
                "memory/memory.usage_in_bytes": "5000",
            },
            8030,
        ),
        ("0::/\n", {"memory.max": "garbage", "memory.current": "1"}, None),
        ("0::/\n", {"proc/meminfo": "nonsense"}, None),
        ("", {}, None),
    ],
)
def test_memory_that_is_available(tmp_path, groups, files, expected):
    written(tmp_path, files | {"proc/self/cgroup": groups})
    assert system.available_bytes(str(tmp_path / "proc"), str(tmp_path)) == expected


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_memory_of_this_machine_is_known():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < system.available_bytes() <= 4 * total


def test_small_arrays_ask_no_one(monkeypatch):
    monkeypatch.setattr(system, "available_bytes", lambda: pytest.fail("looked"))
    assert system.empty((3, 4), "int16").shape == (3, 4)
    a = np.ones(5, np.float32)
    assert system.cast(a, np.dtype("f4")) is a
    assert system.cast(a, np.dtype("f8")).dtype == np.float64


@pytest.fixture
def scarce(monkeypatch):
    """Let arrays of a KiB be large, and the system have two."""
    monkeypatch.setattr(system, "CHECKED_BYTES", 1 << 10)
    monkeypatch.setattr(system, "RESERVED_BYTES", 100)
    monkeypatch.setattr(system, "available_bytes", lambda: 2 << 10)


def test_what_the_system_lacks_is_a_memory_error(scarce):
    assert system.empty(1900, "uint8").size == 1900
    with pytest.raises(MemoryError, match=r"^fastconv: 2000 bytes are needed at once, the system has 2048 available$"):
        system.empty(2000, "uint8")
    with pytest.raises(MemoryError, match="4000 bytes"):
        system.cast(np.ones(1000, np.int16), np.dtype("f4"))
    x = np.ones(2000, np.float32)
    assert system.cast(x, x.dtype) is x
    assert fc.max_pool2d(x[:100].reshape(1, 1, 10, 10), 2).sum() == 25


def test_no_thread_is_started_that_would_find_no_memory(monkeypatch):
    ran = []
    system.start(threading.Thread(target=ran.append, args=(1,)))
    monkeypatch.setattr(system, "THREAD_BYTES", 1 << 60)
    with pytest.raises(RuntimeError, match="no memory for another thread"):
        system.start(threading.Thread(target=ran.append, args=(2,)))
    assert 2 not in ran


X, W = np.ones((1, 1, 40, 40), np.float32), np.ones((1, 1, 3, 3), np.float32)
LARGE = {
    "conv2d": lambda: fc.conv2d(X, W),
    "conv2d of half precision": lambda: fc.conv2d(X.astype("f2"), W.astype("f2")),
    "depthwise_conv2d": lambda: fc.depthwise_conv2d(X, W),
    "separable_conv2d": lambda: fc.separable_conv2d(X, W, W[:, :, :1, :1]),
    "conv_transpose2d": lambda: fc.conv_transpose2d(X, W),
    "plan_conv2d": lambda: fc.plan_conv2d(X.shape, W)(X),
    "max_pool2d": lambda: fc.max_pool2d(X, 2, 1),
    "avg_pool2d": lambda: fc.avg_pool2d(X, 2, 1),
    "interpolate": lambda: fc.interpolate(X, scale_factor=2.0, mode="bilinear"),
    "nearest_unpool2d": lambda: fc.nearest_unpool2d(X, 2),
    "unfold": lambda: fc.unfold(X, 3),
    "fold": lambda: fc.fold(np.ones((1, 4, 39 * 39), np.float32), (40, 40), 2),
    "gelu": lambda: fc.activations.gelu(X),
    "gaussian_filter": lambda: fc.ndimage.gaussian_filter(X[0, 0], 1.0),
    "maximum_filter": lambda: fc.ndimage.maximum_filter(X[0, 0], 3),
    "correlate": lambda: fc.ndimage.correlate(X[0, 0], W[0, 0] * np.arange(9).reshape(3, 3)),
    "signal.convolve2d": lambda: fc.signal.convolve2d(X[0, 0], W[0, 0]),
    "conv2d_input": lambda: fc.grad.conv2d_input(X.shape, W, X[:, :, :38, :38]),
    "max_pool2d_vjp": lambda: fc.grad.max_pool2d_vjp(X[:, :, :20, :20], X, 2),
    "gelu_vjp": lambda: fc.grad.gelu_vjp(X, X),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_results_of_every_operation_are_compared_with_the_memory(name, scarce):
    with pytest.raises(MemoryError, match="the system has 2048 available"):
        LARGE[name]()


LIMITED = """
import resource
import numpy as np
import fastconv as fc
from fastconv import system

x, w = np.full((1, 1, 2048, 2048), 3, np.float32), np.ones((4, 1, 3, 3), np.float32)
small = fc.conv2d(x[:, :, :9, :9], w)
fc.conv2d(x[:, :, :64, :64], w, algorithm="fft")
fc.signal.convolve(x[0, 0, :50, :50], w[0, 0])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + (48 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def fails(call):
    try:
        call()
    except MemoryError:
        return True
    return False

# A result of 64 MiB, or one with 64 MiB of scratch.
assert fails(lambda: fc.conv2d(x, w, padding=1))
assert fails(lambda: fc.interpolate(x, scale_factor=2.0))
many = np.broadcast_to(np.int32(3), (4096, 2048))
assert fails(lambda: fc.ndimage.gaussian_filter(many, 3.0, output=np.float64))
threads = __import__("sys").modules["fastconv.threads"]
assert fails(lambda: threads.run(print, None, None, 9, 64 << 20, 1.0))
assert (x == 3).all()
np.testing.assert_array_equal(fc.conv2d(x[:, :, :9, :9], w), small)
print("ok")
"""


@pytest.mark.skipif(not LINUX, reason="needs RLIMIT_AS and /proc")
@pytest.mark.slow
def test_results_above_the_limit_of_the_address_space_are_memory_errors():
    assert guard.run(LIMITED).strip() == "ok"


FEW = """
import resource, threading
import numpy as np
import fastconv as fc

rng = np.random.default_rng(0)
x, w = rng.random((1, 16, 300, 300), "f4"), rng.random((16, 16, 3, 3), "f4")
plan = fc.plan_conv2d(x.shape, w)
with fc.threads(1):
    expected = plan(x)
out = np.zeros_like(expected)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
# Room for buffers, not for the stack of a thread.
limit = used + (6 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with fc.threads(8):
    for _ in range(5):
        plan(x, out)
assert (out == expected).all()
print(sum(thread.name.startswith("fastconv") for thread in threading.enumerate()))
"""


@pytest.mark.skipif(not LINUX, reason="needs RLIMIT_AS and /proc")
@pytest.mark.slow
def test_threads_for_which_there_is_no_memory_are_done_without():
    assert guard.run(FEW, FASTCONV_NUM_THREADS="1").strip() == "0"
