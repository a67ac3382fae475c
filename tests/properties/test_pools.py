"""What holds for pools whatever they compute: shifts, order, sums, indices, and how one pool follows from another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests import pools
from tests.pools import Drawn
from tests.properties.strategies import exactly, seeds

_IMAGE = {1: (70,), 2: (9, 40), 3: (4, 6, 15)}
_KERNEL = {1: (33,), 2: (5, 9), 3: (3, 3, 4)}


class Windows(NamedTuple):
    """An input, batched, and the windows of a pool without padding over it."""

    x: np.ndarray
    kernel: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    def run(self, kind: str, x: np.ndarray | None = None, **more: Any) -> Any:
        """Return what the pool of a kind makes of the input, or of another one."""
        keywords = {"kernel_size": self.kernel, "stride": self.stride} | more
        return getattr(fc, f"{kind}_pool{self.axes}d")(self.x if x is None else x, **keywords)

    def views(self) -> np.ndarray:
        """Return the elements of each window, along the last axis."""
        spatial = tuple(range(2, 2 + self.axes))
        found = np.lib.stride_tricks.sliding_window_view(self.x, self.kernel, spatial)
        found = found[(..., *[slice(None, None, s) for s in self.stride], *[slice(None)] * self.axes)]
        return found.reshape(*found.shape[: 2 + self.axes], -1)


@st.composite
def windows(draw: Any, special: bool = False) -> Windows:
    """Draw windows; `special`: the input has NaN and infinities too."""
    axes = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, most)) for most in _KERNEL[axes])
    sizes = tuple(draw(st.integers(k, max(k, most))) for k, most in zip(kernel, _IMAGE[axes], strict=True))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 17])), *sizes)
    rng = np.random.default_rng(draw(seeds))
    return Windows(pools.values(rng, shape, "float32", special and draw(st.booleans())), kernel, stride)


images = st.tuples(st.integers(1, 3), seeds, st.sampled_from([1, 3, 18])).map(
    lambda drawn: pools.values(np.random.default_rng(drawn[1]), (2, drawn[2], *_IMAGE[drawn[0]]), "float32")
)


def sums(p: Windows, x: np.ndarray | None = None, **more: Any) -> np.ndarray:
    """Return sums over windows, which are exact; one axis has no divisor_override in PyTorch, but has it here."""
    return p.run("avg", x, divisor_override=1, **more)


@exactly
@given(windows(special=True))
def test_maxima_are_those_of_the_windows(p):
    np.testing.assert_array_equal(p.run("max"), p.views().max(-1))


@exactly
@given(windows())
def test_maxima_of_the_negative_are_minima(p):
    np.testing.assert_array_equal(-p.run("max", -p.x), p.views().min(-1))


@exactly
@given(windows())
def test_sums_are_those_of_the_windows(p):
    np.testing.assert_array_equal(sums(p), p.views().sum(-1))
    count = np.float32(np.prod(p.kernel))
    np.testing.assert_array_equal(p.run("avg"), p.views().sum(-1, dtype="f4") / count)


@exactly
@given(windows(special=True), st.booleans())
def test_values_are_the_input_at_the_indices(p, padded):
    more = {"padding": tuple(k // 2 for k in p.kernel)} if padded else {}
    values, indices = p.run("max", return_indices=True, **more)
    np.testing.assert_array_equal(values, p.run("max", **more))
    flat = p.x.reshape(*p.x.shape[:2], -1)
    assert indices.dtype == np.int64
    assert ((indices >= 0) & (indices < flat.shape[-1])).all()
    found = np.take_along_axis(flat, indices.reshape(*p.x.shape[:2], -1), -1)
    np.testing.assert_array_equal(found.reshape(values.shape), values)


@exactly
@given(windows(special=True), st.data())
def test_pools_commute_with_shifts_by_the_stride(p, data):
    axis = data.draw(st.integers(0, p.axes - 1))
    whole = p.run("max")
    assert whole.shape[2 + axis] == (p.x.shape[2 + axis] - p.kernel[axis]) // p.stride[axis] + 1
    steps = data.draw(st.integers(0, whole.shape[2 + axis] - 1))
    at = (slice(None),) * (2 + axis)
    shifted = np.ascontiguousarray(p.x[(*at, slice(steps * p.stride[axis], None))])
    np.testing.assert_array_equal(p.run("max", shifted), whole[(*at, slice(steps, None))])
    finite = np.nan_to_num(p.x, posinf=3, neginf=-3)
    shifted = np.nan_to_num(shifted, posinf=3, neginf=-3)
    np.testing.assert_array_equal(sums(p, shifted), sums(p, finite)[(*at, slice(steps, None))])


@exactly
@given(windows(), st.integers(-3, 3), st.integers(-3, 3), seeds)
def test_sums_are_linear(p, a, b, seed):
    y = pools.values(np.random.default_rng(seed), p.x.shape, "float32")
    np.testing.assert_array_equal(sums(p, a * p.x + b * y), a * sums(p) + b * sums(p, y))


@exactly
@given(windows(special=True), seeds)
def test_planes_are_independent_of_each_other_and_of_their_order(p, seed):
    order = np.random.default_rng(seed).permutation(p.x.shape[0] * p.x.shape[1])
    planes = p.x.reshape(-1, *p.x.shape[2:])
    for more in ({}, {"return_indices": True}):
        whole, mixed = p.run("max", **more), p.run("max", planes[order][:, None], **more)
        pairs = zip(*[r if isinstance(r, tuple) else (r,) for r in (whole, mixed)], strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(other[:, 0], one.reshape(len(order), *one.shape[2:])[order])
    one = p.run("avg", np.nan_to_num(planes[order[:1]], posinf=1, neginf=0))
    every = p.run("avg", np.nan_to_num(p.x, posinf=1, neginf=0))
    np.testing.assert_array_equal(one[0], every.reshape(-1, *every.shape[2:])[order[0]])


@exactly
@given(windows(special=True), st.sampled_from(["max", "avg"]))
def test_layouts_agree(p, kind):
    x = p.x if kind == "max" else np.nan_to_num(p.x, posinf=1, neginf=0)
    last = p.run(kind, pools.to_last(x), layout="channels_last")
    np.testing.assert_array_equal(pools.to_first(last), p.run(kind, x))


@exactly
@given(windows(special=True))
def test_axes_may_change_places(p):
    back = (0, 1, *range(p.axes + 1, 1, -1))
    turned = Windows(np.ascontiguousarray(p.x.transpose(back)), p.kernel[::-1], p.stride[::-1])
    np.testing.assert_array_equal(turned.run("max").transpose(back), p.run("max"))


@exactly
@given(images, st.data())
def test_maxima_of_maxima_are_maxima_of_larger_windows(x, data):
    axes = x.ndim - 2
    one, two = (tuple(data.draw(st.integers(1, (n + 1) // 2)) for n in x.shape[2:]) for _ in range(2))
    both = tuple(a + b - 1 for a, b in zip(one, two, strict=True))
    pool = getattr(fc, f"max_pool{axes}d")
    np.testing.assert_array_equal(pool(pool(x, one, 1), two, 1), pool(x, both, 1))


@exactly
@given(images)
def test_pools_of_one_element_are_copies(x):
    axes = x.ndim - 2
    for name, keywords in (("max", {"kernel_size": 1}), ("avg", {"kernel_size": 1}), ("lp", {"kernel_size": 1})):
        more = {"norm_type": 1} if name == "lp" else {}
        got = getattr(fc, f"{name}_pool{axes}d")(x, **keywords, **more)
        np.testing.assert_array_equal(got, x)
        assert got.flags.owndata
        assert not np.shares_memory(got, x)


@exactly
@given(images, st.sampled_from(["max", "avg"]))
def test_adaptive_pools_follow_from_others(x, kind):
    axes, sizes = x.ndim - 2, x.shape[2:]
    adaptive = getattr(fc, f"adaptive_{kind}_pool{axes}d")
    np.testing.assert_array_equal(adaptive(x, sizes), x)
    whole = getattr(fc, f"global_{kind}_pool")
    np.testing.assert_array_equal(adaptive(x, 1), whole(x))
    np.testing.assert_array_equal(whole(x, keepdims=False), whole(x).reshape(x.shape[:2]))
    # Where sizes divide each other, windows lie side by side.
    outs = tuple(n // 5 if n % 5 == 0 else n for n in sizes)
    kernel = tuple(n // out for n, out in zip(sizes, outs, strict=True))
    np.testing.assert_array_equal(adaptive(x, outs), getattr(fc, f"{kind}_pool{axes}d")(x, kernel))


@exactly
@given(windows(), st.sampled_from(["same", "same_lower"]))
def test_same_padding_has_an_output_for_each_stride(p, padding):
    outs = tuple(-(-n // s) for n, s in zip(p.x.shape[2:], p.stride, strict=True))
    got = p.run("max", padding=padding)
    assert got.shape[2:] == outs
    a = Drawn(f"max_pool{p.axes}d", p.x, {"kernel_size": p.kernel, "stride": p.stride, "padding": padding})
    np.testing.assert_array_equal(got, pools.expected(a))


@exactly
@given(windows(), st.booleans())
def test_averages_of_ones_are_one_where_padding_does_not_count(p, ceil):
    ones = np.ones_like(p.x)
    more = {"padding": tuple(k // 2 for k in p.kernel), "ceil_mode": ceil}
    assert (p.run("avg", ones, count_include_pad=False, **more) == 1).all()
    assert (p.run("avg", ones, count_include_pad=True, **more) <= 1).all()
