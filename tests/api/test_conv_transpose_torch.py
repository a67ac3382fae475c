"""Drawn transposed convolutions against PyTorch: 3,000 in all. Data are small integers, so results compare exactly."""

from __future__ import annotations

import numpy as np
import pytest

from tests.api.test_conv_transpose import CALLS, integers

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

DTYPES = (
    "float32",
    "float32",
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "complex64",
)
SIZES = {1: (60,), 2: (9, 16), 3: (4, 5, 7)}


def each(rng, values, axes):
    return tuple(int(value) for value in rng.choice(values, axes))


def draw(rng):
    """Return (x, w, b, keywords) of a call that PyTorch takes too."""
    axes = int(rng.integers(1, 4))
    depthwise, G = rng.random() < 0.25, int(rng.choice([1, 1, 1, 2, 3]))
    G = int(rng.integers(1, 20)) if depthwise else G
    ICG = 1 if depthwise else int(rng.integers(1, 20))
    OCG = int(rng.choice([1, 1, 2] if depthwise else [1, 2, 5, 16, 17, 32, 48]))
    sizes = [int(rng.integers(1, most)) for most in SIZES[axes]]
    kernel, stride = each(rng, [1, 2, 2, 3, 3, 4, 5], axes), each(rng, [1, 2, 2, 2, 3, 4], axes)
    dilation = each(rng, [1, 1, 1, 2, 3], axes)
    extra = tuple(int(rng.integers(0, max(pair))) for pair in zip(stride, dilation, strict=True))
    padding = []
    for n, k, s, d, op in zip(sizes, kernel, stride, dilation, extra, strict=True):
        padding.append(int(rng.integers(0, min(4, ((n - 1) * s + d * (k - 1) + op) // 2) + 1)))
    dtype = str(rng.choice(DTYPES))
    x = integers(rng, (int(rng.integers(1, 4)), G * ICG, *sizes), dtype)
    w, b = integers(rng, (G * ICG, OCG, *kernel), dtype), integers(rng, (G * OCG,), dtype)
    keywords = {"stride": stride, "padding": tuple(padding), "output_padding": extra, "groups": G, "dilation": dilation}
    return x, w, b if rng.random() < 0.4 else None, keywords


def expected(x, w, b, keywords):
    """Return PyTorch's sums, in double precision or int64, rounded or wrapped once."""
    wide = {"c": np.complex128, "f": np.float64}.get(x.dtype.kind, np.int64)
    call = getattr(torch.nn.functional, f"conv_transpose{w.ndim - 2}d")
    arrays = [None if a is None else torch.from_numpy(a.astype(wide)) for a in (x, w, b)]
    return call(*arrays, **keywords).resolve_conj().numpy().astype(x.dtype)


@pytest.mark.parametrize("seed", range(6))
def test_five_hundred_drawn_problems(seed):
    rng = np.random.default_rng(seed)
    torch.set_num_threads(1)
    for _ in range(500):
        x, w, b, keywords = draw(rng)
        want = expected(x, w, b, keywords)
        layout, algorithm = rng.choice(["channels_first", "channels_last"]), rng.choice(["auto", "direct", "im2col"])
        given = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
        want = want if layout == "channels_first" else np.moveaxis(want, 1, -1)
        if len(x) == 1 and rng.random() < 0.3:
            given, want = given[0], want[0]
        got = CALLS[w.ndim - 2](given, w, b, layout=str(layout), algorithm=str(algorithm), **keywords)
        text = f"seed {seed}: {x.dtype}{given.shape} {w.shape} {algorithm} {layout} {keywords}"
        assert got.dtype == want.dtype, text
        np.testing.assert_array_equal(got, want, err_msg=text)
