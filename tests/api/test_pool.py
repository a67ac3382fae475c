"""Maximum and average pools against their definition: integer-valued data, exact equality."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests import cases, pools
from tests.pools import Drawn

INT64 = np.iinfo("int64")


def drawn(kind, seed, count, dtype="float32", **fixed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        pools.check(pools.draw(rng, kind, dtype, **fixed))


def row(*numbers, dtype="float32"):
    """Return an unbatched input of one channel and one axis."""
    return np.array([numbers], dtype)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_drawn_pools_equal_the_definition(kind, seed):
    drawn(kind, seed, 150)


TINY = {
    "max": Drawn("max_pool2d", None, {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True}),
    "max values": Drawn("max_pool2d", None, {"kernel_size": (2, 3), "stride": 1, "padding": "same"}),
    "avg": Drawn("avg_pool2d", None, {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False}),
}


@pytest.mark.parametrize("name", [pytest.param("max", marks=pytest.mark.targets), "max values", "avg"])
def test_tiny(name):
    for C, H, W in ((2, 5, 7), (19, 4, 5), (3, 1, 1)):
        pools.check(TINY[name]._replace(x=pools.values(np.random.default_rng(C), (1, C, H, W), "float32")))


@pytest.mark.parametrize("dtype", [*pools.FLOATS[1:], *pools.INTEGERS])
def test_every_dtype(dtype):
    """Few planes and, of elements of eight bytes, no indices: each kernel that is compiled takes seconds."""
    more = {"indices": False} if dtype in ("float64", "uint32", "int64") else {}
    drawn("max", 5, 15, dtype, axes=2, N=1, C=3, **more)
    drawn("avg", 6, 12, dtype, axes=2, N=1, C=3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
@pytest.mark.parametrize("kind", ["max", "avg", "adaptive_max", "adaptive_avg"])
def test_every_dtype_in_many_planes(dtype, kind):
    drawn(kind, 7, 60, dtype, N=3, C=17)


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for kind in ("max", "avg"):
        drawn(kind, 6, 12, ml_dtypes.bfloat16)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_width(stride):
    """All tails of a vector, in few planes and in so many that they are turned to lanes."""
    rng = np.random.default_rng(stride)
    for n in [*range(1, 70), 127, 128, 129, 300]:
        for planes in (1, 17) if n < 40 else (1,):
            x = pools.values(rng, (planes, n), "float32", special=n % 3 == 0)
            k = {"kernel_size": 3, "stride": stride, "padding": 1}
            pools.check(Drawn("max_pool1d", x, k), cases.LAYOUTS[:1])
            pools.check(Drawn("max_pool1d", x, k | {"return_indices": True}), cases.LAYOUTS[:1])
            pools.check(Drawn("avg_pool1d", np.nan_to_num(x, posinf=0, neginf=0), k), cases.LAYOUTS[:1])


def test_every_number_of_channels():
    rng = np.random.default_rng(0)
    for C in range(1, 50):
        x = pools.values(rng, (1, C, 5, 6), "float32", special=C % 3 == 0)
        k = {"kernel_size": (2, 3), "stride": (1, 2), "padding": 1}
        pools.check(Drawn("max_pool2d", x, k | {"return_indices": bool(C % 2)}))
        pools.check(Drawn("avg_pool2d", np.nan_to_num(x, posinf=0, neginf=0), k))


@pytest.mark.parametrize("planes", [1, 20])
@pytest.mark.parametrize("kernel", [9, 31, 65])
def test_large_windows(kernel, planes):
    """Windows that are put together in stages, along either axis."""
    rng = np.random.default_rng(kernel)
    for size, window in (
        ((3, 90), (1, kernel)),
        ((90, 3), (kernel, 1)),
        ((35, 40), (min(kernel, 33), min(kernel, 35))),
    ):
        if planes > 1 and size == (35, 40):
            continue
        x = pools.values(rng, (1, planes, *size), "float32", special=True)
        for stride, dilation in ((1, 1), (2, 1), (3, 1), (1, 2) if kernel < 40 and min(size) < 9 else (1, 1)):
            k = {"kernel_size": window, "stride": stride, "padding": tuple(n // 2 for n in window)}
            pools.check(Drawn("max_pool2d", x, k | {"dilation": dilation}))
            pools.check(Drawn("max_pool2d", x, k | {"dilation": dilation, "return_indices": True}))
            pools.check(Drawn("avg_pool2d", np.nan_to_num(x, posinf=1, neginf=0), k | {"count_include_pad": False}))


def test_blocks_of_columns_and_rows():
    """Planes so large that they are cut in blocks, of whose borders the definition knows nothing."""
    x = np.random.default_rng(0).permutation(400 * 1500).astype("f4").reshape(1, 1, 400, 1500)
    for k, s in ((5, 1), (3, 2), (9, 3)):
        view = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::s, ::s]
        want = view.max((-1, -2))
        for layout in cases.LAYOUTS:
            got, indices = Drawn("max_pool2d", x, {"kernel_size": k, "stride": s, "return_indices": True}).run(layout)
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(x.ravel()[indices], want)
            np.testing.assert_array_equal(Drawn("max_pool2d", x, {"kernel_size": k, "stride": s}).run(layout), want)
    lanes = np.random.default_rng(1).permutation(2 * 300 * 40 * 33).astype("f4").reshape(2, 33, 300, 40)
    want = np.lib.stride_tricks.sliding_window_view(lanes, (4, 5), (2, 3)).max((-1, -2))
    np.testing.assert_array_equal(
        Drawn("max_pool2d", lanes, {"kernel_size": (4, 5), "stride": 1}).run("channels_last"), want
    )


def test_ceil_mode_adds_the_windows_that_start_inside():
    x = row(1, 2, 3, 4, 5)
    np.testing.assert_array_equal(fc.max_pool1d(x, 2), [[2, 4]])
    np.testing.assert_array_equal(fc.max_pool1d(x, 2, ceil_mode=True), [[2, 4, 5]])
    np.testing.assert_array_equal(fc.avg_pool1d(x, 2, ceil_mode=True), [[1.5, 3.5, 5]])
    # Five elements and a padding of one: a third window would start behind the input.
    assert fc.max_pool1d(x, 2, 3, 1, ceil_mode=True).shape == (1, 2)
    np.testing.assert_array_equal(fc.avg_pool1d(x, 4, 3, 1, True), [[6 / 4, 12 / 4]])
    np.testing.assert_array_equal(fc.avg_pool1d(x, 4, 3, 1, True, False), [[6 / 3, 12 / 3]])
    # The last window counts the padding, but not what lies behind it.
    np.testing.assert_array_equal(fc.avg_pool1d(row(1, 2, 3, 4, 5, 6), 4, 3, 1, True), [[6 / 4, 18 / 4, 6 / 2]])


def test_averages_divide_as_they_are_told():
    x = row(1, 2, 3, 4)
    np.testing.assert_array_equal(fc.avg_pool1d(x, 3, 1, 1), np.float32([[1, 2, 3, 7 / 3]]))
    np.testing.assert_array_equal(fc.avg_pool1d(x, 3, 1, 1, count_include_pad=False), [[1.5, 2, 3, 3.5]])
    np.testing.assert_array_equal(fc.avg_pool1d(x, 3, 1, 1, divisor_override=2), [[1.5, 3, 4.5, 3.5]])
    np.testing.assert_array_equal(fc.avg_pool1d(x, 2, 2, divisor_override=-1), [[-3, -7]])
    assert fc.avg_pool1d(x, 2, divisor_override=np.int8(2)).tolist() == [[1.5, 3.5]]


def test_integer_averages_are_truncated_toward_zero():
    x = row(-3, -4, -1, 0, 3, 4, 1, 0, dtype="int32")
    assert fc.avg_pool1d(x, 2).tolist() == [[-3, 0, 3, 0]]
    assert fc.avg_pool1d(x, 2, divisor_override=-2).tolist() == [[3, 0, -3, 0]]
    assert fc.avg_pool1d(row(255, 255, 255, 254, dtype="uint8"), 2).tolist() == [[255, 254]]
    top = 2**32 - 1
    assert fc.avg_pool1d(row(top, top, top, 0, dtype="uint32"), 2).tolist() == [[top, top // 2]]


def test_int64_averages_wrap():
    x = row(*[INT64.min] * 40, dtype="int64")
    assert (fc.avg_pool1d(x, 2) == 0).all()
    assert (fc.avg_pool1d(x, 1) == INT64.min).all()
    assert (fc.avg_pool1d(x, 1, divisor_override=-1) == INT64.min).all()
    assert (fc.avg_pool1d(x, 1, divisor_override=2) == INT64.min // 2).all()
    assert fc.avg_pool1d(row(INT64.max, 1, dtype="int64"), 2).tolist() == [[INT64.min // 2]]


@pytest.mark.parametrize("dtype", pools.INTEGERS)
def test_maxima_of_extreme_integers(dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = row(low, low, low, high, high - 1, high, low + 1, low, dtype=dtype)
    got, indices = fc.max_pool1d(x, 2, padding=1, return_indices=True)
    assert got.tolist() == [[low, low, high, high, low]]
    assert indices.tolist() == [[0, 1, 3, 5, 7]]
    np.testing.assert_array_equal(fc.max_pool1d(x, 2, padding=1), got)


def test_nan_wins_and_the_last_one_has_the_index():
    nan, inf = np.nan, np.inf
    x = row(1, nan, 3, nan, nan, 2, -inf, -inf, inf, nan)
    got, indices = fc.max_pool1d(x, 5, return_indices=True)
    np.testing.assert_array_equal(got, [[nan, nan]])
    assert indices.tolist() == [[4, 9]]
    np.testing.assert_array_equal(fc.max_pool1d(x, 2), [[nan, nan, nan, -inf, nan]])
    got, indices = fc.max_pool1d(x, 2, return_indices=True)
    assert indices.tolist() == [[1, 3, 4, 6, 9]]


def test_ties_have_the_index_of_the_first_in_row_major_order():
    x = np.array([[[1, 5, 5], [5, 1, 5], [5, 5, 1]]], "f4")
    assert fc.max_pool2d(x, 2, 1, return_indices=True)[1].tolist() == [[[1, 1], [3, 5]]]
    assert fc.max_pool2d(x, 3, return_indices=True)[1].item() == 1
    zeros = row(-0.0, 0.0, 0.0, -0.0)
    got, indices = fc.max_pool1d(zeros, 2, return_indices=True)
    assert indices.tolist() == [[0, 2]]
    assert np.signbit(got).tolist() == [[True, False]]


def test_minus_infinity_is_a_number():
    x = np.full((1, 2, 20, 20), -np.inf, "f4")
    got, indices = fc.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert np.isneginf(got).all()
    # The first element of each window that is inside.
    rows = np.maximum(np.arange(10) * 2 - 1, 0)
    np.testing.assert_array_equal(indices[0, 1], rows[:, None] * 20 + rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_stay_in_their_windows(value):
    for kernel, stride in ((3, 1), (3, 2), (31, 1), (9, 2)):
        for at in ((0, 0), (17, 40), (33, 88)):
            x = np.ones((1, 2, 34, 89), "f4")
            x[0, 1, at[0], at[1]] = value
            k = {"kernel_size": (min(kernel, 9), kernel), "stride": stride, "padding": (1, kernel // 2)}
            touched = pools.expected(Drawn("max_pool2d", (x != 1).astype("f4"), k)) > 0
            for layout in cases.LAYOUTS:
                average = Drawn("avg_pool2d", x, k | {"count_include_pad": False}).run(layout)
                np.testing.assert_array_equal(average, np.where(touched, np.float32(value), np.float32(1)))
                largest = Drawn("max_pool2d", x, k).run(layout)
                np.testing.assert_array_equal(largest, np.where(touched & (value != -np.inf), np.float32(value), 1))


def test_half_precision_is_summed_in_single_precision():
    assert (fc.avg_pool1d(np.full((1, 3000), 60000, "f2"), 3000) == 60000).all()
    assert np.isposinf(fc.avg_pool1d(np.full((1, 4), 60000, "f2"), 2, divisor_override=1)).all()
    # In half precision 2048 + 1 is 2048.
    assert fc.avg_pool1d(np.ones((1, 4096), "f2"), 4096).item() == 1


def test_denormals_are_kept():
    tiny = np.finfo("f4").smallest_subnormal
    x = row(*[tiny] * 40)
    assert (fc.max_pool1d(x, 3, 1) == tiny).all()
    assert (fc.avg_pool1d(x, 2, 1, divisor_override=1) == 2 * tiny).all()


@pytest.mark.parametrize("dtype", ["float32", "int8", "int16", "uint8", "int64"])
def test_windows_without_elements_are_the_least_number(dtype):
    """With dilation a window may step over all of a short axis."""
    least = -np.inf if dtype == "float32" else np.iinfo(dtype).min
    x = np.full((1, 2, 1, 3), 5, dtype)
    for layout in cases.LAYOUTS:
        k = {"kernel_size": 2, "stride": 1, "padding": (2, 1), "dilation": (4, 1)}
        got, indices = Drawn("max_pool2d", x, k | {"return_indices": True}).run(layout)
        assert got.shape == indices.shape == (1, 2, 1, 4)
        assert (got == least).all()
        assert ((indices >= 0) & (indices < 3)).all()
        assert (Drawn("max_pool2d", x, k).run(layout) == least).all()
    assert fc.max_pool2d(np.full((1, 1, 1), 5, dtype), 2, 1, 1, 2).item() == least


@pytest.mark.parametrize("C", [3, 19])
def test_dilation_beyond_the_input(C):
    """Windows of few elements, of one, and of none, in all ways that an axis is done."""
    rng, done = np.random.default_rng(C), 0
    while done < 80:
        sizes, kernel, stride = (tuple(rng.integers(1, most, 2).tolist()) for most in (5, 5, 4))
        dilation = tuple(int(d) for d in rng.choice([1, 2, 3, 5, 8], 2))
        most = np.multiply(dilation, np.array(kernel) - 1) + 1
        padding = tuple(map(tuple, rng.integers(0, most[:, None] // 2 + 1, (2, 2)).tolist()))
        k = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        k["ceil_mode"] = bool(rng.integers(2))
        a = Drawn("max_pool2d", pools.values(rng, (1, C, *sizes), "float32"), k)
        if all(pools.windows(a.x, 2, k)[0]):
            done += 1
            pools.check(a)
            if not pools.has_empty_windows(a.x, k):
                pools.check(a._replace(keywords=k | {"return_indices": True}))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize(("N", "C"), [(0, 3), (2, 0), (0, 0)])
def test_no_planes(N, C, layout):
    for sizes in ((7,), (5, 6), (3, 4, 5)):
        x, axes = np.zeros((N, C, *sizes), "f4"), len(sizes)
        for kind in ("max", "avg", "adaptive_max", "adaptive_avg"):
            a = Drawn(f"{kind}_pool{axes}d", x, {"output_size" if "adaptive" in kind else "kernel_size": 2})
            pools.check(a, [layout])
            if "max" in kind:
                pools.check(a._replace(keywords=a.keywords | {"return_indices": True}), [layout])
    unbatched = np.zeros((0, 5, 6), "f4")
    pools.check(Drawn("max_pool2d", unbatched, {"kernel_size": 2}), [layout])


def test_numbers_far_beyond_the_input():
    x, far = row(3, 1, 4, 1, 5), 2**40
    assert fc.max_pool1d(x, far, 1, padding=far // 2).tolist() == [[5] * 6]
    assert fc.max_pool1d(x, 3, far).tolist() == [[4]]
    assert fc.max_pool1d(x, 3, 1, dilation=far, padding=far).tolist() == x.tolist()
    assert fc.avg_pool1d(x, far, padding=far // 2, count_include_pad=False).item() == np.float32(14 / 5)
    assert fc.avg_pool1d(x, far, padding=far // 2, divisor_override=7).tolist() == [[2]]


def test_pools_are_remembered_by_value_and_type():
    """Equal arguments of other types are looked at again."""
    x = row(*range(9))
    assert fc.max_pool1d(x, 1).shape == (1, 9)
    for wrong in (True, 1.0):
        with pytest.raises(fc.ArgumentTypeError):
            fc.max_pool1d(x, wrong)
    assert fc.max_pool1d(x.astype("i4"), 1).dtype == np.int32
    assert fc.max_pool1d(x, [3]).tolist() == fc.max_pool1d(x, (3,)).tolist() == fc.max_pool1d(x, np.int64(3)).tolist()


def test_strides_are_the_kernel_size_by_default():
    x = pools.values(np.random.default_rng(0), (1, 2, 7, 9), "float32")
    want = fc.max_pool2d(x, (2, 3), (2, 3))
    for stride in (None, (), []):
        np.testing.assert_array_equal(fc.max_pool2d(x, (2, 3), stride), want)


def test_arguments_have_pytorchs_order():
    x = pools.values(np.random.default_rng(0), (2, 3, 9, 10), "float32")
    want = Drawn("max_pool2d", x, {
        "kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True, "return_indices": True
    })  # fmt: skip
    for got, one in zip(fc.max_pool2d(x, 3, 2, 1, 2, True, True), pools.expected(want), strict=True):
        np.testing.assert_array_equal(got, one)
    want = Drawn("avg_pool2d", x, {
        "kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False,
        "divisor_override": 5,
    })  # fmt: skip
    np.testing.assert_array_equal(fc.avg_pool2d(x, 3, 2, 1, True, False, 5), pools.expected(want))
