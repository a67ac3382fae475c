import math

import numpy as np
import pytest

from fastconv.epilogue import ACTIVATIONS, canonical, clamp_limits
from fastconv.errors import ArgumentTypeError, OptionError

NAMES = [name for name in ACTIVATIONS if name is not None]
# Dense around 0, tails, and where a naive formula overflows or cancels.
POINTS = np.concatenate([np.linspace(-20, 20, 801), [-1e30, -1e4, -200, -104, -90, 90, 104, 200, 1e4, 1e30]])

FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else math.exp(max(x, -1e4)),
    "tanh": math.tanh,
    "silu": lambda x: x * FORMULAS["sigmoid"](x),
    "swish": lambda x: x * FORMULAS["sigmoid"](x),
    "gelu": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * FORMULAS["sigmoid"](2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_activation_follows_its_formula_to_the_tails(name, dtype):
    x = POINTS.astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        actual = ACTIVATIONS[name](x)
    expected = np.array([FORMULAS[name](float(value)) for value in x])
    info = np.finfo(dtype)
    # The tail of an exponential multiplies the rounding of its argument, which is at most 1400 before it underflows.
    tolerance = (4 + 2 * np.minimum(np.abs(x.astype(float)) ** 3, 1400)) * info.eps * np.abs(expected)
    assert np.all(np.abs(actual - expected) <= tolerance + 2 * info.smallest_normal)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_keeps_dtype_and_shape(name, dtype):
    for shape in ((), (0, 3), (2, 3)):
        result = ACTIVATIONS[name](np.ones(shape, dtype))
        assert result.dtype == dtype
        assert result.shape == shape


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_propagates_nan(name):
    result = ACTIVATIONS[name](np.array([1.0, np.nan, -1.0]))
    assert np.isnan(result).tolist() == [False, True, False]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_leaves_its_input(name):
    x = POINTS.copy()
    ACTIVATIONS[name](x)
    assert np.array_equal(x, POINTS)


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
    }
    # On some CPUs PyTorch's gelu of infinity is NaN.
    x = np.append(POINTS, [*([] if name == "gelu" else [np.inf]), -np.inf, np.nan]).astype(dtype)
    expected = theirs.get(name, getattr(functional, name, None))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](x), expected, rtol=2e-5, atol=1e-5 if dtype == "float32" else 1e-14)


def test_canonical_resolves_aliases():
    assert canonical(None) is None
    assert canonical("swish") == canonical("silu") == "silu"
    assert all(canonical(name) == name for name in NAMES if name != "swish")


def test_canonical_lists_the_allowed_names():
    with pytest.raises(
        OptionError, match=r"^conv2d: activation = 'mish', expected one of None, 'relu', .*'hardswish'$"
    ):
        canonical("mish")
    for value in (3, ["relu"], np.tanh):
        with pytest.raises(ArgumentTypeError, match=r"^plan: activation is a .*expected one of None, 'relu'"):
            canonical(value, "plan")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_clamp_limits_define_the_clamping_activations(name):
    limits = clamp_limits(name)
    assert (limits is not None) == (name in (None, "relu", "relu6"))
    if limits is not None:
        assert np.array_equal(ACTIVATIONS[name](POINTS), np.clip(POINTS, *limits))
