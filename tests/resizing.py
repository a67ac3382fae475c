"""Drawn calls of the operations that unpool, resize, unfold and fold, with their results by the definitions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.kernels.reference import fold as folding
from fastconv.kernels.reference import resize as resizing
from fastconv.kernels.reference import unpool as unpooling
from tests.cases import LAYOUTS

SIZES = {1: (70,), 2: (15, 40), 3: (4, 6, 19)}
OPERATIONS = ("max_unpool", "nearest_unpool", "bed_of_nails_unpool", "unfold", "fold", "interpolate")
MODES = {
    1: ("nearest", "nearest-exact", "linear", "area"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic", "bilinear smooth", "bicubic smooth", "area"),
    3: ("nearest", "nearest-exact", "trilinear", "area"),
}


class Call(NamedTuple):
    """``function(*arrays, *arguments, **keywords)``, and what it returns, up to `error` times the largest magnitude."""

    function: Any
    arrays: tuple[np.ndarray, ...]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    expected: np.ndarray
    error: float

    def __repr__(self) -> str:
        arrays = ", ".join(f"{a.dtype}{a.shape}" for a in self.arrays)
        return f"{self.function.__name__}({arrays}, {self.arguments}, {self.keywords})"

    def run(self, arrays: Any = None, **changes: Any) -> np.ndarray:
        return self.function(*(arrays or self.arrays), *self.arguments, **(self.keywords | changes))

    def check(self, got: np.ndarray) -> None:
        assert got.dtype == self.expected.dtype, self
        assert got.shape == self.expected.shape, self
        if not self.error:
            np.testing.assert_array_equal(got, self.expected, err_msg=repr(self))
            return
        largest = np.abs(self.expected).max(initial=1)
        assert np.abs(got - self.expected).max(initial=0) <= self.error * largest, self


def integers(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Return small integers of a dtype; complex ones have both parts."""
    dtype = np.dtype(dtype)
    low = 0 if dtype.kind == "u" else -9
    whole = rng.integers(low, 10, shape)
    return (whole + 1j * rng.integers(-9, 10, shape) if dtype.kind == "c" else whole).astype(dtype)


def draw(rng: Any, operation: str, dtypes: tuple[str, ...] = ("float32",)) -> Call:
    """Return a call that has a result; data are of one of the dtypes."""
    axes = int(rng.integers(1, 4)) if "fold" not in operation else int(rng.choice([2, 2, 3]))
    layout, dtype = str(rng.choice(LAYOUTS)), str(rng.choice(dtypes))
    shape = (int(rng.integers(0, 3)), int(rng.choice([1, 2, 3, 5, 9, 16, 33])))
    sizes = tuple(int(rng.integers(1, most)) for most in SIZES[axes])
    return _DRAW[operation](rng, axes, (*shape, *sizes), dtype)._in(layout, rng.random() < 0.2)


class _First(NamedTuple):
    """A call in channels_first, batched."""

    name: str
    arrays: tuple[np.ndarray, ...]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    expected: np.ndarray
    error: float = 0.0

    def _in(self, layout: str, unbatched: bool) -> Call:
        def placed(array: np.ndarray, columns: bool) -> np.ndarray:
            last = layout == "channels_last" and not columns
            array = np.ascontiguousarray(np.moveaxis(array, 1, -1)) if last else array
            return array[0] if unbatched else array

        unbatched = unbatched and len(self.arrays[0]) == 1 and self.name != "interpolate"
        arrays = tuple(placed(array, self.name == "fold") for array in self.arrays)
        expected = placed(self.expected, self.name == "unfold")
        function = getattr(fc, self.name)
        return Call(function, arrays, self.arguments, self.keywords | {"layout": layout}, expected, self.error)


def _max_unpool(rng: Any, axes: int, shape: tuple[int, ...], dtype: str) -> _First:
    x, duplicates = integers(rng, shape, dtype), str(rng.choice(["last", "last", "max", "sum", "error"]))
    kernel, stride = (tuple(int(k) for k in rng.integers(1, 4, axes)) for _ in range(2))
    sizes = tuple((n - 1) * s + k for n, k, s in zip(shape[2:], kernel, stride, strict=True))
    places = int(np.prod(sizes))
    if duplicates == "max" and x.dtype.kind == "c":
        duplicates = "sum"
    count = int(np.prod(shape[2:]))
    if duplicates == "error" and places < count:
        duplicates = "last"
    if duplicates == "error":
        planes = [rng.permutation(places)[:count] for _ in range(shape[0] * shape[1])]
        indices = np.array(planes, np.int64).reshape(shape)
    else:
        indices = rng.integers(0, places, shape)
    rule = "last" if duplicates == "error" else duplicates
    expected = unpooling.max_unpool(x, indices, sizes, rule)
    keywords = {"duplicates": duplicates}
    return _First(f"max_unpool{axes}d", (x, indices), (kernel, stride), keywords, expected)


def _nearest_unpool(rng: Any, axes: int, shape: tuple[int, ...], dtype: str) -> _First:
    x, factors = integers(rng, shape, dtype), tuple(int(f) for f in rng.choice([1, 2, 2, 3, 4, 19], axes))
    return _First(f"nearest_unpool{axes}d", (x,), (factors,), {}, unpooling.nearest_unpool(x, factors))


def _bed_of_nails(rng: Any, axes: int, shape: tuple[int, ...], dtype: str) -> _First:
    x, factors = integers(rng, shape, dtype), tuple(int(f) for f in rng.integers(1, 4, axes))
    position = int(rng.integers(0, np.prod(factors)))
    expected = unpooling.bed_of_nails(x, factors, position)
    return _First(f"bed_of_nails_unpool{axes}d", (x,), (factors,), {"position": position}, expected)


def _blocks(rng: Any, sizes: tuple[int, ...]) -> tuple[Any, ...]:
    """Return (kernel, dilation, padding in pairs, stride) that have a position."""
    axes = len(sizes)
    kernel, dilation, stride = (tuple(int(k) for k in rng.integers(1, 4, axes)) for _ in range(3))
    pads = []
    for n, k, d in zip(sizes, kernel, dilation, strict=True):
        before, after = (int(p) for p in rng.integers(0, 4, 2))
        pads.append((before, after + max(0, d * (k - 1) + 1 - n - before - after)))
    return kernel, dilation, tuple(pads), stride


def _unfold(rng: Any, axes: int, shape: tuple[int, ...], dtype: str) -> _First:
    x, arguments = integers(rng, shape, dtype), _blocks(rng, shape[2:])
    return _First("unfold", (x,), arguments, {}, folding.unfold(x, *arguments))


def _fold(rng: Any, axes: int, shape: tuple[int, ...], dtype: str) -> _First:
    arguments = _blocks(rng, shape[2:])
    columns = folding.unfold(np.zeros(shape), *arguments)
    y = integers(rng, columns.shape, dtype)
    expected = folding.fold(y, shape[2:], *arguments)
    return _First("fold", (y,), (shape[2:], *arguments), {}, expected)


def _interpolate(rng: Any, axes: int, shape: tuple[int, ...], dtype: str) -> _First:
    x, mode = integers(rng, shape, dtype), str(rng.choice(MODES[axes]))
    outs = tuple(int(rng.integers(1, 2 * n + 3)) for n in shape[2:])
    name, _, smooth = mode.partition(" ")
    corners = bool(rng.random() < 0.3) if "linear" in name and not smooth else None
    keywords = {"mode": name, "align_corners": corners, "antialias": bool(smooth)}
    if np.dtype(dtype).kind in "iu" and not name.startswith("nearest") and not (dtype == "uint8" and name[:2] == "bi"):
        name = mode = "nearest"
        keywords = {"mode": name}
    real = "f8" if dtype in ("float64", "complex128") else "f4"
    matrices = [matrix(mode, n, out, bool(corners), real) for n, out in zip(shape[2:], outs, strict=True)]
    moved = name.startswith("nearest")
    if dtype == "uint8" and not moved:
        x = rng.integers(0, 256, shape).astype(dtype)
        return _First("interpolate", (x,), (outs,), keywords, resizing.resize_bytes(x, matrices))
    expected = resizing.resize(x, matrices).astype(dtype)
    return _First("interpolate", (x,), (outs,), keywords, expected, 0.0 if moved else 1e-5)


def matrix(mode: str, n: int, out: int, align_corners: bool = False, real: str = "f4") -> np.ndarray:
    """Return the matrix of a mode along an axis; "smooth" behind it for antialias."""
    name, _, smooth = mode.partition(" ")
    if name.startswith("nearest"):
        return resizing.nearest(n, out, exact=name == "nearest-exact", real=real)
    if name == "area":
        return resizing.area(n, out)
    if smooth:
        kernel = resizing.triangle if name == "bilinear" else lambda x: resizing.cubic(x, -0.5)
        return resizing.smooth(n, out, kernel)
    kernel = (lambda x: resizing.cubic(x, -0.75)) if name == "bicubic" else resizing.triangle
    return resizing.kernel(n, resizing.positions(n, out, None, align_corners), kernel)


_DRAW = {
    "max_unpool": _max_unpool,
    "nearest_unpool": _nearest_unpool,
    "bed_of_nails_unpool": _bed_of_nails,
    "unfold": _unfold,
    "fold": _fold,
    "interpolate": _interpolate,
}
