"""Gradients of drawn unpoolings, interpolations, unfoldings and foldings against PyTorch's autograd: 4,000 in all."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests.cases import LAYOUTS
from tests.resizing import integers

# Without it, the module that comes next is empty.
torch = pytest.importorskip("torch")

from tests.api.test_resizing_against_torch import MODES, drawn_keywords, shape_of, to_layout  # noqa: E402

pytestmark = pytest.mark.slow

F = torch.nn.functional


def autograd(function, x, rng):
    """Return a gradient of the result of a function, and PyTorch's of x."""
    tensor = torch.from_numpy(x).requires_grad_()
    y = function(tensor)
    grad = integers(rng, tuple(y.shape), x.dtype)
    y.backward(torch.from_numpy(grad))
    return grad, tensor.grad.numpy()


@pytest.mark.parametrize("seed", range(4))
def test_interpolate(seed):
    rng = np.random.default_rng(seed)
    done = 0
    while done < 500:
        axes, layout = int(rng.integers(1, 4)), str(rng.choice(LAYOUTS))
        mode, dtype = str(rng.choice(MODES[axes])), str(rng.choice(["float32", "float64"]))
        # In double precision PyTorch's gradient of nearest modes still has coordinates of single precision.
        dtype = "float32" if mode.startswith("nearest") else dtype
        shape, keywords = shape_of(rng, axes), drawn_keywords(rng, mode, axes)
        factors = keywords.get("scale_factor")
        if factors is not None and min(int(n * f) for n, f in zip(shape[2:], factors, strict=True)) < 1:
            continue
        x = rng.standard_normal(shape).astype(dtype)
        grad, want = autograd(lambda t, m=mode, k=keywords: F.interpolate(t, mode=m, **k), x, rng)
        kept = any(n == out for n, out in zip(shape[2:], grad.shape[2:], strict=True))
        if keywords.get("antialias") and (grad.shape[-1] == 1 or (kept and factors)):
            # PyTorch sums the wrong elements of a column, and its gradient resizes an axis that the result does not.
            continue
        double = any(2 * n == out for n, out in zip(shape[2:], grad.shape[2:], strict=True))
        if mode == "nearest" and factors and (kept or double) and keywords.get("recompute_scale_factor") is not True:
            # Where an axis stays or doubles, PyTorch's gradient forgets the factor that its result follows.
            continue
        done += 1
        arrays = (to_layout(grad, layout), to_layout(x, layout))
        (got,) = fc.grad.interpolate_vjp(*arrays, mode=mode, layout=layout, **keywords)
        text = f"{dtype}{shape} {mode} {layout} {keywords}"
        assert got.dtype == dtype, text
        if mode.startswith("nearest"):
            np.testing.assert_array_equal(got, to_layout(want, layout), err_msg=text)
        else:
            error = (1e-5 if dtype == "float32" else 1e-13) * np.abs(want).max(initial=1)
            np.testing.assert_allclose(got, to_layout(want, layout), rtol=0, atol=error, err_msg=text)


@pytest.mark.parametrize("seed", range(2))
def test_max_unpool(seed):
    rng = np.random.default_rng(seed)
    done = 0
    while done < 500:
        axes, layout = int(rng.integers(1, 4)), str(rng.choice(LAYOUTS))
        shape = shape_of(rng, axes)
        kernel, stride = (tuple(int(k) for k in rng.integers(1, 4, axes)) for _ in range(2))
        pads = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        along = zip(shape[2:], kernel, stride, pads, strict=True)
        sizes = tuple((n - 1) * s + k - 2 * p for n, k, s, p in along)
        if min(sizes) < 1:
            continue
        done += 1
        x, indices = integers(rng, shape, str(rng.choice(["f4", "f8"]))), rng.integers(0, np.prod(sizes), shape)
        unpool, where = getattr(F, f"max_unpool{axes}d"), torch.from_numpy(indices)
        given = (kernel, stride, pads)
        grad, want = autograd(lambda t, f=unpool, w=where, g=given: f(t, w, *g), x, rng)
        arrays = (to_layout(a, layout) for a in (grad, x, indices))
        got, none = getattr(fc.grad, f"max_unpool{axes}d_vjp")(*arrays, *given, layout=layout)
        assert none is None
        np.testing.assert_array_equal(got, to_layout(want, layout), err_msg=f"{shape} {kernel} {stride} {pads}")


@pytest.mark.parametrize("seed", range(2))
def test_unfold_and_fold(seed):
    rng = np.random.default_rng(seed)
    done = 0
    while done < 500:
        layout, dtype = str(rng.choice(LAYOUTS)), str(rng.choice(["float32", "float64", "complex64"]))
        shape = shape_of(rng, 2)
        kernel, stride = (tuple(int(k) for k in rng.integers(1, 5, 2)) for _ in range(2))
        dilation, pads = tuple(int(d) for d in rng.integers(1, 4, 2)), tuple(int(p) for p in rng.integers(0, 4, 2))
        along = zip(shape[2:], kernel, dilation, pads, strict=True)
        if any(n + 2 * p < d * (k - 1) + 1 for n, k, d, p in along):
            continue
        done += 1
        options, sizes = (kernel, dilation, pads, stride), shape[2:]
        x = integers(rng, shape, dtype)
        grad, want = autograd(lambda t, o=options: F.unfold(t, *o), x, rng)
        (got,) = fc.grad.unfold_vjp(grad, to_layout(x, layout), *options, layout=layout)
        np.testing.assert_array_equal(got, to_layout(want, layout), err_msg=f"{dtype}{shape} {options} {layout}")
        y = integers(rng, grad.shape, dtype)
        grad, want = autograd(lambda t, s=sizes, o=options: F.fold(t, s, *o), y, rng)
        (got,) = fc.grad.fold_vjp(to_layout(grad, layout), y, sizes, *options, layout=layout)
        np.testing.assert_array_equal(got, want, err_msg=f"{dtype}{shape} {options} {layout}")
