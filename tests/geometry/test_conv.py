import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastconv import errors
from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arguments import shown
from fastconv.geometry.conv import (
    PADDING_MODES,
    bias_shape_check,
    check_keyword,
    conv_geometry,
    input_shape,
    output_shape,
    residual_shape_check,
    weight_shape,
)

# The same examples on every run, and no time limit: a busy machine fails no test.
drawn = settings(deadline=None, derandomize=True)

X, W = (1, 8, 5, 5), (6, 8, 3, 3)


def geometry(x=X, w=W, axes=2, **keywords):
    return conv_geometry(f"conv{axes}d", axes, x, w, **keywords)


def test_geometry_holds_every_size():
    g = geometry((2, 8, 11, 13), (6, 4, 3, 5), stride=(2, 3), padding=((1, 2), (3, 4)), dilation=[1, 2], groups=2)
    assert (g.N, g.G, g.IC, g.OC, g.ICG, g.OCG) == (2, 2, 8, 6, 4, 3)
    assert (g.H, g.W, g.KH, g.KW, g.SH, g.SW, g.DH, g.DW) == (11, 13, 3, 5, 2, 3, 1, 2)
    assert (g.PT, g.PB, g.PL, g.PR) == (1, 2, 3, 4)
    assert (g.OH, g.OW) == ((11 + 3 - 3) // 2 + 1, (13 + 7 - 9) // 3 + 1)
    assert (g.D, g.OD, g.KD, g.SD, g.DD, g.PF, g.PK) == (1, 1, 1, 1, 1, 0, 0)
    assert (g.layout, g.dtype, g.padding_mode, g.axes) == ("channels_first", "float32", "zeros", 2)
    assert g.macs == 2 * 6 * g.OH * g.OW * 4 * 3 * 5


def test_geometry_holds_every_size_of_three_axes():
    pads = ((1, 2), (3, 4), (5, 6))
    g = geometry(
        (2, 8, 11, 13, 15), (6, 4, 2, 3, 5), 3, stride=(2, 3, 1), padding=pads, dilation=(3, 1, 2), groups=2,
        padding_mode="reflect", dtype="int32",
    )  # fmt: skip
    assert (g.D, g.H, g.W, g.KD, g.KH, g.KW) == (11, 13, 15, 2, 3, 5)
    assert (g.SD, g.SH, g.SW, g.DD, g.DH, g.DW) == (2, 3, 1, 3, 1, 2)
    assert (g.PF, g.PK, g.PT, g.PB, g.PL, g.PR) == (1, 2, 3, 4, 5, 6)
    assert (g.OD, g.OH, g.OW) == ((11 + 3 - 4) // 2 + 1, (13 + 7 - 3) // 3 + 1, 15 + 11 - 9 + 1)
    assert (g.dtype, g.padding_mode, g.axes) == ("int32", "reflect", 3)
    assert g.macs == 2 * 6 * g.OD * g.OH * g.OW * 4 * 2 * 3 * 5


def test_geometry_of_one_axis_is_that_of_a_row():
    options = {"stride": 2, "dilation": 3, "groups": 2}
    line = geometry((2, 8, 30), (6, 4, 5), 1, padding=((1, 2),), **options)
    row = geometry((2, 8, 1, 30), (6, 4, 1, 5), stride=(1, 2), dilation=(1, 3), padding=((0, 0), (1, 2)), groups=2)
    assert line == row._replace(axes=1)
    assert geometry((2, 8, 30), (6, 4, 5), 1, padding="causal", **options)[18:22] == (0, 0, 12, 0)
    with pytest.raises(OptionError, match=r"^conv2d: padding = 'causal'"):
        geometry(padding="causal")


def test_geometry_is_made_of_python_ints_and_hashable():
    g = geometry(stride=np.int8(2), padding=np.uint8(1), dilation=(np.int64(1),), groups=np.int32(1))
    texts = ("layout", "dtype", "padding_mode", "weight_dtype")
    assert all(type(field) is int for name, field in g._asdict().items() if name not in texts)
    assert g == geometry(stride=2, padding=1)
    assert hash(g) == hash(geometry(stride=2, padding=1))


def test_geometry_of_channels_last_moves_only_the_channels():
    first, last = geometry((2, 8, 5, 7), padding=1), geometry((2, 5, 7, 8), padding=1, layout="channels_last")
    assert last == first._replace(layout="channels_last")
    assert (input_shape(last), weight_shape(last), output_shape(last)) == ((2, 5, 7, 8), W, (2, 5, 7, 6))
    assert (input_shape(first), weight_shape(first), output_shape(first)) == ((2, 8, 5, 7), W, (2, 6, 5, 7))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_shapes_are_the_users(axes):
    sizes, kernel, out = ((9, 8, 7)[:axes], (1, 2, 3)[:axes], (9, 7, 5)[:axes])
    first = geometry((2, 4, *sizes), (6, 2, *kernel), axes, groups=2)
    last = geometry((2, *sizes, 4), (6, 2, *kernel), axes, groups=2, layout="channels_last")
    assert last == first._replace(layout="channels_last")
    assert (input_shape(first), output_shape(first)) == ((2, 4, *sizes), (2, 6, *out))
    assert (input_shape(last), output_shape(last)) == ((2, *sizes, 4), (2, *out, 6))
    assert weight_shape(first) == weight_shape(last) == (6, 2, *kernel)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_geometry_of_an_input_without_batch_has_batch_size_1(layout):
    x = X if layout == "channels_first" else (1, 5, 5, 8)
    assert geometry(x[1:], layout=layout) == geometry(x, layout=layout)


def test_geometry_allows_empty_batch_and_no_input_channels():
    assert output_shape(geometry((0, 8, 5, 5))) == (0, 6, 3, 3)
    assert output_shape(geometry((2, 0, 5, 5), (6, 0, 3, 3))) == (2, 6, 3, 3)


def test_geometry_crops():
    g = geometry((1, 1, 6, 7), (1, 1, 1, 1), padding=((-1, -2), (0, -3)))
    assert (g.PT, g.PB, g.PL, g.PR, g.OH, g.OW) == (-1, -2, 0, -3, 3, 4)


def test_geometry_accepts_a_kernel_that_just_fits():
    for size, padding, dilation in ((3, 0, 1), (1, 1, 1), (5, 0, 2), (3, 1, 2)):
        g = geometry((1, 8, size, 9), padding=(padding, 0), dilation=(dilation, 1))
        assert g.OH == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"w": (6, 3, 3, 3), "groups": 2},
            ShapeError,
            "weight has IC/groups = 3, expected 4 (IC = 8, groups = 2); input.shape = (1, 8, 5, 5), "
            "weight.shape = (6, 3, 3, 3)",
        ),
        ({"groups": 3}, ShapeError, "input has IC = 8, expected a multiple of groups = 3"),
        ({"w": (5, 4, 3, 3), "groups": 2}, ShapeError, "weight has OC = 5, expected a multiple of groups = 2"),
        ({"x": (5, 5)}, ShapeError, "input has 2 dimensions, expected 4 (N, C, H, W) or 3 (C, H, W)"),
        ({"x": (1, 8, 5, 5, 5)}, ShapeError, "input has 5 dimensions"),
        ({"x": (5, 5), "layout": "channels_last"}, ShapeError, "expected 4 (N, H, W, C) or 3 (H, W, C)"),
        ({"w": (6, 8, 3)}, ShapeError, "weight has 3 dimensions, expected 4 (OC, IC/groups, KH, KW)"),
        ({"x": (1, 8, 0, 5), "padding": 3}, ShapeError, "input has H = 0, expected at least 1"),
        ({"x": (1, 8, 5, 0)}, ShapeError, "input has W = 0, expected at least 1"),
        ({"w": (0, 8, 3, 3)}, ShapeError, "weight has OC = 0, expected at least 1"),
        ({"w": (6, 8, 0, 3)}, ShapeError, "weight has KH = 0, expected at least 1"),
        ({"w": (6, 8, 3, 0)}, ShapeError, "weight has KW = 0, expected at least 1"),
        (
            {"x": (1, 8, 2, 5)},
            ShapeError,
            "weight has effective size 3 along H (KH = 3, dilation = 1), expected at most",
        ),
        (
            {"dilation": (1, 3), "padding": ((0, 0), (1, 0))},
            ShapeError,
            "padded input size 6 (W = 5, padding = (1, 0))",
        ),
        ({"padding": ((-2, -3), (0, 0))}, ShapeError, "padding = (-2, -3) along H crops all of H = 5"),
        ({"padding": ((0, 0), (-5, 9))}, ShapeError, "padding = (-5, 9) along W crops all of W = 5"),
        ({"padding": 2**46}, ShapeError, "makes the input 2**47 or larger"),
        ({"x": (2**30, 8, 2**20, 5)}, ShapeError, f"input has {2**30 * 8 * 2**20 * 5} elements"),
        ({"x": (2**20, 8, 9, 9), "padding": 2**20}, ShapeError, "output has "),
    ],
)
def test_geometry_names_argument_value_rule_and_shapes(arguments, error, message):
    with pytest.raises(error) as caught:
        geometry(**arguments)
    text = str(caught.value)
    assert text.startswith("conv2d: ")
    assert message in text
    assert f"input.shape = {arguments.get('x', X)}, weight.shape = {arguments.get('w', W)}" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("axes", "x", "w", "message"),
    [
        (1, (5,), (6, 8, 3), "conv1d: input has 1 dimensions, expected 3 (N, C, W) or 2 (C, W)"),
        (1, (1, 8, 5, 5), (6, 8, 3), "conv1d: input has 4 dimensions"),
        (1, (1, 8, 5), (6, 8, 3, 3), "conv1d: weight has 4 dimensions, expected 3 (OC, IC/groups, KW)"),
        (3, (5, 5, 5), (6, 8, 3, 3, 3), "input has 3 dimensions, expected 5 (N, C, D, H, W) or 4 (C, D, H, W)"),
        (3, (1, 8, 5, 5, 5), (6, 8, 3, 3), "weight has 4 dimensions, expected 5 (OC, IC/groups, KD, KH, KW)"),
        (3, (1, 8, 0, 5, 5), (6, 8, 1, 1, 1), "input has D = 0, expected at least 1"),
        (3, (1, 8, 5, 5, 5), (6, 8, 0, 1, 1), "weight has KD = 0, expected at least 1"),
        (3, (1, 8, 2, 5, 5), (6, 8, 3, 1, 1), "weight has effective size 3 along D (KD = 3, dilation = 1)"),
    ],
)
def test_geometry_names_the_axes_of_its_dimension(axes, x, w, message):
    with pytest.raises(ShapeError) as caught:
        geometry(x, w, axes)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["stride", "dilation"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        *(
            (value, ArgumentTypeError)
            for value in (1.5, True, np.True_, "2", None, (1, 2.0), [1, None], np.ones(2, int))
        ),
        *((value, OptionError) for value in (0, -1, (1, 0), (), (1, 2, 3), 2**47, 2**62, 2**63)),
    ],
)
def test_geometry_refuses_other_than_positive_ints(name, value, error):
    with pytest.raises(error, match=rf"^conv2d: {name} = .*expected an int or a tuple of 1 or 2 ints, each from 1 to"):
        geometry(**{name: value})


def test_geometry_reports_an_int_too_long_to_print():
    with pytest.raises(OptionError, match=r"^conv2d: stride = 2\*\*16609 or more, expected an int"):
        geometry(stride=10**5000)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        *((value, OptionError) for value in (0, -2, 2**62)),
        *((value, ArgumentTypeError) for value in (True, 1.0, (1,))),
    ],
)
def test_geometry_refuses_bad_groups(value, error):
    with pytest.raises(error, match=r"^conv2d: groups = .*expected an int from 1 to"):
        geometry(groups=value)


@pytest.mark.parametrize("value", [5, "1855", None, np.zeros(4, int)])
def test_geometry_refuses_a_shape_that_is_no_tuple(value):
    with pytest.raises(ArgumentTypeError, match=r"^conv2d: input\.shape = .*expected a tuple of ints"):
        geometry(value)


@pytest.mark.parametrize("value", [(1, 8, -5, 5), (1, 8, 5, 2**47)])
def test_geometry_refuses_a_shape_out_of_range(value):
    with pytest.raises(ShapeError, match=r"^conv2d: input\.shape = .*expected a tuple of ints, each from 0"):
        geometry(value)


def test_geometry_stores_dtype_and_padding_mode():
    for mode in PADDING_MODES:
        # Wider than the image, as numpy.pad takes it.
        g = geometry(padding=9, padding_mode=mode, dtype="int16")
        assert (g.dtype, g.padding_mode, g.weight_dtype) == ("int16", mode, "")
    with pytest.raises(OptionError, match=r"^conv2d: padding_mode = 'mirror', expected one of 'zeros', 'reflect'"):
        geometry(padding_mode="mirror")


@drawn
@given(st.tuples(*[st.integers(-3, 6)] * 11), st.sampled_from(["valid", "same", "full", None]))
@example((5, 5, 3, 3, 2, 2, 1, 1, 1, 1, 2), "same")
def test_geometry_either_fits_or_raises_our_error(numbers, name):
    h, w, kh, kw, sh, sw, dh, dw, p, q, groups = numbers
    padding = name if name else ((p, q), (q, p))
    try:
        g = geometry((2, 4, h, w), (4, 2, kh, kw), stride=(sh, sw), padding=padding, dilation=(dh, dw), groups=groups)
    except (ShapeError, OptionError):
        return
    assert g.OH >= 1
    # The last tap of the last window is inside the padded input, one window more would not be.
    last = (g.OH - 1) * g.SH + (g.KH - 1) * g.DH
    assert last <= g.H + g.PT + g.PB - 1 < last + g.SH


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"x": (1, 64, 56, 56), "w": (64, 64, 3, 3), "padding": 1}, "n1ic64h56w56_oc64k3s1p1"),
        ({"padding": (1, 0), "stride": (2, 1)}, "n1ic8h5w5_oc6k3sh2sw1ph1pw0"),
        ({"padding": "same", "x": (1, 8, 5, 6), "stride": 2}, "n1ic8h5w6_oc6k3s2pt1pb1pl0pr1"),
        ({"w": (6, 4, 1, 3), "groups": 2, "dilation": 2}, "n1ic8h5w5_oc6kh1kw3s1p0d2g2"),
        ({"dilation": (1, 2), "dtype": "float64"}, "n1ic8h5w5_oc6k3s1p0dh1dw2_f64"),
        ({"x": (5, 5, 8), "layout": "channels_last", "padding": ((-1, -1),)}, "n1ic8h5w5_oc6k3s1p-1_nhwc"),
    ],
)
def test_problem_is_one_word(arguments, expected):
    assert geometry(**arguments).problem == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"x": (1, 16, 1000), "w": (8, 16, 9), "padding": 4}, "n1ic16w1000_oc8k9s1p4"),
        (
            {"x": (1, 1000, 16), "w": (8, 16, 9), "padding": "causal", "dilation": 2, "layout": "channels_last"},
            "n1ic16w1000_oc8k9s1pl16pr0d2_nhwc",
        ),
        ({"x": (1, 3, 8, 56, 56), "w": (64, 3, 3, 3, 3), "padding": 1}, "n1ic3d8h56w56_oc64k3s1p1"),
        (
            {"x": (2, 4, 9, 8, 7), "w": (6, 2, 3, 1, 1), "stride": (1, 2, 2), "padding": (1, 0, 0), "groups": 2,
             "dilation": (1, 2, 2)},
            "n2ic4d9h8w7_oc6kd3kh1kw1sd1sh2sw2pd1ph0pw0dd1dh2dw2g2",
        ),
        (
            {"x": (1, 1, 9, 8, 7), "w": (1, 1, 2, 2, 2), "padding": ((0, 1),), "dilation": 3},
            "n1ic1d9h8w7_oc1k2s1pf0pk1pt0pb1pl0pr1d3",
        ),
        (
            {"x": (1, 7, 8), "w": (1, 8, 2), "layout": "channels_last", "dtype": "int16", "padding_mode": "circular"},
            "n1ic8w7_oc1k2s1p0_nhwc_i16_circular",
        ),
        ({"x": (1, 8, 7), "w": (1, 8, 2), "dtype": "int64"}, "n1ic8w7_oc1k2s1p0_i64"),
        ({"x": (1, 8, 7), "w": (1, 8, 2), "padding_mode": "symmetric"}, "n1ic8w7_oc1k2s1p0_symmetric"),
    ],
)  # fmt: skip
def test_problem_names_one_and_three_axes(arguments, expected):
    assert geometry(axes=len(arguments["w"]) - 2, **arguments).problem == expected


def test_flat_is_one_row_where_the_kernel_reads_each_pixel_once():
    pointwise = geometry((2, 8, 5, 7), (6, 8, 1, 1))
    assert pointwise.flat == geometry((2, 8, 1, 35), (6, 8, 1, 1))
    assert pointwise.flat.macs == pointwise.macs
    for other in (geometry(), *(geometry(w=(6, 8, 1, 1), **{name: (1, 2)}) for name in ("stride", "padding"))):
        assert other.flat is other
    volume = geometry((2, 8, 3, 5, 7), (6, 8, 1, 1, 1), 3)
    assert volume.flat == geometry((2, 8, 1, 1, 105), (6, 8, 1, 1, 1), 3)
    for name, value in (("stride", (2, 1, 1)), ("padding", ((0, 1), (0, 0), (0, 0)))):
        other = geometry((2, 8, 3, 5, 7), (6, 8, 1, 1, 1), 3, **{name: value})
        assert other.flat is other


def test_planar_has_an_image_per_output_plane_and_a_channel_per_tap_in_depth():
    g = geometry((2, 8, 9, 5, 7), (6, 4, 3, 2, 1), 3, stride=(2, 1, 3), padding=1, dilation=(2, 1, 1), groups=2)
    flat = geometry((2 * g.OD, 24, 5, 7), (6, 12, 2, 1), stride=(1, 3), padding=1, groups=2)
    assert g.planar == flat._replace(axes=3)
    assert g.planar.macs == g.macs
    assert geometry().planar == geometry()


def test_bias_shape_check_names_shapes():
    g = geometry()
    bias_shape_check("conv2d", (6,), g)
    for shape in ((5,), (6, 1), (1, 6)):
        with pytest.raises(ShapeError, match=r"conv2d: bias has shape .*expected \(6,\) \(OC = 6\); input.shape = "):
            bias_shape_check("conv2d", shape, g)


def test_residual_shape_check_names_shapes():
    g = geometry()
    residual_shape_check("conv2d", (1, 6, 3, 3), g)
    with pytest.raises(ShapeError, match=r"residual has shape \(6, 3, 3\), expected \(1, 6, 3, 3\)"):
        residual_shape_check("conv2d", (6, 3, 3), g)


def test_check_keyword_lists_the_allowed_values():
    allowed = (None, "relu")
    check_keyword("conv2d", "activation", None, allowed)
    check_keyword("conv2d", "activation", "relu", allowed)
    with pytest.raises(OptionError, match=r"^conv2d: activation = 'rely', expected one of None, 'relu'$"):
        check_keyword("conv2d", "activation", "rely", allowed)
    for value in (1, ["relu"], np.maximum, b"relu"):
        with pytest.raises(ArgumentTypeError, match=r"^conv2d: activation = .*expected one of None, 'relu'$"):
            check_keyword("conv2d", "activation", value, allowed)
    with pytest.raises(OptionError, match=r"layout = None"):
        check_keyword("conv2d", "layout", None, ("channels_first",))


def test_shown_is_one_short_line():
    for value in (np.zeros((50, 50)), "x" * 10**6, list(range(10**5)), -(10**5000), (10**5000, 1)):
        assert len(shown(value)) < 120
        assert "\n" not in shown(value)


def test_every_error_is_a_builtin_kind_too():
    builtin = {
        errors.ShapeError: ValueError,
        errors.OptionError: ValueError,
        errors.DtypeError: TypeError,
        errors.ArgumentTypeError: TypeError,
        errors.UnsupportedError: NotImplementedError,
        errors.ModelFileError: ValueError,
        errors.NonFiniteError: ArithmeticError,
        errors.MissingExtraError: ImportError,
    }
    assert {*builtin, errors.FastconvError} == {getattr(errors, name) for name in errors.__all__}
    assert all(issubclass(error, kind) and issubclass(error, errors.FastconvError) for error, kind in builtin.items())


def test_words_of_bytes_have_a_border_where_zeros_are_flipped():
    g = geometry(padding=((1, 2), (-1, 3)), dtype="uint8")._replace(weight_dtype="int8")
    words = g.words
    assert (g.flipped, g.sums_dtype, words.dtype) == (False, "int32", "int32")
    assert words.IC == g.G * -(-g.ICG // 4)
    assert words._replace(IC=g.IC, dtype=g.dtype) == g
    flipped = g._replace(weight_dtype="uint8")
    words = flipped.words
    assert flipped.flipped
    assert (words.H, words.W) == (g.H + 3, g.W + 2)
    assert (words.PT, words.PB, words.PL, words.PR) == (0, 0, 0, 0)
    assert (words.OH, words.OW) == (g.OH, g.OW)
    mirrored = flipped._replace(padding_mode="reflect").words
    assert (mirrored.H, mirrored.PT) == (g.H, 1)
