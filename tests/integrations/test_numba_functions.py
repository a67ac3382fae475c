"""All operations inside @njit functions, arguments of many types, parallel loops, leaks: what takes long to compile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import fastconv as fc
from fastconv.integrations.numba import rules
from tests.integrations.test_numba import ROOT, caught, drawn, equal, installed

pytestmark = [
    pytest.mark.usefixtures("numba_extension"),
    pytest.mark.slow,
    pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="a function in Python calls the plain function"),
]

# Of each function: the shapes of its arrays, and the call of them. "i" in front of a shape: the indices of maxima.
SAMPLES = {
    "conv1d": (("2 3 9", "4 3 3"), 'a, b, padding="causal"'),
    "conv2d": (("2 3 8 9", "4 3 3 2"), "a, b, stride=(2, 1), padding=((1, 2), (0, 1)), activation='relu'"),
    "conv3d": (("2 3 5 6 7", "4 3 3 2 3"), "a, b, padding=1"),
    "depthwise_conv2d": (("2 3 8 9", "6 1 3 3", "6"), "a, b, c, dilation=2"),
    "pointwise_conv2d": (("2 3 8 9", "4 3 1 1"), 'a, b, out_dtype="float64"'),
    "separable_conv2d": (("2 3 8 9", "3 1 3 3", "4 3 1 1"), "a, b, c"),
    "spatially_separable_conv2d": (("2 3 8 9", "3", "5"), 'a, b, c, padding="same"'),
    "conv_transpose1d": (("2 3 9", "3 4 2"), "a, b, stride=2"),
    "conv_transpose2d": (("2 3 8 9", "3 4 2 2"), "a, b, None, 2, output_padding=1"),
    "conv_transpose3d": (("2 3 5 6 7", "3 4 2 2 2"), "a, b"),
    "max_pool1d": (("2 3 9",), "a, 2"),
    "max_pool2d": (("2 3 8 9",), "a, (2, 3), return_indices=True"),
    "max_pool3d": (("2 3 5 6 7",), "a, 2, ceil_mode=True"),
    "avg_pool1d": (("2 3 9",), "a, 3, 1, 1, count_include_pad=False"),
    "avg_pool2d": (("2 3 8 9",), "a, 2, divisor_override=3"),
    "avg_pool3d": (("2 3 5 6 7",), "a, 2"),
    "lp_pool1d": (("2 3 9",), "a, 2, 3"),
    "lp_pool2d": (("2 3 8 9",), "a, 2.0, 3"),
    "lp_pool3d": (("2 3 5 6 7",), "a, 2, 3"),
    "adaptive_max_pool1d": (("2 3 9",), "a, 4"),
    "adaptive_max_pool2d": (("2 3 8 9",), "a, (3, None), return_indices=True"),
    "adaptive_max_pool3d": (("2 3 5 6 7",), "a, 2"),
    "adaptive_avg_pool1d": (("2 3 9",), "a, 4"),
    "adaptive_avg_pool2d": (("2 3 8 9",), "a, 3"),
    "adaptive_avg_pool3d": (("2 3 5 6 7",), "a, 2"),
    "global_max_pool": (("2 3 8 9",), "a"),
    "global_avg_pool": (("2 3 8 9",), "a, keepdims=False"),
    "max_unpool1d": (("2 3 4", "i2 3 8"), "a, b, 2"),
    "max_unpool2d": (("2 3 4 3", "i2 3 8 6"), "a, b, 2"),
    "max_unpool3d": (("2 3 2 2 2", "i2 3 4 4 4"), "a, b, 2"),
    "nearest_unpool1d": (("2 3 9",), "a, 2"),
    "nearest_unpool2d": (("2 3 8 9",), 'a, (1, 2), layout="channels_last"'),
    "nearest_unpool3d": (("2 3 5 6 7",), "a, 2"),
    "bed_of_nails_unpool1d": (("2 3 9",), "a, 2"),
    "bed_of_nails_unpool2d": (("2 3 8 9",), "a, 2, position=1"),
    "bed_of_nails_unpool3d": (("2 3 5 6 7",), "a, 2"),
    "interpolate": (("2 3 8 9",), 'a, scale_factor=(2.0, 1.5), mode="bilinear", align_corners=False'),
    "get_num_threads": ((), ""),
    "set_num_threads": ((), "2"),
    "signal.correlate2d": (("11 12", "3 4"), 'a, b, mode="same", boundary="symm"'),
    "signal.convolve2d": (("11 12", "3 4"), "a, b, fillvalue=2"),
    "signal.correlate": (("2 3 9", "1 2 3"), 'a, b, "valid"'),
    "signal.convolve": (("11 12", "3 4"), 'a, b, method="fft"'),
    "signal.sepfir2d": (("11 12", "3", "5"), "a, b, c"),
    "ndimage.correlate": (("11 12", "3 3"), 'a, b, mode="nearest", origin=(0, 1)'),
    "ndimage.convolve": (("11 12", "3 3"), "a, b * 1j"),
    "ndimage.correlate1d": (("11 12", "3"), "a, b, axis=0"),
    "ndimage.convolve1d": (("11 12", "3"), "a, b, output=np.int16"),
    "ndimage.gaussian_filter": (("11 12",), "a, (1.0, 2.5), radius=3"),
    "ndimage.gaussian_filter1d": (("11 12",), "a, 1.5"),
    "ndimage.laplace": (("11 12",), "a"),
    "ndimage.maximum_filter": (("11 12", "3 3"), "a, footprint=b > 0"),
    "ndimage.maximum_filter1d": (("11 12",), "a, 3"),
    "ndimage.minimum_filter": (("11 12",), 'a, (3, 2), output="float32"'),
    "ndimage.minimum_filter1d": (("11 12",), "a, 3"),
    "ndimage.prewitt": (("11 12",), "a"),
    "ndimage.sobel": (("11 12",), "a, -1"),
    "ndimage.uniform_filter": (("11 12",), "a, 3"),
    "ndimage.uniform_filter1d": (("11 12",), "a, 3"),
}
SAMPLES |= {f"activations.{name}": (("2 3 8 9",), "a") for name in rules.RULES["fastconv.activations"]}
OTHERS = ("float64", "int16", "uint32", "complex64")
ONE_OF_EACH_RULE = ("conv2d", "max_pool2d", "lp_pool2d", "signal.correlate2d", "ndimage.correlate", "activations.relu")


def sample(text, dtype):
    rng = np.random.default_rng(0)
    shape = tuple(map(int, text.removeprefix("i").split()))
    if not text.startswith("i"):
        return drawn(rng, *shape, dtype=dtype)
    pool = (fc.max_pool1d, fc.max_pool2d, fc.max_pool3d)[len(shape) - 3]
    return pool(rng.random(shape), 2, return_indices=True)[1]


@pytest.mark.parametrize("name", [f"{n}.{f}".partition(".")[2] for n, found in rules.RULES.items() for f in found])
def test_every_function_of_the_table(name):
    shapes, call = SAMPLES[name]
    plain = eval(f"lambda {', '.join('abc'[: len(shapes)])}: fc.{name}({call})", {"fc": fc, "np": np})
    count = fc.get_num_threads()
    for dtype in ("float32", *(OTHERS if name in ONE_OF_EACH_RULE else ())):
        arrays = [sample(text, dtype) for text in shapes]
        try:
            expected = plain(*arrays)
        except fc.DtypeError:
            continue
        found = numba.njit(plain)(*arrays)
        assert equal(found, expected) if shapes else found == expected
    for strided in (np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2]):
        if name in ONE_OF_EACH_RULE:
            arrays = [sample(text, "float32") for text in shapes]
            assert equal(numba.njit(plain)(*map(strided, arrays)), plain(*arrays))
    fc.set_num_threads(count)


def test_arguments_of_many_types():
    rng = np.random.default_rng(0)
    x, weight, bias = drawn(rng, 2, 4, 9, 9), drawn(rng, 6, 4, 3, 3), drawn(rng, 6)
    frozen = weight.copy()
    frozen.flags.writeable = False

    @numba.njit
    def padded(x, weight, padding):
        return fc.conv2d(x, weight, padding=padding)

    for padding in (1, (1, 2), ((1, 2), (0, 1)), "same", np.int32(2)):
        assert equal(padded(x, frozen, padding), fc.conv2d(x, weight, padding=padding))

    @numba.njit
    def maybe(x, weight, bias, with_bias, out_dtype):
        chosen = bias if with_bias else None
        return fc.conv2d(x, weight, chosen), fc.conv2d(x, weight, out_dtype=x.dtype), fc.conv2d(frozen, weight)

    for with_bias in (True, False):
        y, z, same = maybe(x, weight, bias, with_bias, 0)
        assert equal(y, fc.conv2d(x, weight, bias if with_bias else None))
        assert equal(z, fc.conv2d(x, weight))
        assert equal(same, fc.conv2d(weight, weight))
    # The bias would be of no consequence for the dtype if it were float32.
    with pytest.raises(TypingError, match="conv2d: the dtype of the result depends on which of the arguments are None"):
        maybe(x, weight, bias.astype(np.float64), True, 0)
    for dtype in (np.int8, np.uint32, np.complex64):
        a, b = x.astype(dtype), weight.astype(dtype)
        assert equal(padded(a, b, 1), fc.conv2d(a, b, padding=1))


def test_parallel_loops():
    rng = np.random.default_rng(0)
    x, weight = drawn(rng, 24, 4, 20, 20), drawn(rng, 6, 4, 3, 3)

    @numba.njit(parallel=True)
    def stack(x, weight, n):
        out = np.zeros((len(x), 6, 20, 20), np.float32)
        whole = fc.conv2d(x, weight, padding=1) + 1
        for i in numba.prange(n):
            out[i] = fc.conv2d(x[i], weight, None, 1, 1)
        return out, whole

    expected = fc.conv2d(x, weight, padding=1)
    for n in (24, 1, 0):
        out, whole = stack(x, weight, n)
        assert equal(out[:n], expected[:n])
        assert equal(whole, expected + 1)


PARALLEL_ERROR = """
import threading
import numba, numpy as np
import fastconv as fc
from fastconv.integrations.numba import init
init()
shown = []
threading.excepthook = lambda given: shown.append(given.exc_value)

@numba.njit(parallel=True)
def run(x, sizes, total):
    for i in numba.prange(len(sizes)):
        x[i] += fc.max_pool2d(x[i : i + 1], sizes[i])[0, 0, 0]
    # With an exception of the main thread pending.
    total[0] = fc.max_pool2d(x, 4).sum()

for sizes in ([1] * 7 + [0], [0] + [1] * 7, [0] * 8):
    shown.clear()
    total = np.zeros(1)
    try:
        run(np.ones((8, 4, 4)), np.array(sizes), total)
    except (fc.OptionError, SystemError) as error:
        shown.append(error.__cause__ or error)
    print(len(shown) > 0, {type(error).__name__ for error in shown}, 8 <= total[0] <= 16)
assert np.array_equal(fc.max_pool2d(np.ones((1, 4, 4)), 2), np.ones((1, 2, 2)))
"""


def test_errors_in_parallel_loops_are_raised_or_shown():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", PARALLEL_ERROR], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True {'OptionError'} True\n" * 3


def test_nothing_leaks():
    x, weight = np.ones((1, 4, 64, 64), np.float32), np.ones((4, 4, 3, 3), np.float32)

    @numba.njit
    def many(x, weight, n):
        for _ in range(n):
            y, indices = fc.max_pool2d(fc.conv2d(x, weight, padding=1), 2, return_indices=True)
        return y, indices

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    function = numba.njit(caught)
    many(x, weight, 100), function(x, 0)
    before, references = resident(), (sys.getrefcount(x), sys.getrefcount(weight))
    many(x, weight, 10_000)
    for _ in range(10_000):
        function(x, 0)
    # A thousandth of what was made.
    assert resident() - before < 4 << 20
    assert (sys.getrefcount(x), sys.getrefcount(weight)) == references


def test_parallel_function_kept_on_disk(tmp_path):
    tmp_path.joinpath("user.py").write_text(
        textwrap.dedent("""
            import numba, numpy as np, fastconv as fc

            @numba.njit(cache=True, parallel=True)
            def blurred(x):
                out = np.empty_like(x)
                for i in numba.prange(len(x)):
                    out[i] = fc.ndimage.uniform_filter(x[i], 3)
                return out + fc.signal.correlate2d(x[0], x[0], "same").sum()
        """),
        encoding="utf-8",
    )
    environment = installed(tmp_path)
    program = "import numpy as np, user; print(user.blurred(np.eye(5)[None]).sum(), user.blurred.stats.cache_hits)"
    command = {"args": [sys.executable, "-c", program], "env": environment, "capture_output": True, "text": True}
    outputs = [subprocess.run(**command, check=True).stdout for _ in range(2)]
    sums = [re.match(r"[\d.]+", text)[0] for text in outputs]
    assert sums[0] == sums[1]
    assert outputs[0].endswith("Counter()\n")
    assert not outputs[1].endswith("Counter()\n")
