"""Maxima, averages and norms over windows of 1 to 3 axes: pools of all kinds.

A table says for each output of an axis at which input its window starts, how many taps it has and what an average
counts, so that padding, `ceil_mode` and adaptive windows are one kernel without a test for bounds. Arrays are (P, D, H,
W, L): with channels_first L is 1, with channels_last the channels are lanes; neighbours in memory are neighbours in the
warp in both. A thread reduces rows, and, where windows overlap, adds each to all of its R outputs along H that see it.
Where windows start at every second element of a row, it reads pairs, so that a warp uses all of the sectors it loads.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, types, uint32, uint64

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.memory import REAL, code_of, device, load, load4, pointer
from fastconv.kernels.cuda.pairs import in_pairs, load2
from fastconv.kernels.cuda.powers import power_of
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
SIZES, REALS = 25, 5
# Rows of outputs of a thread whose windows overlap.
ROWS = 4
SEARCHES = ("max", "magnitude")


def windows(code: str, op: str, indexed: bool, R: int, pairs: bool, threads: int) -> Kernel:
    """Return the kernel of one reduction.

    Parameters
    ----------
    op : {"max", "magnitude", "sum", "square", "norm", "whole_norm"}
        Maxima of the elements, or of their magnitudes times a sign, the `divisor`; averages; the root of the average
        of squares or powers, times the size of a window ("whole_norm": averages are truncated, as those of integers
        are).
    indexed : bool
        Also write which element is the maximum; `g` says what an empty window has.
    """
    real, tap, finish = REAL[code], device(tap_of(op, code)), device(finish_of(op, code))
    MAX = op in SEARCHES

    def pool_windows(x, out, indices, table, g, reals):
        total, L, OW, OG, OD, OH, H, W, XP, XD, XH, XW, XL, DD, DH, DW = g[:16]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q = quotient(i, g[16], g[17])
        lane = uint32(i - uint32(q * L))
        rest = quotient(q, g[18], g[19])
        ow = uint32(q - uint32(rest * OW))
        q = quotient(rest, g[20], g[21])
        oh = uint32(uint32(rest - uint32(q * OG)) * uint32(R))
        plane = quotient(q, g[22], g[23])
        od = uint32(q - uint32(plane * OD))
        d0, dn, dc, _ = load4(table, uint32(od * uint32(4)), 0)
        w0, wn, wc, _ = load4(table, uint32(uint32(uint32(OD + OH) + ow) * uint32(4)), 0)
        h0, hn = cuda.local.array(R, types.uint32), cuda.local.array(R, types.uint32)
        hc, at = cuda.local.array(R, types.uint32), cuda.local.array(R, types.uint32)
        acc = cuda.local.array(R, real)
        for r in range(R):
            row = uint32(uint32(OD + min(uint32(oh + uint32(r)), uint32(OH - uint32(1)))) * uint32(4))
            h0[r], hn[r], hc[r], _ = load4(table, row, 0)
            acc[r], at[r] = reals[0], g[24]
            if indexed and dn > 0 and hn[r] > 0 and wn > 0:
                at[r] = uint32(uint32(uint32(uint32(d0 * H) + h0[r]) * W) + w0)
        first, rows = h0[0], uint32(uint32(h0[R - 1] + hn[R - 1]) - h0[0])
        place = uint32(uint32(plane * XP) + uint32(lane * XL))
        stop = uint32(w0 + wn)
        kd = uint32(0)
        while kd < dn:
            d = uint32(d0 + uint32(kd * DD))
            k = uint32(0)
            while k < rows:
                h = uint32(first + uint32(k * DH))
                line = uint32(place + uint32(uint32(d * XD) + uint32(h * XH)))
                value, number = reals[0], uint32(uint32(uint32(d * H) + h) * W)
                found = uint32(number + w0)
                if pairs:
                    w = uint32(w0 & uint32(0xFFFFFFFE))
                    while w < stop:
                        a, b = load2(x, uint32(line + w))
                        if w >= w0:
                            v = tap(a, reals)
                            if not MAX:
                                value += v
                            elif v > value or v != v:
                                value, found = v, uint32(number + w)
                        if uint32(w + uint32(1)) < stop:
                            v = tap(b, reals)
                            if not MAX:
                                value += v
                            elif v > value or v != v:
                                value, found = v, uint32(uint32(number + w) + uint32(1))
                        w = uint32(w + uint32(2))
                else:
                    w, column = w0, uint32(0)
                    while column < wn:
                        v = tap(real(load(x, uint32(line + uint32(w * XW)))), reals)
                        if not MAX:
                            value += v
                        elif v > value or v != v:
                            value, found = v, uint32(number + w)
                        w, column = uint32(w + DW), uint32(column + uint32(1))
                for r in range(R):
                    if R == 1 or uint32(h - h0[r]) < hn[r]:
                        if not MAX:
                            acc[r] += value
                        elif value > acc[r] or value != value:
                            acc[r], at[r] = value, found
                k = uint32(k + uint32(1))
            kd = uint32(kd + uint32(1))
        to = uint32(uint32(uint32(uint32(uint32(plane * OD) + od) * OH) + oh) * uint32(OW * L))
        to = uint32(uint32(to + uint32(ow * L)) + lane)
        for r in range(R):
            if R == 1 or uint32(oh + uint32(r)) < OH:
                here = uint32(to + uint32(uint32(r) * uint32(OW * L)))
                out[here] = finish(acc[r], uint32(uint32(dc * hc[r]) * wc), reals)
                if indexed:
                    indices[here] = types.int64(at[r])

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    arguments = (array, array, pointer("l"), pointer("I"), own, types.UniTuple(real, REALS))
    return Kernel(pool_windows, arguments, threads)


def tap_of(op: str, code: str) -> Any:
    """Return what is reduced of an element; `n` are (start, divisor, p, 1/p, size of a window)."""
    power = power_of(code)
    return {
        "magnitude": lambda v, n: abs(v) * n[1],
        "square": lambda v, n: v * v,
        "norm": lambda v, n: power(v, n[2]),
        "whole_norm": lambda v, n: power(v, n[2]),
    }.get(op, lambda v, n: v)


def finish_of(op: str, code: str) -> Any:
    """Return what is made of the reduced window, of which an average counts so many elements."""
    real, power = REAL[code], power_of(code)
    if op == "magnitude":
        return lambda v, count, n: v * n[1]
    if op == "max":
        return lambda v, count, n: v
    if code == "l":
        return _truncated
    whole = device(lambda v: real(math.floor(v) if v >= real(0) else math.ceil(v)))
    return {
        "sum": lambda v, count, n: v / (n[1] * real(count)),
        "square": lambda v, count, n: math.sqrt(v / (n[1] * real(count)) * n[4]),
        "norm": lambda v, count, n: power(v / (n[1] * real(count)) * n[4], n[3]),
        "whole_norm": lambda v, count, n: power(whole(v / (n[1] * real(count))) * n[4], n[3]),
    }[op]


def _truncated(v, count, n):
    """The quotient of int64, toward zero, bit by bit: a division of 64 bits would be a call of a subroutine."""
    by = types.int64(n[1] * types.int64(count))
    negative = (v < types.int64(0)) != (by < types.int64(0))
    left, divisor = uint64(abs(v)), uint64(abs(by))
    whole, part = uint64(0), uint64(0)
    for bit in range(64):
        part = uint64(uint64(part << uint64(1)) | uint64(left >> uint64(63)))
        left, whole = uint64(left << uint64(1)), uint64(whole << uint64(1))
        if part >= divisor:
            part, whole = uint64(part - divisor), uint64(whole | uint64(1))
    found = types.int64(whole)
    return -found if negative else found


def run(
    stream: Any,
    op: str,
    x: Buffer,
    target: Buffer,
    indices: Buffer | None,
    empty_index: int,
    table: Buffer,
    outs: tuple[int, int, int],
    steps: tuple[int, int, int],
    overlapping: bool,
    reals: tuple[float, ...],
) -> None:
    """Fill `target`, and `indices` if there are any, from x (P, D, H, W, L) of any strides.

    Windows of nothing have the index `empty_index`.
    `table` is that of `fastconv.dispatch.cuda_windows`, `outs` the outputs of D, H, W, `steps` the dilation.
    """
    code, (P, _, H, W, L), (OD, OH, OW) = code_of(x.dtype), x.shape, outs
    R = ROWS if overlapping and steps[1] == 1 and OH >= ROWS else 1
    OG = -(-OH // R)
    total = P * OD * OG * OW * L
    if not total:
        return
    pairs = L == 1 and steps[2] == 1 and in_pairs(x)
    XP, XD, XH, XW, XL = x.strides
    sizes = (total, L, OW, OG, OD, OH, H, W, XP, XD, XH, XW, XL, *steps, *magics((L, OW, OG, OD)), empty_index)
    kind = x.dtype.type
    arguments = (x, target, indices, table, numbers(sizes), tuple(map(kind, reals)))
    launch(stream, windows, (code, op, indices is not None, R, pairs, THREADS), blocks_of(total, THREADS), arguments)
