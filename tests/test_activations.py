"""fastconv.activations against formulas in double, the fused epilogue and PyTorch."""

from __future__ import annotations

import inspect
import math
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from tests import guard

NAMES = sorted(name for name in ACTIVATIONS if name is not None)
CLAMPS = ("relu", "relu6")
CURVES = [name for name in NAMES if name not in CLAMPS]
FLOATS = ("float16", "float32", "float64")
# Relative to the result; for gelus times their exponent, which is rounded too.
BOUNDS = {"float16": 2**-11, "float32": 4e-7, "float64": 1e-15}


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "sigmoid": sigmoid,
    "tanh": math.tanh,
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
}


def function(name):
    return getattr(fc.activations, name)


def bits(array):
    return np.asarray(array).view(f"u{array.dtype.itemsize}")


def points(dtype, count=3001):
    """Return numbers near the bends and in the tails, more than a block of the kernel and no multiple of a vector."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(-9, 9, count), [0.0, 1.0, -1.0, 3.0, -3.0, 6.0]]).astype(dtype)


def fused(name, x):
    """Return what conv2d makes of a vector with a weight of 1."""
    image = x.reshape(1, 1, 1, -1)
    return fc.pointwise_conv2d(image, np.ones((1, 1), x.dtype), activation=name).reshape(-1)


def test_activations_are_those_of_convolutions():
    assert sorted(fc.activations.__all__) == NAMES
    assert fc.activations.swish is fc.activations.silu
    assert "activations" in dir(fc)
    assert "activations" in fc.__all__


@pytest.mark.parametrize("name", [name for name in NAMES if name != "swish"])
def test_activation_is_a_documented_function(name):
    f = function(name)
    assert (f.__module__, f.__name__, f.__qualname__) == ("fastconv.activations", name, name)
    assert list(inspect.signature(f).parameters) == ["x", "out"]
    assert inspect.signature(f).parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY
    assert pickle.loads(pickle.dumps(f)) is f
    assert f.__doc__.startswith("Return ")
    assert f'activation="{name}"' in f.__doc__
    assert ("integers" in f.__doc__) == (name in CLAMPS)
    assert max(map(len, f.__doc__.splitlines())) <= 120


@pytest.mark.targets
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_activation_follows_its_formula(name, dtype):
    x = points(dtype)
    got = function(name)(x)
    assert got.dtype == x.dtype
    expected = np.array([FORMULAS[name](float(value)) for value in x])
    wide = np.abs(x.astype(float))
    exponent = {"gelu": wide**2, "gelu_tanh": 1.6 * (wide + 0.044715 * wide**3)}.get(name, 1.0)
    # The oracle rounds in double, too; below the normal numbers the spacing is fixed.
    bound = (BOUNDS[dtype] + 2e-15) * np.maximum(exponent, 1) * np.abs(expected)
    assert (np.abs(got - expected) <= bound + np.finfo(dtype).smallest_subnormal).all()


@pytest.mark.targets
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_activation_has_the_bits_of_the_fused_one(name, dtype):
    info = np.finfo(dtype)
    special = [np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, -info.tiny, 3 * info.smallest_subnormal]
    magnitudes = np.exp2(np.linspace(info.minexp, info.maxexp - 1, 200))
    x = np.concatenate([points(dtype), magnitudes, special]).astype(dtype)
    for values in (x, -x[:5], x[:1]):
        values = values[values != 0]
        np.testing.assert_array_equal(bits(function(name)(values)), bits(fused(name, values)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_activation_of_a_convolution_equals_the_fused_one(name, dtype):
    rng = np.random.default_rng(1)
    x, w, b = (rng.normal(size=s).astype(dtype) for s in ((2, 5, 9, 11), (7, 5, 3, 3), 7))
    for layout in ("channels_first", "channels_last"):
        image = x if layout == "channels_first" else x.transpose(0, 2, 3, 1)
        sums = fc.conv2d(image, w, b, padding=1, layout=layout)
        got = function(name)(sums)
        expected = fc.conv2d(image, w, b, padding=1, layout=layout, activation=name)
        np.testing.assert_array_equal(bits(got), bits(expected))


def test_activation_of_half_precision_is_rounded_once():
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    for name in NAMES:
        with np.errstate(all="ignore"):
            expected = function(name)(x.astype(np.float32)).astype(np.float16)
        np.testing.assert_array_equal(function(name)(x), expected)


def test_activation_of_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = points(ml_dtypes.bfloat16)
    for name in NAMES:
        got = function(name)(x)
        assert got.dtype == ml_dtypes.bfloat16
        expected = function(name)(x.astype(np.float32)).astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(bits(got), bits(expected))
        assert function(name)(x[0]) == got[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_activation_equals_torch(name, dtype):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    theirs = {
        "swish": functional.silu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    }.get(name, getattr(functional, name, None))
    info = np.finfo(dtype)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, info.tiny, -info.tiny / 4, info.tiny / 8], dtype)
    big = np.array([100, -100, 1e4, -1e4, 1e30, info.max / 8, -1e30], dtype)
    for x in (special, big, points(dtype)):
        got, expected = function(name)(x), theirs(torch.from_numpy(x)).numpy()
        if name == "gelu":
            # On some CPUs PyTorch's is NaN there.
            expected = np.where(np.isposinf(x), x, expected)
        # PyTorch's gelu cancels for negative x.
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5 if dtype == "float32" else 1e-14)
        np.testing.assert_array_equal(function(name)(torch.from_numpy(x)), got)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_activation_keeps_the_sign_of_zero(name, dtype):
    zeros = np.array([0.0, -0.0] * 9, dtype)
    expected = [False, False] if name == "sigmoid" else [False, True]
    assert np.signbit(function(name)(zeros)).tolist() == expected * 9


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
@pytest.mark.parametrize("name", CLAMPS)
def test_clamp_keeps_integers(name, dtype):
    info = np.iinfo(dtype)
    x = np.array([info.min, -5 % 100, 0, 1, 5, 6, 7, info.max], dtype)
    got = function(name)(x)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.minimum(np.maximum(x, 0), 6 if name == "relu6" else info.max))
    assert type(function(name)(x[0])) is x.dtype.type
    function(name)(x, out=x[::-1])
    np.testing.assert_array_equal(x[::-1], got)


@pytest.mark.parametrize("name", NAMES)
def test_activation_of_numbers_and_of_any_shape(name):
    f = function(name)
    expected = f(np.array([-0.5, 2.0]))
    for x in (-0.5, np.float64(-0.5), np.array(-0.5), np.array(-0.5, ">f8")):
        got = f(x)
        assert type(got) is np.float64
        assert got == expected[0]
    assert type(f(np.float32(2))) is np.float32
    assert type(f(np.float16(2))) is np.float16
    np.testing.assert_array_equal(f([-0.5, 2.0]), expected)
    np.testing.assert_array_equal(f(((-0.5,), (2.0,))), expected[:, None])
    for shape in ((0,), (0, 3), (2, 0, 4), (1, 1, 1, 1, 1), (3, 5, 7)):
        x = np.full(shape, 2.0)
        got = f(x)
        assert got.shape == shape
        assert got.flags.owndata
        assert (got == expected[1]).all()
    out = np.array(np.nan)
    assert f(-0.5, out=out) is out
    assert out == expected[0]


def memories(x):
    """Yield arrays of the values of x in all kinds of memory."""
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=1)[:, ::2]
    yield x[::-1, ::-1].copy()[::-1, ::-1]
    yield x.astype(x.dtype.newbyteorder())
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    raw[...] = x
    yield raw
    frozen = x.copy()
    frozen.flags.writeable = False
    yield frozen
    yield np.ma.masked_array(x.copy())
    yield memoryview(x.copy())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_activation_of_any_memory_has_the_same_bits(name, dtype):
    x = points(dtype, 57).reshape(9, 7)
    before, expected = x.copy(), function(name)(x)
    np.testing.assert_array_equal(x, before)
    for other in memories(x):
        got = function(name)(other)
        np.testing.assert_array_equal(bits(got), bits(expected))
        assert type(got) is np.ndarray
        assert got.dtype.isnative
        np.testing.assert_array_equal(np.asarray(other), before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_activation_writes_out_of_any_memory(dtype):
    x = points(dtype, 57).reshape(9, 7)
    expected = fc.activations.silu(x)
    for out in [np.full_like(x, np.nan), *memories(np.full_like(x, np.nan))]:
        if isinstance(out, np.ndarray) and out.flags.writeable and not isinstance(out, np.ma.MaskedArray):
            assert fc.activations.silu(x, out=out) is out
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", ["relu", "gelu"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_activation_with_overlapping_out(name, dtype):
    if dtype == "int8" and name == "gelu":
        return
    values = np.linspace(-100, 100, 5000).astype(dtype)
    for source, target in (
        (slice(None), slice(None)),
        (slice(1, None), slice(None, -1)),
        (slice(None, -1), slice(1, None)),
        (slice(None, 2500), slice(None, None, 2)),
        (slice(None), slice(None, None, -1)),
    ):
        memory = values.copy()
        expected = function(name)(values[source])
        out = memory[target]
        assert function(name)(memory[source], out=out) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["gelu", "tanh", "relu"])
def test_activation_has_the_same_bits_for_all_numbers_of_threads(name, dtype):
    x = points(dtype, 300_001)
    with fc.threads(1):
        expected = bits(function(name)(x))
    for count in (2, 5):
        with fc.threads(count):
            np.testing.assert_array_equal(bits(function(name)(x)), expected)
    np.testing.assert_array_equal(bits(function(name)(x[7:])), expected[7:])


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_activations_stay_inside():
    assert guard.run("from tests import test_activations as t; t.check_guarded()").split()[-1] == "done"


def check_guarded():
    """Run all activations on arrays beside closed pages; called in a process of its own."""
    for name in NAMES:
        for dtype in ("float32", "float64"):
            for n in (1, 3, 8, 17, 2047, 2048, 2049):
                x = points(dtype)[:n]
                for side in guard.SIDES:
                    with guard.Pages() as pages:
                        out = pages.copy(np.full_like(x, np.nan), side)
                        function(name)(pages.copy(x, side), out=out)
                        np.testing.assert_array_equal(out, function(name)(x))
    print("done")


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint32"])
@pytest.mark.parametrize("name", CURVES)
def test_activation_refuses_integers(name, dtype):
    f = function(name)
    text = rf"^activations.{f.__name__}: x has dtype {dtype}, expected floating point \(float32, .*bfloat16\)$"
    for x in (np.ones(3, dtype), np.ones((), dtype)):
        with pytest.raises(fc.DtypeError, match=text):
            f(x)
    with pytest.raises(fc.DtypeError, match="has dtype int64"):
        f([1, 2])


@pytest.mark.parametrize("name", NAMES)
def test_activation_refuses_what_is_no_real_number(name):
    f = function(name)
    label = f"^activations.{f.__name__}: x"
    for dtype in ("complex64", "complex128"):
        with pytest.raises(fc.DtypeError, match=f"{label} has dtype {dtype}, expected floating point"):
            f(np.ones(3, dtype))
    for x, dtype in ((True, "bool"), (np.ones(3, bool), "bool"), (1j, "complex128"), (np.ones(2, "g"), "(long|float)")):
        with pytest.raises(fc.DtypeError, match=f"{label} has dtype {dtype}"):
            f(x)
    for x in (None, "text", np.str_("text"), object(), np.array([None]), [1.0, None], np.ones(2, "u8")):
        with pytest.raises(fc.DtypeError, match=f"{label} "):
            f(x)
    with pytest.raises(fc.ShapeError, match=f"{label} .*cannot be read"):
        f([[1.0], [2.0, 3.0]])
    for masked in (np.ma.masked_array([1.0, 2.0], [0, 1]), np.ma.masked):
        with pytest.raises(fc.DtypeError, match=f"{label} has masked elements"):
            f(masked)


def test_relu_says_that_integers_are_allowed():
    with pytest.raises(fc.DtypeError, match=r"^activations.relu: x has dtype complex64, expected .*\) or integers$"):
        fc.activations.relu(np.ones(2, "complex64"))


def test_activation_checks_out_before_it_writes():
    x = np.ones((2, 3), np.float32)
    wrong = {
        "shape": (np.full((3, 2), np.nan, "f4"), fc.ShapeError, r"out has shape \(3, 2\), expected \(2, 3\)"),
        "dtype": (np.full((2, 3), np.nan), fc.OptionError, "out has dtype float64, expected float32"),
        "type": ([0.0], fc.ArgumentTypeError, "out = .* is a list, expected an ndarray"),
    }
    frozen = np.full((2, 3), np.nan, "f4")
    frozen.flags.writeable = False
    wrong["read-only"] = frozen, fc.OptionError, "out is read-only"
    for out, kind, text in wrong.values():
        with pytest.raises(kind, match=f"^activations.gelu: {text}"):
            fc.activations.gelu(x, out=out)
        assert not isinstance(out, np.ndarray) or np.isnan(out).all()
    with pytest.raises(TypeError):
        fc.activations.gelu(x, frozen)
