"""Convolutions of bytes by dot products: exact for all signs, whatever the border, the layout and the result."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv.api import convolve as calls
from fastconv.dispatch import load
from fastconv.testing import problem, reference
from tests import cases, guard, words

CONVS = {1: fc.conv1d, 2: fc.conv2d, 3: fc.conv3d}
PROBLEMS = (
    "n2ic7h6w9_oc5k3s1p1",
    "n1ic8h5w40_oc7k1s1p0",
    "n1ic12h9w8_oc6kh2kw3sh2sw1pt1pb0pl-1pr2dh1dw2g2",
)
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
dots = pytest.mark.skipif(not words.AVAILABLE, reason="this CPU has no dot products of bytes")


@pytest.fixture
def by_dots():
    with words.forced():
        yield


def arrays(rng, text, layout, signs):
    """Return input, weight and keywords of a named problem."""
    p = problem(text)
    x, w = words.drawn(rng, p.input_shape, signs[0]), words.drawn(rng, p.weight_shape, signs[1])
    keywords = p.keywords | {"layout": layout}
    return (np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "channels_last" else x), w, keywords


def check(x, w, *more, **keywords):
    """Compare one call with the definition, in int64."""
    algorithm = keywords.pop("algorithm", "auto")
    got = CONVS[w.ndim - 2](x, w, *more, algorithm=algorithm, **keywords)
    expected = reference(x, w, *more, **keywords)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected, err_msg=f"{x.shape} {x.dtype} {w.shape} {w.dtype} {keywords}")
    return got


@pytest.mark.targets
def test_bytes_are_exact_on_every_target():
    rng = np.random.default_rng(0)
    x, w = words.drawn(rng, (1, 5, 4, 6), "uint8"), words.drawn(rng, (3, 5, 3, 3), "int8")
    check(x, w, padding=1, out_dtype="int32")
    if words.AVAILABLE:
        with words.forced():
            check(x, w, padding=1, out_dtype="int32", algorithm="direct")
            check(x.view("int8"), w, padding=1, out_dtype="int32", algorithm="direct")


@dots
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_every_sign_is_exact(by_dots, layout):
    rng = np.random.default_rng(1)
    for signs in words.SIGNS:
        for text in PROBLEMS:
            x, w, keywords = arrays(rng, text, layout, signs)
            for out_dtype in ("int32", None):
                check(x, w, out_dtype=out_dtype, algorithm="direct", **keywords)


@dots
def test_what_is_added_and_how_results_wrap(by_dots):
    rng = np.random.default_rng(2)
    x, w, keywords = arrays(rng, PROBLEMS[0], "channels_first", ("int8", "int8"))
    keywords["algorithm"] = "direct"
    shape = (2, 5, 6, 9)
    for dtype in ("int8", "int32", "int64"):
        b, r = words.drawn(rng, (5,), dtype), words.drawn(rng, shape, dtype)
        for out_dtype in ("int8", "uint8", "int16", "uint32", "int32", "int64"):
            check(x, w, b, residual=r, out_dtype=out_dtype, **keywords)
    # Results are activated once they have wrapped.
    for out_dtype in ("int8", "int64"):
        got = fc.conv2d(x, w, b, out_dtype=out_dtype, activation="relu", **keywords)
        expected = reference(x, w, b, out_dtype=out_dtype, padding=1)
        np.testing.assert_array_equal(got, np.maximum(expected, 0))
    out = np.empty((2, 5, 6, 18), np.int32)[..., ::2]
    assert fc.conv2d(x, w, out_dtype="int32", out=out, **keywords) is out
    np.testing.assert_array_equal(out, reference(x, w, out_dtype="int32", padding=1))
    # The bytes of an input and of the result may be the same.
    square = words.drawn(rng, (5, 5, 1, 1), "int8")
    y = words.drawn(rng, (1, 5, 7, 8), "int8")
    expected = reference(y, square)
    assert fc.conv2d(y, square, out=y, algorithm="direct") is y
    np.testing.assert_array_equal(y, expected)


@dots
def test_sums_that_exceed_32_bits(by_dots):
    largest = 2**31 // 255**2
    for terms in (largest, largest + 1):
        x, w = np.full((1, terms, 1, 1), 255, np.uint8), np.full((2, terms, 1, 1), 255, np.uint8)
        small = calls.byte_dtypes(x.dtype, w.dtype, np.dtype("int64"), terms)
        assert (small is not None) == (terms == largest)
        if small:
            check(x, w, out_dtype="int64", algorithm="direct")
        else:
            assert fc.explain(fc.conv2d, x, w, out_dtype="int64").problem.endswith("_i64")
        check(x, w, out_dtype="int32", algorithm="direct")
        check(x, w, out_dtype="uint32", algorithm="direct")
    assert calls.byte_dtypes(np.dtype("int8"), np.dtype("int16"), np.dtype("int16"), 1) is None
    assert calls.byte_dtypes(np.dtype("int8"), np.dtype("int8"), np.dtype("float32"), 1) is None


@dots
def test_plans_and_views_of_bytes(by_dots):
    rng = np.random.default_rng(3)
    x, w, keywords = arrays(rng, PROBLEMS[1], "channels_last", ("uint8", "int8"))
    expected = reference(x, w, out_dtype="int32", **keywords)
    plan = fc.plan_conv2d(x.shape, w, dtype="uint8", out_dtype="int32", algorithm="direct", **keywords)
    assert plan.problem == "n1ic8h5w40_oc7k1s1p0_nhwc_u8"
    assert problem(plan.problem).dtype == "uint8"
    memory = np.empty(x.size + 1, np.uint8)
    odd = memory[1 - memory.ctypes.data % 2 :][: x.size].reshape(x.shape)
    odd[...] = x
    odd.flags.writeable = False
    for one in (x, odd):
        np.testing.assert_array_equal(plan(one), expected)
    np.testing.assert_array_equal(
        fc.conv2d(np.moveaxis(x, -1, 1), w, out_dtype="int32", algorithm="direct"), np.moveaxis(expected, -1, 1)
    )
    w[...] = 0
    np.testing.assert_array_equal(plan(x), expected)


@pytest.mark.skipif(not load.target().dots, reason="this CPU has no dot products of bytes")
def test_auto_takes_what_is_faster_and_says_so():
    x, w = np.ones((1, 64, 28, 28), np.uint8), np.ones((64, 64, 3, 3), np.int8)
    for keywords in ({"out_dtype": "int32"}, {}):
        explanation = fc.explain(fc.conv2d, x, w, padding=1, **keywords)
        assert explanation.problem.endswith("_u8")
        assert explanation.chosen == "direct"
    assert fc.explain(fc.conv2d, x, w, algorithm="im2col").chosen == "im2col"
    small = fc.explain(fc.conv2d, x[:, :4, :3, :3], w[:4, :4], out_dtype="int32")
    assert small.problem.endswith("_i32")
    assert fc.explain(fc.depthwise_conv2d, x, w[:, :1]).chosen == "depthwise"
    counted = fc.count_ops(fc.conv2d, x, w, padding=1, out_dtype="int32")
    assert counted.macs == 64 * 64 * 9 * 28 * 28
    with pytest.raises(fc.UnsupportedError, match='"winograd" refused: arrays must be float32 or float64, got int32'):
        fc.conv2d(x, w, algorithm="winograd", out_dtype="int32")
    # A border much larger than the image is not stored.
    wide = fc.plan_conv2d((1, 8, 3, 3), w[:, :8], stride=10**6, padding=10**7, dtype="int8", out_dtype="int32")
    assert wide.problem.endswith("_i32")


EMULATED = """
import numpy as np
from tests.api import test_bytes as t
from tests import words
rng = np.random.default_rng(4)
with words.forced():
    for signs in words.SIGNS:
        problems = ("n1ic5h4w3_oc3k3s1p1", "n2ic8h2w5_oc4k1s1p0", "n1ic6h4w5_oc2k2s2p1g2")
        for text, layout in zip(problems, t.cases.LAYOUTS * 2):
            x, w, keywords = t.arrays(rng, text, layout, signs)
            for algorithm in ("direct", "im2col"):
                t.check(x, w, out_dtype="int32", algorithm=algorithm, **keywords)
print("done")
"""


def test_dot_products_in_plain_python():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(guard.ROOT)}
    run = subprocess.run([sys.executable, "-c", EMULATED], env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["done"], run.stderr[-2000:]


@dots
@pytest.mark.slow
def test_named_problems_are_exact():
    rng = np.random.default_rng(5)
    with words.forced(None):
        for text in cases.CASES.values():
            for layout in cases.LAYOUTS:
                for signs in words.SIGNS:
                    x, w, keywords = arrays(rng, text, layout, signs)
                    for algorithm in ("direct", "im2col"):
                        check(x, w, out_dtype="int32", algorithm=algorithm, **keywords)


@dots
@pytest.mark.slow
def test_modes_of_padding_are_exact():
    rng = np.random.default_rng(6)
    with words.forced():
        for mode in MODES:
            for signs in words.SIGNS:
                for layout in cases.LAYOUTS:
                    x, w, keywords = arrays(rng, "n2ic6h7w9_oc5k3s1p2", layout, signs)
                    for algorithm in ("direct", "im2col"):
                        check(x, w, out_dtype="int32", algorithm=algorithm, padding_mode=mode, **keywords)


def drawn_problem(rng):
    """Return shapes and keywords of a convolution of 1 to 3 axes."""
    axes, G = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    ICG, OCG = (int(n) for n in rng.integers(1, 11, 2))
    limit = {1: 60, 2: 14, 3: 7}[axes]
    kernel = rng.integers(1, 4, axes)
    dilation, stride, padding = rng.integers(1, 3, axes), rng.integers(1, 4, axes), rng.integers(0, 4, axes)
    least = np.maximum(1, dilation * (kernel - 1) + 1 - 2 * padding)
    sizes = [int(rng.integers(low, low + limit)) for low in least]
    shape = (int(rng.integers(1, 3)), G * ICG, *sizes)
    names = {"stride": stride, "padding": padding, "dilation": dilation}
    return shape, (G * OCG, ICG, *kernel.tolist()), {k: tuple(v.tolist()) for k, v in names.items()} | {"groups": G}


@dots
@pytest.mark.slow
def test_drawn_problems_equal_pytorch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    rng = np.random.default_rng(7)
    with words.forced():
        for i in range(2000):
            shape, w_shape, keywords = drawn_problem(rng)
            signs, layout = words.SIGNS[i % 4], cases.LAYOUTS[i // 4 % 2]
            x, w, b = (
                words.drawn(rng, shape, signs[0]),
                words.drawn(rng, w_shape, signs[1]),
                rng.integers(-99, 99, w_shape[0]),
            )
            axes = len(w_shape) - 2
            function = getattr(torch.nn.functional, f"conv{axes}d")
            # Exact in float64.
            expected = function(*(torch.from_numpy(a.astype("f8")) for a in (x, w, b)), **keywords).numpy()
            image = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "channels_last" else x
            algorithm, out_dtype = ("direct", "im2col")[i // 8 % 2], ("int32", "int64")[i // 16 % 2]
            got = CONVS[axes](image, w, b, algorithm=algorithm, layout=layout, out_dtype=out_dtype, **keywords)
            got = np.moveaxis(got, -1, 1) if layout == "channels_last" else got
            np.testing.assert_array_equal(got, expected, err_msg=f"{shape} {w_shape} {keywords} {signs} {layout}")
