"""Winograd's transforms of tiles as vector code, generated from the schemes of `fastconv.winograd`.

The lanes of a vector are channels. MH x MW outputs of a kernel of RH x RW taps come from NH x NW inputs, NH = MH + RH -
1; a 1-D transform has MH = RH = 1 or MW = RW = 1. Position p = i * NW + j of a tile stands at constant distances:

* `tiles_in` writes the panels [channel / 16][p][MR][16] that the microkernel broadcasts from, tile t from table entry t
  on. Neighbouring tiles overlap in NW - MW columns, whose vertical transforms stay in registers.
* `weights_in` writes rows that are `pitch` apart from p to p.
* `tiles_out` reads the sums [p][MR][NR] of the microkernel. It adds 0 * y over all outputs y, which tells in the end
  whether any was infinite or NaN, and sets a byte if so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import Lanes, const, counted, literals
from fastconv.kernels.cpu.memory import array_at, elements, ints
from fastconv.winograd import Scheme, schemes, transforms

N = types.intp


def _apply(v: Lanes, scheme: Scheme, inputs: Sequence[Any]) -> list[Any]:
    """Emit the sums of a scheme."""
    values = list(inputs)
    for step in scheme.steps:
        total = None
        for j, c in step:
            if total is None:
                total = values[j] if c == 1 else v.b.fmul(v.splat(c), values[j])
            elif abs(c) == 1:
                total = (v.b.fadd if c == 1 else v.b.fsub)(total, values[j])
            else:
                total = v.fma(v.splat(c), values[j], total)
        values.append(total)
    return [values[i] for i in scheme.outputs]


@intrinsic(prefer_literal=True)
def _tiles_in(typing, MR, MH, RH, MW, RW, BITS, dst, places, src, row, pixel, n):
    """Transform n neighbouring tiles; input (h, w) of tile t stands at src + h * row + (t * MW + w) * pixel."""
    shape = literals(MR, MH, RH, MW, RW, BITS)
    if shape is None:
        return None
    mr, mh, rh, mw, rw, bits = shape
    nh, nw = mh + rh - 1, mw + rw - 1

    def codegen(context, builder, signature, args):
        dst, places, src, row, pixel, n = args[6:]
        v, b = Lanes(builder, bits), builder
        vertical, horizontal = schemes(mh, rh).input, schemes(mw, rw).input
        dst, src, places = v.pointer(dst), v.pointer(src), v.pointer(places)
        rows = [b.mul(row, const(i)) for i in range(nh)]

        def column(pointer):
            return _apply(v, vertical, [v.load(v.at(pointer, r)) for r in rows])

        first = [x for w in range(nw - mw) for x in column(v.at(src, b.mul(pixel, const(w))))]
        with counted(b, n, [(v.vector, x) for x in first]) as (t, carried, after):
            columns = [carried[w * nh : (w + 1) * nh] for w in range(nw - mw)]
            here = b.add(b.mul(t, const(mw)), const(nw - mw))
            columns += [column(v.at(src, b.mul(pixel, b.add(here, const(w))))) for w in range(mw)]
            to = v.at(dst, v.int_at(places, t))
            for i in range(nh):
                for j, x in enumerate(_apply(v, horizontal, [c[i] for c in columns])):
                    v.store(x, v.at(to, (i * nw + j) * mr * 16))
            after.extend(x for c in columns[mw:] for x in c)
        return context.get_dummy_value()

    return types.void(MR, MH, RH, MW, RW, BITS, *[N] * 6), codegen


@np.errstate(all="ignore")
def tiles_in_twin(MR, MH, RH, MW, RW, BITS, dst, places, src, row, pixel, n):
    """Python twin of `tiles_in`."""
    NH, NW, size, VL = MH + RH - 1, MW + RW - 1, BITS // 8, targets.current().lanes(BITS)
    for t in range(n):
        at = [src + size * (h * row + (t * MW + w) * pixel) for h in range(NH) for w in range(NW)]
        tile = np.array([elements(BITS, a, VL) for a in at]).reshape(NH, NW, VL)
        values = _transformed(tile, transforms(MH, RH).input, transforms(MW, RW).input)
        for p, value in enumerate(values.reshape(-1, VL)):
            elements(BITS, dst + size * (int(ints(places, n)[t]) + p * MR * 16), VL)[:] = value


@intrinsic(prefer_literal=True)
def _weights_in(typing, NR, MH, RH, MW, RW, BITS, dst, pitch, src):
    """Transform one vector of kernels: tap k stands at src + k * NR, position p goes to dst + p * pitch."""
    shape = literals(NR, MH, RH, MW, RW, BITS)
    if shape is None:
        return None
    nr, mh, rh, mw, rw, bits = shape

    def codegen(context, builder, signature, args):
        v = Lanes(builder, bits)
        dst, pitch, src = v.pointer(args[6]), args[7], v.pointer(args[8])
        taps = [[v.load(v.at(src, (h * rw + w) * nr)) for h in range(rh)] for w in range(rw)]
        columns = [_apply(v, schemes(mh, rh).weight, column) for column in taps]
        for i in range(mh + rh - 1):
            for x in _apply(v, schemes(mw, rw).weight, [c[i] for c in columns]):
                v.store(x, dst)
                dst = v.at(dst, pitch)
        return context.get_dummy_value()

    return types.void(NR, MH, RH, MW, RW, BITS, *[N] * 3), codegen


@np.errstate(all="ignore")
def weights_in_twin(NR, MH, RH, MW, RW, BITS, dst, pitch, src):
    """Python twin of `weights_in`."""
    size, VL = BITS // 8, targets.current().lanes(BITS)
    taps = np.array([elements(BITS, src + size * k * NR, VL) for k in range(RH * RW)]).reshape(RH, RW, VL)
    values = _transformed(taps, transforms(MH, RH).weight, transforms(MW, RW).weight)
    for p, value in enumerate(values.reshape(-1, VL)):
        elements(BITS, dst + size * p * pitch, VL)[:] = value


@intrinsic(prefer_literal=True)
def _tiles_out(typing, MR, NR, MH, RH, MW, RW, BITS, dst, row, src, places, n, flag):
    """Transform n neighbouring tiles back: output (h, w) of tile t goes to dst + h * row + (t * MW + w) * NR."""
    shape = literals(MR, NR, MH, RH, MW, RW, BITS)
    if shape is None:
        return None
    mr, nr, mh, rh, mw, rw, bits = shape
    nh, nw = mh + rh - 1, mw + rw - 1

    def codegen(context, builder, signature, args):
        dst, row, src, places, n, flag = args[7:]
        v, b = Lanes(builder, bits), builder
        vertical, horizontal = schemes(mh, rh).output, schemes(mw, rw).output
        dst, src, places = v.pointer(dst), v.pointer(src), v.pointer(places)
        rows = [b.mul(row, const(i)) for i in range(mh)]
        with counted(b, n, [(v.vector, v.zero)]) as (t, (bad,), after):
            tile = v.at(src, v.int_at(places, t))
            at = [[v.at(tile, (i * nw + j) * mr * nr) for i in range(nh)] for j in range(nw)]
            columns = [_apply(v, vertical, [v.load(p) for p in column]) for column in at]
            for i in range(mh):
                to = v.at(v.at(dst, rows[i]), b.mul(t, const(mw * nr)))
                for j, y in enumerate(_apply(v, horizontal, [c[i] for c in columns])):
                    v.store(y, v.at(to, j * nr))
                    bad = v.fma(v.zero, y, bad)
            after.append(bad)
        lanes = b.fcmp_unordered("uno", after[0], after[0])
        mask = ir.IntType(v.VL)
        with b.if_then(b.icmp_unsigned("!=", b.bitcast(lanes, mask), ir.Constant(mask, 0)), likely=False):
            b.store(ir.Constant(ir.IntType(8), 1), v.pointer(flag))
        return context.get_dummy_value()

    return types.void(MR, NR, MH, RH, MW, RW, BITS, *[N] * 6), codegen


@np.errstate(all="ignore")
def tiles_out_twin(MR, NR, MH, RH, MW, RW, BITS, dst, row, src, places, n, flag):
    """Python twin of `tiles_out`."""
    NH, NW, size, VL = MH + RH - 1, MW + RW - 1, BITS // 8, targets.current().lanes(BITS)
    for t in range(n):
        at = src + size * int(ints(places, n)[t])
        sums = np.array([elements(BITS, at + size * p * MR * NR, VL) for p in range(NH * NW)]).reshape(NH, NW, VL)
        y = _transformed(sums, transforms(MH, RH).output, transforms(MW, RW).output)
        for h in range(MH):
            for w in range(MW):
                elements(BITS, dst + size * (h * row + (t * MW + w) * NR), VL)[:] = y[h, w]
        if not np.isfinite(y).all():
            array_at(np.uint8, flag, 1)[0] = 1


def _transformed(tile: np.ndarray, vertical: Any, horizontal: Any) -> np.ndarray:
    """Return vertical @ tile @ horizontal^T, lane by lane."""
    one, two = (np.array([[float(c) for c in row] for row in m], tile.dtype) for m in (vertical, horizontal))
    return np.einsum("ij,kl,jlv->ikv", one, two, tile)


if config.DISABLE_JIT:
    tiles_in, weights_in, tiles_out = tiles_in_twin, weights_in_twin, tiles_out_twin
else:
    tiles_in, weights_in, tiles_out = _tiles_in, _weights_in, _tiles_out
