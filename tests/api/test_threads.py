"""The engine and threads: the same bits for every number, Ctrl-C, fork."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import fastconv as fc
from tests import cases, guard

# Large enough to be cut, on any CPU that the model knows.
PROBLEMS = {
    "3x3": "n1ic32h40w41_oc48k3s1p1",
    "3x3 stride 2, batch": "n3ic16h41w43_oc40k3s2p1",
    "1x1": "n2ic64h40w40_oc64k1s1p0",
    "groups": "n2ic32h30w31_oc64k3s1p1g2",
    "ic 300": "n2ic300h30w30_oc40k3s1p1",
    "depthwise": "n2ic48h60w61_oc48k5s1p2g48",
    "image": "n1ic1h600w900_oc1k5s1p2",
}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", PROBLEMS.values(), ids=PROBLEMS)
def test_bits_are_the_same_for_every_number_of_threads(text, layout, monkeypatch):
    # Whatever a machine makes of these problems, they are cut.
    monkeypatch.setattr(sys.modules["fastconv.threads"], "PARALLEL_SECONDS", 1e-5)
    a = cases.draw(text, layout, separable=True)
    rng = np.random.default_rng(0)
    x, r = (rng.standard_normal(array.shape).astype("f4") for array in (a.x, a.r))
    for algorithm in cases.able(a):
        plan = fc.plan_conv2d(x.shape, a.w, a.b, algorithm=algorithm, **a.keywords)
        assert plan._prepared.seconds > 1e-5
        assert plan._prepared.program.tasks > 1
        results = []
        for n in (1, 2, 3, 7):
            out = cases.poisoned(r)
            with fc.threads(n):
                plan(x, out, residual=r)
            assert np.isfinite(out).all()
            results.append(out.tobytes())
        assert len(set(results)) == 1, algorithm


def test_threads_share_a_plain_call():
    from concurrent.futures import ThreadPoolExecutor

    a = cases.draw(PROBLEMS["3x3"])
    expected = fc.conv2d(a.x, a.w, **a.keywords)
    with ThreadPoolExecutor(4) as executor:
        for got in executor.map(lambda _: fc.conv2d(a.x, a.w, **a.keywords), range(16)):
            np.testing.assert_array_equal(got, expected)


INTERRUPT = """
import os, signal, threading, time
import numpy as np
import fastconv as fc

rng = np.random.default_rng(0)
x, w = rng.random((1, 256, 112, 112), "f4"), rng.random((256, 256, 15, 15), "f4")
more = {"padding": 7, "algorithm": "direct"}
plan, small = fc.plan_conv2d(x.shape, w, **more), fc.plan_conv2d((1, 256, 2, 2), w, **more)
expected = small(x[:, :, :2, :2])
out, sent = np.zeros(x.shape, "f4"), []

def interrupt():
    time.sleep(0.5)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

for threads in (1, 3):
    fc.set_num_threads(threads)
    out[:] = 0
    threading.Thread(target=interrupt).start()
    try:
        plan(x, out)
        print("finished before the signal")
    except KeyboardInterrupt:
        late = time.monotonic() - sent[-1]
        before = out.tobytes()
        time.sleep(0.2)
        assert out.tobytes() == before, "something still writes"
        assert late < 2, late
        print("interrupted")
    np.testing.assert_array_equal(small(x[:, :, :2, :2]), expected)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_interrupt_ends_a_long_convolution():
    assert guard.run(INTERRUPT, timeout=120).split("\n")[:2] == ["interrupted"] * 2


FORK = """
import os, signal, warnings
import numpy as np
import fastconv as fc
from tests import cases

warnings.simplefilter("ignore")
fc.set_num_threads(4)
a = cases.draw({text!r})
expected = fc.conv2d(a.x, a.w, precision="strict", **a.keywords)
children = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        status = 1
        try:
            for algorithm in ("direct", "im2col"):
                np.testing.assert_array_equal(fc.conv2d(a.x, a.w, algorithm=algorithm, **a.keywords), expected)
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children])
np.testing.assert_array_equal(fc.conv2d(a.x, a.w, precision="strict", **a.keywords), expected)
"""


@needs_fork
def test_fork_after_use():
    assert guard.run(FORK.format(text=PROBLEMS["3x3"]), timeout=120).strip() == "[0, 0, 0]"
