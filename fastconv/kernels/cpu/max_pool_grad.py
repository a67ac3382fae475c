"""The pullback of max pooling with windows side by side: each gradient goes to the maximum of its window.

The maxima are found again in the input, so no indices are needed: the input and the gradients are read once, the result
is written once. `route_rows` does it for windows whose taps are rows. In channels_last lanes are channels, and a tap is
a pixel. In channels_first lanes are windows, and a tap is a row: VL windows of two columns are two vectors, whose even
and odd elements are drawn apart by shuffles, and zipped together again when they are stored.

Windows are whole, and as far apart as they are long; what is left behind the last of them is zero. In channels_last
others are the work of kernels/cpu/max_pool_sums.py, else of kernels/cpu/unpool.py, by the indices of the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv._jit import inline, njit
from fastconv.kernels.cpu.element_ops import zero_bytes
from fastconv.kernels.cpu.ir_builder import I32, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements, ints
from fastconv.kernels.cpu.program import Program, address, table
from fastconv.kernels.cpu.row_ops import Row, each_vector, first_lanes

N = types.intp

# The fields of g. A task is RB rows of windows, BLOCKS of them in a plane. A row of the input has ROW elements, one of
# the gradients OUT_ROW; K taps, at offsets in TAPS. A row of windows is RUNS runs of LENGTH lanes, STEP elements of the
# input apart. FULL: windows cover the input.
D, H, OD, OH, KD, KH, RB, BLOCKS, ROW, OUT_ROW, K, TAPS, RUNS, LENGTH, STEP, FULL = range(16)

# io: gradients of the result, the input, its gradients.
GRAD, X, OUT = range(3)

# Elements of the input in a task.
TASK = 8192

# Elements of a window whose comparisons are unrolled.
_FOUR = 4


@lru_cache(maxsize=128)
def build(
    bits: int, planes: int, lanes: int, sizes: Sequence[int], outs: Sequence[int], kernel: Sequence[int]
) -> Program:
    """Return the program for arrays (planes, *sizes, lanes) with windows of `kernel`; three sizes of each.

    With one lane windows have two columns.
    """
    (d, h, w), (od, oh, ow), (kd, kh, kw) = sizes, outs, kernel
    full = (d, h, w) == (od * kd, oh * kh, ow * kw)
    if full and d == 1:
        # Rows of all planes make blocks together.
        planes, h, oh = 1, planes * h, planes * oh
    row, columns = w * lanes, 2 if lanes == 1 else 1
    taps = table(a * h * row + b * row + c * lanes for a, b, c in np.ndindex(kd, kh, kw // columns))
    rows = max(1, min(TASK // (kd * kh * row), oh))
    runs, length, step = (1, ow, kh * row) if lanes == 1 else (ow, lanes, kw * lanes)
    numbers = (d, h, od, oh, kd, kh, rows, -(-oh // rows), row, ow * lanes)
    g = np.array([*numbers, len(taps), address(taps), runs, length, step, full], np.int64)
    return Program(_kernel(bits, columns), g, planes * od * -(-oh // rows), 0, (), [taps])


class _Pairs:
    """Loads and stores of VL pairs, as two vectors of their first and second elements."""

    def __init__(self, v: Lanes, row: Row, n: Any):
        self.v = v
        self.rows = [row, row]
        if row.mask is not None:
            twice = v.b.mul(n, const(2))
            self.rows = [Row(v, first_lanes(v, count)) for count in (twice, v.b.sub(twice, const(v.VL)))]

    def _shuffled(self, pair: list[Any], orders: list[list[int]]) -> list[Any]:
        masks = [ir.Constant(ir.VectorType(I32, self.v.VL), order) for order in orders]
        return [self.v.b.shuffle_vector(*pair, mask) for mask in masks]

    def load(self, pointer: Any) -> list[Any]:
        """Return the first, and the second, element of each pair."""
        VL = self.v.VL
        pair = [row.load(self.v.at(pointer, i * VL)) for i, row in enumerate(self.rows)]
        return self._shuffled(pair, [list(range(odd, 2 * VL, 2)) for odd in (0, 1)])

    def store(self, values: list[Any], pointer: Any) -> None:
        """Store pairs of these elements."""
        VL = self.v.VL
        zipped = self._shuffled(values, [[(i + j) // 2 + (i + j) % 2 * VL for i in range(VL)] for j in (0, VL)])
        for i, (row, vector) in enumerate(zip(self.rows, zipped, strict=True)):
            row.store(vector, self.v.at(pointer, i * VL))


class _Single:
    """Loads and stores of VL elements, as a list of one vector."""

    def __init__(self, row: Row):
        self.row = row

    def load(self, pointer: Any) -> list[Any]:
        """Return one vector."""
        return [self.row.load(pointer)]

    def store(self, values: list[Any], pointer: Any) -> None:
        """Store one vector."""
        self.row.store(values[0], pointer)


class _Winners:
    """Emits the comparison of the taps of VL windows, and the numbers of those that win."""

    def __init__(self, v: Lanes):
        self.v, self.vector = v, ir.VectorType(ir.IntType(v.bits), v.VL)

    def number(self, k: Any) -> Any:
        """Return a number in every lane."""
        b, one = self.v.b, ir.Constant(self.vector, ir.Undefined)
        k = k if self.v.bits == 64 else b.trunc(k, self.vector.element)
        zeros = ir.Constant(ir.VectorType(I32, self.v.VL), [0] * self.v.VL)
        return b.shuffle_vector(b.insert_element(one, k, ir.Constant(I32, 0)), one, zeros)

    def later(self, best: list[Any], k: Any, element: Any) -> list[Any]:
        """Return the larger of [element, number] and a later one; NaN is larger than all."""
        b = self.v.b
        wins = b.or_(b.fcmp_ordered(">", element, best[0]), b.fcmp_unordered("uno", element, element))
        return [b.select(wins, element, best[0]), b.select(wins, self.number(k), best[1])]

    def kept(self, winner: Any, k: Any, value: Any) -> Any:
        """Return the value where k is the winner, else 0."""
        b = self.v.b
        return b.select(b.icmp_signed("==", winner, self.number(k)), value, self.v.zero)


def _emit_routes(bits: int, columns: int, add: int, b: ir.IRBuilder, args: Any) -> None:
    """Emit `_route_rows`."""
    v = Lanes(b, bits)
    out, x, grad, taps = (v.pointer(args[i]) for i in (0, 1, 3, 5))
    ldx, ldg, count, rows, n = (args[i] for i in (2, 4, 6, 7, 8))
    winners = _Winners(v)

    def at(k, window):
        return b.add(window, v.int_at(taps, const(k) if isinstance(k, int) else k))

    def route(each, r, i, row):
        """Emit VL windows; `each(first, carried, emit)` goes through the taps from the first on."""
        access = _Single(row) if columns == 1 else _Pairs(v, row, b.sub(n, i))
        window = b.add(b.mul(r, ldx), b.mul(i, const(columns)))
        numbers = [const(c) for c in range(columns)]
        first, *others = access.load(v.at(x, at(0, window)))
        best = [first, winners.number(const(0))]
        for number, element in zip(numbers[1:], others, strict=True):
            best = winners.later(best, number, element)

        def compare(k, before):
            best = list(before)
            for number, element in zip(numbers, access.load(v.at(x, at(k, window))), strict=True):
                best = winners.later(best, b.add(b.mul(k, const(columns)), number), element)
            return best

        winner = each(1, [(v.vector, best[0]), (winners.vector, best[1])], compare)[1]
        value = row.load(v.at(grad, b.add(b.mul(r, ldg), i)))

        def keep(k, _):
            target = v.at(out, at(k, window))
            kept = [winners.kept(winner, b.add(b.mul(k, const(columns)), number), value) for number in numbers]
            if add:
                kept = [b.fadd(*pair) for pair in zip(access.load(target), kept, strict=True)]
            access.store(kept, target)
            return []

        each(0, [], keep)

    def looped(first, carried, one):
        with counted(b, b.sub(count, const(first)), carried) as (k, before, after):
            after += one(b.add(k, const(first)), before)
        return after

    def unrolled(first, carried, one):
        values = [start for _, start in carried]
        for k in range(first, _FOUR // columns):
            values = one(const(k), values)
        return values

    # Windows of 2x2 are what most networks have.
    with b.if_else(b.icmp_signed("==", count, const(_FOUR // columns))) as (four, other):
        for branch, each in ((four, unrolled), (other, looped)):
            with branch, counted(b, rows) as (r, _, _):
                each_vector(v, n, partial(route, each, r), repeatable=not add)


@intrinsic(prefer_literal=True)
def _route_rows(typing, BITS, COLUMNS, ADD, out, x, ldx, grad, ldg, taps, count, rows, n):
    """out[taps[k] + r*ldx + i*COLUMNS + c] = grad[r*ldg + i] where x there is the first maximum, or last NaN, else 0.

    Of the elements k < count, c < COLUMNS of window i < n of row r < rows. With ADD it is added to `out`, a row after
    the other.
    """
    value = literals(BITS, COLUMNS, ADD)
    if value is None:
        return None
    bits, columns, add = value

    def codegen(context, builder, signature, args):
        outlined(builder, f"route_rows_{bits}_{columns}_{add}", args[3:], partial(_emit_routes, bits, columns, add))
        return context.get_dummy_value()

    return types.void(BITS, COLUMNS, ADD, *[N] * 9), codegen


@np.errstate(all="ignore")
def route_rows_twin(BITS, COLUMNS, ADD, out, x, ldx, grad, ldg, taps, count, rows, n):
    """Python twin of `route_rows`."""
    size, offsets = BITS // 8, ints(taps, count).tolist()
    for r in range(rows):
        places = [size * (offset + r * ldx) for offset in offsets]
        windows = np.stack([elements(BITS, x + at, n * COLUMNS).reshape(n, COLUMNS) for at in places], 1)
        windows = windows.reshape(n, -1)
        nans = np.isnan(windows)
        last = windows.shape[1] - 1 - np.argmax(nans[:, ::-1], 1)
        winner = np.where(nans.any(1), last, np.argmax(windows, 1))
        given = elements(BITS, grad + size * r * ldg, n)[:, None]
        for k, at in enumerate(places):
            kept = np.where(winner[:, None] == k * COLUMNS + np.arange(COLUMNS), given, 0)
            target = elements(BITS, out + at, n * COLUMNS)
            target[:] = target + kept.ravel() if ADD else kept.ravel()


route_rows = route_rows_twin if config.DISABLE_JIT else _route_rows


@inline
def zero_all(BITS, out, g, image, od, o0, rows):
    """Zero all that belongs to a task: its windows, and what is behind the last ones."""
    d, h = od * g[KD], o0 * g[KH]
    d1 = g[D] if od == g[OD] - 1 else d + g[KD]
    h1 = g[H] if o0 + rows == g[OH] else h + rows * g[KH]
    for plane in range(d, d1):
        zero_bytes(out + BITS // 8 * ((image + plane) * g[H] + h) * g[ROW], BITS // 8 * (h1 - h) * g[ROW])


@cache
def _kernel(BITS: int, COLUMNS: int) -> Any:
    size = BITS // 8

    @njit(fastmath=False)
    def route(g, io, scratch, lo, hi):
        """Tasks are blocks of rows of windows."""
        for task in range(lo, hi):
            o0, plane = task % g[BLOCKS] * g[RB], task // g[BLOCKS]
            od, image, rows = plane % g[OD], plane // g[OD] * g[D], min(g[RB], g[OH] - o0)
            if not g[FULL]:
                zero_all(BITS, io[OUT], g, image, od, o0, rows)
            at = size * ((image + od * g[KD]) * g[H] + o0 * g[KH]) * g[ROW]
            grad = io[GRAD] + size * (plane * g[OH] + o0) * g[OUT_ROW]
            # Rows of pairs are runs.
            lines, runs = (1, rows) if COLUMNS == 2 else (rows, g[RUNS])
            for r in range(lines):
                to, given = at + size * r * g[KH] * g[ROW], grad + size * r * g[OUT_ROW]
                x, out, taps, length = io[X] + to, io[OUT] + to, g[TAPS], g[LENGTH]
                route_rows(BITS, COLUMNS, 0, out, x, g[STEP], given, length, taps, g[K], runs, length)

    return route
