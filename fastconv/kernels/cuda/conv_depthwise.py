"""Depthwise convolution: a thread slides a window down one column of one channel, TR outputs at a time.

    out[n, ic*M + m, o] = sum over k of weight[ic*M + m, k] * x[n, ic, o*S + k*D - P] along D, H and W

For each column of the kernel the inputs that TR outputs see are loaded once, and each is multiplied by all taps that it
meets. Outputs of a thread are DH / gcd(SH, DH) rows apart, so that their windows overlap at any dilation. Neighbours in
a warp are neighbours along W, with channels last along the channels. One-channel images are its most frequent case.

Sources: Chollet 2017, arXiv:1610.02357 (the operation); XNNPACK dwconv2d-chw (row reuse).
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda import activations
from fastconv.kernels.cuda.buffers import LIMIT, Buffer
from fastconv.kernels.cuda.epilogue import is_fused, limits
from fastconv.kernels.cuda.memory import ELEMENT, REAL, REAL_CODE, code_of, load, pointer
from fastconv.kernels.cuda.moves import bordered
from fastconv.kernels.cuda.packing import pack
from fastconv.kernels.cuda.runtime import SIMULATED, Kernel, blocks_of, launch

THREADS = 128
# Outputs of a thread, where there are as many rows, and where there are fewer.
ROWS = (8, 2)
# Taps of a kernel's column that are multiplied at once.
TAPS = 7
SIZES = 36


@cache
def window(code: str, TR: int, KB: int, STEP: int) -> Any:
    """Return ``f(acc, taps, x, at, h, H, advance, DH)``: acc[j] += x[row j*STEP + k] * taps[k].

    Row r is element ``at + r*advance`` of x if ``h + r*DH < H``, else 0.
    """
    rows = (TR - 1) * STEP + KB
    # By row: which outputs meet which taps there.
    meets = [[((r - k) // STEP, k) for k in range(KB) if r >= k and (r - k) % STEP == 0] for r in range(rows)]
    meets = [[(j, k) for j, k in pairs if j < TR] for pairs in meets]
    return _twin(code, meets) if SIMULATED else _intrinsic(code, meets)


def _twin(code: str, meets: list[list[tuple[int, int]]]) -> Any:
    real = REAL[code]

    def slide(acc, taps, x, at, h, H, advance, DH):
        for r, pairs in enumerate(meets):
            inside = pairs and uint32(h + uint32(uint32(r) * DH)) < H
            value = real(x[int(uint32(at + uint32(uint32(r) * advance)))] if inside else 0)
            for j, k in pairs:
                acc[j] += value * taps[k]

    return slide


def _intrinsic(code: str, meets: list[list[tuple[int, int]]]) -> Any:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I64, U32, address, read_only

    real = REAL[code]

    @intrinsic
    def slide(typing, acc, taps, x, at, h, H, advance, DH):
        def codegen(context, builder, signature, args):
            sums, weights = (address(context, builder, signature.args[k], args[k]) for k in range(2))
            place, row, H, advance, DH = args[3:]
            zero = ir.Constant(sums.type.pointee, None)
            TR, KB = (1 + max(pair[k] for pairs in meets for pair in pairs) for k in range(2))
            totals = [builder.load(builder.gep(sums, [I64(j)])) for j in range(TR)]
            factors = [builder.load(builder.gep(weights, [I64(k)])) for k in range(KB)]
            for r, pairs in enumerate(meets):
                if r:
                    place, row = builder.add(place, advance), builder.add(row, DH)
                if not pairs:
                    continue
                before = builder.block
                with builder.if_then(builder.icmp_unsigned("<", row, H)):
                    loaded = read_only(builder, address(context, builder, signature.args[2], args[2], place))
                    loaded = context.cast(builder, loaded, x.dtype, real)
                    after = builder.block
                value = builder.phi(zero.type)
                value.add_incoming(zero, before)
                value.add_incoming(loaded, after)
                for j, k in pairs:
                    totals[j] = _multiply_add(builder, value, factors[k], totals[j])
            for j, total in enumerate(totals):
                builder.store(total, builder.gep(sums, [I64(j)]))
            return context.get_dummy_value()

        return types.void(acc, taps, x, *[U32] * 5), codegen

    def _multiply_add(builder, a, b, c):
        if isinstance(a.type, ir.IntType):
            return builder.add(builder.mul(a, b), c)
        fma = builder.module.declare_intrinsic("llvm.fma", [a.type], ir.FunctionType(a.type, [a.type] * 3))
        return builder.call(fma, [a, b, c])

    return slide


def depthwise(code: str, stored: str, TR: int, KB: int, STEP: int, last: bool, threads: int) -> Kernel:
    """Return the kernel for TR outputs a thread, KB taps at a time; weights are `stored`; `g` as in `Program.run`."""
    real, element, slide = REAL[code], ELEMENT[code], window(code, TR, KB, STEP)

    def conv_depthwise(x, weight, bias, residual, out, g, clamp):
        total, OW, NS, OD, OC, M, KD, CHUNKS, KW, OSTEP = g[:10]
        XN, XC, XD, XH, XW, D, H, W, SD, SH, SW, PF, PT, PL, DD, DH, DW = g[10:27]
        OH, YN, YC, YD, YH, YW, WC, WK, flags = g[27:]
        slope, low, high = clamp
        acc = cuda.local.array(TR, real)
        taps = cuda.local.array(KB, real)
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        oc, q = uint32(i % OC), uint32(i // OC)
        if not last:
            q = i
        ow, q = uint32(q % OW), uint32(q // OW)
        strip, q = uint32(q % NS), uint32(q // NS)
        od = uint32(0)
        if OD > uint32(1):
            od, q = uint32(q % OD), uint32(q // OD)
        n = q
        if not last:
            oc, n = uint32(q % OC), uint32(q // OC)
        # Strips between which rows are shared out stand next to each other.
        oh = uint32(strip * uint32(TR))
        if OSTEP > uint32(1):
            band = uint32(strip // OSTEP)
            oh = uint32(uint32(uint32(band * uint32(TR - 1)) * OSTEP) + strip)
        ic = oc
        if M > uint32(1):
            ic = uint32(oc // M)
        for j in range(TR):
            acc[j] = real(0)
        d, h0, w0 = uint32(uint32(od * SD) - PF), uint32(uint32(oh * SH) - PT), uint32(uint32(ow * SW) - PL)
        advance, leap = uint32(DH * XH), uint32(DH * uint32(KB))
        plane = uint32(uint32(n * XN) + uint32(ic * XC))
        tap = uint32(oc * WC)
        for kd in range(uint32(0), KD):
            first = uint32(uint32(plane + uint32(d * XD)) + uint32(h0 * XH))
            h = h0
            for chunk in range(uint32(0), CHUNKS):
                w = w0
                for kw in range(uint32(0), KW):
                    for k in range(KB):
                        taps[k] = real(load(weight, uint32(tap + uint32(uint32(uint32(k) * KW) * WK))))
                    rows = H if (w < W) & (d < D) else uint32(0)
                    slide(acc, taps, x, uint32(first + uint32(w * XW)), h, rows, advance, DH)
                    tap, w = uint32(tap + WK), uint32(w + DW)
                tap = uint32(tap + uint32(uint32(uint32(KB - 1) * KW) * WK))
                h, first = uint32(h + leap), uint32(first + uint32(leap * XH))
            d = uint32(d + DD)
        at = uint32(uint32(uint32(n * YN) + uint32(oc * YC)) + uint32(od * YD))
        at = uint32(uint32(at + uint32(oh * YH)) + uint32(ow * YW))
        added = real(0)
        if flags & uint32(1):
            added = real(load(bias, oc))
        for j in range(TR):
            if oh < OH:
                value = real(acc[j] + added)
                if flags & uint32(2):
                    value = real(value + real(load(residual, at)))
                # Comparisons are false for NaN, which stays.
                value = real(value * slope) if value < real(0) else value
                value = low if value < low else value
                out[at] = element(high if value > high else value)
            oh, at = uint32(oh + OSTEP), uint32(at + uint32(OSTEP * YH))

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    arguments = (array, pointer(stored), array, array, array, own, types.UniTuple(real, 3))
    return Kernel(conv_depthwise, arguments, threads)


class Program:
    """A depthwise convolution, ready to run."""

    def __init__(self, function: str, g: Any, activation: str | None):
        self.geometry, self.activation, self.code = g, activation, code_of(np.dtype(g.dtype))
        self.last = g.layout == "channels_last"
        common = math.gcd(g.SH, g.DH)
        self.step, self.spacing = g.SH // common, g.DH // common
        self.rows = ROWS[0] if g.OH >= ROWS[0] * self.spacing else ROWS[1]
        # Of a kernel's column as many taps at once as divide it; far apart they share no rows.
        self.taps = max(k for k in range(1, TAPS + 1) if g.KH % k == 0)
        self.strips = -(-g.OH // (self.rows * self.spacing)) * self.spacing
        self.total = g.N * g.OC * g.OD * self.strips * g.OW
        if self.total >= LIMIT:
            raise UnsupportedError(f"{function}: {g.problem} is too large for a CUDA device: 2**32 elements or more")
        self.fused = is_fused(activation)
        self.clamp = limits(activation if self.fused else None, self.code)
        self.stored = REAL_CODE[self.code] if self.last else self.code

    def pack(self, stream: Any, weight: Buffer) -> Buffer:
        """Return the weight as the kernel reads it: with channels last by tap and channel, else as it is."""
        g = self.geometry
        return pack(stream, weight, 1, g.KD * g.KH * g.KW, g.OC) if self.last else weight

    def run(
        self, stream: Any, x: Buffer, packed: Buffer, bias: Buffer | None, residual: Buffer | None, out: Buffer
    ) -> None:
        """Fill `out`, contiguous; the input may have any strides, (N, C, D, H, W) or (N, D, H, W, C)."""
        g = self.geometry
        if g.padding_mode != "zeros":
            x, g = bordered(stream, x, g)
        XS, YS = (_strides(buffer, g.layout) for buffer in (x, out))
        K = g.KD * g.KH * g.KW
        flags = (bias is not None) + 2 * (residual is not None)
        sizes = (self.total, g.OW, self.strips, g.OD, g.OC, g.OCG, g.KD, g.KH // self.taps, g.KW, self.spacing, *XS)
        sizes += (g.D, g.H, g.W, g.SD, g.SH, g.SW, g.PF, g.PT, g.PL, g.DD, g.DH, g.DW, g.OH, *YS)
        sizes += (*((1, g.OC) if self.last else (K, 1)), flags)
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        literals = (self.code, self.stored, self.rows, self.taps, self.step, self.last, THREADS)
        arguments = (x, packed, bias, residual, out, numbers, self.clamp)
        launch(stream, depthwise, literals, blocks_of(self.total, THREADS), arguments)
        if not self.fused:
            activations.run(stream, self.activation, out, out)


def _strides(buffer: Buffer, layout: str) -> tuple[int, ...]:
    """Return the strides in the order N, C, D, H, W."""
    s = buffer.strides
    return s if layout == "channels_first" else (s[0], s[4], *s[1:4])


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None) -> Program:
    """Return a depthwise convolution of this geometry."""
    return Program(function, g, activation)
