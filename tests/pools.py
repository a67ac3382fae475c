"""Pools by their definition, and drawn ones: what the tests of all pools share.

Data are small integers, so sums are exact in every order, and averages are one rounding: results compare exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.kernels.reference import pool as definition
from tests.cases import LAYOUTS

# Sizes of images and of windows, by the number of axes: every tail of a vector, few outputs.
_SIZES = {1: (140,), 2: (9, 45), 3: (4, 6, 20)}
_KERNELS = {1: (1, 2, 2, 3, 3, 4, 5, 8, 9, 17, 31), 2: (1, 2, 2, 3, 3, 4, 5, 7, 11), 3: (1, 2, 2, 3, 4)}
_CHANNELS = (1, 1, 2, 3, 5, 17)
FLOATS, INTEGERS = ("float32", "float64", "float16"), ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")

Taps = list[list[int]]
Pairs = tuple[tuple[int, int], ...]


class Drawn(NamedTuple):
    """A call, ``getattr(fc, name)(x, **keywords)``; x is in channels_first."""

    name: str
    x: np.ndarray
    keywords: dict[str, Any]

    def run(self, layout: str = "channels_first", **more: Any) -> Any:
        """Return what the function returns in a layout, in channels_first."""
        x, batched = self.x, self.x.ndim == axes_of(self.name, self.x) + 2
        x = to_last(x, batched) if layout == "channels_last" else x
        result = getattr(fc, self.name)(x, layout=layout, **self.keywords, **more)
        results = result if isinstance(result, tuple) else (result,)
        if layout == "channels_last" and not self.keywords.get("keepdims", True):
            return result
        back = [to_first(a, batched) if layout == "channels_last" else a for a in results]
        return tuple(back) if isinstance(result, tuple) else back[0]


def axes_of(name: str, x: np.ndarray) -> int:
    """Return the number of spatial axes of a function."""
    return int(name[-2]) if name[-1] == "d" else x.ndim - 2


def to_last(x: np.ndarray, batched: bool = True) -> np.ndarray:
    """Return an array of channels_first in channels_last, contiguous."""
    return np.ascontiguousarray(np.moveaxis(x, int(batched), -1))


def to_first(x: np.ndarray, batched: bool = True) -> np.ndarray:
    """Return an array of channels_last in channels_first."""
    return np.moveaxis(x, -1, int(batched))


def each(value: Any, axes: int) -> list[Any]:
    """Return one value for each axis."""
    items = list(value) if isinstance(value, (tuple, list)) else [value]
    return items if len(items) == axes else items * axes


def pairs(padding: Any, sizes: Sequence[int], kernel: list[int], stride: list[int], dilation: list[int]) -> Pairs:
    """Return (before, after) of each axis, for names by their definition: so many outputs as strides begin inside."""
    if not isinstance(padding, str):
        return tuple(item if isinstance(item, tuple) else (item, item) for item in each(padding, len(sizes)))
    found = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n) if padding != "valid" else 0
        small, large = total // 2, total - total // 2
        found.append((large, small) if padding == "same_lower" else (small, large))
    return tuple(found)


def starts(n: int, pad: tuple[int, int], effective: int, stride: int, ceil: bool) -> list[int]:
    """Return where windows start: inside the padded axis, and ending there, or with `ceil` the one before does."""
    before, after = pad
    if ceil:
        return [s for s in range(-before, n, stride) if s - stride + effective < n + after]
    return list(range(-before, n + after - effective + 1, stride))


def windows(x: np.ndarray, axes: int, k: dict[str, Any]) -> tuple[list[Taps], list[np.ndarray]]:
    """Return the taps of each axis, and how many of them an average counts."""
    sizes, ceil = x.shape[-axes:], k.get("ceil_mode", False)
    kernel = each(k["kernel_size"], axes)
    stride = kernel if k.get("stride") is None else each(k["stride"], axes)
    dilation = each(k.get("dilation", 1), axes)
    padding = pairs(k.get("padding", 0), sizes, kernel, stride, dilation)
    taps, counts = [], []
    for n, size, step, rate, pad in zip(sizes, kernel, stride, dilation, padding, strict=True):
        found = [[s + i * rate for i in range(size)] for s in starts(n, pad, rate * (size - 1) + 1, step, ceil)]
        low, high = (-pad[0], n + pad[1]) if k.get("count_include_pad", True) else (0, n)
        taps.append(found)
        counts.append(np.array([sum(low <= i < high for i in window) for window in found], np.int64))
    return taps, counts


def has_empty_windows(x: np.ndarray, keywords: dict[str, Any]) -> bool:
    """Return whether some window steps over all of an axis."""
    rates = each(keywords.get("dilation", 1), len(keywords.get("kernel_size", ())) or 1)
    return any(rate > n for rate, n in zip(rates, x.shape[-len(rates) :], strict=True))


def grid(x: np.ndarray, axes: int, output_size: Any) -> tuple[list[Taps], list[np.ndarray]]:
    """Return the taps of adaptive windows, and their lengths."""
    sizes = [n if out is None else out for n, out in zip(x.shape[-axes:], each(output_size, axes), strict=True)]
    taps = [definition.adaptive(n, out) for n, out in zip(x.shape[-axes:], sizes, strict=True)]
    return taps, [np.array([len(window) for window in found], np.int64) for found in taps]


def expected(a: Drawn) -> Any:
    """Return the result by the definition, in channels_first; of maxima with indices both."""
    axes, k = axes_of(a.name, a.x), a.keywords
    lead = a.x.shape[: a.x.ndim - axes]
    if a.name.startswith("global"):
        k = k | {"output_size": 1}
    taps, counts = grid(a.x, axes, k["output_size"]) if "output_size" in k else windows(a.x, axes, k)
    planes = a.x.reshape(-1, *a.x.shape[-axes:])
    shape = (*lead, *[len(each) for each in taps]) if k.get("keepdims", True) else lead
    if "max" in a.name:
        found = definition.pool(planes, taps, definition.largest) if len(planes) else np.zeros((0, 2))
        values = found[..., 0].astype(a.x.dtype).reshape(shape)
        indices = found[..., 1].astype(np.int64).reshape(shape)
        return (values, indices) if k.get("return_indices") else values
    return averages(planes, taps, counts, k.get("divisor_override"), a.x.dtype).reshape(shape)


def averages(planes: np.ndarray, taps: list[Taps], counts: list[np.ndarray], override: Any, dtype: Any) -> np.ndarray:
    """Return sums, which are exact, divided once: integers toward zero, half precision in single precision."""
    by = counts[0]
    for more in counts[1:]:
        by = np.multiply.outer(by, more)
    by = by if override is None else np.full_like(by, override)
    if not len(planes):
        return np.zeros((0, *by.shape), dtype)
    wide = np.int64 if dtype.kind in "iu" else np.float64
    sums = definition.pool(planes.astype(wide), taps, lambda values, _: values.sum(1))
    if wide == np.int64:
        return (np.sign(sums) * np.sign(by) * (np.abs(sums) // np.abs(by))).astype(dtype)
    element = np.promote_types(dtype, np.float32) if dtype.kind == "f" else np.dtype("float32")
    return (sums.astype(element) / by.astype(element)).astype(dtype)


def check(a: Drawn, layouts: Sequence[str] = LAYOUTS) -> None:
    """Compare a call in these layouts with the definition, to the bit but for the sign of zeros."""
    want = expected(a)
    for layout in layouts:
        got = a.run(layout)
        text = f"{a.name} {a.x.dtype} {a.x.shape} {a.keywords} {layout}"
        for one, other in zip(*[r if isinstance(r, tuple) else (r,) for r in (got, want)], strict=True):
            assert one.dtype == other.dtype, text
            np.testing.assert_array_equal(one, other, err_msg=text)


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, special: bool = False) -> np.ndarray:
    """Return integers from -6 to 6, many alike; unsigned ones from 0; `special`: with NaN and infinities."""
    dtype = np.dtype(dtype)
    x = rng.integers(0 if dtype.kind == "u" else -6, 7, shape).astype(dtype)
    if special:
        x[rng.random(shape) < 0.04] = np.nan
        x[rng.random(shape) < 0.04] = -np.inf
        x[rng.random(shape) < 0.02] = np.inf
        if rng.random() < 0.2:
            x[...] = -np.inf
    return x


def draw(rng: np.random.Generator, kind: str, dtype: Any = "float32", **fixed: Any) -> Drawn:
    """Draw a call of a kind, "max", "avg", "lp", "adaptive_max" or "adaptive_avg"; `fixed`: its axes, N, C, indices."""
    axes = fixed.get("axes") or int(rng.choice([1, 2, 2, 3]))
    sizes = [int(rng.integers(1, most + 1)) for most in _SIZES[axes]]
    N, C = fixed.get("N", int(rng.integers(1, 4))), fixed.get("C", int(rng.choice(_CHANNELS)))
    lead = (C,) if rng.random() < 0.2 and N == 1 else (N, C)
    special = "max" in kind and np.dtype(dtype).kind == "f" and rng.random() < 0.4
    x, name = values(rng, (*lead, *sizes), dtype, special), f"{kind}_pool{axes}d"
    if kind.startswith("adaptive"):
        outs = tuple(None if rng.random() < 0.1 else int(rng.integers(1, n + 3)) for n in sizes)
        keywords: dict[str, Any] = {"output_size": outs if rng.random() < 0.8 else outs[:1]}
    else:
        keywords = _windows(rng, kind, sizes)
    if "max" in kind:
        # The index of the maximum of nothing is any.
        wanted = fixed.get("indices", bool(rng.random() < 0.5))
        keywords["return_indices"] = wanted and not has_empty_windows(x, keywords)
    return Drawn(name, x, keywords)


def _windows(rng: np.random.Generator, kind: str, sizes: list[int]) -> dict[str, Any]:
    """Draw the keywords of windows that have an output."""
    axes = len(sizes)
    while True:
        kernel, stride = (tuple(int(n) for n in rng.choice(of, axes)) for of in (_KERNELS[axes], (1, 1, 2, 2, 3, 4)))
        k: dict[str, Any] = {"kernel_size": kernel, "ceil_mode": bool(rng.random() < 0.4)}
        if rng.random() < 0.8:
            k["stride"] = stride
        if kind == "max":
            k["dilation"] = tuple(int(n) for n in rng.choice((1, 1, 1, 2, 3), axes))
        most = [(d * (n - 1) + 1) // 2 for n, d in zip(kernel, k.get("dilation", [1] * axes), strict=True)]
        if kind != "lp":
            k["padding"] = _padding(rng, most)
        if kind == "avg":
            k["count_include_pad"] = bool(rng.random() < 0.5)
            k["divisor_override"] = None if rng.random() < 0.7 else int(rng.choice([-3, 2, 7]))
        if all(windows(np.empty(sizes, np.int8), axes, k)[0]):
            return k


def _padding(rng: np.random.Generator, most: list[int]) -> Any:
    """Draw a padding in one of its forms."""
    form = int(rng.integers(4))
    if form == 0:
        return str(rng.choice(["valid", "same", "same_lower"]))
    if form == 1:
        return int(rng.integers(0, min(most) + 1))
    before, after = ([int(n) for n in rng.integers(0, np.array(most) + 1)] for _ in range(2))
    return tuple(before) if form == 2 else tuple(zip(before, after, strict=True))
