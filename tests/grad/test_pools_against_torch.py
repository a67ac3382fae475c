"""Gradients of drawn pools of every kind against PyTorch's autograd: 4,000 in all.

Those of maxima compare exactly, NaN, infinities and ties included.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests import cases, pools

# Without it, the module that comes next is empty.
torch = pytest.importorskip("torch")

from tests.api.test_pool_against_torch import REFUSED, TOLERANCES, torch_keywords  # noqa: E402

pytestmark = pytest.mark.slow

KINDS = ("max", "max", "avg", "lp", "adaptive_max", "adaptive_avg")
DTYPES = ("float32", "float32", "float64", "float16")
# Some kernels have no half precision.
LACKING = (*REFUSED, "not implemented")


def expected(a, rng):
    """Return a gradient of the result and PyTorch's of the input, or None of what it refuses."""
    k = torch_keywords(a)
    if k is None or pools.has_empty_windows(a.x, a.keywords):
        return None
    wide = a.x.astype("f8") if a.name.startswith("lp") else a.x
    x = torch.from_numpy(np.ascontiguousarray(wide)).requires_grad_()
    try:
        result = getattr(torch.nn.functional, a.name)(x, **k)
        y = result[0] if isinstance(result, tuple) else result
        grad = rng.integers(-9, 10, tuple(y.shape)).astype(a.x.dtype)
        y.backward(torch.from_numpy(grad.astype(wide.dtype)))
    except RuntimeError as error:
        if not any(text in str(error) for text in LACKING):
            raise
        return None
    return grad, x.grad.numpy()


def check(a, layout, rng):
    """Compare a gradient with PyTorch's, and return whether PyTorch has it."""
    found = expected(a, rng)
    if found is None:
        return False
    grad, want = found
    batched = a.x.ndim == pools.axes_of(a.name, a.x) + 2
    arrays = [pools.to_last(v, batched) if layout == "channels_last" else v for v in (grad, a.x)]
    (got,) = getattr(fc.grad, f"{a.name}_vjp")(*arrays, layout=layout, **a.keywords)
    text = f"{a.name} {a.x.dtype} {a.x.shape} {a.keywords} {layout}"
    assert got.dtype == a.x.dtype, text
    got = pools.to_first(got, batched) if layout == "channels_last" else got
    if "max" in a.name:
        np.testing.assert_array_equal(got, want, err_msg=text)
    else:
        rtol, atol = (8 * bound for bound in TOLERANCES[a.x.dtype.name])
        scale = np.abs(want[np.isfinite(want)]).max(initial=1)
        np.testing.assert_allclose(got.astype("f8"), want.astype("f8"), rtol, atol * scale, err_msg=text)
    return True


@pytest.mark.parametrize("seed", range(8))
def test_gradients_of_drawn_pools(seed):
    rng = np.random.default_rng(3000 + seed)
    done = dict.fromkeys(KINDS, 0)
    while sum(done.values()) < 500:
        kind = str(rng.choice(KINDS))
        a = pools.draw(rng, kind, str(rng.choice(DTYPES)))
        if kind == "lp":
            p = float(rng.choice([1, 2, 3, 0.5, 1.5, -1]))
            a = a._replace(x=a.x if p in (1, 2, 3) else np.abs(a.x) + 1, keywords=a.keywords | {"norm_type": p})
        done[kind] += check(a, str(rng.choice(cases.LAYOUTS)), rng)
    assert min(done.values()) > 20
