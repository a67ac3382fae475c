"""The microkernel: a small outer product summed over k, its accumulators in registers.

    out[m, 0:NV*VL] = epilogue(init[m] + sum_k a[m, k] * b[k, 0:NV*VL])

Everything compute-bound runs through it; algorithms differ in where a and b lie:

* `a` is broadcast. It comes in segments of consecutive k: element (m, k) of segment s stands at
  `a + seg[s].offset + m * step + k`. With MS > 0 the step is that constant: a panel of the form [k/16][m][16], which
  producers fill with whole cache lines. With MS = 0 the step is a run-time number: pixels of a strip, read in place.
* `b` gives vectors: row k starts `boff[k]` bytes after b, any table of offsets, unaligned.
* Of words of four bytes (ir_builder.py) a[m, k] * b[k, i] is a dot product, a k four terms: the first is the one whose
  signs BITS names first.
* `init` (0: none) is a tile to add: the sum of earlier k, or a residual. `bias` (0: none) asks for the epilogue: add
  the bias (PER: one a row, a column, or the tile) and clamp to the two numbers at `limits`; NaN passes.

Offsets in `seg`, steps and row strides count elements. One k costs NV vector loads, MR broadcasts and MR * NV fused
multiply-adds; a sum over a long K is cut in passes of some hundred k, whose partial sums are added (blocked summation).
Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008), doi:10.1145/1356052.1356053;
the offset table is the one of indirect convolution (Dukhan 2019, arXiv:1907.02129).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I64, Lanes, const, counted, literals
from fastconv.kernels.cpu.memory import dtype_of, elements, ints
from fastconv.kernels.cpu.memory import products as products_of

# What one bias belongs to in a tile: a row, a lane, or all of it.
ROWS, COLUMNS, WHOLE = range(3)
N = types.intp


def _outer_signature(MR: Any, NV: Any, MS: Any, PER: Any, BITS: Any) -> Any:
    return types.void(MR, NV, MS, PER, BITS, *[N] * 12)


@intrinsic(prefer_literal=True)
def _outer(typing, MR, NV, MS, PER, BITS, a, step, seg, segments, b, boff, init, ldi, out, ldo, bias, limits):
    """Emit the microkernel for one register tile; see the module's docstring for the operands."""
    tile = literals(MR, NV, MS, PER, BITS)
    if tile is None:
        return None
    mr, nv, ms, lanes, bits = tile

    def codegen(context, builder, signature, args):
        a, step, seg, segments, b, boff, init, ldi, out, ldo, bias, limits = args[5:]
        v = Lanes(builder, bits)
        a, b, seg, boff = (v.pointer(p) for p in (a, b, seg, boff))
        accumulators = [(v.vector, v.zero)] * (mr * nv)
        with counted(builder, segments, [(I64, const(0)), *accumulators]) as (s, (k0, *sums), after_segment):
            aoff = v.int_at(seg, builder.mul(s, const(2)))
            length = v.int_at(seg, builder.add(builder.mul(s, const(2)), const(1)))
            panel = v.at(a, aoff)
            with counted(builder, length, [(v.vector, t) for t in sums]) as (kk, inner, after_k):
                column = v.at(panel, kk)
                rows = [v.at(column, m * ms) for m in range(mr)] if ms else _stepped(v, column, step, mr)
                after_k.extend(rank_one(v, rows, v.at_bytes(b, v.int_at(boff, builder.add(k0, kk))), inner, nv))
            after_segment.extend([builder.add(k0, length), *after_k])
        sums = add_tile(v, after_segment[1:], nv, init, ldi)
        finish_tile(v, sums, nv, lanes, out, ldo, bias, limits)
        return context.get_dummy_value()

    return _outer_signature(MR, NV, MS, PER, BITS), codegen


def _stepped(v, column, step, mr):
    """Return pointers to column + m * step; every third one is an anchor, so that few registers hold addresses."""
    pointers = [column]
    for m in range(1, mr):
        anchor = pointers[m - m % 3] if m % 3 else v.at(pointers[m - 3], v.b.mul(step, const(3)))
        pointers.append(v.at(anchor, v.b.mul(step, const(m % 3))) if m % 3 else anchor)
    return pointers


def rank_one(v, rows, b, sums, nv):
    """Emit sums[m][j] += a[m] * b[j]. The shorter side stays in registers, the longer one is streamed."""
    mr, new = len(rows), list(sums)
    outer_is_vector = nv > mr
    kept = (
        [v.broadcast(v.load_scalar(p)) for p in rows]
        if outer_is_vector
        else [v.load(v.at(b, j * v.VL)) for j in range(nv)]
    )
    for i in range(max(mr, nv)):
        one = v.load(v.at(b, i * v.VL)) if outer_is_vector else v.broadcast(v.load_scalar(rows[i]))
        for j, other in enumerate(kept):
            t = j * nv + i if outer_is_vector else i * nv + j
            new[t] = v.fma(*((other, one) if outer_is_vector else (one, other)), sums[t])
    return new


def _branched(v, sums, condition, emit):
    """Return the values of `emit()` where `condition` holds, else `sums`."""
    before = v.b.block
    with v.b.if_then(condition):
        changed = emit()
        inside = v.b.block
    merged = []
    for old, new in zip(sums, changed, strict=True):
        phi = v.b.phi(v.vector)
        phi.add_incoming(old, before)
        phi.add_incoming(new, inside)
        merged.append(phi)
    return merged


def _rows(v, address, stride, count):
    """Return pointers to `count` rows that stand `stride` elements apart."""
    base = v.pointer(address)
    return [v.at(base, v.b.mul(const(m), stride)) for m in range(count)]


def add_tile(v, sums, nv, init, ldi):
    """Return sums + the tile at `init` (rows `ldi` apart); `init` = 0 adds nothing."""

    def emit():
        rows = _rows(v, init, ldi, len(sums) // nv)
        return [v.add(t, v.load(v.at(rows[i // nv], i % nv * v.VL))) for i, t in enumerate(sums)]

    return _branched(v, sums, v.b.icmp_signed("!=", init, const(0)), emit)


def finish_tile(v, sums, nv, per, out, ldo, bias, limits):
    """Store the tile at `out` (rows `ldo` apart); with `bias` != 0 add it (per ROWS, COLUMNS or WHOLE) and clamp."""

    def emit():
        low, high = (v.broadcast(v.load_scalar(v.at(v.pointer(limits), j))) for j in (0, 1))
        pointer, done = v.pointer(bias), []
        for i, t in enumerate(sums):
            m, j = divmod(i, nv)
            element = v.at(pointer, {ROWS: m, COLUMNS: j * v.VL, WHOLE: 0}[per])
            one = v.load(element) if per == COLUMNS else v.broadcast(v.load_scalar(element))
            done.append(v.clamp(v.add(t, one), low, high))
        return done

    sums = _branched(v, sums, v.b.icmp_signed("!=", bias, const(0)), emit)
    rows = _rows(v, out, ldo, len(sums) // nv)
    for i, total in enumerate(sums):
        v.store(total, v.at(rows[i // nv], i % nv * v.VL))


@np.errstate(all="ignore")
def store_twin(BITS, sums, per, init, ldi, out, ldo, bias, limits):
    """Python twin of `add_tile` and `finish_tile` on a 2-D array of sums."""
    size, (rows, width) = BITS // 8, sums.shape
    if init:
        sums = sums + np.stack([elements(BITS, init + size * m * ldi, width) for m in range(rows)])
    if bias:
        low, high = elements(BITS, limits, 2)
        one = elements(BITS, bias, {ROWS: rows, COLUMNS: width, WHOLE: 1}[per])
        sums = sums + (one[:, None] if per == ROWS else one)
        sums = np.where(sums < low, low, sums)
        sums = np.where(sums > high, high, sums)
    for m in range(rows):
        elements(BITS, out + size * m * ldo, width)[:] = sums[m]


@np.errstate(all="ignore")
def outer_twin(MR, NV, MS, PER, BITS, a, step, seg, segments, b, boff, init, ldi, out, ldo, bias, limits):
    """Python twin of `outer`."""
    width, size, step = NV * targets.current().lanes(BITS), BITS // 8, MS or step
    sums, k = np.zeros((MR, width), dtype_of(BITS)), 0
    for aoff, length in ints(seg, 2 * segments).reshape(-1, 2):
        for kk in range(length):
            row = elements(BITS, b + int(ints(boff + 8 * k, 1)[0]), width)
            column = [elements(BITS, a + size * (int(aoff) + m * step + kk), 1)[0] for m in range(MR)]
            sums += products_of(BITS, np.array(column, sums.dtype)[:, None], row)
            k += 1
    store_twin(BITS, sums, PER, init, ldi, out, ldo, bias, limits)


@intrinsic(prefer_literal=True)
def _products(typing, MR, NV, BITS, a, block, chunk, K, b, c, blocks, points, add):
    """c[q, p] (+)= a[q, p] @ b[p] for q < blocks, p < points, with `add` = 1 for the sum: Winograd's products.

    a[q, p] are panels [K / 16][MR][16], `chunk` elements apart, at a + q * block + p * MR * 16; b[p] are K rows of
    NR = NV * VL, c[q, p] MR rows of NR. While one b is used, the next one is fetched: caches do not foresee it in time.
    """
    tile = literals(MR, NV, BITS)
    if tile is None:
        return None
    mr, nv, bits = tile

    def codegen(context, builder, signature, args):
        a, block, chunk, K, b, c, blocks, points, add = args[3:]
        v = Lanes(builder, bits)
        a, b, c, nr = v.pointer(a), v.pointer(b), v.pointer(c), const(nv * v.VL)
        panel, total = builder.mul(K, nr), builder.mul(blocks, points)
        each = builder.sdiv(builder.add(builder.mul(K, nr), builder.sub(blocks, const(1))), blocks)
        with counted(builder, total) as (i, _, _):
            p, q = builder.sdiv(i, blocks), builder.srem(i, blocks)
            rows = v.at(b, builder.mul(p, panel))
            ahead = v.at(rows, builder.add(panel, builder.mul(q, each)))
            source = v.at(v.at(a, builder.mul(q, block)), builder.mul(p, const(mr * 16)))
            out = v.at(c, builder.mul(builder.add(builder.mul(q, points), p), const(mr * nv * v.VL)))
            sums = _panel_product(v, mr, nv, source, chunk, K, rows, ahead, builder.sdiv(each, K))
            out = builder.ptrtoint(out, I64)
            init = builder.select(builder.icmp_signed("!=", add, const(0)), out, const(0))
            finish_tile(v, add_tile(v, sums, nv, init, nr), nv, WHOLE, out, nr, const(0), const(0))
        return context.get_dummy_value()

    return types.void(MR, NV, BITS, *[N] * 9), codegen


def _panel_product(v, mr, nv, a, chunk, K, b, ahead, step):
    """Return the sums of one register tile; line k * step of `ahead` is fetched with k."""
    builder, accumulators = v.b, [(v.vector, v.zero)] * (mr * nv)
    chunks = builder.sdiv(builder.add(K, const(15)), const(16))
    with counted(builder, chunks, accumulators) as (s, sums, after_chunk):
        k0 = builder.mul(s, const(16))
        left = builder.sub(K, k0)
        length = builder.select(builder.icmp_signed("<", left, const(16)), left, const(16))
        panel = v.at(a, builder.mul(s, chunk))
        with counted(builder, length, [(v.vector, t) for t in sums]) as (kk, inner, after_k):
            k = builder.add(k0, kk)
            rows = [v.at(v.at(panel, kk), m * 16) for m in range(mr)]
            v.prefetch(v.at(ahead, builder.mul(k, step)))
            after_k.extend(rank_one(v, rows, v.at(b, builder.mul(k, const(nv * v.VL))), inner, nv))
        after_chunk.extend(after_k)
    return after_chunk


@np.errstate(all="ignore")
def products_twin(MR, NV, BITS, a, block, chunk, K, b, c, blocks, points, add):
    """Python twin of `products`."""
    size, NR = BITS // 8, NV * targets.current().lanes(BITS)
    for p in range(points):
        rows = elements(BITS, b + size * p * K * NR, K * NR).reshape(K, NR)
        for q in range(blocks):
            panels = a + size * (q * block + p * MR * 16)
            at = [panels + size * k * chunk for k in range(-(-K // 16))]
            columns = np.concatenate([elements(BITS, x, MR * 16).reshape(MR, 16) for x in at], 1)[:, :K]
            out = elements(BITS, c + size * (q * points + p) * MR * NR, MR * NR).reshape(MR, NR)
            out[...] = columns @ rows + (out if add else 0)


if config.DISABLE_JIT:
    outer, products = outer_twin, products_twin
else:
    outer, products = _outer, _products
