"""Drawn problems of every kind against PyTorch: 20,000 in all. Data are small integers, so results compare exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import fastconv as fc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

REAL = ("float32", "float32", "float32", "float64", "float16", "int8", "int16", "int32", "int64")
REAL += ("uint8", "uint16", "uint32")
COMPLEX = ("complex64", "complex128")
PAD_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}
SIZES = {1: (90,), 2: (21, 40), 3: (7, 9, 17)}


class Drawn(NamedTuple):
    """A call: ``conv<axes>d(x, w, b, **keywords)``, and its padding in pairs."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray | None
    pairs: list[tuple[int, int]]
    keywords: dict[str, Any]


def integers(rng, shape, dtype):
    """Return small integers of a dtype; unsigned ones are not negative."""
    kind = np.dtype(dtype).kind
    if kind == "c":
        return (rng.integers(-4, 5, shape) + 1j * rng.integers(-4, 5, shape)).astype(dtype)
    return rng.integers(0 if kind == "u" else -4, 5, shape).astype(dtype)


def each(rng, values, axes):
    return tuple(int(value) for value in rng.choice(values, axes))


def draw(rng) -> Drawn:
    """Return a problem in which everything is drawn, and which has an output."""
    axes = int(rng.integers(1, 4))
    depthwise, G = rng.random() < 0.3, int(rng.choice([1, 1, 1, 2, 3]))
    ICG = 1 if depthwise else int(rng.integers(1, 13))
    G = int(rng.integers(1, 20)) if depthwise else G
    OC = G * int(rng.choice([1, 1, 2] if depthwise else [1, 2, 5, 9, 17, 33]))
    sizes = [int(rng.integers(1, most)) for most in SIZES[axes]]
    kernel, stride, dilation = each(rng, [1, 2, 3, 3, 4, 5], axes), each(rng, [1, 1, 1, 2, 3], axes), None
    dilation = each(rng, [1, 1, 1, 2, 3], axes)
    mode = str(rng.choice(["zeros", "zeros", *PAD_MODES]))
    pairs = []
    for n, k, d in zip(sizes, kernel, dilation, strict=True):
        before, after = (int(p) for p in rng.integers(-1 if n > 2 else 0, 5, 2))
        pairs.append((before, after + max(0, d * (k - 1) + 1 - (n + before + after))))
    one = str(rng.choice(REAL if rng.random() < 0.8 else COMPLEX))
    other = one if rng.random() < 0.8 else str(rng.choice(REAL + COMPLEX))
    x = integers(rng, (int(rng.integers(1, 3)), G * ICG, *sizes), one)
    w = integers(rng, (OC, ICG, *kernel), other)
    b = integers(rng, (OC,), one) if rng.random() < 0.3 else None
    keywords = {"stride": stride, "padding": tuple(pairs), "dilation": dilation, "groups": G, "padding_mode": mode}
    return Drawn(x, w, b, pairs, keywords)


def expected(a: Drawn) -> np.ndarray:
    """Return PyTorch's sums in double precision, of an input that NumPy has padded."""
    spatial = [
        slice(max(0, -before), n - max(0, -after)) for n, (before, after) in zip(a.x.shape[2:], a.pairs, strict=True)
    ]
    cropped = a.x[(slice(None), slice(None), *spatial)]
    pads = [(0, 0), (0, 0), *((max(0, before), max(0, after)) for before, after in a.pairs)]
    mode: Any = PAD_MODES[a.keywords["padding_mode"]]
    x, w = np.pad(cropped, pads, mode=mode).astype(complex), a.w.astype(complex)
    convolve = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
    more = {name: a.keywords[name] for name in ("stride", "dilation", "groups")}

    def real(one, other):
        return convolve(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (one, other)), **more).numpy()

    y = real(x.real, w.real) - real(x.imag, w.imag) + 1j * (real(x.real, w.imag) + real(x.imag, w.real))
    if a.b is not None:
        y += a.b.reshape(-1, *[1] * (x.ndim - 2))
    dtype = np.result_type(a.x, a.w, *([] if a.b is None else [a.b]))
    if dtype.kind == "c":
        return y.astype(dtype)
    return np.rint(y.real).astype(np.int64).astype(dtype)


@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_drawn_problems(seed):
    rng = np.random.default_rng(seed)
    done = 0
    while done < 1000:
        a = draw(rng)
        if np.result_type(a.x, a.w) == np.uint64:
            continue
        done += 1
        algorithms = ["auto", "direct", "im2col"] + ["depthwise"] * (a.w.shape[1] == 1)
        algorithm, layout = str(rng.choice(algorithms)), str(rng.choice(["channels_first", "channels_last"]))
        want, x = expected(a), a.x
        if layout == "channels_last":
            want, x = np.moveaxis(want, 1, -1), np.moveaxis(x, 1, -1)
        if len(x) == 1 and rng.random() < 0.3:
            x, want = x[0], want[0]
        # What "auto" chooses for the larger ones would round.
        how = {"layout": layout, "algorithm": algorithm, "precision": "strict" if algorithm == "auto" else "default"}
        got = getattr(fc, f"conv{a.w.ndim - 2}d")(x, a.w, a.b, **how, **a.keywords)
        text = f"seed {seed}: {x.dtype}{x.shape} {a.w.dtype}{a.w.shape} {algorithm} {layout} {a.keywords}"
        assert got.dtype == want.dtype, text
        np.testing.assert_array_equal(got, want, err_msg=text)
