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
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, types, uint32
from numba.core import cgutils

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
# Taps of a column, and of a whole kernel, that are multiplied at once.
TAPS, WHOLE = 7, 25
SIZES = 36


class Window(NamedTuple):
    """TR outputs, STEP rows apart, of a kernel of KB x KC taps; `unit`: elements and weights of a row are neighbours."""

    TR: int
    KB: int
    KC: int
    STEP: int
    unit: bool

    def meetings(self) -> list[list[tuple[int, int]]]:
        """Return by row which outputs meet which taps of a column there."""
        taps = [[(divmod(r - k, self.STEP), k) for k in range(min(r + 1, self.KB))] for r in range(self.rows)]
        return [[(j, k) for (j, rest), k in pairs if not rest and j < self.TR] for pairs in taps]

    @property
    def rows(self) -> int:
        """Rows of the input that the outputs see."""
        return (self.TR - 1) * self.STEP + self.KB


@cache
def slide(code: str, stored: str, window: Window) -> Any:
    """Return ``f(acc, weight, taps, x, start, rows, columns)``, which adds all products of a window.

    `taps` are (first, row step, column step) of the weights; `start` is (plane, first element from there) of x, `rows`
    and `columns` are (first, step in rows or columns, limit, step in elements); what lies outside is 0.
    """
    return _twin(code, window) if SIMULATED else _intrinsic(code, stored, window)


def _twin(code: str, window: Window) -> Any:
    real, meetings, KC = REAL[code], window.meetings(), window.KC

    def add(acc, weight, taps, x, start, rows, columns):
        for r, pairs in enumerate(meetings):
            for c in range(KC if pairs else 0):
                inside = uint32(rows[0] + uint32(r) * rows[1]) < rows[2]
                inside = inside and uint32(columns[0] + uint32(c) * columns[1]) < columns[2]
                at = uint32(sum(start) + uint32(r) * rows[3] + uint32(c) * columns[3])
                value = real(x[int(at)] if inside else 0)
                for j, k in pairs:
                    acc[j] += value * real(weight[int(taps[0] + uint32(k) * taps[1] + uint32(c) * taps[2])])

    return add


def _intrinsic(code: str, stored: str, window: Window) -> Any:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, I64, U32, read_only

    real, meetings = REAL[code], window.meetings()
    TR, KB, KC, _, unit = window

    def multiply_add(builder, a, b, c):
        if isinstance(a.type, ir.IntType):
            return builder.add(builder.mul(a, b), c)
        fma = builder.module.declare_intrinsic("llvm.fma", [a.type], ir.FunctionType(a.type, [a.type] * 3))
        return builder.call(fma, [a, b, c])

    def column_steps(builder, step):
        """Return the distances of the columns, in elements."""
        return [I64(c) if unit else builder.sext(builder.mul(step, I32(c)), I64) for c in range(KC)]

    def factors(context, builder, weight, taps):
        """Return the weights by tap and column."""
        first, down, across = taps
        columns, first = column_steps(builder, across), builder.gep(weight, [builder.zext(first, I64)])
        found = []
        for k in range(KB):
            row = builder.gep(first, [I64(k * KC) if unit else builder.zext(builder.mul(down, I32(k)), I64)])
            values = [read_only(builder, builder.gep(row, [step])) for step in columns]
            found.append([context.cast(builder, value, ELEMENT[stored], real) for value in values])
        return found

    def element(context, builder, place, inside):
        """Return the element at a place, or 0."""
        before = builder.block
        with builder.if_then(inside):
            loaded = context.cast(builder, read_only(builder, place), ELEMENT[code], real)
            after = builder.block
        value = builder.phi(loaded.type)
        value.add_incoming(ir.Constant(loaded.type, None), before)
        value.add_incoming(loaded, after)
        return value

    @intrinsic
    def add(typing, acc, weight, taps, x, start, rows, columns):
        def codegen(context, builder, signature, args):
            unpacked = [cgutils.unpack_tuple(builder, args[k]) for k in (2, 4, 5, 6)]
            taps, (plane, local), (row, DH, H, down), (column, DW, W, across) = unpacked
            acc = context.make_array(signature.args[0])(context, builder, args[0]).data
            weights, steps = factors(context, builder, args[1], taps), column_steps(builder, across)
            within = [builder.icmp_unsigned("<", builder.add(column, builder.mul(DW, I32(c))), W) for c in range(KC)]
            totals = [builder.load(builder.gep(acc, [I64(j)])) for j in range(TR)]
            plane = builder.gep(args[3], [builder.zext(plane, I64)])
            for r, pairs in enumerate(meetings):
                # The place may lie before the plane; its distance from it is less than 2**31.
                line = builder.gep(plane, [builder.sext(local, I64)])
                inside = builder.icmp_unsigned("<", row, H)
                for c in range(KC if pairs else 0):
                    place = builder.gep(line, [steps[c]])
                    value = element(context, builder, place, builder.and_(inside, within[c]))
                    for j, k in pairs:
                        totals[j] = multiply_add(builder, value, weights[k][c], totals[j])
                local, row = builder.add(local, down), builder.add(row, DH)
            for j, total in enumerate(totals):
                builder.store(total, builder.gep(acc, [I64(j)]))
            return context.get_dummy_value()

        numbers = [types.UniTuple(types.uint32, n) for n in (3, 2, 4, 4)]
        return types.void(acc, weight, numbers[0], x, *numbers[1:]), codegen

    return add


def depthwise(code: str, stored: str, window: Window, last: bool, threads: int) -> Kernel:
    """Return the kernel of a window; the weights are `stored` so; `g` are the sizes in the order of `Program.run`."""
    TR, KB, KC, _, _ = window
    real, element, add = REAL[code], ELEMENT[code], slide(code, stored, window)

    def conv_depthwise(x, weight, bias, residual, out, g, clamp):
        total, OW, NS, OD, OC, M, KD, CHUNKS, KW, OSTEP = g[:10]
        XN, XC, XD, XH, XW, D, H, W, SD, SH, SW, PF, PT, PL, DD, DH, DW = g[10:27]
        OH, YN, YC, YD, YH, YW, WC, WK, flags = g[27:]
        slope, low, high = clamp
        acc = cuda.local.array(TR, real)
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        oc, q = uint32(i % OC), uint32(i // OC)
        if not last:
            q = i
        ow, q = uint32(q % OW), uint32(q // OW)
        strip, n = uint32(q % NS), uint32(q // NS)
        if not last:
            oc, n = uint32(n % OC), uint32(n // OC)
        od = uint32(0)
        if OD > uint32(1):
            od, n = uint32(n % OD), uint32(n // OD)
        # Strips between which rows are shared out stand next to each other.
        oh = uint32(strip * uint32(TR))
        if OSTEP > uint32(1):
            band = uint32(strip // OSTEP)
            oh = uint32(uint32(uint32(band * uint32(TR - 1)) * OSTEP) + strip)
        ic = oc
        if M > uint32(1):
            ic = uint32(oc // M)
        first = real(0)
        if flags & uint32(1):
            first = real(load(bias, oc))
        for j in range(TR):
            acc[j] = first
        d, h0, w0 = uint32(uint32(od * SD) - PF), uint32(uint32(oh * SH) - PT), uint32(uint32(ow * SW) - PL)
        down, across, leap = uint32(DH * XH), uint32(DW * XW), uint32(DH * uint32(KB))
        plane, tap = uint32(uint32(n * XN) + uint32(ic * XC)), uint32(oc * WC)
        row = uint32(KW * WK)
        # Counters of a range would be 64 bits wide.
        kd = uint32(0)
        while kd < KD:
            local, h = uint32(uint32(uint32(d * XD) + uint32(h0 * XH)) + uint32(w0 * XW)), h0
            rows = H if d < D else uint32(0)
            chunk = uint32(0)
            while chunk < CHUNKS:
                w, at, kw = w0, local, uint32(0)
                while kw < KW:
                    taps = (uint32(tap + uint32(kw * WK)), row, WK)
                    add(acc, weight, taps, x, (plane, at), (h, DH, rows, down), (w, DW, W, across))
                    kw = uint32(kw + uint32(KC))
                    w, at = uint32(w + uint32(DW * uint32(KC))), uint32(at + uint32(across * uint32(KC)))
                tap, chunk = uint32(tap + uint32(row * uint32(KB))), uint32(chunk + uint32(1))
                h, local = uint32(h + leap), uint32(local + uint32(leap * XH))
            d, kd = uint32(d + DD), uint32(kd + uint32(1))
        at = uint32(uint32(uint32(n * YN) + uint32(oc * YC)) + uint32(od * YD))
        at = uint32(uint32(at + uint32(oh * YH)) + uint32(ow * YW))
        down = uint32(OSTEP * YH)
        if flags & uint32(2):
            for j in range(TR):
                if uint32(oh + uint32(uint32(j) * OSTEP)) < OH:
                    acc[j] += real(load(residual, uint32(at + uint32(uint32(j) * down))))
        if flags & uint32(4):
            for j in range(TR):
                # Comparisons are false for NaN, which stays.
                value = real(acc[j] * slope) if acc[j] < real(0) else acc[j]
                value = low if value < low else value
                acc[j] = high if value > high else value
        for j in range(TR):
            if oh < OH:
                out[at] = element(acc[j])
            oh, at = uint32(oh + OSTEP), uint32(at + down)

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    arguments = (array, pointer(stored), array, array, array, own, types.UniTuple(real, 3))
    return Kernel(conv_depthwise, arguments, threads)


class Program:
    """A depthwise convolution, ready to run."""

    def __init__(self, function: str, g: Any, activation: str | None):
        self.geometry, self.activation, self.code = g, activation, code_of(np.dtype(g.dtype))
        self.last = g.layout == "channels_last"
        common = math.gcd(g.SH, g.DH)
        self.spacing = g.DH // common
        rows = ROWS[0] if g.OH >= ROWS[0] * self.spacing else ROWS[1]
        # Of a column as many taps at once as divide it.
        KB = max(k for k in range(1, TAPS + 1) if g.KH % k == 0)
        KC = g.KW if g.KH * g.KW <= WHOLE and KB == g.KH else 1
        self.window = Window(rows, KB, KC, g.SH // common, False)
        self.strips = -(-g.OH // (rows * self.spacing)) * self.spacing
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
        XS, YS = (strides_of(buffer, g.layout) for buffer in (x, out))
        K, window = g.KD * g.KH * g.KW, self.window
        if not self.last and window.KC == g.KW and g.DW * XS[4] == 1:
            window = window._replace(unit=True)
        flags = (bias is not None) + 2 * (residual is not None) + 4 * (self.fused and self.activation is not None)
        sizes = (self.total, g.OW, self.strips, g.OD, g.OC, g.OCG, g.KD, g.KH // window.KB, g.KW, self.spacing, *XS)
        sizes += (g.D, g.H, g.W, g.SD, g.SH, g.SW, g.PF, g.PT, g.PL, g.DD, g.DH, g.DW, g.OH, *YS)
        sizes += (*((1, g.OC) if self.last else (K, 1)), flags)
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        literals = (self.code, self.stored, window, self.last, THREADS)
        arguments = (x, packed, bias, residual, out, numbers, self.clamp)
        launch(stream, depthwise, literals, blocks_of(self.total, THREADS), arguments)
        if not self.fused:
            activations.run(stream, self.activation, out, out)


def strides_of(buffer: Buffer, layout: str) -> tuple[int, ...]:
    """Return the strides in the order N, C, D, H, W."""
    s = buffer.strides
    return s if layout == "channels_first" else (s[0], s[4], *s[1:4])


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None) -> Program:
    """Return a depthwise convolution of this geometry."""
    return Program(function, g, activation)
