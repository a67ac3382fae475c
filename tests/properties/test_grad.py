"""Pullbacks of linear operations are their adjoints: <f(x), g> = <x, vjp(g)>."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests.properties.strategies import LAYOUTS, drawn, exactly, seeds

_SIZES = {1: (60,), 2: (9, 40), 3: (4, 6, 15)}
types = st.sampled_from(["float32", "float64"])


class Call(NamedTuple):
    """``getattr(fc, name)(x, *arguments, **keywords)``."""

    name: str
    x: np.ndarray
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def holds(self, seed: int, error: float = 0.0) -> None:
        """Check the law; sums of small integers are exact."""
        y = getattr(fc, self.name)(self.x, *self.arguments, **self.keywords)
        g = drawn(y.shape, y.dtype, seed + 1)
        back = getattr(fc.grad, f"{self.name}_vjp")(g, self.x, *self.arguments, **self.keywords)[0]
        assert back.shape == self.x.shape
        assert back.dtype == self.x.dtype
        one, other = ((a.astype("f8") * b.astype("f8")).sum() for a, b in ((y, g), (self.x, back)))
        largest = np.sqrt((y.astype("f8") ** 2).sum() * (g.astype("f8") ** 2).sum())
        assert abs(one - other) <= error * (largest + 1), (self.name, self.x.shape, self.arguments, self.keywords)


@st.composite
def images(draw: Any, axes: int, layout: str, least: tuple[int, ...] = (1, 1, 1)) -> np.ndarray:
    """Draw an array in a layout, sometimes without elements."""
    sizes = tuple(draw(st.integers(n, max(n, most))) for n, most in zip(least, _SIZES[axes], strict=False))
    N, C = draw(st.sampled_from([0, 1, 1, 2])), draw(st.sampled_from([1, 2, 3, 17]))
    shape = (N, C, *sizes) if layout == "channels_first" else (N, *sizes, C)
    return drawn(shape, draw(types), draw(seeds))


@exactly
@given(st.data(), st.integers(1, 3), st.sampled_from(LAYOUTS), seeds)
def test_sums_over_windows(data, axes, layout, seed):
    kernel, stride = (tuple(data.draw(st.integers(1, 4)) for _ in range(axes)) for _ in range(2))
    x = data.draw(images(axes, layout, kernel))
    keywords = {"kernel_size": kernel, "stride": stride, "layout": layout, "divisor_override": 1}
    keywords["padding"] = data.draw(st.sampled_from(["valid", "same", "same_lower", tuple(k // 2 for k in kernel)]))
    keywords["ceil_mode"] = data.draw(st.booleans())
    Call(f"avg_pool{axes}d", x, (), keywords).holds(seed)


@exactly
@given(st.data(), st.integers(1, 3), st.sampled_from(LAYOUTS), seeds)
def test_averages(data, axes, layout, seed):
    x = data.draw(images(axes, layout))
    outs = tuple(data.draw(st.integers(1, 12)) for _ in range(axes))
    Call(f"adaptive_avg_pool{axes}d", x, (outs,), {"layout": layout}).holds(seed, 1e-5)


@exactly
@given(st.data(), st.integers(1, 3), st.sampled_from(LAYOUTS), seeds)
def test_interpolations(data, axes, layout, seed):
    modes = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[axes]
    mode = data.draw(st.sampled_from(["nearest", "nearest-exact", "area", *modes]))
    keywords = {"mode": mode, "layout": layout}
    if mode in modes:
        keywords["align_corners"] = data.draw(st.booleans())
    if data.draw(st.booleans()):
        keywords["size"] = tuple(data.draw(st.integers(1, 30)) for _ in range(axes))
    else:
        keywords["scale_factor"] = tuple(data.draw(st.sampled_from([1.0, 1.05, 1.7, 2.0, 3.0])) for _ in range(axes))
    error = 0.0 if mode.startswith("nearest") else 1e-5
    Call("interpolate", data.draw(images(axes, layout)), (), keywords).holds(seed, error)


@exactly
@given(st.data(), st.integers(1, 3), st.sampled_from(LAYOUTS), seeds)
def test_upsamplings(data, axes, layout, seed):
    factors = tuple(data.draw(st.integers(1, 4)) for _ in range(axes))
    x, keywords = data.draw(images(axes, layout)), {"layout": layout}
    Call(f"nearest_unpool{axes}d", x, (factors,), keywords).holds(seed)
    position = data.draw(st.integers(0, int(np.prod(factors)) - 1))
    Call(f"bed_of_nails_unpool{axes}d", x, (factors,), keywords | {"position": position}).holds(seed)


@exactly
@given(st.data(), st.integers(1, 3), st.sampled_from(LAYOUTS), seeds)
def test_unpooling_by_indices(data, axes, layout, seed):
    x = data.draw(images(axes, layout))
    sizes = x.shape[2:] if layout == "channels_first" else x.shape[1:-1]
    indices = np.random.default_rng(seed).integers(0, np.prod([2 * n for n in sizes]), x.shape)
    Call(f"max_unpool{axes}d", x, (indices, 2), {"layout": layout, "duplicates": "sum"}).holds(seed)


@exactly
@given(st.data(), st.sampled_from([2, 2, 3]), st.sampled_from(LAYOUTS), seeds)
def test_blocks(data, axes, layout, seed):
    kernel, dilation, stride = (tuple(data.draw(st.integers(1, 3)) for _ in range(axes)) for _ in range(3))
    pads = tuple((data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in range(axes))
    least = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    x, options = data.draw(images(axes, layout, least)), (kernel, dilation, pads, stride)
    Call("unfold", x, options, {"layout": layout}).holds(seed)
    sizes = x.shape[2:] if layout == "channels_first" else x.shape[1:-1]
    columns = drawn(fc.unfold(x, *options, layout=layout).shape, x.dtype, seed)
    Call("fold", columns, (sizes, *options), {"layout": layout}).holds(seed)
