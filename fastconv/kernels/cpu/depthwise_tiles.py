"""Register tiles of depthwise convolution, where a tap multiplies one channel only.

* `slide` (pixels in lanes): R output rows x NV vectors. A vector of input row t is loaded once and serves every output
  row that it touches: with KH taps, (KH + R - 1) / R row loads an output row instead of KH. No tap is padded with
  zeros, so NaN and inf spread to their receptive field only.
* `lanes` (channels in lanes): MR pixels x NV vectors of channels; weight and pixel are both vectors.
* `stencil`: `lanes` for neighbouring taps: a pixel is loaded once for all outputs of the tile that see it, and the
  weights of a row of taps once for all pixels. 10 + 3 loads for 24 multiplications, where `lanes` takes 27.

Source of the row reuse: register blocking of depthwise convolution as in XNNPACK's dwconv2d-chw
(github.com/google/XNNPACK).
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import Lanes, const, counted, literals
from fastconv.kernels.cpu.memory import dtype_of, elements, ints
from fastconv.kernels.cpu.microkernel import COLUMNS, WHOLE, add_tile, finish_tile, store_twin

N = types.intp


@intrinsic(prefer_literal=True)
def _slide(typing, R, NV, TAPS, BITS, x, rowoff, coloff, weight, KH, KW, init, out, ldo, bias, limits, tiles, last):
    """out[i, :] = epilogue(sum over kh, kw of weight[kh, kw] * (row at x + rowoff[i + kh] + coloff[kw])); KH >= R.

    Offsets in bytes. Input rows t = i + kh: R - 1 rows on the way in, KH - R + 1 that serve all R outputs, R - 1 on the
    way out. With TAPS = KH > 0 all rows are unrolled, and the weights of a column stay in registers. This is done for
    `tiles` tiles along the rows, NR apart, the last at column `last`. Rows of `out` and `init` are `ldo` apart.
    """
    tile = literals(R, NV, TAPS, BITS)
    if tile is None:
        return None
    r, nv, taps, bits = tile

    def codegen(context, builder, signature, args):
        x, rowoff, coloff, weight, KH, KW, init, out, ldo, bias, limits, tiles, last = args[4:]
        v, b = Lanes(builder, bits), builder
        with counted(b, tiles) as (tile, _, _):
            q = b.mul(tile, const(nv * v.VL))
            q = b.mul(b.select(b.icmp_signed("<", q, last), q, last), const(bits // 8))
            row = _SlideRow(v, nv, [v.pointer(p) for p in (b.add(x, q), rowoff, coloff, weight)], KW)
            sums = row.unrolled(r, taps) if taps else row.looped(r, KH)
            here = b.select(b.icmp_signed("!=", init, const(0)), b.add(init, q), init)
            finish_tile(v, add_tile(v, sums, nv, here, ldo), nv, WHOLE, b.add(out, q), ldo, bias, limits)
        return context.get_dummy_value()

    return types.void(R, NV, TAPS, BITS, *[N] * 13), codegen


class _SlideRow:
    """Emits the input rows of `slide`."""

    def __init__(self, v, nv, pointers, KW):
        self.v, self.nv, self.KW = v, nv, KW
        self.x, self.rowoff, self.coloff, self.weight = pointers

    def looped(self, r, KH):
        """Loop over rows and columns; return the sums."""
        v, b = self.v, self.v.b
        sums = [v.zero] * (r * self.nv)
        for t in range(r - 1):
            sums = self.emit(const(t), range(t + 1), sums)
        middle = b.sub(KH, const(r - 1))
        with counted(b, middle, [(v.vector, s) for s in sums]) as (t, inner, after):
            after.extend(self.emit(b.add(t, const(r - 1)), range(r), inner))
        sums = after
        for t in range(1, r):
            sums = self.emit(b.add(KH, const(t - 1)), range(t, r), sums)
        return sums

    def unrolled(self, r, taps):
        """Loop over columns only; return the sums."""
        v, b, nv = self.v, self.v.b, self.nv
        rows = [v.at_bytes(self.x, v.int_at(self.rowoff, const(t))) for t in range(taps + r - 1)]
        with counted(b, self.KW, [(v.vector, v.zero)] * (r * nv)) as (kw, sums, after):
            column = v.int_at(self.coloff, kw)
            tap = v.at(self.weight, kw)
            w = [v.broadcast(v.load_scalar(v.at(tap, b.mul(const(kh), self.KW)))) for kh in range(taps)]
            new = list(sums)
            for t, row in enumerate(rows):
                pixel = v.at_bytes(row, column)
                vectors = [v.load(v.at(pixel, j * v.VL)) for j in range(nv)]
                for i in range(max(0, t - taps + 1), min(r, t + 1)):
                    for j in range(nv):
                        new[i * nv + j] = v.fma(w[t - i], vectors[j], new[i * nv + j])
            after.extend(new)
        return after

    def emit(self, t, active, sums):
        """Add input row t to the output rows in `active`."""
        v, b, nv = self.v, self.v.b, self.nv
        row = v.at_bytes(self.x, v.int_at(self.rowoff, t))
        taps = [v.at(self.weight, b.mul(b.sub(t, const(i)), self.KW)) for i in active]
        own = [sums[i * nv + j] for i in active for j in range(nv)]
        with counted(b, self.KW, [(v.vector, s) for s in own]) as (kw, inner, after):
            pixel = v.at_bytes(row, v.int_at(self.coloff, kw))
            vectors = [v.load(v.at(pixel, j * v.VL)) for j in range(nv)]
            for i, tap in enumerate(taps):
                w = v.broadcast(v.load_scalar(v.at(tap, kw)))
                after.extend(v.fma(w, vectors[j], inner[i * nv + j]) for j in range(nv))
        changed, new = iter(after), list(sums)
        for i in active:
            new[i * nv : (i + 1) * nv] = [next(changed) for _ in range(nv)]
        return new


@np.errstate(all="ignore")
def slide_twin(R, NV, TAPS, BITS, x, rowoff, coloff, weight, KH, KW, init, out, ldo, bias, limits, tiles, last):
    """Python twin of `slide`."""
    width = NV * targets.current().lanes(BITS)
    taps, rows, columns = elements(BITS, weight, KH * KW).reshape(KH, KW), ints(rowoff, KH + R - 1), ints(coloff, KW)
    for tile in range(tiles):
        q = min(tile * width, last) * (BITS // 8)
        sums = np.zeros((R, width), dtype_of(BITS))
        for i in range(R):
            for kh in range(KH):
                for kw in range(KW):
                    sums[i] += taps[kh, kw] * elements(BITS, x + q + int(rows[i + kh]) + int(columns[kw]), width)
        store_twin(BITS, sums, WHOLE, init + q if init else 0, ldo, out + q, ldo, bias, limits)


@intrinsic(prefer_literal=True)
def _lanes(typing, MR, NV, BITS, x, step, boff, weight, ldw, K, init, ldi, out, ldo, bias, limits):
    """out[m, :] = epilogue(sum over k of weight[k, :] * x[m * step + boff[k] :]); boff in bytes, step in elements."""
    tile = literals(MR, NV, BITS)
    if tile is None:
        return None
    mr, nv, bits = tile

    def codegen(context, builder, signature, args):
        x, step, boff, weight, ldw, K, init, ldi, out, ldo, bias, limits = args[3:]
        v = Lanes(builder, bits)
        x, boff, weight = (v.pointer(p) for p in (x, boff, weight))
        with counted(builder, K, [(v.vector, v.zero)] * (mr * nv)) as (k, sums, after):
            taps = v.at(weight, builder.mul(k, ldw))
            taps = [v.load(v.at(taps, j * v.VL)) for j in range(nv)]
            pixel = v.at_bytes(x, v.int_at(boff, k))
            for m in range(mr):
                row = v.at(pixel, builder.mul(step, const(m)))
                after.extend(v.fma(v.load(v.at(row, j * v.VL)), taps[j], sums[m * nv + j]) for j in range(nv))
        finish_tile(v, add_tile(v, after, nv, init, ldi), nv, COLUMNS, out, ldo, bias, limits)
        return context.get_dummy_value()

    return types.void(MR, NV, BITS, *[N] * 12), codegen


@np.errstate(all="ignore")
def lanes_twin(MR, NV, BITS, x, step, boff, weight, ldw, K, init, ldi, out, ldo, bias, limits):
    """Python twin of `lanes`."""
    width, size = NV * targets.current().lanes(BITS), BITS // 8
    sums = np.zeros((MR, width), dtype_of(BITS))
    for k in range(K):
        tap, offset = elements(BITS, weight + size * k * ldw, width), int(ints(boff + 8 * k, 1)[0])
        for m in range(MR):
            sums[m] += tap * elements(BITS, x + offset + size * m * step, width)
    store_twin(BITS, sums, COLUMNS, init, ldi, out, ldo, bias, limits)


@intrinsic(prefer_literal=True)
def _stencil(typing, MR, NV, KW, SW, BITS, x, step, pitch, weight, KH, init, ldi, out, ldo, bias, limits):
    """out[m, :] = epilogue(sum over kh, kw < KW of weight[kh, kw, :] * x[kh * pitch + (m * SW + kw) * step :])."""
    tile = literals(MR, NV, KW, SW, BITS)
    if tile is None:
        return None
    mr, nv, width, stride, bits = tile

    def codegen(context, builder, signature, args):
        x, step, pitch, weight, KH, init, ldi, out, ldo, bias, limits = args[5:]
        v = Lanes(builder, bits)
        x, weight = v.pointer(x), v.pointer(weight)
        with counted(builder, KH, [(v.vector, v.zero)] * (mr * nv)) as (kh, sums, after):
            taps = v.at(weight, builder.mul(kh, const(width * nv * v.VL)))
            taps = [v.load(v.at(taps, i * v.VL)) for i in range(width * nv)]
            row, new = v.at(x, builder.mul(kh, pitch)), list(sums)
            for p in range((mr - 1) * stride + width):
                pixel = v.at(row, builder.mul(step, const(p)))
                users = [(m, p - m * stride) for m in range(mr) if 0 <= p - m * stride < width]
                for j in range(nv if users else 0):
                    one = v.load(v.at(pixel, j * v.VL))
                    for m, kw in users:
                        new[m * nv + j] = v.fma(one, taps[kw * nv + j], new[m * nv + j])
            after.extend(new)
        finish_tile(v, add_tile(v, after, nv, init, ldi), nv, COLUMNS, out, ldo, bias, limits)
        return context.get_dummy_value()

    return types.void(MR, NV, KW, SW, BITS, *[N] * 11), codegen


def stencil_twin(MR, NV, KW, SW, BITS, x, step, pitch, weight, KH, init, ldi, out, ldo, bias, limits):
    """Python twin of `stencil`."""
    boff = np.array([[kh * pitch + kw * step for kw in range(KW)] for kh in range(KH)], np.int64) * (BITS // 8)
    NR = NV * targets.current().lanes(BITS)
    at = int(boff.ctypes.data)
    lanes_twin(MR, NV, BITS, x, SW * step, at, weight, NR, KH * KW, init, ldi, out, ldo, bias, limits)


def stencil_taps(geometry):
    """Return (KW, SW) of problems that have a `stencil`, a compilation, of their own: those of the usual networks."""
    usual = geometry.KW in (3, 5, 7) and geometry.SW in (1, 2) and geometry.DW == geometry.KD == 1
    return (geometry.KW, geometry.SW) if usual and geometry.dtype.startswith("float") else (0, 0)


if config.DISABLE_JIT:
    slide, lanes, stencil = slide_twin, lanes_twin, stencil_twin
else:
    slide, lanes, stencil = _slide, _lanes, _stencil
