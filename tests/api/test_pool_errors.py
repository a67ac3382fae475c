"""What the pools refuse: the kind of each error, and a message with function, argument, value and rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastconv as fc

Shape, Option, Kind, Dtype = fc.ShapeError, fc.OptionError, fc.ArgumentTypeError, fc.DtypeError
X = np.zeros((2, 3, 8, 9), "f4")
BOTH = ("max_pool2d", "avg_pool2d")
WINDOWS = (*BOTH, "lp_pool2d")
MAXIMA = ("max_pool1d", "max_pool2d", "max_pool3d")
ALL = (
    *(f"{kind}_pool{axes}d" for kind in ("max", "avg", "lp") for axes in (1, 2, 3)),
    *(f"adaptive_{kind}_pool{axes}d" for kind in ("max", "avg") for axes in (1, 2, 3)),
    *("global_max_pool", "global_avg_pool"),
)
HUGE = 10**5000


def axes(name):
    return int(name[-2]) if name[-1] == "d" else 2


def call(name, x=None, **more):
    """Call a pool with arguments that are right, but for those given."""
    k = {"output_size": 2} if "adaptive" in name else {} if "global" in name else {"kernel_size": 2}
    k = {"norm_type": 2} | k if name.startswith("lp") else k
    return getattr(fc, name)(np.zeros((2, 3, *(4, 8, 9)[-axes(name) :]), "f4") if x is None else x, **k | more)


def refused(error, message, name, x=None, **more):
    """Check an error: its kind, that its message is one line which starts with the function, and what it says."""
    with pytest.raises(error) as caught:
        call(name, x, **more)
    text = str(caught.value)
    assert isinstance(caught.value, fc.FastconvError)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    assert len(text) < 400
    for part in message if isinstance(message, tuple) else (message,):
        assert part in text, text


@pytest.mark.parametrize("name", ALL)
def test_calls_that_are_right(name):
    call(name)


@pytest.mark.parametrize("name", ALL)
def test_inputs(name):
    for x, error, message in (
        (None if name is None else np.float32(1), Shape, "input = "),
        (np.zeros(3, "f4"), Shape, ("input has 1 dimensions, expected ", "input.shape = (3,)")),
        (np.zeros((1,) * 6, "f4"), Shape, "input has 6 dimensions, expected "),
        ("text", Dtype, "input has dtype"),
        ([[1, 2], [3]], Shape, "input of type list"),
        (np.zeros((1, 1, 4, 4, 4)[: axes(name) + 2], "c8"), Dtype, "input has dtype complex64"),
        (np.zeros((1, 1, 4, 4, 4)[: axes(name) + 2], "u8"), Dtype, "input has dtype uint64"),
        (np.zeros((1, 1, 4, 4, 4)[: axes(name) + 2], bool), Dtype, "input has dtype bool"),
        (np.zeros((1, 1, 4, 4, 4)[: axes(name) + 2], object), Dtype, "input = "),
    ):
        refused(error, message, name, x)
    args = (2, 2) if name.startswith("lp") else () if "global" in name else (2,)
    with pytest.raises(Dtype, match=f"^{name}: input = None is of type NoneType"):
        getattr(fc, name)(None, *args)


@pytest.mark.parametrize("name", ALL)
def test_empty_axes(name):
    shape = (2, 3, 4, 4, 4)[: axes(name) + 2]
    refused(Shape, ("W = 0, expected at least 1", "channels_first"), name, np.zeros((*shape[:-1], 0), "f4"))
    last = np.zeros((2, *shape[2:-1], 0, 3), "f4")
    refused(Shape, ("W = 0", "channels_last"), name, last, layout="channels_last")


@pytest.mark.parametrize("name", ALL)
def test_keywords_of_all(name):
    refused(Option, ("layout = 'NCHW'", "channels_first", "channels_last"), name, layout="NCHW")
    refused(Option, "layout = None", name, layout=None)
    refused(Kind, "layout = 1", name, layout=1)
    refused(Option, ("device = 'gpu'", "'auto', 'cpu', 'cuda'"), name, device="gpu")
    refused(Kind, "device = 3", name, device=3)
    refused(fc.UnsupportedError, 'device = "cuda"', name, device="cuda")
    with pytest.raises(TypeError):
        call(name, unknown=1)


def test_global_pools_take_a_batch():
    for name in ("global_max_pool", "global_avg_pool"):
        refused(Shape, "input has 2 dimensions, expected 3 (N, C, W)", name, X[0, 0])
        refused(
            Shape, "input has 6 dimensions, expected 5 (N, D, H, W, C)", name, X[None, None], layout="channels_last"
        )
        refused(Kind, "keepdims = 1 is a int, expected True or False", name, keepdims=1)
        refused(Kind, "keepdims = None", name, keepdims=None)


def sizes(name):
    """Return the arguments that are sizes of a window."""
    return ("kernel_size", "stride", "dilation") if name == "max_pool2d" else ("kernel_size", "stride")


@pytest.mark.parametrize("name", WINDOWS)
def test_sizes_out_of_range(name):
    wrong = (0, -1, 2**47, HUGE, -HUGE, (2, 0), (2, 2**60), np.int64(-3))
    for argument, value in itertools.product(sizes(name), wrong):
        refused(Option, (f"{argument} = ", "each from 1 to 2**47 - 1"), name, **{argument: value})


@pytest.mark.parametrize("name", WINDOWS)
def test_sizes_of_other_types(name):
    wrong = (True, 2.0, np.float32(2), "2", None, (2, None), (2.5, 2), (True, 2), {2}, 2j, b"2", np.array([2, 2]))
    for argument, value in itertools.product(sizes(name), wrong):
        if value is None and argument == "stride":
            continue
        refused(Kind, (f"{argument} = ", "expected an int or a tuple of 1 or 2 ints"), name, **{argument: value})


@pytest.mark.parametrize("name", WINDOWS)
def test_wrong_numbers_of_sizes(name):
    for value in ((), (1, 2, 3), [2] * 100):
        refused(Option, (f"has length {len(value)}, expected", "1 or 2 ints"), name, kernel_size=value)
        if value:
            refused(Option, "stride = ", name, stride=value)


@pytest.mark.parametrize("name", WINDOWS)
def test_kernels_larger_than_the_input(name):
    refused(Shape, ("kernel_size has effective size 9 along H", "padded input size 8"), name, kernel_size=9)
    refused(Shape, "along W", name, kernel_size=(8, 10), stride=1)
    if name == "max_pool2d":
        refused(Shape, ("effective size 9 along H", "KH = 3, dilation = 4"), name, kernel_size=3, dilation=4)


@pytest.mark.parametrize("name", BOTH)
def test_paddings(name):
    rule = "expected numbers from 0 to half the effective kernel"
    for value in (2, (1, 2), ((0, 0), (0, 2)), ((2, 0), (0, 0)), "full", HUGE // HUGE * 2**46):
        refused(Shape, (rule if value != "full" else "padding = ", "// 2 = 1"), name, kernel_size=3, padding=value)
    refused(Shape, (rule, "(-1, 0) along H"), name, padding=((-1, 0), (0, 0)))
    for value in (-1, (0, -1), (-1,)):
        refused(Shape, f"padding = {value} is negative", name, padding=value)
    for value in (2**47, HUGE, ((0, 2**47), (0, 0))):
        refused(Shape, ("padding = ", "below 2**47"), name, padding=value)
    for value in ("SAME", "causal", "", "reflect"):
        refused(Option, (f"padding = '{value}'", "'same', 'same_lower'"), name, padding=value)
    for value in ((1, 1, 1), (), ((1, 1, 1), (0, 0)), ((1,), (1,))):
        refused(Option, "padding = ", name, padding=value)
    for value in (1.0, True, None, ((0, 0), 1), (1, None), "1", {1}):
        refused(Option if value == "1" else Kind, "padding = ", name, padding=value)


def test_padding_of_the_effective_kernel():
    """PyTorch counts the undilated kernel; here half of what the dilated one spans is allowed."""
    assert fc.max_pool2d(X, 3, 1, 2, 2).shape == X.shape
    refused(Shape, "5 // 2 = 2 (KH = 3, dilation = 2)", "max_pool2d", kernel_size=3, dilation=2, padding=3)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        *((name, "ceil_mode") for name in WINDOWS),
        *((name, "return_indices") for name in MAXIMA),
        *((f"adaptive_{name}", "return_indices") for name in MAXIMA),
        ("avg_pool1d", "count_include_pad"),
        ("avg_pool3d", "count_include_pad"),
    ],
)
def test_flags(name, argument):
    for value in (1, 0, None, "yes", 1.0, [True]):
        refused(Kind, (f"{argument} = ", "expected True or False"), name, **{argument: value})
    call(name, **{argument: np.bool_(True)})


@pytest.mark.parametrize("name", ["avg_pool1d", "avg_pool2d", "avg_pool3d"])
def test_divisors(name):
    for value in (0, 2**47, -(2**47), HUGE):
        refused(Option, ("divisor_override = ", "an int other than 0"), name, divisor_override=value)
    for value in (True, 2.0, "2", (2,)):
        refused(Kind, ("divisor_override = ", "expected an int other than 0, or None"), name, divisor_override=value)


@pytest.mark.parametrize("name", ["lp_pool1d", "lp_pool2d", "lp_pool3d"])
def test_norms(name):
    for value in (0, 0.0, -0.0, float("nan"), 2**47, HUGE):
        refused(Option, ("norm_type = ", "expected a number other than 0"), name, norm_type=value)
    for value in (True, None, "2", (2,), 2j):
        refused(Kind, ("norm_type = ", "expected a number"), name, norm_type=value)


@pytest.mark.parametrize("name", ["adaptive_max_pool2d", "adaptive_avg_pool2d"])
def test_output_sizes(name):
    for value in (-1, (2, -1), 2**47, HUGE):
        refused(Option, ("output_size = ", "an int of at least 1 or None"), name, output_size=value)
    for value in ((), (1, 2, 3)):
        refused(Option, f"has length {len(value)}", name, output_size=value)
    for value in (2.0, True, "2", (2, 2.5), {2}):
        refused(Kind, "output_size = ", name, output_size=value)
    refused(Shape, ("output_size = ", "2**47 elements or more"), name, output_size=2**30)


def test_results_too_large_to_count():
    x = np.broadcast_to(np.float32(0), (2**20, 1, 1, 1))
    refused(Shape, "2**47 elements or more", "adaptive_max_pool2d", x[:4], output_size=2**30)
