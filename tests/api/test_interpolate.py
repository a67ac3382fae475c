"""interpolate: the rules of its arguments, sizes and coordinates, special values, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.kernels.reference import resize as definition
from tests.resizing import MODES, matrix

RAMP = np.arange(6.0, dtype="f4").reshape(1, 1, 6)
IMAGE = np.arange(12.0, dtype="f4").reshape(1, 1, 3, 4)


def line(values, *arguments, **keywords):
    return fc.interpolate(np.array(values, "f4")[None, None], *arguments, **keywords)[0, 0]


def test_sizes_and_scales():
    assert fc.interpolate(IMAGE, 5).shape == (1, 1, 5, 5)
    assert fc.interpolate(IMAGE, (5, 2)).shape == (1, 1, 5, 2)
    assert fc.interpolate(IMAGE, None, 1.5).shape == (1, 1, 4, 6)
    assert fc.interpolate(IMAGE, scale_factor=(2, 0.5)).shape == (1, 1, 6, 2)
    assert fc.interpolate(IMAGE, scale_factor=[np.float32(0.5), np.int64(1)]).shape == (1, 1, 1, 4)
    assert fc.interpolate(IMAGE.reshape(1, 1, 3, 2, 2), 3, mode="trilinear").shape == (1, 1, 3, 3, 3)
    assert fc.interpolate(np.moveaxis(IMAGE, 1, -1), (5, 2), layout="channels_last").shape == (1, 5, 2, 1)


def test_a_fractional_scale_is_used_as_given_unless_recomputed():
    # 6 * 1.4 is 8.4: 8 outputs, 1 / 1.4 apart or 6 / 8.
    given = definition.kernel(6, definition.positions(6, 8, 1.4), definition.triangle)[:, :] @ np.arange(6.0)
    recomputed = definition.kernel(6, definition.positions(6, 8), definition.triangle) @ np.arange(6.0)
    assert abs(given - recomputed).max() > 0.1
    for recompute, expected in ((None, given), (False, given), (True, recomputed)):
        got = line(range(6), scale_factor=1.4, mode="linear", recompute_scale_factor=recompute)
        np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_array_equal(line(range(6), scale_factor=1.4), [0, 0, 1, 2, 2, 3, 4, 5])
    np.testing.assert_array_equal(line(range(6), 8), [0, 0, 1, 2, 3, 3, 4, 5])


def test_corners_are_aligned_on_request():
    np.testing.assert_allclose(line([0, 3], 4, mode="linear", align_corners=True), [0, 1, 2, 3])
    np.testing.assert_allclose(line([0, 3], 4, mode="linear", align_corners=False), [0, 0.75, 2.25, 3])
    np.testing.assert_allclose(line([7, 3], 1, mode="linear", align_corners=True), [7])


def test_nearest_exact_takes_the_nearer_centre():
    np.testing.assert_array_equal(line(range(5), 3), [0, 1, 3])
    np.testing.assert_array_equal(line(range(5), 3, mode="nearest-exact"), [0, 2, 4])


def test_coordinates_of_nearest_are_rounded_as_in_pytorch():
    # In float32, 9 * (43 / 129) and some others are below a whole number; PyTorch takes the element before.
    for n, out in ((43, 129), (47, 141), (5, 300)):
        step = np.float32(n) / np.float32(out)
        source = np.floor(np.arange(out, dtype="f4") * step).astype(int)
        np.testing.assert_array_equal(line(range(n), out), source)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_mode_up_and_down(dtype, layout):
    rng = np.random.default_rng(0)
    for axes, modes in MODES.items():
        for mode in modes:
            shape = (2, 3, 9, 8, 21)[: 2 + axes]
            x = rng.standard_normal(shape).astype(dtype)
            for outs in ((4, 19, 33)[:axes], (20, 3, 10)[:axes], shape[2:]):
                name, _, smooth = mode.partition(" ")
                given = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
                got = fc.interpolate(given, outs, mode=name, antialias=bool(smooth), layout=layout)
                got = got if layout == "channels_first" else np.moveaxis(got, -1, 1)
                expected = definition.resize(x, [matrix(mode, n, o) for n, o in zip(shape[2:], outs, strict=True)])
                assert got.dtype == dtype
                # Positions are rounded, too.
                error = 1e-5 if dtype == "float32" else 1e-12
                np.testing.assert_allclose(got, expected, rtol=0, atol=error, err_msg=mode)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 700), (1, 2, 1, 300), (5, 1, 40, 1), (1, 20, 1, 1), (1, 3, 2, 200)]
)
def test_few_long_rows_and_many_short_ones(shape):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype("f4")
    mode = "linear" if len(shape) == 3 else "bilinear"
    for scale in (0.3, 2.5):
        outs = tuple(max(1, int(n * scale)) for n in shape[2:])
        expected = definition.resize(x, [matrix(mode, n, o) for n, o in zip(shape[2:], outs, strict=True)])
        for layout, given in (("channels_first", x), ("channels_last", np.moveaxis(x, 1, -1))):
            got = fc.interpolate(given, outs, mode=mode, layout=layout)
            got = got if layout == "channels_first" else np.moveaxis(got, -1, 1)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * (10 + max(shape)))


def test_tables_too_large_to_keep_change_nothing(monkeypatch):
    from fastconv.dispatch import resampling

    x = np.random.default_rng(2).standard_normal((1, 3, 7, 9)).astype("f4")
    expected = fc.interpolate(x, (5, 20), mode="bicubic")
    for usual, large in ((0, 1 << 20), (0, 0)):
        monkeypatch.setattr(resampling, "_USUAL", usual)
        monkeypatch.setattr(resampling, "_LARGE", large)
        resampling._usual.cache_clear()
        resampling._large.cache_clear()
        for _ in range(2):
            np.testing.assert_array_equal(fc.interpolate(x, (5, 20), mode="bicubic"), expected)
    resampling._usual.cache_clear()
    resampling._large.cache_clear()


def test_nan_and_infinities_stay_under_the_kernel():
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(line([1, nan, 3], 6), [1, 1, nan, nan, 3, 3])
    got = line([1, 2, nan, 4, 5, 6], 12, mode="linear")
    np.testing.assert_array_equal(np.isnan(got), [False] * 3 + [True] * 4 + [False] * 5)
    np.testing.assert_array_equal(line([1, inf, 3, -inf], 2, mode="area"), [inf, -inf])
    # PyTorch multiplies a neighbour by a weight of 0, too.
    np.testing.assert_array_equal(line([inf, 1, 5], 2, mode="linear", align_corners=True), [inf, 5])
    np.testing.assert_array_equal(line([1, inf, 5], 5, mode="linear", align_corners=True), [nan, inf, inf, inf, 5])
    assert np.signbit(line([-0.0], 3)).all()
    assert np.signbit(line([-0.0, -0.0], 1, mode="area")).all()


def test_float16_is_computed_in_float32_and_rounded_once():
    x = np.random.default_rng(3).standard_normal((1, 2, 9, 11)).astype("f2")
    for mode in ("bilinear", "bicubic", "area"):
        wide = fc.interpolate(x.astype("f4"), (13, 5), mode=mode)
        np.testing.assert_array_equal(fc.interpolate(x, (13, 5), mode=mode), wide.astype("f2"))
    # Bicubic overshoots: beyond the range of float16.
    big = np.array([[[[65504, -65504, 65504, -65504]]]], "f2")
    assert np.isinf(fc.interpolate(big, (1, 9), mode="bicubic")).any()


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32"])
def test_integers_are_rounded_and_clipped(dtype):
    limits = np.iinfo(dtype)
    x = np.array([[[limits.max, limits.min, limits.max, 3, 4, 4]]], dtype)
    got = fc.interpolate(x, 13, mode="linear")
    assert got.dtype == dtype
    exact = fc.interpolate(x.astype("f8"), 13, mode="linear")
    np.testing.assert_array_equal(got, np.clip(np.rint(exact), limits.min, limits.max).astype(dtype))
    if dtype != "uint8":
        image, exact = x[:, None], fc.interpolate(x[:, None].astype("f8"), (1, 17), mode="bicubic")
        assert exact.max() > limits.max
        clipped = np.clip(np.rint(exact), limits.min, limits.max).astype(dtype)
        np.testing.assert_array_equal(fc.interpolate(image, (1, 17), mode="bicubic"), clipped)


def test_int64_is_clipped_to_its_range():
    x = np.array([[[[2**63 - 1, -(2**63)] * 3]]])
    got = fc.interpolate(x, (1, 17), mode="bicubic")
    assert got.max() > 2**62
    assert got.min() == -(2**63)


def test_averages_of_integers_are_truncated_toward_zero_and_exact():
    x = np.array([[[-3, -4, 3, 4, 2**61, 2**61 + 2]]])
    np.testing.assert_array_equal(fc.interpolate(x, 3, mode="area")[0, 0], [-3, 3, 2**61 + 1])
    x = np.arange(-12, 12, dtype="i2").reshape(1, 2, 3, 4)
    for layout, given in (("channels_first", x), ("channels_last", np.moveaxis(x, 1, -1))):
        got = fc.interpolate(given, 2, mode="area", layout=layout)
        got = got if layout == "channels_first" else np.moveaxis(got, -1, 1)
        exact = definition.resize(x, [definition.area(3, 2), definition.area(4, 2)])
        np.testing.assert_array_equal(got, np.trunc(exact + np.copysign(1e-9, exact)))


def test_nearest_moves_any_dtype():
    for dtype in ("int8", "uint16", "int32", "uint32", "int64", "float64", "complex64", "complex128"):
        x = np.arange(5).astype(dtype)[None, None]
        np.testing.assert_array_equal(fc.interpolate(x, 7), x[..., np.floor(np.arange(7) * (5 / 7)).astype(int)])


@pytest.mark.parametrize(
    ("x", "arguments", "keywords", "error", "text"),
    [
        (IMAGE, (), {}, fc.OptionError, "expected size or scale_factor, got neither"),
        (IMAGE, (2, 2.0), {}, fc.OptionError, "expected size or scale_factor, got both"),
        (IMAGE, ((2, 2, 2),), {}, fc.OptionError, r"size = \(2, 2, 2\) has length 3, expected an int or a tuple of 2"),
        (IMAGE, ((2,),), {}, fc.OptionError, "has length 1"),
        (IMAGE, (0,), {}, fc.ShapeError, "size = 0, expected an int of at least 1"),
        (IMAGE, (-3,), {}, fc.ShapeError, "size = -3"),
        (IMAGE, (2.0,), {}, fc.ArgumentTypeError, "size = 2.0 is a float"),
        (IMAGE, (True,), {}, fc.ArgumentTypeError, "size = True is a bool"),
        (IMAGE, ("2",), {}, fc.ArgumentTypeError, "size = '2' is a str"),
        (IMAGE, (10**30,), {}, fc.ShapeError, r"below 2\*\*47"),
        (IMAGE, (2**40,), {}, fc.ShapeError, r"2\*\*47 elements or more"),
        (IMAGE, (None, 0), {}, fc.OptionError, "scale_factor = 0, expected a number above 0"),
        (IMAGE, (None, -1.0), {}, fc.OptionError, "scale_factor = -1.0"),
        (IMAGE, (None, np.nan), {}, fc.OptionError, "scale_factor = nan"),
        (IMAGE, (None, np.inf), {}, fc.OptionError, "scale_factor = inf"),
        (IMAGE, (None, 10**40), {}, fc.OptionError, "scale_factor = 2"),
        (IMAGE, (None, 0.1), {}, fc.ShapeError, "scale_factor = 0.1 along H = 3 makes an output size of 0"),
        (IMAGE, (None, (1.0,)), {}, fc.OptionError, "has length 1, expected a number or a tuple of 2"),
        (IMAGE, (None, "2"), {}, fc.ArgumentTypeError, "scale_factor = '2' is a str"),
        (IMAGE, (None, True), {}, fc.ArgumentTypeError, "scale_factor = True is a bool"),
        (IMAGE, (2,), {"mode": "cubic"}, fc.OptionError, "mode = 'cubic', expected one of 'nearest'"),
        (IMAGE, (2,), {"mode": None}, fc.OptionError, "mode = None"),
        (IMAGE, (2,), {"mode": 3}, fc.ArgumentTypeError, "mode = 3"),
        (
            IMAGE,
            (2,),
            {"mode": "linear"},
            fc.ShapeError,
            "takes 1 spatial axes after N and C, input of 4 .*has 2; .*'bilinear', 'bicubic'",
        ),
        (RAMP, (2,), {"mode": "bicubic"}, fc.ShapeError, "mode = 'bicubic' takes 2 spatial axes .*has 1"),
        (IMAGE, (2,), {"align_corners": True}, fc.OptionError, "align_corners = True with mode = 'nearest'"),
        (IMAGE, (2,), {"align_corners": False, "mode": "area"}, fc.OptionError, "align_corners = False with mode"),
        (IMAGE, (2,), {"align_corners": 1, "mode": "bilinear"}, fc.ArgumentTypeError, "align_corners = 1 is a int"),
        (IMAGE, (2,), {"antialias": True}, fc.OptionError, "antialias = True with mode = 'nearest'"),
        (RAMP, (2,), {"antialias": True, "mode": "linear"}, fc.OptionError, "it is for 'bilinear', 'bicubic'"),
        (IMAGE, (2,), {"antialias": None, "mode": "bilinear"}, fc.ArgumentTypeError, "antialias = None"),
        (IMAGE, (2,), {"recompute_scale_factor": True}, fc.OptionError, "recompute_scale_factor = True with size = 2"),
        (IMAGE, (None, 2), {"recompute_scale_factor": "no"}, fc.ArgumentTypeError, "recompute_scale_factor = 'no'"),
        (IMAGE[0, 0], (2,), {}, fc.ShapeError, r"input has 2 dimensions, expected 3 \(N, C, W\)"),
        (IMAGE[None, None], (2,), {}, fc.ShapeError, r"input has 6 dimensions, expected 5 \(N, C, D, H, W\)"),
        (IMAGE[..., :0], (2,), {}, fc.ShapeError, "input has W = 0"),
        (IMAGE, (2,), {"layout": "last"}, fc.OptionError, "layout = 'last'"),
        (IMAGE, (2,), {"device": "gpu"}, fc.OptionError, "device"),
        (IMAGE, (2,), {"out": IMAGE}, fc.ShapeError, "out has shape"),
        (IMAGE > 3, (2,), {}, fc.DtypeError, "input has dtype bool"),
    ],
)
def test_bad_calls_are_refused(x, arguments, keywords, error, text):
    with pytest.raises(error, match=text):
        fc.interpolate(x, *arguments, **keywords)


def test_arguments_that_equal_good_ones_are_refused_after_them():
    fc.interpolate(IMAGE, 1, mode="bilinear", align_corners=True)
    for keywords in ({"size": True}, {"size": 1.0}, {"size": (1, True)}, {"size": 1, "align_corners": 1}):
        with pytest.raises(fc.ArgumentTypeError):
            fc.interpolate(IMAGE, **({"mode": "bilinear", "align_corners": True} | keywords))
