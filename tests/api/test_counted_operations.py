"""count_ops is exact: the definition of each algorithm runs on numbers that count, and comes to the same counts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import blocking_fft, cost, load
from fastconv.dispatch.window_counts import line_operations
from fastconv.dispatch.window_stages import plan
from fastconv.geometry.conv import conv_geometry
from fastconv.geometry.windows import Axis
from fastconv.testing import reference
from fastconv.winograd import schemes
from tests import counted
from tests.counted import Number, counting, numbers, values


def drawn(*shapes):
    rng = np.random.default_rng(0)
    return [rng.integers(-4, 5, shape).astype(float) for shape in shapes]


def agrees(tally, ops):
    assert (tally.multiplies, tally.adds) == (ops.multiplies, ops.adds)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "keywords"),
    [
        ((3, 6, 7), (4, 3, 3, 3), {"padding": 1}),
        ((3, 6, 7), (2, 3, 2, 3), {"stride": 2}),
        ((2, 9, 8), (3, 2, 3, 3), {"dilation": 2}),
        ((4, 5, 5), (4, 2, 3, 3), {"groups": 2, "padding": 2}),
        ((3, 6, 6), (6, 1, 3, 3), {"groups": 3, "stride": 2, "padding": 1}),
        ((5, 3, 4), (2, 5, 1, 1), {}),
    ],
)
def test_direct_sums(x_shape, w_shape, keywords):
    x, w = drawn(x_shape, w_shape)
    rest = {name: value for name, value in keywords.items() if name != "padding"}
    pad = keywords.get("padding", 0)
    with counting() as tally:
        got = counted.direct(counted.padded(numbers(x), pad, pad), numbers(w), **rest)
    assert np.array_equal(values(got), reference(x, w, **keywords))
    ops = fc.count_ops(fc.conv2d, x_shape, w_shape, **keywords)
    agrees(tally, ops)
    assert ops.macs == ops.multiplies
    for line in fc.explain(fc.conv2d, x_shape, w_shape, **keywords).lines:
        if line.ops and line.algorithm not in ("winograd", "fft", "separable"):
            assert line.ops == ops, line.algorithm


def test_columns_take_what_direct_sums_take():
    x, w = drawn((3, 6, 7), (4, 3, 3, 2))
    with counting() as tally:
        got = counted.im2col(numbers(x), numbers(w), 2, 1)
    assert np.array_equal(values(got), reference(x, w, stride=2))
    agrees(tally, fc.count_ops(fc.conv2d, x.shape, w.shape, stride=2, algorithm="im2col"))


def test_pointwise_is_one_product_for_each_pair_of_channels():
    x, w = drawn((5, 3, 4), (2, 5))
    with counting() as tally:
        got = np.dot(numbers(w), numbers(x).reshape(5, -1))
    assert np.array_equal(values(got).reshape(2, 3, 4), reference(x, w[:, :, None, None]))
    ops = fc.count_ops(fc.pointwise_conv2d, x.shape, w.shape, algorithm="pointwise")
    agrees(tally, ops)
    assert ops.multiplies == 3 * 4 * 5 * 2


def test_two_passes_take_2k_an_output_and_the_rows_beyond_the_border():
    k, OH, OW = 5, 6, 8
    image, column, row = drawn((1, OH + k - 1, OW + k - 1), k, k)
    with counting() as tally:
        got = counted.separable(numbers(image), numbers(column), numbers(row))
    assert np.array_equal(values(got), reference(image, np.multiply.outer(column, row)[None, None]))
    ops = fc.count_ops(fc.spatially_separable_conv2d, image.shape, (k,), (k,))
    assert ops.multiplies == ops.macs == OH * OW * 2 * k
    # What the docstring leaves out: k - 1 more rows of the first pass.
    assert tally.multiplies - ops.multiplies == (k - 1) * OW * k
    assert tally.adds - ops.adds == (k - 1) * OW * (k - 1)


def test_depthwise_separable_takes_the_share_of_the_textbook():
    C, OC, k = 4, 6, 3
    x, dw, pw = drawn((C, 7, 7), (C, 1, k, k), (OC, C))
    with counting() as tally:
        middle = counted.direct(counted.padded(numbers(x), 1, 1), numbers(dw), groups=C)
        got = np.dot(numbers(pw), middle.reshape(C, -1)).reshape(OC, 7, 7)
    assert np.array_equal(values(got), reference(reference(x, dw, padding=1, groups=C), pw[:, :, None, None]))
    ops = fc.count_ops(fc.separable_conv2d, x.shape, dw.shape, pw.shape, padding=1)
    agrees(tally, ops)
    full = fc.count_ops(fc.conv2d, x.shape, (OC, C, k, k), padding=1)
    assert Fraction(ops.multiplies, full.multiplies) == Fraction(1, OC) + Fraction(1, k * k)
    assert fc.explain(fc.separable_conv2d, x.shape, dw.shape, pw.shape, padding=1).direct == full


def test_dilated_kernels_see_more_for_the_same():
    x, w = drawn((2, 9, 9), (3, 2, 3, 3))
    with counting() as tally:
        got = counted.direct(counted.padded(numbers(x), 2, 2), numbers(w), dilation=2)
    assert np.array_equal(values(got), reference(x, w, padding=2, dilation=2))
    dilated = fc.count_ops(fc.conv2d, x.shape, w.shape, padding=2, dilation=2)
    agrees(tally, dilated)
    # The same outputs see 5 x 5 inputs, for 9 products instead of 25.
    whole = fc.count_ops(fc.conv2d, x.shape, (3, 2, 5, 5), padding=2)
    assert Fraction(dilated.multiplies, whole.multiplies) == Fraction(9, 25)
    assert fc.receptive_field([(3, 1, 2, 2)])[-1].size == fc.receptive_field([(5, 1, 2)])[-1].size == 5


def test_a_stride_leaves_one_output_in_its_square():
    one, two = (fc.count_ops(fc.conv2d, (1, 3, 8, 8), (4, 3, 3, 3), padding=1, stride=s) for s in (1, 2))
    assert one.multiplies == 4 * two.multiplies


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("m", "r", "S"),
    [((2, 2), (3, 3), (8, 7)), ((4, 4), (3, 3), (8, 11)), ((2, 2), (5, 5), (8, 8)), ((1, 4), (1, 3), (4, 9))],
)
def test_winograd_with_its_transforms_of_data(m, r, S, bias):
    (x, w), direct = drawn((2, *S), (3, 2, *r)), fc.count_ops(fc.conv2d, (2, *S), (3, 2, *r))
    g = conv_geometry("test", 2, (1, 2, *S), w.shape)
    with counting() as tally:
        got = counted.winograd(numbers(x), w, m)
        if bias:
            got = got + numbers(np.zeros(got.shape))
    np.testing.assert_allclose(values(got), reference(x, w), atol=1e-9)
    ops = cost.winograd_ops(g, bias, m)
    agrees(tally, ops)
    assert ops.macs == direct.macs
    # Without the transforms: (m + r - 1)**2 products of a tile instead of (m * r)**2.
    n = [a + b - 1 for a, b in zip(m, r, strict=True)]
    tiles = [-(-(s - b + 1) // a) for s, a, b in zip(S, m, r, strict=True)]
    inputs = 2 * sum_of(*(schemes(a, b).input.multiplies for a, b in zip(m, r, strict=True)), n[1], n[0])
    outputs = 3 * sum_of(*(schemes(a, b).output.multiplies for a, b in zip(m, r, strict=True)), n[1], m[0])
    products = ops.multiplies - tiles[0] * tiles[1] * (inputs + outputs)
    assert products == tiles[0] * tiles[1] * n[0] * n[1] * 2 * 3


def sum_of(down, across, columns, rows):
    return columns * down + rows * across


def test_winograd_shares_of_whole_tiles():
    for m, share in ((2, Fraction(4, 9)), (4, Fraction(1, 4))):
        # So many channels that only products count.
        g = conv_geometry("test", 2, (1, 10**6, 14, 14), (10**6, 10**6, 3, 3))
        direct, winograd = cost.direct_ops(g), cost.winograd_ops(g, False, (m, m))
        assert float(share) == pytest.approx(winograd.multiplies / direct.multiplies, rel=1e-4)
        assert Fraction((m + 2) ** 2, (3 * m) ** 2) == share


@pytest.mark.parametrize("n", [1, 2, 4, 6, 8, 10, 12, 15, 16, 30])
def test_fourier_transforms(n):
    data = np.random.default_rng(n).standard_normal((n, 2))
    with counting() as tally:
        got = counted.transform([counted.Complex(Number(re), Number(im)) for re, im in data], -1)
    np.testing.assert_allclose([complex(z.re.value, z.im.value) for z in got], np.fft.fft(data @ [1, 1j]), atol=1e-12)
    assert (tally.multiplies, tally.adds) == cost.transform_ops(n)
    if n & (n - 1) == 0:
        doublings = n.bit_length() - 1
        assert cost.transform_ops(n) == (2 * n * doublings, 3 * n * doublings)


def test_fourier_transforms_of_other_primes_are_sums():
    # 7 numbers: six are multiplied by twiddle factors, then a matrix without its ones; 14 is two of them and a pass.
    multiplies, adds = 24 + 4 * 36, 12 + 2 * 6 * 7 + 2 * 36
    assert cost.transform_ops(7) == (multiplies, adds)
    assert cost.transform_ops(14) == (2 * multiplies + 7 * 4, 2 * adds + 7 * 6)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "block"),
    [
        ((2, 10, 11), (3, 2, 3, 3), (8, 6)),
        ((1, 9, 10), (2, 1, 4, 3), (10, 16)),
        ((3, 1, 20), (1, 3, 1, 5), (1, 12)),
    ],
)
@pytest.mark.parametrize("rows", [False, True])
def test_fourier_transforms_and_products_of_blocks(x_shape, w_shape, block, rows, monkeypatch):
    if rows and (x_shape[0] > 1 or w_shape[2] == 1):
        pytest.skip("only of one channel, and of kernels with rows")
    x, w = drawn(x_shape, w_shape)
    g = conv_geometry("test", 2, (1, *x_shape), w_shape)
    if rows:
        valid = (1, 4, block[1] - w_shape[3] + 1)
        b = next(blocking_fft._row_blockings(g, load.target()))
        block = (valid[1] + w_shape[2] - 1, block[1])
        counts = (1, -(-g.OH // valid[1]), -(-g.OW // valid[2]))
        b = b._replace(block=(1, *block), valid=valid, counts=counts, FREQUENCIES=block[1] // 2 + 1)
    else:
        b = blocking_fft._blocking(g, load.target(), (1, *block), 1 << 16)
    monkeypatch.setattr(cost, "fft_blocking", lambda g, target: b)
    with counting() as tally:
        got, multiplies, adds = counted.fft(numbers(x), w, block, b.valid[1:], rows)
    np.testing.assert_allclose(values(got), reference(x, w), atol=1e-9)
    # A transform of real data is half of a complex one.
    expected = tally.multiplies - multiplies // 2, tally.adds - adds // 2
    ops = cost.fft_ops(g)
    assert (ops.multiplies, ops.adds) == expected
    assert ops._replace(multiplies=0, adds=0) == cost.direct_ops(g)._replace(multiplies=0, adds=0)
    assert cost.fft_ops(g, True).adds == ops.adds + g.OC * g.OH * g.OW


@pytest.mark.parametrize(
    ("S", "K", "stride", "dilation"),
    [
        ((4, 5), (3, 3), 1, 1),
        ((3, 4), (2, 3), 2, 1),
        ((3, 3), (2, 2), 3, 1),
        ((4, 3), (3, 2), 2, 2),
        ((3, 5), (3, 3), 2, 3),
    ],
)
def test_transposed_convolutions_scatter_products(S, K, stride, dilation):
    x, w = drawn((2, *S), (2, 3, *K))
    with counting() as tally:
        got = counted.transposed(numbers(x), numbers(w), stride, dilation)
    assert np.array_equal(values(got), fc.conv_transpose2d(x, w, stride=stride, dilation=dilation))
    ops = fc.count_ops(fc.conv_transpose2d, x.shape, w.shape, stride=stride, dilation=dilation)
    agrees(tally, ops)
    # What is cropped is computed all the same.
    cropped = fc.count_ops(fc.conv_transpose2d, x.shape, w.shape, stride=stride, dilation=dilation, padding=1)
    assert (cropped.multiplies, cropped.adds) == (ops.multiplies, ops.adds)


def test_transposed_convolutions_by_transforms_take_what_their_convolution_takes():
    shapes = (1, 8, 9, 9), (8, 4, 3, 3)
    ops = fc.count_ops(fc.conv_transpose2d, *shapes, algorithm="winograd")
    same = fc.count_ops(fc.conv2d, (1, 8, 9, 9), (4, 8, 3, 3), padding=2, algorithm="winograd")
    assert (ops.multiplies, ops.adds) == (same.multiplies, same.adds)
    assert ops.macs == fc.count_ops(fc.conv_transpose2d, *shapes).macs


def test_pools_combine_each_window():
    (x,) = drawn((2, 9, 8))
    with counting() as tally:
        got = counted.pooled(numbers(x), (3, 2), 2, Number.larger)
    assert np.array_equal(values(got), fc.max_pool2d(x, (3, 2), 2))
    ops = fc.count_ops(fc.max_pool2d, x.shape, (3, 2), 2)
    agrees(tally, ops)
    assert ops.macs == ops.params == 0
    with counting() as tally:
        got = counted.pooled(numbers(x), (3, 2), 2, Number.__add__) * (1 / 6)
    np.testing.assert_allclose(values(got), fc.avg_pool2d(x, (3, 2), 2))
    agrees(tally, fc.count_ops(fc.avg_pool2d, x.shape, (3, 2), 2))


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(2, 1, 1), (3, 2, 1), (7, 1, 1), (9, 1, 2), (16, 1, 1), (11, 3, 1), (31, 2, 1), (3, 2, 3)],
)
@pytest.mark.parametrize("repeatable", [False, True])
def test_windows_in_stages(kernel, stride, dilation, repeatable):
    n = 80
    (line,) = drawn(n)
    out = (n - dilation * (kernel - 1) - 1) // stride + 1
    combine = Number.larger if repeatable else Number.__add__
    padded_line = numbers(np.concatenate([line, np.zeros(2 * stride * kernel)]))
    with counting() as tally:
        got = counted.staged(padded_line, plan(kernel, stride, dilation, repeatable).stages, stride, out, combine)
    views = np.lib.stride_tricks.sliding_window_view(line, dilation * (kernel - 1) + 1)[::stride, ::dilation]
    assert np.array_equal(values(np.array(got)), (np.max if repeatable else np.sum)(views, axis=1))
    assert tally.adds == line_operations(Axis(n, out, kernel, stride, dilation), repeatable)
    assert tally.adds <= (kernel - 1) * out


def test_adaptive_windows_and_norms():
    ops = fc.count_ops(fc.adaptive_avg_pool2d, (1, 2, 5, 7), (2, 3))
    # Of 5 rows the windows have 3 and 3, of 7 columns 3, 3 and 3.
    assert (ops.multiplies, ops.adds) == (2 * 6, 2 * (6 * 9 - 6))
    ops = fc.count_ops(fc.global_avg_pool, (2, 3, 4, 5))
    assert (ops.multiplies, ops.adds) == (6, 6 * 19)
    ops = fc.count_ops(fc.lp_pool2d, (1, 1, 4, 4), 2, 2)
    assert (ops.multiplies, ops.adds) == (16 + 4, 12)
    assert (
        fc.count_ops(fc.max_pool2d, (1, 64, 100, 100), 9, 1).adds
        > fc.count_ops(fc.max_pool2d, (1, 64, 100, 100), 9, 1, algorithm="auto").adds
    )


def test_sums_of_columns():
    rng = np.random.default_rng(0)
    for _ in range(12):
        H, W = rng.integers(4, 8, 2).tolist()
        k, stride, dilation, padding = (int(rng.integers(1, n)) for n in (4, 4, 2, 2))
        columns = fc.unfold(np.ones((1, 1, H, W)), k, dilation, padding, stride)
        got = fc.fold(np.ones(columns.shape), (H, W), k, dilation, padding, stride)
        ops = fc.count_ops(fc.fold, columns.shape, (H, W), k, dilation, padding, stride)
        # Of ones, each sum is how many were added.
        assert ops.adds == np.maximum(got - 1, 0).sum()
        assert ops.bytes_read == 4 * columns.size


def test_interpolation_along_one_axis_after_the_other():
    ops = fc.count_ops(fc.interpolate, (1, 2, 5, 4), scale_factor=2, mode="bilinear")
    assert (ops.macs, ops.multiplies, ops.adds) == (2 * 80 * 4, 2 * 80 * 4, 2 * 80 * 3)
    passes = fc.count_ops(fc.interpolate, (1, 2, 5, 4), scale_factor=2, mode="bilinear", algorithm="auto")
    # Along W 5 rows of 8, then along H 10 of 8; or along H 10 rows of 4 first.
    assert passes.multiplies in (2 * 2 * (40 + 80), 2 * 2 * (40 + 80))
    assert passes.adds == passes.multiplies // 2
    assert fc.count_ops(fc.interpolate, (1, 2, 5, 4), scale_factor=2)[:3] == (0, 0, 0)
