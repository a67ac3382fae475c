"""The microkernel of weight gradients: a register tile of sums over pixels; what becomes of the sums.

    c[m, 0:NV*VL] (+)= sum over rows r, columns k of a[lines[r] + k * pitch + places[m]] * b[r * columns + k, 0:NV*VL]

Where `microkernel.outer` broadcasts m consecutive rows of a panel, this one broadcasts an input pixel's value under m
taps and channels, each of which has a place of its own in the strip: so the rows of a tile are any MR elements of a
filter, in the weight's own order, and b, the output's gradient, is read once for them all. ALIKE = 1, for depthwise
convolution: lane j of `a` meets lane j of `b`, so `a` is read as vectors too.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import Lanes, const, counted, literals
from fastconv.kernels.cpu.memory import dtype_of, elements, ints
from fastconv.kernels.cpu.microkernel import WHOLE, add_tile, finish_tile, rank_one, store_twin
from fastconv.kernels.cpu.row_ops import each_vector, transposed

N = types.intp


@intrinsic(prefer_literal=True)
def _rank_update(typing, MR, NV, ALIKE, BITS, a, pitch, lines, rows, columns, places, b, c, add):
    """Emit the register tile; offsets count elements, `add` = 1 adds to what stands at c, whose rows are NV*VL long."""
    tile = literals(MR, NV, ALIKE, BITS)
    if tile is None:
        return None
    mr, nv, alike, bits = tile

    def codegen(context, builder, signature, args):
        a, pitch, lines, rows, columns, places, b, c, add = args[4:]
        v = Lanes(builder, bits)
        a, lines, places, b = (v.pointer(p) for p in (a, lines, places, b))
        nr, offsets = const(nv * v.VL), [v.int_at(places, const(m)) for m in range(mr)]
        with counted(builder, rows, [(v.vector, v.zero)] * (mr * nv)) as (r, sums, after_row):
            line = v.at(a, v.int_at(lines, r))
            gradients = v.at(b, builder.mul(builder.mul(r, columns), nr))
            with counted(builder, columns, [(v.vector, t) for t in sums]) as (k, inner, after_k):
                pixel, row = v.at(line, builder.mul(k, pitch)), v.at(gradients, builder.mul(k, nr))
                taps = [v.at(pixel, offset) for offset in offsets]
                after_k.extend(_lane_by_lane(v, taps, row, inner, nv) if alike else rank_one(v, taps, row, inner, nv))
            after_row.extend(after_k)
        init = builder.select(builder.icmp_signed("!=", add, const(0)), c, const(0))
        finish_tile(v, add_tile(v, after_row, nv, init, nr), nv, WHOLE, c, nr, const(0), const(0))
        return context.get_dummy_value()

    return types.void(MR, NV, ALIKE, BITS, *[N] * 9), codegen


def _lane_by_lane(v, taps, row, sums, nv):
    """Emit sums[m][j] += a[m][j] * b[j] for vectors j."""
    kept = [v.load(v.at(row, j * v.VL)) for j in range(nv)]
    pairs = [(v.load(v.at(tap, j * v.VL)), kept[j]) for tap in taps for j in range(nv)]
    return [v.fma(x, y, t) for (x, y), t in zip(pairs, sums, strict=True)]


@np.errstate(all="ignore")
def rank_update_twin(MR, NV, ALIKE, BITS, a, pitch, lines, rows, columns, places, b, c, add):
    """Python twin of `rank_update`."""
    size, NR = BITS // 8, NV * targets.current().lanes(BITS)
    sums = np.zeros((MR, NR), dtype_of(BITS))
    for r in range(rows):
        for k in range(columns):
            at = [a + size * int(ints(lines, r + 1)[r] + k * pitch + place) for place in ints(places, MR)]
            taps = np.stack([elements(BITS, tap, NR if ALIKE else 1) for tap in at])
            sums += taps * elements(BITS, b + size * (r * columns + k) * NR, NR)
    store_twin(BITS, sums, WHOLE, c if add else 0, NR, c, NR, 0, 0)


@intrinsic(prefer_literal=True)
def _add_rows(typing, BITS, dst, stride, rows, n):
    """dst[0:n] += the `rows` - 1 rows of n elements that stand `stride` elements apart behind it, in order"""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        dst, (stride, rows, n) = v.pointer(args[1]), args[2:]
        with counted(builder, builder.sub(rows, const(1))) as (r, _, _):
            source = v.at(dst, builder.mul(stride, builder.add(r, const(1))))

            def one(i, row):
                total = v.add(row.load(v.at(dst, i)), row.load(v.at(source, i)))
                row.store(total, v.at(dst, i))

            each_vector(v, n, one, repeatable=False)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 4), codegen


@np.errstate(all="ignore")
def add_rows_twin(BITS, dst, stride, rows, n):
    """Python twin of `add_rows`."""
    for r in range(1, rows):
        elements(BITS, dst, n)[:] += elements(BITS, dst + BITS // 8 * r * stride, n)


@intrinsic(prefer_literal=True)
def _turn_rows(typing, BITS, dst, to, src, at):
    """Transpose VL rows of VL elements: dst[to[k] + i] = src[at[i] + k], i and k < VL."""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        dst, to, src, at = (v.pointer(address) for address in args[1:])
        rows = [v.load(v.at(src, v.int_at(at, const(i)))) for i in range(v.VL)]
        for k, row in enumerate(transposed(builder, rows)):
            v.store(row, v.at(dst, v.int_at(to, const(k))))
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 4), codegen


def turn_rows_twin(BITS, dst, to, src, at):
    """Python twin of `turn_rows`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for i, row in enumerate(ints(at, lanes)):
        for k, place in enumerate(ints(to, lanes)):
            elements(BITS, dst + size * int(place + i), 1)[:] = elements(BITS, src + size * int(row + k), 1)


if config.DISABLE_JIT:
    rank_update, add_rows, turn_rows = rank_update_twin, add_rows_twin, turn_rows_twin
else:
    rank_update, add_rows, turn_rows = _rank_update, _add_rows, _turn_rows
