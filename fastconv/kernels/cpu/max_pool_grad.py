"""The pullback of max pooling with windows side by side: each gradient goes to the maximum of its window.

The maxima are found again in the input, so no indices are needed: the input and the gradients are read once, the result
is written once. `route_rows` does it for windows whose taps are rows: lanes are channels, read and written in place. In
channels_first lanes are windows: the columns of each tap are gathered in L1 first, and interleaved again behind it.

Windows are whole, and as far apart as they are long; what is left behind the last of them is zero. All other windows go
by the indices of the forward pass, and kernels/cpu/unpool.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.element_ops import zero_bytes
from fastconv.kernels.cpu.ir_builder import Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements, ints
from fastconv.kernels.cpu.moves import copy_rows, zip_rows
from fastconv.kernels.cpu.program import Program, address, table
from fastconv.kernels.cpu.row_ops import each_vector, fill_rows

N = types.intp

# The fields of g. A task is RB rows of windows, BLOCKS of them in a plane; ROW elements of an input row; K taps, at
# offsets in TAPS; EXACT: windows cover the rows; FULL: and the planes; PHASE elements of the columns of one tap.
D, H, OD, OH, OW, KD, KH, KW, RB, BLOCKS, ROW, LANES, K, TAPS, EXACT, FULL, PHASE = range(17)

# io: gradients of the result, the input, its gradients.
GRAD, X, OUT = range(3)

# Elements of a task in channels_first, which are held twice in L1.
TASK = 2048


@lru_cache(maxsize=128)
def build(
    bits: int, planes: int, lanes: int, sizes: Sequence[int], outs: Sequence[int], kernel: Sequence[int]
) -> Program:
    """Return the program for arrays (planes, *sizes, lanes) with windows of `kernel`; three sizes of each."""
    (d, h, w), (od, oh, ow), (kd, kh, kw) = sizes, outs, kernel
    exact, full = w == ow * kw, (d, h, w) == (od * kd, oh * kh, ow * kw)
    if full and d == 1:
        # Rows of all planes make blocks together.
        planes, h, oh = 1, planes * h, planes * oh
    rows = max(1, min(TASK // (kd * kh * w), oh)) if lanes == 1 else 1
    phase = rows * kh * ow
    # (plane of a window, row, column) of each tap, in units of elements.
    units = (kw * phase, ow, phase) if lanes == 1 else (h * w * lanes, w * lanes, lanes)
    taps = table(a * units[0] + b * units[1] + c * units[2] for a, b, c in np.ndindex(kd, kh, kw))
    blocks = -(-oh // rows)
    numbers = (d, h, od, oh, ow, kd, kh, kw, rows, blocks, w * lanes, lanes, len(taps), address(taps), exact, full)
    g = np.array([*numbers, phase], np.int64)
    VL = targets.current().lanes(bits)
    scratch = (2 * kd * kw * phase + VL) * (bits // 8) if lanes == 1 else 0
    return Program((_columns if lanes == 1 else _pixels)(bits), g, planes * od * blocks, scratch, (), [taps])


@intrinsic(prefer_literal=True)
def _route_rows(typing, BITS, out, x, ldx, grad, ldg, taps, count, rows, n):
    """out[taps[k] + r*ldx + i] = grad[r*ldg + i] where x there is the first maximum, or last NaN, of all k, else 0.

    k < count, r < rows, i < n.
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        out, x, grad, taps = (v.pointer(args[i]) for i in (0, 1, 3, 5))
        ldx, ldg, count, rows, n = (args[i] for i in (2, 4, 6, 7, 8))
        number = ir.VectorType(ir.IntType(v.bits), v.VL)

        def splat(k):
            one = ir.Constant(number, ir.Undefined)
            k = k if v.bits == 64 else b.trunc(k, number.element)
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), v.VL), [0] * v.VL)
            return b.shuffle_vector(b.insert_element(one, k, ir.Constant(ir.IntType(32), 0)), one, zeros)

        def tap(k, at):
            return b.add(at, v.int_at(taps, k))

        with counted(b, rows) as (r, _, _):
            source, given = b.mul(r, ldx), v.at(grad, b.mul(r, ldg))

            def route(i, row):
                at = b.add(source, i)
                first = row.load(v.at(x, tap(const(0), at)))
                carried = [(v.vector, first), (number, splat(const(0)))]
                with counted(b, b.sub(count, const(1)), carried) as (k, before, after):
                    k = b.add(k, const(1))
                    element = row.load(v.at(x, tap(k, at)))
                    wins = b.fcmp_ordered(">", element, before[0])
                    wins = b.or_(wins, b.fcmp_unordered("uno", element, element))
                    after += [b.select(wins, element, before[0]), b.select(wins, splat(k), before[1])]
                winner, value = after[1], row.load(v.at(given, i))
                with counted(b, count) as (k, _, _):
                    kept = b.select(b.icmp_signed("==", winner, splat(k)), value, v.zero)
                    row.store(kept, v.at(out, tap(k, at)))

            each_vector(v, n, route)

    def codegen(context, builder, signature, args):
        outlined(builder, f"route_rows_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 9), codegen


def route_rows_twin(BITS, out, x, ldx, grad, ldg, taps, count, rows, n):
    """Python twin of `route_rows`."""
    size, offsets = BITS // 8, ints(taps, count).tolist()
    for r in range(rows):
        places = [size * (offset + r * ldx) for offset in offsets]
        windows = np.stack([elements(BITS, x + at, n) for at in places])
        nans = np.isnan(windows)
        last = count - 1 - np.argmax(nans[::-1], 0)
        winner = np.where(nans.any(0), last, np.argmax(windows, 0))
        given = elements(BITS, grad + size * r * ldg, n)
        for k, at in enumerate(places):
            elements(BITS, out + at, n)[:] = np.where(winner == k, given, 0)


route_rows = route_rows_twin if config.DISABLE_JIT else _route_rows


@inline
def zero_rest(BITS, out, g, image, od, o0, rows):
    """Zero all that belongs to a task: its windows, and what is behind the last ones."""
    d, h = od * g[KD], o0 * g[KH]
    d1 = g[D] if od == g[OD] - 1 else d + g[KD]
    h1 = g[H] if o0 + rows == g[OH] else h + rows * g[KH]
    for plane in range(d, d1):
        zero_bytes(out + BITS // 8 * ((image + plane) * g[H] + h) * g[ROW], BITS // 8 * (h1 - h) * g[ROW])


@cache
def _pixels(BITS: int) -> Any:
    size = BITS // 8

    @njit(fastmath=False)
    def route(g, io, scratch, lo, hi):
        """Tasks are rows of windows of channels_last."""
        lanes = g[LANES]
        for task in range(lo, hi):
            oh, plane = task % g[OH], task // g[OH]
            od, image = plane % g[OD], plane // g[OD] * g[D]
            if not g[FULL]:
                zero_rest(BITS, io[OUT], g, image, od, oh, 1)
            at = size * ((image + od * g[KD]) * g[H] + oh * g[KH]) * g[ROW]
            grad = io[GRAD] + size * task * g[OW] * lanes
            step = g[KW] * lanes
            route_rows(BITS, io[OUT] + at, io[X] + at, step, grad, lanes, g[TAPS], g[K], g[OW], lanes)

    return route


@inline
def gather_columns(BITS, columns, x, g, lines, length):
    """Gather the columns of each tap as `lines` rows of `length`."""
    for kd in range(g[KD]):
        for kw in range(g[KW]):
            to = columns + BITS // 8 * (kd * g[KW] + kw) * g[PHASE]
            src = x + BITS // 8 * (kd * g[H] * g[ROW] + kw)
            fill_rows(BITS, to, src, lines, g[ROW], 0, length, g[KW], length)


@inline
def spread_columns(BITS, MOVED, out, columns, g, lines, length):
    """Write the columns of each tap back to their places in rows."""
    size, phase = BITS // 8, BITS // 8 * g[PHASE]
    for kd in range(g[KD]):
        to, src = out + size * kd * g[H] * g[ROW], columns + kd * g[KW] * phase
        if g[KW] == 2:
            zip_rows(MOVED, to, g[ROW], src, length, src + phase, length, lines, 2 * length)
            continue
        for kw in range(g[KW]):
            for r in range(lines):
                row = src + kw * phase + size * r * length
                copy_rows(MOVED, to + size * (r * g[ROW] + kw), g[KW], row, 1, length, 1)


@cache
def _columns(BITS: int) -> Any:
    # What is only moved is taken as integers.
    size, MOVED = BITS // 8, BITS + 1

    @njit(fastmath=False)
    def route(g, io, scratch, lo, hi):
        """Tasks are blocks of rows of windows of channels_first."""
        routed = scratch + size * g[KD] * g[KW] * g[PHASE]
        for task in range(lo, hi):
            o0, plane = task % g[BLOCKS] * g[RB], task // g[BLOCKS]
            od, image, rows = plane % g[OD], plane // g[OD] * g[D], min(g[RB], g[OH] - o0)
            if not g[FULL]:
                zero_rest(BITS, io[OUT], g, image, od, o0, rows)
            at = size * ((image + od * g[KD]) * g[H] + o0 * g[KH]) * g[ROW]
            count = rows * g[KH]
            lines, length = (1, count * g[OW]) if g[EXACT] else (count, g[OW])
            gather_columns(BITS, scratch, io[X] + at, g, lines, length)
            grad = io[GRAD] + size * (plane * g[OH] + o0) * g[OW]
            step = g[KH] * g[OW]
            route_rows(BITS, routed, scratch, step, grad, g[OW], g[TAPS], g[K], rows, g[OW])
            spread_columns(BITS, MOVED, io[OUT] + at, routed, g, lines, length)

    return route
