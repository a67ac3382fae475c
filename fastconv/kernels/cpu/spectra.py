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
def _contract(typing, MO, MT, BITS, w, oc, last, x, t, blocks, n, y, pitch):
    """Fill the vectors y[oc + i, t + j] (`pitch` elements apart, [oc][blocks]) for i < MO, j < MT, summed over n.

    Rows beyond the `last` output channel or the last block repeat it: they are computed, and stored, again.
    """
    tile = literals(MO, MT, BITS)
    if tile is None:
        return None
    mo, mt, bits = tile

    def codegen(context, builder, signature, args):
        w, oc, last, x, t, blocks, n, y, pitch = args[3:]
        v, b = Lanes(builder, bits), builder
        w, x, y = (v.pointer(p) for p in (w, x, y))

        def clamped(start, i, limit):
            index = b.add(start, const(i))
            return b.select(b.icmp_signed("<", index, limit), index, limit)

        channels = [clamped(oc, i, last) for i in range(mo)]
        columns = [clamped(t, j, b.sub(blocks, const(1))) for j in range(mt)]
        rows = [v.at(w, b.mul(b.mul(c, n), const(v.VL))) for c in channels]
        places = [v.at(x, b.mul(j, const(v.VL))) for j in columns]
        even, odd = ([i // 2 * 2 + part for i in range(v.VL)] for part in (0, 1))
        with counted(b, n, [(v.vector, v.zero)] * (2 * mo * mt)) as (k, sums, after):
            step = b.mul(k, const(v.VL))
            weights = [v.load(v.at(row, step)) for row in rows]
            parts = [[_picked(b, weight, order) for order in (even, odd)] for weight in weights]
            across, new = b.mul(step, blocks), list(sums)
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
                v.store(total, v.at(y, b.mul(b.add(b.mul(channel, blocks), column), pitch)))
        return context.get_dummy_value()

    return types.void(MO, MT, BITS, *[N] * 9), codegen


def _picked(b, vector, order):
    """Return the elements of a vector in another order."""
    return b.shuffle_vector(
        vector, ir.Constant(vector.type, ir.Undefined), ir.Constant(ir.VectorType(I32, len(order)), order)
    )


@np.errstate(all="ignore")
def contract_twin(MO, MT, BITS, w, oc, last, x, t, blocks, n, y, pitch):
    """Python twin of `contract`."""
    VL, size = targets.current().lanes(BITS), BITS // 8
    kind = np.dtype(f"c{2 * size}")
    inputs = elements(BITS, x, n * blocks * VL).view(kind).reshape(n, blocks, -1)
    for channel in range(oc, min(oc + MO, last + 1)):
        weight = elements(BITS, w + size * channel * n * VL, n * VL).view(kind).reshape(n, -1)
        for j in range(t, min(t + MT, blocks)):
            total = np.zeros(VL // 2, kind)
            for k in range(n):
                total += weight[k] * inputs[k, j]
            elements(BITS, y + size * (channel * blocks + j) * pitch, VL)[:] = total.view(dtype_of(BITS))


contract = contract_twin if config.DISABLE_JIT else _contract


@cache
def contraction(BITS, MO, MT, VL):
    """Return `kernel(g, io, scratch, lo, hi)`; tasks are some vectors of frequencies, of which the last overlaps.

    A register tile is computed for all of them in turn: what it stores lies together.
    """
    size = BITS // 8

    @njit()
    def sum_spectra(g, io, scratch, lo, hi):
        last = g[OC] - 1
        for task in range(lo, hi):
            first = task * g[TOGETHER]
            end = min(first + g[TOGETHER], g[VECTORS])
            for t in range(0, g[T], MT):
                for oc in range(0, g[OC], MO):
                    for f in range(first, end):
                        w, x = io[WEIGHT] + f * g[W_PITCH], io[X] + f * g[X_PITCH]
                        y = io[Y] + size * min(f * VL, g[NUMBERS] - VL)
                        contract(MO, MT, BITS, w, oc, last, x, t, g[T], g[IC], y, g[NUMBERS])

    return sum_spectra
