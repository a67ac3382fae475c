"""algorithm="fft": its error, what spreads from NaN, blocks at every edge, memory, and where it is chosen."""

from __future__ import annotations

import importlib
import tracemalloc

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import problem, reference
from tests import cases

# Of the largest output of a channel; measured are 6e-7 and 2e-15.
BOUNDS = {"float32": 2e-6, "float64": 5e-15}

PROBLEMS = {
    "one image": "n1ic1h61w57_oc1k9s1p4",
    "several blocks": "n2ic1h150w210_oc1k13s1p3",
    "channels": "n2ic5h31w29_oc7k7s1p3",
    "groups, uneven": "n2ic6h30w26_oc10kh5kw9s1pt2pb0pl-1pr5g2",
    "depthwise multiplier 2": "n2ic5h33w28_oc10k7s1p3g5",
    "stride and dilation": "n1ic3h60w57_oc4k5sh2sw3p4dh3dw2",
    "1x31": "n1ic2h7w200_oc3kh1kw31s1ph0pw15",
    "31x1": "n1ic2h200w7_oc3kh31kw1s1ph15pw0",
    "padding beyond the kernel": "n1ic2h5w6_oc3k3s1p9",
    "conv1d": "n2ic3w400_oc2k33s1p16",
    "conv3d": "n1ic2d13h12w14_oc3kd3kh5kw4sd1sh2sw1p2",
}
TINY = ("one image", "channels", "stride and dilation")
CONVS = {1: fc.conv1d, 2: fc.conv2d, 3: fc.conv3d}


def drawn(text, layout="channels_first", dtype="float32", seed=0):
    """Return (function, x, w, b, residual, keywords) of a problem, of normal numbers."""
    p, rng = problem(text), np.random.default_rng(seed)
    keywords = p.keywords | {"layout": layout}
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (p.input_shape, p.weight_shape))
    if layout == "channels_last":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    b = rng.standard_normal(len(w)).astype(dtype)
    residual = rng.standard_normal(reference(x, w, **keywords).shape).astype(dtype)
    return CONVS[w.ndim - 2], x, w, b, residual, keywords


def check(got, expected, layout):
    """Compare, channel by channel."""
    assert got.shape == expected.shape
    axes = tuple(i for i in range(got.ndim) if i != (got.ndim - 1 if layout == "channels_last" else 1))
    error = np.abs(got - expected).max(axes) / np.abs(expected).max(axes)
    assert error.max() < BOUNDS[got.dtype.name]


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", PROBLEMS.values(), ids=PROBLEMS)
def test_error_stays_below_the_bound(text, layout):
    for dtype in BOUNDS:
        conv, x, w, b, residual, keywords = drawn(text, layout, dtype)
        for more in ({}, {"residual": residual, "activation": "silu"}):
            wide = {k: v.astype("f8") if isinstance(v, np.ndarray) else v for k, v in more.items()}
            expected = reference(*(a.astype("f8") for a in (x, w, b)), **wide, **keywords)
            out = cases.poisoned(residual)
            got = conv(x, w, b, algorithm="fft", out=out, **more, **keywords)
            assert got is out
            check(got, expected, layout)


@pytest.mark.targets
@pytest.mark.parametrize("name", TINY)
def test_error_stays_below_the_bound_on_every_target(name):
    conv, x, w, b, _, keywords = drawn(PROBLEMS[name])
    expected = reference(*(a.astype("f8") for a in (x, w, b)), **keywords)
    check(conv(x, w, b, algorithm="fft", **keywords), expected, "channels_first")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "symmetric"])
def test_every_padding_mode(mode):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 3, 40, 37)).astype("f4"), rng.standard_normal((4, 3, 9, 7)).astype("f4")
    for padding in (4, ((11, 3), (0, 20))):
        keywords = {"padding": padding, "padding_mode": mode}
        got = fc.conv2d(x, w, algorithm="fft", **keywords)
        check(got, reference(x.astype("f8"), w.astype("f8"), **keywords), "channels_first")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", ["several blocks", "channels", "conv3d"])
def test_what_is_not_finite_spreads_as_in_direct_convolution(name, layout, value):
    conv, x, w, b, residual, keywords = drawn(PROBLEMS[name], layout)
    middle = tuple(n // 2 for n in x.shape)
    x[middle], x[(0,) * x.ndim] = value, value
    for weight in (w, np.where(np.arange(w.size).reshape(w.shape) == w.size - 1, value, w).astype("f4")):
        direct, got = (conv(x, weight, b, residual=residual, algorithm=name, **keywords) for name in ("direct", "fft"))
        finite = np.isfinite(direct)
        assert not finite.all()
        np.testing.assert_array_equal(got[~finite], direct[~finite])
        np.testing.assert_allclose(got[finite], direct[finite], rtol=0, atol=1e-4)


def test_sums_that_overflow_in_a_transform_only_are_right():
    x, w = np.full((1, 1, 64, 64), 1e37, "f4"), np.zeros((1, 1, 9, 9), "f4")
    w[0, 0, 4, 4] = 2
    np.testing.assert_array_equal(fc.conv2d(x, w, padding=4, algorithm="fft"), 2 * x)


@pytest.mark.parametrize("name", ["several blocks", "channels", "depthwise multiplier 2"])
def test_bits_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    monkeypatch.setattr(importlib.import_module("fastconv.threads"), "PARALLEL_SECONDS", 0.0)
    conv, x, w, b, _, keywords = drawn(PROBLEMS[name])
    results = []
    for n in (1, 2, 3):
        with fc.threads(n):
            results.append(conv(x, w, b, algorithm="fft", **keywords))
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


def test_plan_keeps_its_own_spectrum():
    _, x, w, b, _, keywords = drawn(PROBLEMS["channels"])
    plan = fc.plan_conv2d(x.shape, w, b, algorithm="fft", **keywords)
    expected = fc.conv2d(x, w, b, algorithm="fft", **keywords)
    w *= 2
    assert plan(x).tobytes() == expected.tobytes()
    check(fc.conv2d(x, w, algorithm="fft", **keywords), reference(x, w, **keywords), "channels_first")


def test_memory_is_bounded_by_the_block():
    x, w = np.ones((1, 1, 2048, 2048), "f4"), np.ones((1, 1, 65, 65), "f4")
    plan, out = fc.plan_conv2d(x.shape, w, padding=32, algorithm="fft"), np.empty_like(x)
    with fc.threads(1):
        plan(x, out=out)
        tracemalloc.start()
        try:
            plan(x, out=out)
            assert tracemalloc.get_traced_memory()[1] < x.nbytes / 4
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("x", "w", "keywords", "reason"),
    [
        (np.ones((1, 1, 9, 9), "i4"), np.ones((1, 1, 3, 3), "i4"), {}, "integers are summed exactly, got dtype int32"),
        (np.ones((1, 1, 9, 9)), np.ones((1, 1, 1, 1)), {}, "kernel must have more than one tap"),
        (np.ones((1, 0, 9, 9)), np.ones((1, 0, 3, 3)), {}, "there are no input channels"),
        (np.ones((1, 1, 9, 9)), np.ones((1, 1, 3, 3)), {"precision": "strict"}, "rounding error grows"),
    ],
)
def test_refusals_say_why(x, w, keywords, reason):
    with pytest.raises(fc.UnsupportedError, match=f'algorithm "fft" refused: .*{reason}.* can$'):
        fc.conv2d(x, w, algorithm="fft", **keywords)


def test_auto_takes_it_for_large_kernels_only():
    def chosen(size, kernel, **keywords):
        return fc.explain(fc.conv2d, (1, 1, size, size), (1, 1, kernel, kernel), padding=kernel // 2, **keywords).chosen

    assert chosen(1024, 101) == "fft"
    assert chosen(1024, 101, precision="strict") != "fft"
    assert "fft" not in {chosen(size, kernel) for size in (64, 256, 1024) for kernel in (3, 5, 9, 15)}


def test_count_of_operations_names_transforms_and_products():
    ops = fc.count_ops(fc.conv2d, (1, 1, 1024, 1024), (1, 1, 101, 101), padding=50, algorithm="fft")
    direct = fc.count_ops(fc.conv2d, (1, 1, 1024, 1024), (1, 1, 101, 101), padding=50)
    assert ops.macs == direct.macs
    assert ops.multiplies < direct.multiplies / 20


@pytest.mark.slow
def test_error_over_drawn_problems():
    rng = np.random.default_rng(5)
    for i in range(2000):
        text = cases.random_problem(rng)
        if problem(text).weight_shape[2:] == (1, 1):
            continue
        layout, dtype = cases.LAYOUTS[i % 2], ("float32", "float64")[i // 2 % 2]
        conv, x, w, b, residual, keywords = drawn(text, layout, dtype, i)
        expected = reference(*(a.astype("f8") for a in (x, w, b)), residual=residual.astype("f8"), **keywords)
        got = conv(x, w, b, residual=residual, algorithm="fft", **keywords)
        np.testing.assert_array_equal(np.isfinite(got), True, err_msg=text)
        # Channels may have a single output, which is small by chance.
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert error < 2 * BOUNDS[dtype], text
