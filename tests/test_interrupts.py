"""Ctrl-C: felt within half a second, wherever it comes; nothing is written later, and the next call is right."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from fastconv import interrupts
from tests import guard

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_work_runs_in_another_thread_and_its_result_and_error_come_back():
    here = threading.get_ident()
    assert interrupts.uninterrupted(threading.get_ident) != here

    def fail():
        raise KeyError("reason")

    with pytest.raises(KeyError, match="reason"):
        interrupts.uninterrupted(fail)


def test_other_threads_do_it_themselves():
    seen = []
    user = threading.Thread(
        target=lambda: seen.append(interrupts.uninterrupted(threading.get_ident) == threading.get_ident())
    )
    user.start()
    user.join()
    assert seen == [True]


def test_without_a_thread_the_caller_does_it(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert interrupts.uninterrupted(threading.get_ident) == threading.get_ident()


def test_a_module_that_is_being_imported_waits_for_no_thread(tmp_path):
    (tmp_path / "importing.py").write_text(
        "import threading\n"
        "from fastconv.interrupts import uninterrupted\n"
        "HERE = uninterrupted(threading.get_ident) == threading.get_ident()\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importing; print(importing.HERE)"
    assert guard.run(code).strip() == "True"


@posix
def test_an_interrupt_ends_the_wait_and_not_the_work():
    code = """
import os, signal, threading, time
from fastconv.interrupts import uninterrupted

go, done = threading.Event(), threading.Event()
def work():
    go.wait()
    done.set()

threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
start = time.monotonic()
try:
    uninterrupted(work)
except KeyboardInterrupt:
    late = time.monotonic() - start - 0.1
    assert late < 0.4 and not done.is_set(), late
    go.set()
    print(done.wait(30))
"""
    assert guard.run(code).strip() == "True"


@needs_fork
def test_a_fork_waits_for_what_a_child_could_not_finish():
    code = """
import os, threading, time
from fastconv import interrupts

held, done = threading.Event(), []
def work():
    held.set()
    time.sleep(0.2)
    done.append(True)

threading.Thread(target=interrupts.unforked, args=(work,)).start()
held.wait()
pid = os.fork()
if not pid:
    # The lock is free, and this thread can take it.
    os._exit(0 if done and interrupts.unforked(lambda: 5) == 5 else 1)
print(os.waitpid(pid, 0)[1])
"""
    assert guard.run(code).strip() == "0"


# Compilations, with a cold cache.

COMPILE = """
import os, signal, sys, time
import numpy as np
import fastconv as fc
from fastconv.testing import reference

def interrupt(*_):
    raise KeyboardInterrupt

after = float(sys.argv[1])
x, w = np.ones((1, 8, 12, 12), np.float32), np.ones((8, 8, 3, 3), np.float32)
signal.signal(signal.SIGALRM, interrupt)
start = time.monotonic()
signal.setitimer(signal.ITIMER_REAL, after)
try:
    fc.conv2d(x, w, padding=1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    late = 0.0
except KeyboardInterrupt:
    late = time.monotonic() - start - after
for _ in range(2):
    np.testing.assert_array_equal(fc.conv2d(x, w, padding=1), reference(x, w, padding=1))
    np.testing.assert_array_equal(fc.max_pool2d(x, 2), x[:, :, ::2, ::2])
print(late)
"""


def interrupted_compilation(after, cache):
    """Interrupt a first call after some seconds, go on, and return how late the interrupt came."""
    env = os.environ | {"PYTHONPATH": str(guard.ROOT), "FASTCONV_CACHE_DIR": str(cache), "FASTCONV_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMPILE, str(after)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, (after, done.stderr[-3000:])
    return float(done.stdout)


@posix
@pytest.mark.slow
def test_a_first_call_can_be_interrupted_at_any_time(tmp_path):
    # Through the import of the compiler and the compilation of the kernels, which take some 3 seconds.
    late = []
    for i in range(40):
        late.append(interrupted_compilation(0.02 + 0.08 * i, tmp_path / str(i)))
        # What was stored meanwhile is whole: the next process takes it.
        assert interrupted_compilation(100, tmp_path / str(i)) == 0
    assert max(late) < 0.5, late


# Long calls of every kind.

LONG = """
import os, signal, sys, threading, time
import numpy as np
import fastconv as fc

rng = np.random.default_rng(0)
x = rng.random((1, 64, 224, 224), "f4")
big = rng.random((1, 64, 1024, 1024), "f4")
image = rng.random((8000, 8000), "f4")
deep, wide = rng.random((64, 64, 5, 5), "f4"), rng.random((64, 1, 11, 11), "f4")
# Each takes seconds on one core.
CALLS = {{
    "conv2d direct": lambda out: [fc.conv2d(big, deep, out=out, padding=2, algorithm="direct") for _ in range(9)],
    "conv2d im2col": lambda out: [fc.conv2d(big, deep, out=out, padding=2, algorithm="im2col") for _ in range(9)],
    "conv2d winograd": lambda out: [
        fc.conv2d(big, deep[:, :, :3, :3], out=out, padding=1, algorithm="winograd") for _ in range(20)
    ],
    "conv2d fft": lambda out: [fc.conv2d(big, deep, out=out, padding=2, algorithm="fft") for _ in range(9)],
    "depthwise": lambda out: [fc.depthwise_conv2d(big, wide, out=out, padding=5) for _ in range(60)],
    "conv_transpose2d": lambda out: [fc.conv_transpose2d(big, deep, padding=2, out=out) for _ in range(9)],
    "max_pool2d": lambda out: [fc.max_pool2d(big, 9, 1, 4, out=out) for _ in range(200)],
    "avg_pool2d": lambda out: [fc.avg_pool2d(big, 9, 1, 4, out=out) for _ in range(200)],
    "interpolate": lambda out: [fc.interpolate(big, (1024, 1024), mode="bicubic", out=out) for _ in range(200)],
    "conv2d_weight": lambda out: [fc.grad.conv2d_weight(big, deep.shape, big, padding=2) for _ in range(9)],
    "max_pool2d_vjp": lambda out: [fc.grad.max_pool2d_vjp(big, big, 3, 1, 1) for _ in range(200)],
    "gelu": lambda out: [fc.activations.gelu(big, out=out) for _ in range(300)],
    "gaussian_filter": lambda out: [fc.ndimage.gaussian_filter(image, 9.0) for _ in range(60)],
    "correlate": lambda out: [fc.ndimage.correlate(image, wide[0, 0]) for _ in range(60)],
    "maximum_filter": lambda out: [fc.ndimage.maximum_filter(image, 21) for _ in range(60)],
    "signal.correlate2d": lambda out: [fc.signal.correlate2d(image, wide[0, 0]) for _ in range(60)],
    "unfold": lambda out: [fc.unfold(x, 3) for _ in range(400)],
}}
small = x[:, :, :20, :20]
expected = fc.conv2d(small, deep).tobytes()
name = sys.argv[1]
call, out = CALLS[name], np.zeros_like(big)
sent, ended = [], threading.Event()

def interrupt():
    # Once the kernels are compiled, in the middle of whatever runs.
    time.sleep({after})
    if not ended.is_set():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    call(out)
    ended.set()
    print("finished")
except KeyboardInterrupt:
    late = time.monotonic() - sent[0]
    before = out.copy()
    time.sleep(0.3)
    assert (out == before).all(), "something still writes"
    print(late)
assert fc.conv2d(small, deep).tobytes() == expected
assert fc.conv2d(x[:, :, :64, :64], deep).shape == (1, 64, 60, 60)
"""
NAMES = [line.split('"')[1] for line in LONG.splitlines() if line.startswith('    "') and "lambda" in line]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_long_call_of_any_kind_can_be_interrupted(name, threads):
    env = os.environ | {"PYTHONPATH": str(guard.ROOT), "FASTCONV_NUM_THREADS": str(threads)}
    for after in (6.0, 6.17):
        command = [sys.executable, "-c", LONG.format(after=after), name]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.split() == ["finished"] or float(done.stdout) < 0.5, done.stdout


@posix
@pytest.mark.slow
def test_an_interrupt_while_threads_wait_for_a_lock_leaves_it_free():
    code = """
import signal, threading, time
import numpy as np
import fastconv as fc

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

armed, count = False, 0
x, w = np.ones((1, 3, 20, 20), np.float32), np.ones((4, 3, 3, 3), np.float32)
expected = fc.conv2d(x, w).tobytes()
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0013)
end = time.monotonic() + 1.0
while time.monotonic() < end:
    try:
        armed = True
        # Each is a problem of its own: chosen, blocked and stored.
        fc.conv2d(x[:, :, : 5 + count % 15], w, padding=count % 2)
        fc.set_max_workspace(1 << 30)
        armed = False
    except KeyboardInterrupt:
        armed = False
        count += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert count > 50, count
# Other threads get every lock.
results = []
users = [threading.Thread(target=lambda: results.append(fc.conv2d(x, w).tobytes() == expected)) for _ in range(4)]
for user in users: user.start()
for user in users: user.join(20)
print(results)
"""
    assert guard.run(code, timeout=100).strip() == "[True, True, True, True]"


def test_there_are_long_calls_of_every_kind():
    assert len(NAMES) >= 16
