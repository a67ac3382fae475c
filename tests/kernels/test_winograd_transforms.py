"""Winograd's vector code against its Python twins, on memory full of NaN whose neighbours must stay."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import microkernel, squares, target, winograd_transforms

SHAPES = {(4, 3, 4, 3): "f4", (2, 3, 2, 3): "f4", (1, 1, 4, 3): "f8", (4, 5, 1, 1): "f4"}
EDGE = 64


@cache
def kernels(MR, MH, RH, MW, RW, BITS):
    """Return the compiled transforms."""
    NR = 2 * target.current().lanes(BITS)
    tiles_in, weights_in, tiles_out = (
        getattr(winograd_transforms, name) for name in ("tiles_in", "weights_in", "tiles_out")
    )

    @njit()
    def load(dst, places, src, row, pixel, n):
        tiles_in(MR, MH, RH, MW, RW, BITS, dst, places, src, row, pixel, n)

    @njit()
    def weights(dst, pitch, src):
        weights_in(NR, MH, RH, MW, RW, BITS, dst, pitch, src)

    @njit()
    def store(dst, row, src, places, n, flag):
        tiles_out(MR, NR, MH, RH, MW, RW, BITS, dst, row, src, places, n, flag)

    return load, weights, store


@cache
def moves(BITS):
    """Return the compiled transpositions and the product of panels."""
    turn, fill_lines, finish_turned = squares.turn, squares.fill_lines, squares.finish_turned
    products, (MR, NV) = microkernel.products, target.current().outer_tiles[0]

    @njit()
    def turned(dst, ldd, src, lds, rows, columns):
        turn(BITS, dst, ldd, src, lds, rows, columns)

    @njit()
    def planes(dst, src, lds, ldh, lanes, count, top, bottom, first, last, P):
        fill_lines(BITS, 0, dst, src, lds, ldh, lanes, count, top, bottom, first, last, P)

    @njit()
    def pixels(dst, src, lds, ldh, lanes, count, top, bottom, first, last, P):
        fill_lines(BITS, 1, dst, src, lds, ldh, lanes, count, top, bottom, first, last, P)

    @njit()
    def finished(out, ldo, ldh, src, lds, lsh, bias, residual, limits, rows, count, columns):
        finish_turned(BITS, out, ldo, ldh, src, lds, lsh, bias, residual, limits, rows, count, columns)

    @njit()
    def multiplied(a, block, chunk, K, b, c, blocks, points, add):
        products(MR, NV, BITS, a, block, chunk, K, b, c, blocks, points, add)

    return {"turn": turned, "fill_lines": (planes, pixels), "finish_turned": finished, "products": multiplied}


def at(array):
    return array.ctypes.data


def filled(size, dtype):
    """Return memory for `size` elements between edges, all of it NaN."""
    return np.full(size + 2 * EDGE, np.nan, dtype)


def run_both(size, dtype, *calls):
    """Return what each call (destination address -> None) makes of the same memory."""
    results = []
    for call in calls:
        memory = filled(size, dtype)
        call(at(memory) + EDGE * memory.itemsize)
        assert np.isnan(memory[:EDGE]).all()
        assert np.isnan(memory[EDGE + size :]).all()
        results.append(memory[EDGE : EDGE + size])
    return results


def close(got, expected):
    scale = np.nanmax(np.abs(expected), initial=1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=16 * np.finfo(got.dtype).eps * scale)


@pytest.mark.targets
@pytest.mark.parametrize(("shape", "dtype"), SHAPES.items(), ids=str)
def test_transforms_equal_their_twins(shape, dtype):
    MH, RH, MW, RW = shape
    bits, rng, MR, n = 8 * np.dtype(dtype).itemsize, np.random.default_rng(0), 6, 5
    VL, NH, NW = target.current().lanes(bits), MH + RH - 1, MW + RW - 1
    NR, points, pixel = 2 * VL, NH * NW, VL + 3
    load, weights, store = kernels(MR, *shape, bits)
    row = (n * MW + RW) * pixel
    x = rng.standard_normal(NH * row).astype(dtype)
    places = np.array([0, 16, 48, 32, 80])
    arguments = (at(places), at(x), row, pixel, n)
    twin = winograd_transforms.tiles_in_twin
    size = points * MR * 16
    close(*run_both(size, dtype, lambda d: load(d, *arguments), lambda d: twin(MR, *shape, bits, d, *arguments)))

    taps, pitch = rng.standard_normal(RH * RW * NR).astype(dtype), NR + 5
    twin = winograd_transforms.weights_in_twin
    arguments = pitch, at(taps)
    size = (points - 1) * pitch + VL
    close(*run_both(size, dtype, lambda d: weights(d, *arguments), lambda d: twin(NR, *shape, bits, d, *arguments)))

    sums, places = rng.standard_normal(points * MR * NR).astype(dtype), places // 16 * NR
    twin, row = winograd_transforms.tiles_out_twin, n * MW * NR
    for value, expected in ((0, 0), (np.nan, 1), (np.inf, 1), (-np.inf, 1)):
        if value:
            sums[places[3] + VL - 1] = value
        flags = np.zeros((2, 3), np.uint8)
        rest = row, at(sums), at(places), n
        got = run_both(
            MH * row,
            dtype,
            lambda d, rest=rest, flags=flags: store(d, *rest, at(flags[0]) + 1),
            lambda d, rest=rest, flags=flags: twin(MR, NR, *shape, bits, d, *rest, at(flags[1]) + 1),
        )
        if not value:
            close(*got)
        assert flags.tolist() == [[0, expected, 0]] * 2


@pytest.mark.targets
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_transpositions_equal_their_twins(dtype):
    bits, rng = 8 * np.dtype(dtype).itemsize, np.random.default_rng(0)
    VL, compiled = target.current().lanes(bits), moves(bits)
    for rows in {1, VL - 1, VL}:
        for columns in {1, VL - 1, VL, VL + 1, 2 * VL + 3}:
            src, lds = rng.standard_normal((rows, columns + 2)).astype(dtype), columns + 2
            rest = (VL, at(src), lds, rows, columns)
            got, expected = run_both(
                columns * VL,
                dtype,
                lambda d, rest=rest: compiled["turn"](d, *rest),
                lambda d, rest=rest: squares.turn_twin(bits, d, *rest),
            )
            for y in (got, expected):
                np.testing.assert_array_equal(y.reshape(-1, VL)[:, :rows], src[:, :columns].T)
            check_lines(compiled, bits, VL, rng.standard_normal((rows, 3, columns)).astype(dtype))
            check_finish(compiled, bits, VL, rng, rows, columns)


def check_lines(compiled, bits, VL, src):
    lanes, inner, columns = src.shape
    pixels = np.ascontiguousarray(src.transpose(1, 2, 0))
    for LAST, array, lds, ldh in ((0, src, inner * columns, columns), (1, pixels, lanes, columns * lanes)):
        for top, below, first, behind in ((0, 0, 0, 0), (1, 2, 1, 1), (0, 1, 3, 0), (2, 0, 0, 4)):
            P, count = first + columns + behind, top + inner + below
            edges = (lanes, count, top, top + inner, first, first + columns, P)
            rest = (at(array), lds, ldh, *edges)
            got, expected = run_both(
                (count * P + VL) * VL,
                src.dtype,
                lambda d, LAST=LAST, rest=rest: compiled["fill_lines"][LAST](d, *rest),
                lambda d, LAST=LAST, rest=rest: squares.fill_lines_twin(bits, LAST, d, *rest),
            )
            exact = np.zeros((count, P, lanes), src.dtype)
            exact[top : top + inner, first : first + columns] = pixels
            for y in (got, expected):
                np.testing.assert_array_equal(y.reshape(-1, VL)[: count * P, :lanes].reshape(exact.shape), exact)


def check_finish(compiled, bits, VL, rng, rows, columns):
    count, dtype = 2, f"f{bits // 8}"
    src = rng.standard_normal((count, columns + VL, VL + 1)).astype(dtype)
    bias, residual = (rng.standard_normal(s).astype(dtype) for s in (rows, (rows, count, columns)))
    limits = np.array([-1, 1.5], dtype)
    strides = (count * columns, columns, at(src), VL + 1, src[0].size, at(bias))
    for added in (0, at(residual)):
        rest = (*strides, added, at(limits), rows, count, columns)
        got, expected = run_both(
            residual.size,
            dtype,
            lambda d, rest=rest: compiled["finish_turned"](d, *rest),
            lambda d, rest=rest: squares.finish_turned_twin(bits, d, *rest),
        )
        np.testing.assert_array_equal(got, expected)
        exact = src.transpose(2, 0, 1)[:rows, :, :columns] + bias[:, None, None] + (residual if added else 0)
        np.testing.assert_array_equal(expected.reshape(residual.shape), np.clip(exact, -1, 1.5))


@pytest.mark.targets
def test_products_equal_their_twin():
    bits, rng = 32, np.random.default_rng(0)
    (MR, NV), VL = target.current().outer_tiles[0], target.current().lanes(32)
    NR, blocks, points = NV * VL, 2, 3
    for K in (1, 16, 21):
        chunk = points * MR * 16 + 16
        block = -(-K // 16) * chunk
        a = rng.integers(-4, 5, blocks * block).astype("f4")
        b = rng.integers(-4, 5, points * K * NR).astype("f4")
        c = rng.integers(-4, 5, blocks * points * MR * NR).astype("f4")
        for add in (0, 1):
            one, two = c.copy(), c.copy()
            rest = (at(a), block, chunk, K, at(b))
            moves(bits)["products"](*rest, at(one), blocks, points, add)
            microkernel.products_twin(MR, NV, bits, *rest, at(two), blocks, points, add)
            np.testing.assert_array_equal(one, two)
            assert (one != c).any()
