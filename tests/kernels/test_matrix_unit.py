"""The matrix unit and the operations around it: compiled code against its Python twins."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.dispatch import load
from fastconv.kernels.cpu import bf16_ops as ops
from fastconv.kernels.cpu import matrix_unit as mu
from fastconv.kernels.cpu.bf16_ops import finish_block
from fastconv.kernels.cpu.matrix_unit import WEIGHT_COLUMNS, WEIGHT_ROWS, configure, multiply, release
from fastconv.kernels.cpu.microkernel import ROWS
from fastconv.kernels.cpu.program import address

pytestmark = pytest.mark.skipif(not load.target().matrix_unit, reason="this CPU has no matrix unit")


@njit()
def multiply_rows(palette, terms, c, add, w, x, offsets, stride, half, low, blocks):
    configure(palette)
    multiply(WEIGHT_ROWS, terms, c, add, w, x, offsets, stride, half, low, blocks)
    release()


@njit()
def multiply_columns(palette, terms, c, add, w, x, offsets, stride, half, low, blocks):
    configure(palette)
    multiply(WEIGHT_COLUMNS, terms, c, add, w, x, offsets, stride, half, low, blocks)
    release()


@pytest.mark.parametrize("terms", [1, 3])
@pytest.mark.parametrize(("role", "compiled"), [(WEIGHT_ROWS, multiply_rows), (WEIGHT_COLUMNS, multiply_columns)])
def test_multiply_is_its_twin(role, compiled, terms):
    rng = np.random.default_rng(terms)
    w = ops.halves_twin(rng.integers(-64, 65, 3 * 2048).astype("f4"))[0]
    x = ops.halves_twin(rng.integers(-64, 65, 8192).astype("f4"))[0]
    offsets = np.array([0, 6, 640], np.int64)
    stride, half, low, one = 136, 64, 4096, np.ones((32, 32), np.float32)
    for add in (0, 1):
        got, expected = one.copy(), one.copy()
        addresses = [(address(c), add, address(w), address(x), address(offsets)) for c in (got, expected)]
        compiled(address(mu.PALETTE), terms, *addresses[0], stride, half, low, 3)
        mu.multiply_twin(role, terms, *addresses[1], stride, half, low, 3)
        np.testing.assert_array_equal(got, expected)


@njit()
def split_pairs(high, low, first, second, n):
    ops.split_pairs(high, low, first, second, n)


@njit()
def split_row(high, low, source, n, padded):
    ops.split_row(high, low, source, n, padded)


@njit()
def split_gathered(high, low, source, index):
    ops.split_gathered(high, low, source, index)


@njit()
def turn_tile(tile):
    ops.turn_tile(tile)


@njit()
def finish_by_row(out, ldo, c, bias, residual, limits, rows, n, flag):
    finish_block(ROWS, out, ldo, c, bias, residual, limits, rows, n, flag)


def numbers(count):
    """Return numbers of all sizes, special ones among them."""
    rng = np.random.default_rng(count)
    x = (rng.standard_normal(count) * 10.0 ** rng.integers(-20, 20, count)).astype("f4")
    x[:6] = np.nan, np.inf, -np.inf, 3.4e38, -0.0, np.float32(1) + np.float32(2) ** -8
    return x


@pytest.mark.parametrize("n", [1, 15, 16, 33])
def test_splits_are_their_twins(n):
    x, y = numbers(64), numbers(80)[::-1].copy()
    for compiled, twin, args in (
        (split_pairs, ops.split_pairs_twin, (address(x), address(y), n)),
        (split_row, ops.split_row_twin, (address(x), n, 40)),
    ):
        results = []
        for function in (compiled, twin):
            high, low = np.zeros(160, np.uint16), np.zeros(160, np.uint16)
            function(address(high), address(low), *args)
            count = 2 * n if compiled is split_pairs else 40
            results.append([mu.floats_of(part[:count]) for part in (high, low)])
        np.testing.assert_array_equal(*results)


def test_gathered_split_is_its_twin():
    x, index = numbers(300), np.random.default_rng(0).integers(-50, 300, 32).astype(np.int32)
    results = []
    for function in (split_gathered, ops.split_gathered_twin):
        high, low = np.zeros(32, np.uint16), np.zeros(32, np.uint16)
        function(address(high), address(low), address(x), address(index))
        results.append([mu.floats_of(part) for part in (high, low)])
    np.testing.assert_array_equal(*results)


def test_turned_tile_is_its_transpose():
    words = np.random.default_rng(0).integers(0, 2**32, (16, 16), np.uint32)
    tile = words.copy()
    turn_tile(address(tile))
    np.testing.assert_array_equal(tile, words.T)


@pytest.mark.parametrize("n", [1, 16, 23, 32])
def test_finished_block_is_its_twin(n):
    rng = np.random.default_rng(n)
    c, bias = rng.standard_normal((32, 32)).astype("f4"), rng.standard_normal(32).astype("f4")
    limits, residual = np.array([-0.5, 2], "f4"), rng.standard_normal((9, 40)).astype("f4")
    for added in (0, address(residual)):
        for value in (1.0, np.inf):
            c[8, n - 1] = value
            results, flags = [], []
            for function in (finish_by_row, lambda *args: ops.finish_block_twin(ROWS, *args)):
                out, flag = np.zeros((9, 40), "f4"), np.zeros(1, np.uint8)
                arrays = (address(out), 40, address(c), address(bias), added, address(limits))
                function(*arrays, 9, n, address(flag))
                results.append(out)
                flags.append(int(flag[0]))
            np.testing.assert_array_equal(*results)
            assert flags == [value == np.inf] * 2
