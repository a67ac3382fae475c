"""Winograd convolution: within its error of the definition, everywhere; what is not finite stands where it must."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.geometry.conv import conv_geometry
from fastconv.testing import reference
from tests import cases, guard

CONVS = {1: fc.conv1d, 2: fc.conv2d, 3: fc.conv3d}
# Of the channel's largest output; see the Notes of fc.conv2d.
BOUND = 3e-5
# Each kernel size is a compilation.
DRAWN, MANY = 12, 600
KERNELS = [[3, 3], [3, 3], [3, 3], [5, 5], [1, 3], [5, 1], [3, 5]]


def problem(rng, kernels=KERNELS):
    """Return (x, w, keywords) of a drawn problem that Winograd can do."""
    axes, G = int(rng.choice([1, 2, 2, 2, 3])) if kernels is KERNELS else 2, int(rng.choice([1, 1, 1, 2, 3]))
    K = [int(rng.choice([3, 3, 5]))] if axes == 1 else kernels[rng.integers(len(kernels))]
    ICG = int(rng.integers(1, 40))
    if axes == 3:
        K, ICG = [int(rng.integers(1, 4)), *K], 16
    S = rng.integers(1 if kernels is KERNELS else 12, 30 if axes < 3 else 9, axes).tolist()
    pads = rng.integers(0, 4, (axes, 2)).tolist()
    pads = [[a, b + max(0, k - s - a - b)] for (a, b), k, s in zip(pads, K, S, strict=True)]
    N, OCG = int(rng.integers(1, 4)), int(rng.integers(1, 40))
    x = rng.standard_normal((N, G * ICG, *S)).astype("f4")
    w = rng.standard_normal((G * OCG, ICG, *K)).astype("f4")
    mode = str(rng.choice(["zeros", "zeros", "reflect", "replicate", "circular", "symmetric"]))
    if mode == "reflect" and 1 in S:
        mode = "zeros"
    layout = str(rng.choice(cases.LAYOUTS))
    if layout == "channels_last":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    return x, w, {"padding": pads, "groups": G, "padding_mode": mode, "layout": layout}


def error(got, exact, layout):
    """Return the largest error of each channel, of its largest output."""
    axes = tuple(i for i in range(got.ndim) if i != (got.ndim - 1 if layout == "channels_last" else 1))
    scale = np.abs(exact).max(axes)
    return (np.abs(got - exact).max(axes) / np.where(scale == 0, 1, scale)).max(initial=0)


def check_drawn(seed, count, kernels):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x, w, keywords = problem(rng, kernels)
        convolve = CONVS[w.ndim - 2]
        exact = reference(x.astype("f8"), w.astype("f8"), **keywords)
        got = convolve(x, w, algorithm="winograd", **keywords)
        assert error(got, exact, keywords["layout"]) < BOUND, (x.shape, w.shape, keywords)
        # Bias, residual and activation come after the sums.
        b, r = rng.standard_normal(len(w)).astype("f4"), rng.standard_normal(got.shape).astype("f4")
        more = {
            "activation": str(rng.choice(["relu", "relu6", "tanh"][: 3 if kernels is KERNELS else 2])),
            "algorithm": "winograd",
        }
        full = convolve(x, w, b, residual=r, **more, **keywords)
        bias = b if keywords["layout"] == "channels_last" else b.reshape(-1, *[1] * (w.ndim - 2))
        np.testing.assert_allclose(
            full, getattr(fc.activations, more["activation"])(got + bias + r), rtol=1e-5, atol=1e-5
        )


def test_drawn_problems_equal_the_definition():
    check_drawn(0, DRAWN, [[3, 3]])


@pytest.mark.slow
def test_many_drawn_problems_equal_the_definition():
    check_drawn(1, MANY, KERNELS)


@pytest.mark.parametrize("layout", [pytest.param("channels_first", marks=pytest.mark.targets), "channels_last"])
def test_small_problem_equals_the_definition(layout):
    a = cases.draw("n1ic3h5w6_oc3k3s1p1", layout)
    got = fc.conv2d(a.x, a.w, a.b, residual=a.r, algorithm="winograd", **a.keywords)
    np.testing.assert_allclose(got, reference(a.x, a.w, a.b, residual=a.r, **a.keywords), rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("IC", [16, 64, 512])
def test_error_is_within_the_documented_bound(IC, k, layout):
    rng = np.random.default_rng(IC)
    for draw in (rng.standard_normal, rng.random):
        x, w = draw((1, IC, 33, 31)).astype("f4"), (rng.standard_normal((64, IC, k, k)) / IC).astype("f4")
        if layout == "channels_last":
            x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        got = fc.conv2d(x, w, padding=k // 2, layout=layout, algorithm="winograd")
        exact = reference(x.astype("f8"), w.astype("f8"), padding=k // 2, layout=layout)
        assert error(got, exact, layout) < 1e-5


@pytest.mark.slow
def test_float64_keeps_its_digits():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 20, 14, 15)), rng.standard_normal((9, 20, 3, 3))
    got = fc.conv2d(x, w, padding=1, algorithm="winograd")
    assert error(got, reference(x, w, padding=1), "channels_first") < 1e-13


@pytest.mark.parametrize("layout", ["channels_first", pytest.param("channels_last", marks=pytest.mark.slow)])
def test_what_is_not_finite_stands_where_direct_convolution_has_it(layout):
    a = cases.draw("n2ic5h13w18_oc7k3s1p1", layout)
    where, values = np.random.default_rng(0), (np.nan, np.inf, -np.inf)
    for value in values:
        for _ in range(2):
            x = a.x.copy()
            x.flat[where.integers(x.size, size=2)] = value, values[where.integers(3)]
            direct, got = (fc.conv2d(x, a.w, a.b, algorithm=name, **a.keywords) for name in ("direct", "winograd"))
            np.testing.assert_array_equal(np.where(np.isfinite(got), 0, got), np.where(np.isfinite(direct), 0, direct))
            np.testing.assert_allclose(got[np.isfinite(got)], direct[np.isfinite(got)], rtol=0, atol=1e-3)
    plan = fc.plan_conv2d(x.shape, a.w, a.b, algorithm="winograd", activation="relu", **a.keywords)
    expected = fc.conv2d(x, a.w, a.b, algorithm="direct", activation="relu", **a.keywords)
    np.testing.assert_array_equal(np.isfinite(plan(x)), np.isfinite(expected))


@pytest.mark.slow
def test_sums_that_only_the_transforms_overflow_are_right():
    x, w = np.full((1, 3, 9, 9), 3e37, "f4"), np.full((2, 3, 3, 3), 1e-3, "f4")
    w[:, 1:] = -1e-3
    got, direct = (fc.conv2d(x, w, algorithm=name) for name in ("winograd", "direct"))
    np.testing.assert_allclose(got, direct, rtol=1e-4)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_bits_are_those_of_one_thread(layout):
    rng = np.random.default_rng(0)
    a = cases.draw("n2ic40h40w41_oc72k3s1p1", layout)
    x = rng.standard_normal(a.x.shape).astype("f4")
    plan = fc.plan_conv2d(x.shape, a.w, a.b, algorithm="winograd", **a.keywords)
    assert plan._prepared.program.tasks > 3
    results = []
    for n in (1, 2, 5):
        with fc.threads(n):
            results += [plan(x).tobytes(), fc.conv2d(x, a.w, a.b, algorithm="winograd", **a.keywords).tobytes()]
    assert len(set(results)) == 1


def test_strict_refuses():
    with pytest.raises(fc.UnsupportedError, match='"winograd" refused: its rounding error'):
        fc.conv2d(np.ones((3, 8, 8)), np.ones((4, 3, 3, 3)), algorithm="winograd", precision="strict")


@pytest.mark.parametrize(
    ("shape", "more", "reason"),
    [
        ((4, 3, 3, 3), {"stride": 2}, "stride must be 1 along H and W, got 2x2"),
        ((4, 3, 3, 3), {"stride": (1, 2)}, "stride must be 1 along H and W, got 1x2"),
        ((4, 3, 3, 3), {"dilation": 2}, "dilation must be 1 along H and W, got 2x2"),
        ((4, 3, 1, 1), {}, "kernel must have 3 or 5 taps along H or W, and 1, 3 or 5 along the other, got 1x1"),
        ((4, 3, 7, 7), {}, "kernel must have 3 or 5 taps along H or W, and 1, 3 or 5 along the other, got 7x7"),
    ],
)
def test_refusals_say_why(shape, more, reason):
    with pytest.raises(fc.UnsupportedError, match=f'conv2d: algorithm "winograd" refused: {reason}; .*direct can'):
        fc.conv2d(np.ones((3, 9, 9), "f4"), np.ones(shape, "f4"), algorithm="winograd", **more)


def test_more_refusals_say_why():
    with pytest.raises(fc.UnsupportedError, match=r"with a kernel of 2 taps in depth .* multiple of 16, got 3"):
        fc.conv3d(np.ones((3, 4, 9, 9), "f4"), np.ones((4, 3, 2, 3, 3), "f4"), algorithm="winograd")
    with pytest.raises(fc.UnsupportedError, match="stride must be 1 along W, got 2"):
        fc.conv1d(np.ones((3, 9), "f4"), np.ones((4, 3, 3), "f4"), stride=2, algorithm="winograd")
    with pytest.raises(fc.UnsupportedError, match="kernel must have 3 or 5 taps, got 4"):
        fc.conv1d(np.ones((3, 9), "f4"), np.ones((4, 3, 4), "f4"), algorithm="winograd")
    with pytest.raises(fc.UnsupportedError, match="there must be input channels, got 0"):
        fc.conv1d(np.ones((0, 9), "f4"), np.ones((4, 0, 3), "f4"), algorithm="winograd")
    with pytest.raises(fc.UnsupportedError, match="arrays must be float32 or float64, got int32"):
        fc.conv2d(np.ones((3, 9, 9), "i4"), np.ones((4, 3, 3, 3), "i4"), algorithm="winograd")


def test_operations_are_counted_for_whole_tiles():
    ops = fc.count_ops(fc.conv2d, (2, 64, 56, 56), (128, 64, 3, 3), (128,), padding=1, algorithm="winograd")
    direct = fc.count_ops(fc.conv2d, (2, 64, 56, 56), (128, 64, 3, 3), (128,), padding=1)
    # F(4x4): 36 products for 16 outputs; a transform of 6 numbers takes 12 multiplications, one back 6.
    tiles = 2 * 14 * 14
    products = tiles * 36 * 64 * 128
    assert ops.multiplies == products + tiles * (64 * 12 * 12 + 128 * (6 * 6 + 4 * 6))
    assert ops.macs == direct.macs == 4 * products
    assert ops.adds == tiles * (36 * 63 * 128 + 64 * 12 * 12 + 128 * 10 * 10) + 2 * 128 * 56 * 56
    assert ops[3:] == direct[3:]


def test_large_layers_take_it_and_small_images_of_large_weights_do_not():
    def chosen(N, IC, S, OC):
        lines = fc.explain(fc.conv2d, (N, IC, S, S), (OC, IC, 3, 3), padding=1).lines
        return min((line.predicted, line.algorithm) for line in lines if line.algorithm in ("winograd", "direct"))[1]

    assert chosen(1, 64, 112, 64) == chosen(1, 128, 56, 128) == "winograd"
    assert chosen(1, 512, 4, 512) == chosen(1, 1, 64, 1) == "direct"


def test_blocks_stay_in_l2():
    from fastconv.dispatch.blocking_winograd import winograd_blocking
    from fastconv.kernels.cpu.target import AVX2, AVX512, NEON, SSE2

    for target in (AVX512, AVX2, SSE2, NEON):
        for IC, S in ((64, 224), (512, 28), (512, 7), (3, 64)):
            g = conv_geometry("test", 2, (1, IC, S, S), (IC, IC, 3, 3), padding=1)
            b = winograd_blocking(g, target)
            assert b.scratch_bytes < 1.3 * target.l2_bytes
            assert b.ICP * b.PASSES >= IC
            assert b.PART_TILES * b.PARTS >= b.TILES


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_winograd_stays_inside():
    out = guard.run("from tests.kernels import test_conv_winograd as t; t.check_guarded(24, [[3, 3]])")
    assert out.split()[-1] == "done"


@pytest.mark.slow
@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_all_sizes_stay_inside():
    out = guard.run("from tests.kernels import test_conv_winograd as t; t.check_guarded(200, t.KERNELS)", timeout=600)
    assert out.split()[-1] == "done"


def check_guarded(count, kernels):
    """Run drawn problems on arrays beside closed pages; called in a process of its own."""
    guard.guard_scratch()
    rng = np.random.default_rng(2)
    for i in range(count):
        x, w, keywords = problem(rng, kernels)
        convolve, side = CONVS[w.ndim - 2], guard.SIDES[i % 2]
        exact = reference(x, w, **keywords)
        b, r = rng.standard_normal(len(w)).astype("f4"), rng.standard_normal(exact.shape).astype("f4")
        print(x.shape, w.shape, keywords, flush=True)
        with guard.Pages() as pages:
            x, w, b, r, out = (pages.copy(array, side) for array in (x, w, b, r, cases.poisoned(exact)))
            convolve(x, w, algorithm="winograd", out=out, **keywords)
            assert error(out, exact, keywords["layout"]) < BOUND
            convolve(x, w, b, residual=r, algorithm="winograd", activation="relu", out=out, **keywords)
            assert np.isfinite(out).all()
    print("done")
