"""Products of spectra, summed over input channels: ``y[oc, t, f] = sum over ic of w[oc, ic, f] * x[ic, t, f]``.

Frequencies are the lanes: a vector holds VL/2 complex numbers, real and imaginary parts in turn. The real parts of w,
each doubled, and its imaginary parts, too, are multiplied by x as it is, into two sums; that of the imaginary parts is
swapped and added once at the end. So a complex product costs the four real ones, two fused instructions a vector, and
one shuffle for each of MT of them. w and x come packed by vector of frequencies, [f][oc][ic][VL] and [f][ic][t][VL].
Source: frequency-wise matrix products as in Vasilache et al. 2015, arXiv:1412.7580, section 3.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv._jit import njit
from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I32, Lanes, const, counted, literals
from fastconv.kernels.cpu.memory import dtype_of, elements

N = types.intp

# Fields of g: output channels of this call, input channels, blocks, real numbers of a spectrum; bytes from vector to
# vector of frequencies in w and in x; vectors in all, and of a task.
OC, IC, T, NUMBERS, W_PITCH, X_PITCH, VECTORS, TOGETHER = range(8)
# Addresses in io.
WEIGHT, X, Y = range(3)


@intrinsic(prefer_literal=True)
def _contract(typing, MO, MT, BITS, w, w_i, w_k, i0, last_i, x, x_j, x_k, j0, last_j, n, y, y_i, y_j):
    """Fill the vectors y[i, j] = sum over k < n of w[i, k] * x[j, k] for i0 <= i < i0 + MO, j0 <= j < j0 + MT.

    Steps are in elements. Rows and columns beyond the last ones repeat these: they are computed, and stored, again.
    """
    tile = literals(MO, MT, BITS)
    if tile is None:
        return None
    mo, mt, bits = tile

    def codegen(context, builder, signature, args):
        w, w_i, w_k, i0, last_i, x, x_j, x_k, j0, last_j, n, y, y_i, y_j = args[3:]
        v, b = Lanes(builder, bits), builder
        w, x, y = (v.pointer(p) for p in (w, x, y))

        def clamped(start, i, last):
            index = b.add(start, const(i))
            return b.select(b.icmp_signed("<", index, last), index, last)

        channels = [clamped(i0, i, last_i) for i in range(mo)]
        columns = [clamped(j0, j, last_j) for j in range(mt)]
        rows = [v.at(w, b.mul(i, w_i)) for i in channels]
        places = [v.at(x, b.mul(j, x_j)) for j in columns]
        even, odd = ([i // 2 * 2 + part for i in range(v.VL)] for part in (0, 1))
        with counted(b, n, [(v.vector, v.zero)] * (2 * mo * mt)) as (k, sums, after):
            down, across, new = b.mul(k, w_k), b.mul(k, x_k), list(sums)
            weights = [v.load(v.at(row, down)) for row in rows]
            parts = [[_picked(b, weight, order) for order in (even, odd)] for weight in weights]
            for j, place in enumerate(places):
                vector = v.load(v.at(place, across))
                for i, pair in enumerate(parts):
                    for part, factor in enumerate(pair):
                        s = 2 * (j * mo + i) + part
                        new[s] = v.fma(factor, vector, sums[s])
            after.extend(new)
        signs = ir.Constant(v.vector, [-1.0, 1.0] * (v.VL // 2))
        swapped = [i ^ 1 for i in range(v.VL)]
        for j, column in enumerate(columns):
            for i, channel in enumerate(channels):
                real, imaginary = after[2 * (j * mo + i) : 2 * (j * mo + i) + 2]
                total = v.fma(_picked(b, imaginary, swapped), signs, real)
                v.store(total, v.at(y, b.add(b.mul(channel, y_i), b.mul(column, y_j))))
        return context.get_dummy_value()

    return types.void(MO, MT, BITS, *[N] * 14), codegen


def _picked(b, vector, order):
    """Return the elements of a vector in another order."""
    return b.shuffle_vector(
        vector, ir.Constant(vector.type, ir.Undefined), ir.Constant(ir.VectorType(I32, len(order)), order)
    )


@np.errstate(all="ignore")
def contract_twin(MO, MT, BITS, w, w_i, w_k, i0, last_i, x, x_j, x_k, j0, last_j, n, y, y_i, y_j):
    """Python twin of `contract`."""
    VL, size = targets.current().lanes(BITS), BITS // 8
    kind = np.dtype(f"c{2 * size}")
    for i in range(i0, min(i0 + MO, last_i + 1)):
        for j in range(j0, min(j0 + MT, last_j + 1)):
            total = np.zeros(VL // 2, kind)
            for k in range(n):
                one, two = w + size * (i * w_i + k * w_k), x + size * (j * x_j + k * x_k)
                total += elements(BITS, one, VL).view(kind) * elements(BITS, two, VL).view(kind)
            elements(BITS, y + size * (i * y_i + j * y_j), VL)[:] = total.view(dtype_of(BITS))


contract = contract_twin if config.DISABLE_JIT else _contract


@cache
def contraction(BITS, MO, MT, VL):
    """Return `kernel(g, io, scratch, lo, hi)`; tasks are some vectors of frequencies, of which the last overlaps.

    A register tile is computed for all of them in turn: what it stores lies together.
    """
    size = BITS // 8

    @njit()
    def sum_spectra(g, io, scratch, lo, hi):
        n, row, column = g[IC], g[IC] * VL, g[T] * VL
        for task in range(lo, hi):
            first = task * g[TOGETHER]
            end = min(first + g[TOGETHER], g[VECTORS])
            for t in range(0, g[T], MT):
                for oc in range(0, g[OC], MO):
                    for f in range(first, end):
                        w, x = io[WEIGHT] + f * g[W_PITCH], io[X] + f * g[X_PITCH]
                        y, ldy = io[Y] + size * min(f * VL, g[NUMBERS] - VL), g[NUMBERS]
                        to = g[T] * ldy
                        contract(MO, MT, BITS, w, row, VL, oc, g[OC] - 1, x, VL, column, t, g[T] - 1, n, y, to, ldy)

    return sum_spectra


# Fields of g of `lines`: kernels of a channel, taps of a kernel, blocks, their rows of outputs; real numbers of a row;
# rows of a block, from output to output, from tap to tap.
KERNELS, TAPS, PLANES, ROWS, ROW, HEIGHT, STRIDE, DILATION = range(8)
# Vectors of frequencies that are computed together: whole pieces of rows.
PIECE = 4


@cache
def lines(BITS, MT, VL):
    """Return `kernel(g, io, scratch, lo, hi)`: spectra of rows, convolved along the columns, of channels lo to hi.

    ``y[c, m, t, h, f] = sum over k of w[c, m, k, f] * x[c, t, h * STRIDE + k * DILATION, f]``.
    """
    size = BITS // 8

    @njit()
    def sum_lines(g, io, scratch, lo, hi):
        n, row, rows = g[TAPS], g[ROW], g[ROWS]
        down, tap, block = g[STRIDE] * row, g[DILATION] * row, rows * row
        for c in range(lo, hi):
            for m in range(g[KERNELS]):
                weight = io[WEIGHT] + size * (c * g[KERNELS] + m) * n * row
                for t in range(g[PLANES]):
                    plane = io[X] + size * (c * g[PLANES] + t) * g[HEIGHT] * row
                    to = io[Y] + size * ((c * g[KERNELS] + m) * g[PLANES] + t) * block
                    for f in range(0, row, PIECE * VL):
                        for h in range(0, rows, MT):
                            for i in range(f, min(f + PIECE * VL, row), VL):
                                at = size * min(i, row - VL)
                                w, x, y = weight + at, plane + at, to + at
                                contract(1, MT, BITS, w, 0, row, 0, 0, x, down, tap, h, rows - 1, n, y, 0, row)

    return sum_lines
