"""What calls allocate beside their results: no more than docs/reliability.md says, by two measures.

python -m pytest tests/test_scratch.py -m slow
"""

from __future__ import annotations

import functools
import json
import sys
import tracemalloc

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import plan
from tests import guard

pytestmark = pytest.mark.slow

THREADS, KIB = 2, 1 << 10
# Objects, tables and the ends of buffers.
SLACK = 256 * KIB
ALGORITHMS = ("direct", "im2col", "winograd", "fft", "bf16x3")


@functools.cache
def arrays():
    rng = np.random.default_rng(0)
    x, w = rng.random((1, 16, 320, 320), "f4"), rng.random((32, 16, 3, 3), "f4")
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    return {
        "x": x,
        "w": w,
        "dw": rng.random((16, 1, 5, 5), "f4"),
        "pw": w[:, :, :1, :1].copy(),
        "last": np.ascontiguousarray(np.moveaxis(x, 1, -1)),
        "dy": fc.conv2d(x, w, padding=1),
        "y": y,
        "indices": indices,
        "columns": fc.unfold(x[:, :4], 3),
        "image": x.reshape(1280, 1280),
        "bytes": (x * 9).astype("i1"),
        "byte_weight": (w * 9).astype("i1"),
        "half": x.astype("f2"),
    }


# Name: (function, names of arrays or other arguments, keywords, copies of input and of result that come on top).
CALLS = {
    **{f"conv2d {name}": (fc.conv2d, ("x", "w"), {"padding": 1, "algorithm": name}, 0, 0) for name in ALGORITHMS},
    "conv2d channels_last": (fc.conv2d, ("last", "w"), {"padding": 1, "layout": "channels_last"}, 0, 0),
    "conv2d of bytes": (fc.conv2d, ("bytes", "byte_weight"), {"padding": 1, "out_dtype": "int32"}, 4, 0),
    # As float32.
    "conv2d of half precision": (fc.conv2d, ("half", "w"), {"padding": 1, "out_dtype": "float32"}, 2, 0),
    "depthwise_conv2d": (fc.depthwise_conv2d, ("x", "dw"), {"padding": 2}, 0, 0),
    "pointwise_conv2d": (fc.pointwise_conv2d, ("x", "pw"), {}, 0, 0),
    "separable_conv2d": (fc.separable_conv2d, ("x", "dw", "pw"), {"padding": 2}, 0, 0),
    "conv_transpose2d": (fc.conv_transpose2d, ("dy", "w"), {"padding": 1}, 0, 0),
    "max_pool2d": (fc.max_pool2d, ("x", 2), {}, 0, 0),
    "max_pool2d 9": (fc.max_pool2d, ("x", 9, 1, 4), {}, 0, 0),
    "max_pool2d indices": (fc.max_pool2d, ("x", 2), {"return_indices": True}, 0, 0),
    "avg_pool2d": (fc.avg_pool2d, ("x", 3, 1, 1), {}, 0, 0),
    # One pass over two axes, one over the third.
    "max_pool3d": (lambda x: fc.max_pool3d(x[None], 3, 1, 1), ("x",), {}, 0, 1),
    # The powers of the input.
    "lp_pool2d": (fc.lp_pool2d, ("x", 2, 2), {}, 1, 0),
    "interpolate": (fc.interpolate, ("x", (400, 400)), {"mode": "bilinear"}, 0, 0),
    "nearest_unpool2d": (fc.nearest_unpool2d, ("x", 2), {}, 0, 0),
    "max_unpool2d": (fc.max_unpool2d, ("y", "indices", 2), {}, 0, 0),
    "fold": (fc.fold, ("columns", (320, 320), 3), {}, 0, 0),
    "gelu": (fc.activations.gelu, ("x",), {}, 0, 0),
    "conv2d_input": (fc.grad.conv2d_input, ((1, 16, 320, 320), "w", "dy"), {"padding": 1}, 0, 0),
    "conv2d_weight": (fc.grad.conv2d_weight, ("x", (32, 16, 3, 3), "dy"), {"padding": 1}, 0, 0),
    "max_pool2d_vjp": (fc.grad.max_pool2d_vjp, ("y", "x", 2), {}, 0, 0),
    "gelu_vjp": (fc.grad.gelu_vjp, ("x", "x"), {}, 0, 0),
    "gaussian_filter": (fc.ndimage.gaussian_filter, ("image", 3.0), {}, 0, 0),
    "correlate": (lambda a, k: fc.ndimage.correlate(a, k[0, 0]), ("image", "dw"), {}, 0, 0),
    "maximum_filter": (fc.ndimage.maximum_filter, ("image", 7), {}, 0, 0),
    "signal.correlate2d": (lambda a, k: fc.signal.correlate2d(a, k[0, 0]), ("image", "dw"), {}, 0, 0),
    # The spectrum, and what comes back.
    "signal.fftconvolve": (lambda a, k: fc.signal.fftconvolve(a, k[0, 0]), ("image", "dw"), {}, 0, 3),
}


def scratch(function, given, keywords):
    """Return the scratch of all threads, and the packed weight, of a convolution, as `explain` says."""
    if function not in (fc.conv2d, fc.depthwise_conv2d, fc.pointwise_conv2d):
        # Blocks that stay in cache, the buffer of a strided transposed convolution, sums of a weight's gradient.
        return THREADS * 4096 * KIB
    found = fc.explain(function, *given, **keywords)
    line = next(line for line in found.lines if line.algorithm == keywords.get("algorithm", found.chosen))
    packed = 16 * given[1].nbytes
    if line.algorithm == "fft":
        # The spectra of the weight are as large as a block each.
        prepared = fc.plan_conv2d(given[0].shape, given[1], **keywords)._prepared
        packed = sum(plan.packed_bytes(packer, prepared.dtype) for packer in prepared.program.packers)
    return THREADS * line.scratch_bytes + packed


def size(result):
    return sum(size(each) for each in result) if isinstance(result, tuple) else getattr(result, "nbytes", 0)


@pytest.mark.parametrize("name", CALLS)
def test_no_call_allocates_more_than_it_says(name):
    function, names, keywords, of_input, of_result = CALLS[name]
    given = [arrays()[each] if isinstance(each, str) else each for each in names]
    with fc.threads(THREADS):
        function(*given, **keywords)
        sys.modules["fastconv.threads"]._state.buffers.clear()
        plan.free_buffers.buffers.clear()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            result = function(*given, **keywords)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    image = next(each for each in given if isinstance(each, np.ndarray))
    allowed = (1 + of_result) * size(result) + of_input * image.nbytes + scratch(function, given, keywords) + SLACK
    assert peak <= allowed, (name, peak - size(result), allowed - size(result))


RESIDENT = """
import json, sys
import numpy as np
import fastconv as fc
from tests import test_scratch as t

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) << 10

def now():
    return int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) << 10

fc.set_num_threads(t.THREADS)
found = {}
for name, (function, names, keywords, of_input, of_result) in t.CALLS.items():
    given = [t.arrays()[each] if isinstance(each, str) else each for each in names]
    result = function(*given, **keywords)
    bytes_of_result, result = t.size(result), None
    open("/proc/self/clear_refs", "w").write("5")
    before = now()
    result = function(*given, **keywords)
    image = next(each for each in given if isinstance(each, np.ndarray))
    allowed = (1 + of_result) * bytes_of_result + of_input * image.nbytes + t.scratch(function, given, keywords)
    found[name] = (peak() - before, allowed)
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_call_makes_the_process_grow_by_more_than_it_says():
    found = json.loads(guard.run(RESIDENT, timeout=500))
    assert found.keys() == CALLS.keys()
    # What the allocator keeps, and pages that are touched for the first time.
    wrong = {name: pair for name, pair in found.items() if pair[0] > pair[1] + (2 << 20)}
    assert not wrong
