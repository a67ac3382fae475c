"""Small convolutions of every kind, for hypothesis: integer-valued data, so that results compare exactly.

Each element type of each register tile of each kernel is a compilation of some seconds. So properties are tested with
one register tile (the named problems of `tests.cases` have all); float32 kernels, which half precision and complex64
run in too, get every kind of problem, and the other element types what one kernel file does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv.api import conv_transpose as transposed
from fastconv.api import convolve as calls
from fastconv.dispatch import choose, conv_transpose, load, plan
from tests.cases import LAYOUTS, integers

# The same examples on every run, and no time limit: a busy machine fails no test.
exactly = settings(derandomize=True, deadline=None, max_examples=40)

CONVS = {1: fc.conv1d, 2: fc.conv2d, 3: fc.conv3d}
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
NAMES = ("valid", "same", "same_lower", "full")
NARROW = ("float32", "float16", "complex64")
WIDE = ("float64", "complex128", "int16", "int8", "uint8", "uint16")
narrow_dtypes = st.sampled_from(["float32"] * 3 + list(NARROW))
dtypes = st.sampled_from(["float32"] * 6 + list(NARROW) + list(WIDE))
# Those that lose no digits when one result is the input of the next convolution.
chained_dtypes = st.sampled_from(["float32", "float32", "float64", "int16"])
seeds = st.integers(0, 999)

# Largest image and kernel of each number of axes: float16 still holds every sum.
_IMAGE = {1: (40,), 2: (7, 19), 3: (4, 5, 9)}
_KERNEL = {1: (6,), 2: (4, 4), 3: (2, 3, 3)}


@contextmanager
def one_tile() -> Iterator[None]:
    """Let the planner know one register tile of each kind only, and forget its decisions before and after."""
    target = load.target()
    # The last one of the rows is one row high, so that it fits every image.
    single = target._replace(outer_tiles=target.outer_tiles[:1], row_tiles=target.row_tiles[-1:])
    memories = (calls._seen.clear, choose.choose.cache_clear, plan.prepare.cache_clear)
    memories += (transposed._seen.cache_clear, conv_transpose.prepare_transpose.cache_clear)
    try:
        with mock.patch.object(load, "target", return_value=single):
            for forget in memories:
                forget()
            yield
    finally:
        for forget in memories:
            forget()


def drawn(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    """Return integers from -4 to 4; unsigned ones wrap, complex ones have both parts."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    whole = integers(rng, shape, "int64")
    if dtype.kind == "c":
        whole = whole + 1j * integers(rng, shape, "int64")
    return np.ascontiguousarray(whole.astype(dtype))


def to_last(array: np.ndarray, layout: str = "channels_last") -> np.ndarray:
    """Return a batched array of channels_first in `layout`, contiguous."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "channels_last" else array


def to_first(array: np.ndarray, layout: str = "channels_last") -> np.ndarray:
    """Return a batched array of `layout` in channels_first, contiguous."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if layout == "channels_last" else array


def convolve(x: Any, w: Any, b: Any = None, **keywords: Any) -> np.ndarray:
    """Call the convolution of as many axes as the weight has."""
    return CONVS[np.ndim(w) - 2](x, w, b, **keywords)


class Problem(NamedTuple):
    """One drawn call, ``convolve(x, w, b, **keywords)``; x is batched, in channels_first."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    keywords: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.x.dtype} {self.x.shape}, {self.w.shape}, {self.keywords}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Spatial sizes of the input."""
        return self.x.shape[2:]

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return self.x.ndim - 2

    def per_axis(self, name: str) -> tuple[int, ...]:
        """Return stride or dilation as one number per axis."""
        value = self.keywords[name]
        return value if isinstance(value, tuple) else (value,) * self.axes

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Return the padding as one (before, after) pair per axis, by the definition of the names."""
        padding = self.keywords["padding"]
        if not isinstance(padding, str):
            items = padding if isinstance(padding, tuple) else (padding,) * self.axes
            return tuple(item if isinstance(item, tuple) else (item, item) for item in items)
        along = zip(self.sizes, self.w.shape[2:], self.per_axis("stride"), self.per_axis("dilation"), strict=True)
        return tuple(_named(padding, *axis) for axis in along)

    def run(self, **changes: Any) -> np.ndarray:
        """Return the result with some keywords changed, in channels_first."""
        keywords = self.keywords | changes
        layout = keywords.get("layout", "channels_first")
        return to_first(convolve(to_last(self.x, layout), self.w, self.b, **keywords), layout)


def _named(name: str, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    reach = (kernel - 1) * dilation
    if name in ("valid", "full", "causal"):
        return (0 if name == "valid" else reach, reach if name == "full" else 0)
    # As many outputs as strides begin in the input.
    total = max(0, (-(-size // stride) - 1) * stride + reach + 1 - size)
    small, large = total // 2, total - total // 2
    return (small, large) if name == "same" else (large, small)


def _each(numbers: st.SearchStrategy, axes: int) -> st.SearchStrategy:
    """Draw one number for all axes, or a tuple of one per axis."""
    return numbers | st.tuples(*[numbers] * axes)


def paddings(axes: int, crop: bool = True) -> st.SearchStrategy:
    """Draw a padding in any of its forms."""
    pairs = st.tuples(*[st.tuples(*[st.integers(-2 if crop else 0, 4)] * 2)] * axes)
    names = NAMES + (("causal",) if axes == 1 else ())
    return st.one_of(pairs, st.sampled_from(names), _each(st.integers(0, 4), axes))


@st.composite
def problems(
    draw: Any,
    axes: Any = (1, 2, 3),
    types: st.SearchStrategy = dtypes,
    modes: Any = MODES,
    layouts: Any = LAYOUTS,
    depthwise: bool = True,
    **fixed: Any,
) -> Problem:
    """Draw a problem; `fixed` keywords are as given, and `depthwise` lets some have as many groups as channels."""
    number, dtype, seed = draw(st.sampled_from(axes)), draw(types), draw(seeds)
    few = dtype in WIDE
    kernel = tuple(draw(st.integers(1, most)) for most in _KERNEL[number])
    keywords = {
        "stride": draw(_each(st.integers(1, 3), number)),
        "dilation": draw(_each(st.integers(1, 3), number)),
        "padding": draw(paddings(number)),
        "padding_mode": draw(st.sampled_from(modes)),
        "layout": draw(st.sampled_from(layouts[:1] if few else layouts)),
        "groups": draw(st.integers(1, 3)),
    } | fixed
    single = depthwise and not few and draw(st.integers(0, 2)) == 0
    ICG, OCG = (1, draw(st.sampled_from([1, 1, 2]))) if single else (draw(st.integers(2, 3)), 4)
    channels, filters = keywords["groups"] * ICG, keywords["groups"] * OCG
    sizes = _sizes(draw, kernel, keywords)
    x = drawn((draw(st.sampled_from([1, 1, 2, 3, 0])), channels, *sizes), dtype, seed)
    w = drawn((filters, ICG, *kernel), dtype, seed + 1)
    return Problem(x, w, drawn((filters,), dtype, seed + 2), keywords)


def _sizes(draw: Any, kernel: tuple[int, ...], keywords: dict[str, Any]) -> tuple[int, ...]:
    """Draw spatial sizes in which the dilated kernel fits, and of which no padding crops all."""
    axes, padding, sizes = len(kernel), keywords["padding"], []
    rates, steps = keywords["dilation"], keywords["stride"]
    for axis, (taps, most) in enumerate(zip(kernel, _IMAGE[axes], strict=True)):
        rate, step = (n[axis] if isinstance(n, tuple) else n for n in (rates, steps))
        reach = rate * (taps - 1)
        item = padding[axis] if isinstance(padding, tuple) else padding
        if isinstance(item, str):
            least = reach + 1 if item == "valid" else 1
        else:
            before, after = item if isinstance(item, tuple) else (item, item)
            least = max(reach + 1 - before - after, 1 - min(before, 0) - min(after, 0), 1)
        sizes.append(draw(st.integers(least, max(most, least + step))))
    return tuple(sizes)
