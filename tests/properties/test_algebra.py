"""A convolution is linear, moves with its input, and two of them are one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastconv.testing import reference
from tests.properties.strategies import (
    LAYOUTS,
    chained_dtypes,
    convolve,
    drawn,
    exactly,
    narrow_dtypes,
    problems,
    seeds,
    to_first,
    to_last,
)

factors = st.sampled_from([-2, -1, 0, 1, 2])


@exactly
@given(problems(), factors, seeds)
def test_conv_is_linear_in_the_input(p, factor, seed):
    other, k = drawn(p.x.shape, p.x.dtype, seed), np.array(factor).astype(p.x.dtype)
    p = p._replace(b=None)
    got = p._replace(x=k * p.x + other).run()
    np.testing.assert_array_equal(got, k * p.run() + p._replace(x=other).run())


@exactly
@given(problems(), factors, seeds)
def test_conv_is_linear_in_the_weight(p, factor, seed):
    other, k = drawn(p.w.shape, p.w.dtype, seed), np.array(factor).astype(p.w.dtype)
    p = p._replace(b=None)
    got = p._replace(w=k * p.w + other).run()
    np.testing.assert_array_equal(got, k * p.run() + p._replace(w=other).run())


@exactly
@given(problems())
def test_conv_adds_the_bias_last(p):
    got, without = p.run(), p._replace(b=None).run()
    np.testing.assert_array_equal(got, without + p.b.reshape(-1, *[1] * p.axes))


@exactly
@given(problems(padding="valid"), st.data())
def test_shift_by_the_stride_shifts_the_output(p, data):
    along = data.draw(st.integers(0, p.axes - 1), "axis")
    expected, step = p.run(), p.per_axis("stride")[along]
    shift = data.draw(st.integers(0, expected.shape[2 + along] - 1), "outputs")
    rest = (slice(None),) * (2 + along)
    got = p._replace(x=p.x[(*rest, slice(shift * step, None))]).run()
    np.testing.assert_array_equal(got, expected[(*rest, slice(shift, None))])


@exactly
@given(problems(padding_mode="circular", stride=1), st.data())
def test_circular_conv_of_a_rolled_input_is_rolled(p, data):
    reach = [rate * (taps - 1) for rate, taps in zip(p.per_axis("dilation"), p.w.shape[2:], strict=True)]
    before = [data.draw(st.integers(0, n), "before") for n in reach]
    padding = tuple((a, n - a) for a, n in zip(before, reach, strict=True))
    shift = tuple(data.draw(st.integers(0, n), "shift") for n in p.sizes)
    where = tuple(range(2, 2 + p.axes))
    expected = np.roll(p.run(padding=padding), shift, where)
    got = p._replace(x=np.roll(p.x, shift, where)).run(padding=padding)
    assert got.shape[2:] == p.sizes
    np.testing.assert_array_equal(got, expected)


@exactly
@given(problems(padding="full", padding_mode="zeros"))
def test_strided_conv_takes_every_nth_output(p):
    steps = p.per_axis("stride")
    every = p.run(stride=1)[(..., *(slice(None, None, n) for n in steps))]
    np.testing.assert_array_equal(p.run(), every)


@exactly
@given(problems())
def test_dilated_conv_is_that_of_the_kernel_with_zeros_between(p):
    rates = p.per_axis("dilation")
    spread = [rate * (taps - 1) + 1 for rate, taps in zip(rates, p.w.shape[2:], strict=True)]
    w = np.zeros((*p.w.shape[:2], *spread), p.w.dtype)
    w[(..., *(slice(None, None, n) for n in rates))] = p.w
    np.testing.assert_array_equal(p.run(), p._replace(w=w).run(dilation=1))


@exactly
@given(
    problems(
        types=chained_dtypes, depthwise=False, padding_mode="zeros", groups=1, stride=1, dilation=1, padding="full"
    ),
    st.integers(1, 3),
    seeds,
    st.booleans(),
)
def test_two_convs_are_one_with_the_convolved_kernel(p, filters, seed, full):
    padding = "full" if full else "valid"
    second = drawn((filters, len(p.w), *[2] * p.axes), p.w.dtype, seed)
    x = p.x if full else np.pad(p.x, [(0, 0), (0, 0), *[(4, 4)] * p.axes])
    layout, more = p.keywords["layout"], {"layout": p.keywords["layout"], "padding": padding}
    twice = convolve(convolve(to_last(x, layout), p.w, **more), second, **more)
    # both[oc, ic] = sum over m of the full convolution of w[m, ic] with second[oc, m], whose kernel is flipped.
    flipped = np.flip(second, tuple(range(2, 2 + p.axes)))
    both = convolve(p.w.swapaxes(0, 1), flipped, padding="full").swapaxes(0, 1)
    np.testing.assert_array_equal(both, reference(p.w.swapaxes(0, 1), flipped, padding="full").swapaxes(0, 1))
    np.testing.assert_array_equal(convolve(to_last(x, layout), both, **more), twice)


@exactly
@given(problems(stride=1, padding="same", dilation=1, groups=1, depthwise=False), seeds)
def test_conv_with_a_single_one_picks_a_channel(p, seed):
    # Odd kernels have a middle; the filter of output oc is one there for input channel oc % IC.
    kernel = tuple(n | 1 for n in p.w.shape[2:])
    IC, OC = p.x.shape[1], len(p.w)
    w = np.zeros((OC, IC, *kernel), p.w.dtype)
    picked = np.arange(OC) % IC
    w[(np.arange(OC), picked, *(n // 2 for n in kernel))] = 1
    np.testing.assert_array_equal(p._replace(w=w, b=None).run(), p.x[:, picked])


@exactly
@given(
    problems(axes=(2,), types=narrow_dtypes, stride=1, dilation=1, padding=0, padding_mode="zeros"),
    st.sampled_from(LAYOUTS),
)
def test_conv_of_transposed_images_is_transposed(p, layout):
    turned = p._replace(x=p.x.swapaxes(2, 3), w=p.w.swapaxes(2, 3))
    np.testing.assert_array_equal(turned.run(layout=layout).swapaxes(2, 3), p.run())
    assert to_first(to_last(p.x)).tobytes() == p.x.tobytes()
