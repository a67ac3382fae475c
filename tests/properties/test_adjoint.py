"""A transposed convolution is the adjoint of the convolution with the same arguments, and linear."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests.properties.strategies import convolve, drawn, exactly, problems, seeds, to_first, to_last

TRANSPOSED = {1: fc.conv_transpose1d, 2: fc.conv_transpose2d, 3: fc.conv_transpose3d}
exact = st.just("float32")


def back(p, y):
    """Return the transposed convolution of y, in channels_first, to the size of the input of `p`."""
    keywords = {name: p.keywords[name] for name in ("stride", "dilation", "groups", "layout")}
    reach = [rate * (taps - 1) + 1 for rate, taps in zip(p.per_axis("dilation"), p.w.shape[2:], strict=True)]
    # What the convolution leaves over at the end of its padded input is padding that has no output.
    left = [
        (n + sum(pair) - one) % step
        for n, pair, one, step in zip(p.sizes, p.pairs(), reach, p.per_axis("stride"), strict=True)
    ]
    layout = keywords["layout"]
    call = TRANSPOSED[p.axes]
    x = call(to_last(y, layout), p.w, padding=p.pairs(), output_padding=tuple(left), **keywords)
    return to_first(x, layout)


def inner(one, other):
    return int((one.astype(np.int64) * other.astype(np.int64)).sum())


@exactly
@given(problems(types=exact, padding_mode="zeros"), seeds)
def test_conv_transpose_is_the_adjoint_of_conv(p, seed):
    p = p._replace(b=None)
    forward = p.run()
    y = drawn(forward.shape, p.x.dtype, seed)
    got = back(p, y)
    assert got.shape == p.x.shape
    assert inner(forward, y) == inner(p.x, got)


@exactly
@given(problems(types=exact, padding_mode="zeros"), seeds, st.sampled_from([-2, -1, 0, 1, 2]))
def test_conv_transpose_is_linear(p, seed, factor):
    shape = p.run().shape
    one, other = drawn(shape, p.x.dtype, seed), drawn(shape, p.x.dtype, seed + 1)
    k = np.array(factor).astype(p.x.dtype)
    np.testing.assert_array_equal(back(p, k * one + other), k * back(p, one) + back(p, other))


@exactly
@given(problems(types=exact, padding_mode="zeros", stride=1, padding="valid"), seeds)
def test_conv_transpose_of_stride_1_is_the_full_conv_with_the_turned_kernel(p, seed):
    y = drawn(p.run().shape, p.x.dtype, seed)
    G, spatial = p.keywords["groups"], tuple(range(2, p.w.ndim))
    parts = [np.flip(part.swapaxes(0, 1), spatial) for part in np.split(p.w, G)]
    more = {name: p.keywords[name] for name in ("dilation", "groups", "layout")}
    layout = more["layout"]
    want = to_first(convolve(to_last(y, layout), np.concatenate(parts), padding="full", **more), layout)
    np.testing.assert_array_equal(back(p, y), want)
