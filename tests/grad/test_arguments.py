"""Arguments of the gradients: those of the operations, in their order; what is wrong is named."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastconv as fc

POOLS = [f"{kind}_pool{n}d" for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg") for n in (1, 2, 3)]
UNPOOLS = [f"{kind}_unpool{n}d" for kind in ("max", "nearest", "bed_of_nails") for n in (1, 2, 3)]
OPERATIONS = [*POOLS, *UNPOOLS, "global_max_pool", "global_avg_pool", "interpolate", "unfold", "fold"]

X = np.arange(48, dtype="f4").reshape(1, 3, 4, 4)
HALF = np.ones((1, 3, 2, 2), "f4")
CALLS = {
    "max_pool2d": (HALF, X, 2),
    "avg_pool2d": (HALF, X, 2),
    "lp_pool2d": (HALF, X, 2, 2),
    "adaptive_max_pool2d": (HALF, X, 2),
    "adaptive_avg_pool2d": (HALF, X, 2),
    "global_max_pool": (HALF[..., :1, :1], X),
    "global_avg_pool": (HALF[..., :1, :1], X),
    "max_unpool2d": (X, HALF, HALF.astype(int), 2),
    "nearest_unpool2d": (X, HALF, 2),
    "bed_of_nails_unpool2d": (X, HALF, 2),
    "interpolate": (HALF, X, 2),
    "unfold": (X.reshape(1, 12, 4), X, 2, 1, 0, 2),
    "fold": (X, X.reshape(1, 12, 4), 4, 2, 1, 0, 2),
}


def vjp(name):
    return getattr(fc.grad, f"{name}_vjp")


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_take_the_arguments_of_the_operation(name):
    operation = [p for p in inspect.signature(getattr(fc, name)).parameters.values() if p.name != "out"]
    grad, *gradient = inspect.signature(vjp(name)).parameters.values()
    assert grad.name == "grad_output"
    assert [(p.name, p.kind, p.default) for p in gradient] == [(p.name, p.kind, p.default) for p in operation]
    assert vjp(name).__name__ == vjp(name).__qualname__ == f"{name}_vjp"


def test_every_public_name_is_there():
    names = {f"{name}_vjp" for name in OPERATIONS} | {f"{name}_vjp" for name in fc.activations.__all__}
    assert names <= set(fc.grad.__all__)
    assert all(hasattr(fc.grad, name) for name in fc.grad.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_that_does_not_fit_is_named(name):
    grad, *rest = CALLS[name]
    shape = str(grad.shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(fc.ShapeError, match=rf"^{name}_vjp: grad_output has shape .*, expected {shape}"):
        vjp(name)(grad[..., :0], *rest)
    with pytest.raises(fc.DtypeError, match=rf"^{name}_vjp: grad_output has dtype complex64, expected real numbers"):
        vjp(name)(grad.astype("c8"), *rest)
    np.testing.assert_array_equal(vjp(name)(grad.astype("f8"), *rest)[0], vjp(name)(grad, *rest)[0])
    with pytest.raises(fc.DtypeError, match=rf"^{name}_vjp: grad_output = None"):
        vjp(name)(None, *rest)
    with pytest.raises(fc.FastconvError, match=rf"^{name}_vjp: layout = 'NCHW'"):
        vjp(name)(grad, *rest, layout="NCHW")
    with pytest.raises(fc.UnsupportedError, match=rf"^{name}_vjp: device"):
        vjp(name)(grad, *rest, device="cuda")


@pytest.mark.parametrize("name", CALLS)
def test_inputs_of_any_kind_give_new_memory_and_stay_as_they_are(name):
    arrays = [a for a in CALLS[name] if isinstance(a, np.ndarray)]
    rest = CALLS[name][len(arrays) :]
    want = vjp(name)(*arrays, *rest)[0]
    for kind in (
        lambda a: np.asfortranarray(a),
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: np.repeat(a, 2, -1)[..., ::2],
    ):
        given = [kind(a) for a in arrays]
        before = [a.copy() for a in given]
        for a in given:
            a.flags.writeable = False
        got = vjp(name)(*given, *rest)[0]
        np.testing.assert_array_equal(got, want)
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        assert got.flags.writeable
        assert not any(np.shares_memory(got, a) for a in given)
        for one, other in zip(given, before, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "text"),
    [
        ("max_pool2d", (HALF, X, 0), fc.OptionError, "kernel_size = 0"),
        ("max_pool2d", (HALF, X, 2, None, 0, 1, 1), fc.ArgumentTypeError, "ceil_mode = 1"),
        ("max_pool2d", (HALF, X, 2, None, 0, 1, False, None), fc.ArgumentTypeError, "return_indices = None"),
        ("max_pool2d", (HALF, X * 1j, 2), fc.DtypeError, "input has dtype complex"),
        ("avg_pool2d", (HALF, X, 2, None, 0, False, True, 0), fc.OptionError, "divisor_override = 0"),
        ("lp_pool2d", (HALF, X, 0, 2), fc.OptionError, "norm_type = 0"),
        ("adaptive_avg_pool2d", (HALF, X, (1, 2, 3)), fc.OptionError, "output_size"),
        ("global_avg_pool", (HALF, X[0, 0]), fc.ShapeError, "input has 2 dimensions"),
        ("max_unpool2d", (X, HALF, HALF, 2), fc.DtypeError, "indices has dtype"),
        ("max_unpool2d", (X, HALF, HALF.astype(int) + 15, 2), fc.OptionError, "indices has 16"),
        ("bed_of_nails_unpool2d", (X, HALF, -1), fc.OptionError, "scale_factor = -1"),
        ("interpolate", (X, X), fc.OptionError, "expected size or scale_factor"),
        ("interpolate", (X, X, 4, None, "cubic"), fc.OptionError, "mode = 'cubic'"),
        ("unfold", (X, X, 2**70), fc.OptionError, "kernel_size"),
        ("fold", (X, X[0], 4, 2), fc.ShapeError, "input has"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, error, text):
    with pytest.raises(error, match=f"^{name}_vjp: {text}"):
        vjp(name)(*arguments)
