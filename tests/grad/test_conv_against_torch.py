"""Gradients of drawn convolutions of every kind against PyTorch's autograd."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests.cases import LAYOUTS, integers

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

NAMES = {axes: (f"conv{axes}d", f"conv_transpose{axes}d") for axes in (1, 2, 3)}
SIZES = {1: 60, 2: 16, 3: 7}
DTYPES = ("float32", "float32", "float64", "float16", "complex64", "complex128")
RTOL = {"float32": 3e-5, "float64": 1e-12, "float16": 4e-3, "complex64": 3e-5, "complex128": 1e-12}


def drawn(rng, shape, dtype):
    """Return integers, complex ones if the dtype is."""
    whole = integers(rng, shape, "float64")
    return (whole + 1j * integers(rng, shape, "float64") if np.dtype(dtype).kind == "c" else whole).astype(dtype)


def problem(rng, axes, transposed, dtype):
    """Return (x, w, b, keywords) of a drawn problem, in channels_first."""
    G, numbers = int(rng.choice([1, 1, 2, 3])), rng.integers(1, [4, 4, 3], (axes, 3))
    kernel, stride, dilation = (tuple(column) for column in numbers.T.tolist())
    padding = tuple(int(rng.integers(0, 3)) for _ in range(axes))
    least = [
        rate * (k - 1) + 1 - (0 if transposed else 2 * p) for k, rate, p in zip(kernel, dilation, padding, strict=True)
    ]
    sizes = [max(1, low) + int(rng.integers(0, SIZES[axes])) for low in least]
    IC, OC = G * int(rng.choice([1, 2, 5, 17])), G * int(rng.choice([1, 3, 8, 33]))
    x = drawn(rng, (int(rng.integers(1, 4)), IC, *sizes), dtype)
    w = drawn(rng, ((IC, OC // G) if transposed else (OC, IC // G)) + kernel, dtype)
    keywords = {"stride": stride, "padding": padding, "dilation": dilation, "groups": G}
    if transposed:
        keywords["output_padding"] = tuple(
            int(rng.integers(0, max(a, b))) for a, b in zip(stride, dilation, strict=True)
        )
    return x, w, drawn(rng, (OC,), dtype), keywords


def wanted(rng, name, x, w, b, keywords):
    """Return a gradient of the result, and PyTorch's of the arrays."""
    arrays = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    y = getattr(torch.nn.functional, name)(*arrays, **keywords)
    dy = drawn(rng, tuple(y.shape), x.dtype)
    y.backward(torch.from_numpy(dy))
    return dy, [a.grad.numpy() for a in arrays]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_drawn_convolutions(axes, transposed, seed):
    rng = np.random.default_rng([axes, transposed, seed])
    for i in range(60):
        dtype = DTYPES[int(rng.integers(len(DTYPES)))]
        x, w, b, keywords = problem(rng, axes, transposed, dtype)
        try:
            dy, want = wanted(rng, NAMES[axes][transposed], x, w, b, keywords)
        except (RuntimeError, NotImplementedError):
            # What PyTorch has no kernel for.
            continue
        if not dy.size:
            continue
        layout = LAYOUTS[i % 2]
        if layout == "channels_last":
            x, dy = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, dy))
        got = getattr(fc.grad, f"{NAMES[axes][transposed]}_vjp")(dy, x, w, b, layout=layout, **keywords)
        text = f"{dtype} {x.shape} {w.shape} {keywords} {layout}"
        dx = np.moveaxis(got[0], -1, 1) if layout == "channels_last" else got[0]
        for one, other in zip((dx, *got[1:]), want, strict=True):
            assert one.dtype == np.dtype(dtype), text
            bound = RTOL[dtype] * np.abs(other).max(initial=1)
            np.testing.assert_allclose(one, other, 0, bound, err_msg=text)


@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hardswish"])
def test_activations(activation):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 3, 6, 7), (5, 3, 3, 3), (5,)))
    arrays = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}
    y = functions.get(activation, getattr(torch.nn.functional, activation, None))(torch.conv2d(*arrays, padding=1))
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.from_numpy(dy))
    got = fc.grad.conv2d_vjp(dy, x, w, b, padding=1, activation=activation)
    for one, a in zip(got, arrays, strict=True):
        np.testing.assert_allclose(one, a.grad.numpy(), atol=1e-11)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes(mode):
    rng = np.random.default_rng(1)
    for layout in LAYOUTS:
        x, w = integers(rng, (2, 4, 9, 8)), integers(rng, (6, 2, 3, 3))
        arrays = [torch.from_numpy(a).requires_grad_() for a in (x, w)]
        padded = torch.nn.functional.pad(arrays[0], (2, 2, 1, 1), mode=mode)
        y = torch.conv2d(padded, arrays[1], None, (2, 1), groups=2)
        dy = integers(rng, tuple(y.shape))
        y.backward(torch.from_numpy(dy))
        if layout == "channels_last":
            x, dy = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, dy))
        more = {"padding_mode": mode, "layout": layout, "precision": "strict"}
        dx, dw, _ = fc.grad.conv2d_vjp(dy, x, w, None, (2, 1), (1, 2), 1, 2, **more)
        dx = np.moveaxis(dx, -1, 1) if layout == "channels_last" else dx
        np.testing.assert_array_equal(dx, arrays[0].grad.numpy())
        np.testing.assert_array_equal(dw, arrays[1].grad.numpy())
