"""Drawn pools of every kind against PyTorch: 8,000 in all.

Maxima and indices compare exactly, and so do averages of small integers but for the rounding of one division.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import cases, pools
from tests.pools import Drawn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

KINDS = ("max", "max", "avg", "lp", "adaptive_max", "adaptive_avg")
# What PyTorch takes on the CPU.
MAXIMA = ("float32", "float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64")
AVERAGES = ("float32", "float32", "float64", "float16", "int64")
TOLERANCES = {"float64": (1e-12, 1e-12), "float32": (2e-6, 1e-6), "float16": (2e-3, 2e-3)}

# PyTorch does not have all combinations, and of few inputs it makes no output where the formula has one.
REFUSED = ("Output size is too small", "not implemented for", "smaller than kernel size")


def torch_keywords(a: Drawn) -> dict[str, Any] | None:
    """Return the keywords for PyTorch, or None of what it refuses."""
    axes, k, x = pools.axes_of(a.name, a.x), dict(a.keywords), a.x
    if "output_size" in k:
        sizes = pools.each(k.pop("output_size"), axes)
        # The functions of one axis take no None.
        k["output_size"] = [n if out is None else out for n, out in zip(x.shape[-axes:], sizes, strict=True)]
    else:
        kernel, dilation = list(k["kernel_size"]), pools.each(k.get("dilation", 1), axes)
        stride = list(k.get("stride", kernel))
        padding = pools.pairs(k.get("padding", 0), x.shape[-axes:], kernel, stride, dilation)
        half = [n // 2 for n in kernel]
        if any(before != after or before > most for (before, after), most in zip(padding, half, strict=True)):
            return None
        if "padding" in k:
            k["padding"] = [before for before, _ in padding]
        if a.name.startswith("lp") and axes == 1:
            k |= {name: k[name][0] for name in ("kernel_size", "stride") if name in k}
    return None if axes == 1 and k.pop("divisor_override", None) is not None else k


def expected(a: Drawn) -> Any:
    """Return PyTorch's result, or None of what it refuses."""
    k = torch_keywords(a)
    if k is None:
        return None
    x = a.x.astype("f8") if a.name.startswith("lp") else a.x
    try:
        result = getattr(torch.nn.functional, a.name)(torch.from_numpy(np.ascontiguousarray(x)), **k)
    except RuntimeError as error:
        if not any(text in str(error) for text in REFUSED):
            raise
        return None
    return tuple(part.numpy() for part in result) if isinstance(result, tuple) else result.numpy()


def check(a: Drawn, layout: str) -> bool:
    """Compare a call with PyTorch, and return whether PyTorch takes it."""
    want = expected(a)
    if want is None:
        return False
    got, text = a.run(layout), f"{a.name} {a.x.dtype} {a.x.shape} {a.keywords} {layout}"
    results = zip(*[r if isinstance(r, tuple) else (r,) for r in (got, want)], strict=True)
    for i, (one, other) in enumerate(results):
        assert one.dtype == (np.int64 if i else a.x.dtype), text
        if "max" in a.name or a.x.dtype.kind == "i":
            np.testing.assert_array_equal(one, other, err_msg=text)
        else:
            rtol, atol = TOLERANCES[a.x.dtype.name]
            np.testing.assert_allclose(one.astype("f8"), other.astype("f8"), rtol, atol, err_msg=text)
    return True


@pytest.mark.parametrize("seed", range(16))
def test_drawn_pools(seed):
    rng = np.random.default_rng(1000 + seed)
    done = dict.fromkeys(KINDS, 0)
    while sum(done.values()) < 500:
        kind = str(rng.choice(KINDS))
        dtypes = MAXIMA if "max" in kind else AVERAGES[: -1 if kind == "lp" or "adaptive" in kind else None]
        a = pools.draw(rng, kind, str(rng.choice(dtypes)))
        if kind == "lp":
            p = float(rng.choice([1, 2, 3, 0.5, -1, np.inf, -np.inf]))
            a = a._replace(x=a.x if p in (1, 2, 3) else np.abs(a.x) + 1, keywords=a.keywords | {"norm_type": p})
        done[kind] += check(a, str(rng.choice(cases.LAYOUTS)))
    assert min(done.values()) > 20


@pytest.mark.parametrize("seed", range(2))
def test_large_images(seed):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        shape = (1, int(rng.choice([1, 3, 40])), *rng.integers(60, 260, 2).tolist())
        kernel = tuple(int(n) for n in rng.choice([2, 3, 7, 15, 31, 57], 2))
        k = {"kernel_size": kernel, "stride": tuple(int(n) for n in rng.integers(1, 4, 2))}
        k["padding"] = tuple(n // 2 for n in kernel)
        x = pools.values(rng, shape, "float32")
        for layout in cases.LAYOUTS:
            assert check(Drawn("max_pool2d", x, k | {"return_indices": True}), layout)
            assert check(Drawn("max_pool2d", x, k), layout)
            assert check(Drawn("avg_pool2d", x, k | {"count_include_pad": False}), layout)
