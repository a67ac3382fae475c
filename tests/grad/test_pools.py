"""Gradients of pools by the definitions: sums at the indices of the maxima, transposed matrices, differences."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.kernels.reference.grad import adjoint, scattered
from tests import pools
from tests.cases import LAYOUTS
from tests.pools import Drawn


def pull(a, grad, layout="channels_first"):
    """Return the gradient of a call in a layout, in channels_first."""
    batched = a.x.ndim == pools.axes_of(a.name, a.x) + 2
    last, flat = layout == "channels_last", not a.keywords.get("keepdims", True)
    arrays = [pools.to_last(v, batched) if last else v for v in (grad, a.x)]
    (got,) = getattr(fc.grad, f"{a.name}_vjp")(grad if flat else arrays[0], arrays[1], layout=layout, **a.keywords)
    assert got.dtype == a.x.dtype
    assert got.flags.c_contiguous
    assert got.flags.owndata or got.base.flags.owndata
    return pools.to_first(got, batched) if last else got


def check_maxima(a, rng, layouts=LAYOUTS):
    """Compare a gradient of a max pool with the sums at the indices of the definition."""
    axes = pools.axes_of(a.name, a.x)
    values, indices = pools.expected(a._replace(keywords=a.keywords | {"return_indices": True}))
    grad = pools.values(rng, values.shape, a.x.dtype)
    flat = [v.reshape(1, -1, *v.shape[v.ndim - axes :]) for v in (grad, indices)]
    want = scattered(*flat, a.x.shape[a.x.ndim - axes :]).reshape(a.x.shape)
    for layout in layouts:
        text = f"{a.name} {a.x.dtype} {a.x.shape} {a.keywords} {layout}"
        np.testing.assert_array_equal(pull(a, grad, layout), want, err_msg=text)


def drawn_maxima(seed, kinds=("max", "adaptive_max")):
    """Yield calls of max pools whose windows are not empty."""
    rng = np.random.default_rng(seed)
    while True:
        a = pools.draw(rng, str(rng.choice(kinds)), "float32")
        if not pools.has_empty_windows(a.x, a.keywords):
            yield a, rng


def test_max_pools_add_up_at_their_indices():
    for _, (a, rng) in zip(range(40), drawn_maxima(1), strict=False):
        check_maxima(a, rng)


@pytest.mark.targets
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 17, 4, 8), (3, 1, 5, 67), (2, 33, 2, 3)])
def test_max_pool_with_windows_side_by_side(shape):
    rng = np.random.default_rng(0)
    a = Drawn("max_pool2d", pools.values(rng, shape, "float32", special=True), {"kernel_size": 2})
    check_maxima(a, rng)


@pytest.mark.targets
def test_max_pool_with_windows_that_overlap():
    rng = np.random.default_rng(0)
    for C in (5, 17):
        x = pools.values(rng, (2, C, 6, 7), "float32", special=True)
        check_maxima(Drawn("max_pool2d", x, {"kernel_size": 3, "stride": 2, "padding": 1}), rng, LAYOUTS[1:])


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_max_pool_of_other_dtypes(dtype):
    rng = np.random.default_rng(0)
    for kernel, stride in ((2, 2), (3, 2)):
        keywords = {"kernel_size": kernel, "stride": stride, "padding": kernel // 3}
        check_maxima(Drawn("max_pool2d", pools.values(rng, (2, 5, 9, 11), dtype), keywords), rng)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_max_pool_with_whole_windows_of_any_size(axes):
    rng = np.random.default_rng(axes)
    for _ in range(12):
        kernel = tuple(int(k) for k in rng.integers(1, 4, axes))
        sizes = tuple(int(rng.integers(k, 5 * k)) for k in kernel)
        x = pools.values(rng, (2, int(rng.choice([1, 3, 4, 20])), *sizes), "float32", special=True)
        check_maxima(Drawn(f"max_pool{axes}d", x, {"kernel_size": kernel}), rng)


def test_global_pools():
    rng = np.random.default_rng(0)
    for keep in (True, False):
        x = pools.values(rng, (2, 5, 3, 4), "float32")
        a = Drawn("global_max_pool", x, {"keepdims": keep})
        values, indices = fc.adaptive_max_pool2d(x, 1, return_indices=True)
        grad = pools.values(rng, values.shape, "float32")
        given = grad if keep else grad.reshape(2, 5)
        for layout in LAYOUTS:
            np.testing.assert_array_equal(pull(a, given, layout), scattered(grad, indices, (3, 4)))
            mean = pull(a._replace(name="global_avg_pool"), given, layout)
            np.testing.assert_array_equal(mean, np.broadcast_to(grad / np.float32(12), x.shape))


AVERAGES = [
    ("avg_pool1d", (3, 11), {"kernel_size": 3}),
    ("avg_pool2d", (2, 3, 5, 6), {"kernel_size": 2}),
    ("avg_pool2d", (2, 2, 6, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool2d", (2, 2, 6, 7), {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1)), "ceil_mode": True}),
    ("avg_pool2d", (1, 2, 5, 7), {"kernel_size": (3, 2), "padding": "same", "count_include_pad": False}),
    ("avg_pool2d", (1, 2, 5, 7), {"kernel_size": 2, "stride": 3, "divisor_override": -3}),
    ("avg_pool3d", (1, 2, 3, 4, 5), {"kernel_size": 2, "stride": (1, 2, 2)}),
    ("adaptive_avg_pool1d", (1, 2, 7), {"output_size": 3}),
    ("adaptive_avg_pool2d", (1, 2, 5, 4), {"output_size": (3, 6)}),
    ("adaptive_avg_pool3d", (1, 2, 2, 3, 4), {"output_size": (2, 2, None)}),
]


@pytest.mark.parametrize(("name", "shape", "keywords"), AVERAGES)
def test_averages_are_pulled_back_by_the_transposed_matrix(name, shape, keywords):
    rng = np.random.default_rng(0)
    a = Drawn(name, pools.values(rng, shape, "float64"), keywords)
    grad = pools.values(rng, pools.expected(a).shape, "float64")
    want = adjoint(lambda x: pools.expected(a._replace(x=x)), shape, grad)
    for layout in LAYOUTS:
        np.testing.assert_allclose(pull(a, grad, layout), want, rtol=0, atol=1e-13)
        half = pull(a._replace(x=a.x.astype("f2")), grad.astype("f2"), layout)
        np.testing.assert_allclose(half.astype("f8"), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5, -1, np.inf, -np.inf])
def test_lp_pools_agree_with_differences(p):
    rng = np.random.default_rng(0)
    for shape, kernel, stride, ceil in (((2, 3, 9), 3, 2, False), ((1, 2, 5, 6), 2, None, True)):
        x = rng.permutation(np.prod(shape)).reshape(shape) / 20 + 0.5
        axes = len(shape) - 2
        k = {"norm_type": p, "kernel_size": kernel, "stride": stride, "ceil_mode": ceil}
        a = Drawn(f"lp_pool{axes}d", x, k)
        grad = rng.standard_normal(a.run().shape)
        direction, step = rng.standard_normal(shape), 1e-5
        ahead, behind = (a._replace(x=x + sign * step * direction).run() for sign in (1, -1))
        slope = ((ahead - behind) * grad).sum() / (2 * step)
        for layout in LAYOUTS:
            assert abs((pull(a, grad, layout) * direction).sum() - slope) < 1e-6 * np.abs(grad).sum()


def test_windows_that_are_zero_have_no_lp_gradient():
    (got,) = fc.grad.lp_pool1d_vjp([[1.0, 1.0]], [[0.0, 0.0, 3.0, 4.0]], 2, 2)
    np.testing.assert_allclose(got, [[0, 0, 0.6, 0.8]], rtol=1e-15)


def test_what_is_not_finite_stays_in_its_windows():
    grad = np.array([[[[np.inf, 1], [1, np.nan]]]], "f4")
    x = np.arange(25, dtype="f4").reshape(1, 1, 5, 5)
    for name, options in (("max_pool2d_vjp", ()), ("avg_pool2d_vjp", ())):
        (got,) = getattr(fc.grad, name)(grad, x, 2, *options)
        assert np.isinf(got[0, 0, :2, :2]).any()
        assert np.isnan(got[0, 0, 2:4, 2:4]).any()
        assert np.isfinite(got[0, 0, :2, 2:]).all()
        assert not got[0, 0, 4].any()
        assert not got[0, 0, :, 4].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_batches(layout):
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        out = (*shape[:2], 2, 2)
        last = layout == "channels_last"
        x, grad = (np.zeros((s[0], *s[2:], s[1]) if last else s, "f4") for s in (shape, out))
        for name in ("max_pool2d", "avg_pool2d"):
            (got,) = getattr(fc.grad, f"{name}_vjp")(grad, x, 2, layout=layout)
            assert got.shape == x.shape
        (got,) = fc.grad.adaptive_max_pool2d_vjp(grad, x, 2, layout=layout)
        assert got.shape == x.shape


@pytest.mark.parametrize("shape", [(1, 1, 5, 40), (1, 20, 5, 40)])
def test_windows_that_hold_nothing_have_no_gradient(shape):
    # The third ones see rows -1 and 5, which are not there.
    keywords = {"kernel_size": (2, 3), "stride": (1, 2), "dilation": (6, 1), "padding": (3, 0)}
    a = Drawn("max_pool2d", np.random.default_rng(0).permutation(shape[1] * 200).reshape(shape).astype("f4"), keywords)
    values = a.run()
    grad = np.ones_like(values)
    assert (np.isinf(values) == (np.arange(5) == 2)[:, None]).all()
    for layout in LAYOUTS:
        got = pull(a, grad, layout)
        assert got.sum() == np.isfinite(values).sum()
        assert set(a.x[got != 0]) == set(values[np.isfinite(values)])


def test_integers_have_no_gradient():
    x = np.arange(16).reshape(1, 4, 4)
    assert fc.grad.max_pool2d_vjp(x[:, :2, :2], x, 2) == (None,)
    assert fc.grad.avg_pool2d_vjp(x[:, :2, :2], x, 2) == (None,)
    assert fc.grad.lp_pool2d_vjp(x[:, :2, :2].astype("f4"), x, 2, 2) == (None,)
    assert fc.grad.global_max_pool_vjp(x[None, :, :1, :1], x[None]) == (None,)


def test_gradients_are_the_same_for_every_number_of_threads():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 33, 62, 62)).astype("f4")
    for name, options in (
        ("max_pool2d", (2,)),
        ("max_pool2d", (3, 2, 1)),
        ("avg_pool2d", (2,)),
        ("avg_pool2d", (3, 2)),
    ):
        for layout in LAYOUTS:
            grad = rng.standard_normal(getattr(fc, name)(x, *options, layout=layout).shape).astype("f4")
            results = []
            for count in (1, 3):
                with fc.threads(count):
                    (got,) = getattr(fc.grad, f"{name}_vjp")(grad, x, *options, layout=layout)
                    results.append(got.tobytes())
            assert results[0] == results[1], (name, options, layout)
