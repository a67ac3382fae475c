"""Convolution by FFT, overlap-save: blocks of the padded input are transformed, multiplied and transformed back.

    out[n, oc, o] = sum over ic of F^-1(F(x[n, ic, block]) * conj(F(weight[oc, ic])))[o * stride]

A block gives the outputs whose taps do not wrap around it. Its sums over channels are taken frequency by frequency
(spectra.py), so with IC and OC channels a block costs IC + OC transforms, and IC * OC products of a number instead of
a kernel. Kernels are transformed once for each plan, or call. What is in memory at a time is a group of blocks, never
the padded input. The transforms are SciPy's, of one thread each, so that bits do not depend on the number of threads.

Where a channel is a group of its own there is another way: only rows are transformed, and their spectra are convolved
along the columns. For 31 rows of taps that takes less than to transform the columns forth and back, and no row of a
block is wasted but the border. One 1024x1024 image, AVX-512, one thread, ms:

    kernel  register tiles (depthwise)  blocks transformed  rows transformed
    21x21           6.7                        -                 10.2
    31x31          13.5                       16.6               11.5
    63x63          52                         22                 16

The error relative to the largest output of a channel was below 6e-7 in float32 and 2e-15 in float64 over 1900 drawn
problems, less than that of direct sums of so many taps; tests/api/test_fft.py holds 2e-6 and 5e-15.
Sources: Stockham 1966, doi:10.1145/1464182.1464209; Oppenheim and Schafer, Discrete-Time Signal Processing, 3rd ed.,
2010, section 8.7.3; Mathieu, Henaff and LeCun 2014, arXiv:1312.5851 (transforms shared by channels).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu import spectra
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.fft_blocks import Blocks, Group
from fastconv.kernels.cpu.memory import array_at
from fastconv.kernels.cpu.program import Packer, Program, address, bits_of, table
from fastconv.kernels.cpu.row_ops import call_row, finish_rows, int_at
from fastconv.system import empty
from fastconv.threads import run

# Elements that one transform of several blocks takes, about.
BATCH = 1 << 17
# Share of L2 for weights of a few frequencies.
WEIGHT_BYTES = 1 << 18
# Seconds for each element of a transform, and for each product of vectors; they only decide about threads.
TRANSFORM_SECONDS, PRODUCT_SECONDS = 4e-9, 4e-10

# Fields of the finishing kernel. Sums stand in [outer][inner][row], outputs too: (channel, depth, row), or with
# channels last (depth, row, column). Elements from one to the next, and from block to block of the sums.
CHANNELS, SUM_BLOCK, SUM_OUTER, SUM_INNER, SUM_ROW, OUT_OUTER, OUT_INNER, OUT_ROW, LIMITS, ACTIVATION = range(10)
# Its addresses. BLOCKS is the table of fft_blocks.py.
SUMS, BIAS, RESIDUAL, OUT, BLOCKS = range(5)


@cache
def finishing(BITS, LANES):
    """Return `kernel(g, io, scratch, lo, hi)`: out = activation(clamp(sums + bias + residual)) of blocks lo to hi.

    LANES: channels last.
    """
    size = BITS // 8

    @njit()
    def finish_sums(g, io, scratch, lo, hi):
        for t in range(lo, hi):
            at, depth = int_at(io[BLOCKS], 4 * t), int_at(io[BLOCKS], 4 * t + 1)
            height, width = int_at(io[BLOCKS], 4 * t + 2), int_at(io[BLOCKS], 4 * t + 3)
            outers, inners, rows, n = g[CHANNELS], depth, height, width
            if LANES:
                outers, inners, rows, n = depth, height, width, g[CHANNELS]
            for outer in range(outers):
                bias = io[BIAS] if LANES else io[BIAS] + size * outer
                for inner in range(inners):
                    c = io[SUMS] + size * (t * g[SUM_BLOCK] + outer * g[SUM_OUTER] + inner * g[SUM_INNER])
                    to = size * (at + outer * g[OUT_OUTER] + inner * g[OUT_INNER])
                    dst, residual = io[OUT] + to, io[RESIDUAL] + to if io[RESIDUAL] else 0
                    finish_rows(BITS, LANES, dst, g[OUT_ROW], c, g[SUM_ROW], bias, residual, g[LIMITS], rows, n)
                    if g[ACTIVATION]:
                        for r in range(rows):
                            call_row(g[ACTIVATION], dst + size * r * g[OUT_ROW], n)

    return finish_sums


class _Fft:
    """The host side of one problem; `convolve` is the kernel of its program, `pack` that of its packer."""

    def __init__(self, geometry: Any, activation: str | None, b: Any):
        # Only who computes by FFT waits for SciPy.
        import scipy.fft

        self.fft = scipy.fft
        self.g, self.b, self.blocks = geometry, b, Blocks(geometry, b)
        self.bits = bits_of(geometry)
        self.size, self.dtype = self.bits // 8, np.dtype(geometry.dtype)
        self.complex = np.dtype(f"c{2 * self.size}")
        # Axes with a single element have nothing to transform.
        self.axes = [-1] if b.ROWS else [i - 3 for i in range(3) if b.block[i] > 1]
        self.last = geometry.layout == "channels_last"
        self.limits = epilogue_fields(activation, geometry.dtype)
        self.numbers: int = 2 * b.FREQUENCIES
        self.vectors = -(-self.numbers // b.VL)
        self.shape = [b.block[axis] for axis in self.axes]
        # Along columns that are not transformed only the outputs are left, and the kernel is not dilated.
        self.strides = (1, 1, geometry.SW) if b.ROWS else self.blocks.strides
        self.dilations = (geometry.DD, 1 if b.ROWS else geometry.DH, geometry.DW)
        left = (1, b.valid[1], b.block[2]) if b.ROWS else b.block
        self.half = [n // 2 + 1 if i - 3 == self.axes[-1] else n for i, n in enumerate(left)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the transforms of blocks as rows of complex numbers."""
        spectrum = self.fft.rfftn(x, self.shape, self.axes, workers=1)
        return np.asarray(spectrum).reshape(*x.shape[:-3], -1)

    def back(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the blocks of rows of complex numbers."""
        rows = spectrum.reshape(*spectrum.shape[:-1], *self.half)
        return np.ascontiguousarray(self.fft.irfftn(rows, self.shape, self.axes, workers=1))

    # The weight.

    def pack(self, p: np.ndarray, io: np.ndarray, scratch: int, lo: int, hi: int) -> None:
        """Transform the kernels of output channels lo to hi."""
        g, b = self.g, self.b
        kernel = g.KD, g.KH, g.KW
        weight = array_at(self.dtype, io[0], g.OC * g.ICG * math.prod(kernel)).reshape(g.OC, g.ICG, *kernel)
        packed = array_at(self.dtype, io[1], self.packed)
        here = tuple(slice(0, (k - 1) * d + 1, d) for k, d in zip(kernel, self.dilations, strict=True))
        step = max(1, BATCH // (g.ICG * math.prod(b.block)))
        for oc in range(lo, hi, step):
            part = slice(oc, min(oc + step, hi))
            dilated = np.zeros((part.stop - oc, g.ICG, *(s.stop for s in here)), self.dtype)
            dilated[:, :, *here] = weight[part]
            spectrum = self._kernel_spectrum(dilated)
            if g.ICG == 1:
                packed.view(self.complex).reshape(g.OC, -1)[part] = spectrum[:, 0]
            else:
                self._store(spectrum, packed.reshape(self.vectors, g.OC, g.ICG, b.VL)[:, part])

    @np.errstate(all="ignore")
    def _kernel_spectrum(self, kernels: np.ndarray) -> np.ndarray:
        """Return the conjugate transforms of kernels, of which each axis is only as long as it has to be."""
        *others, last = self.axes
        spectrum = self.fft.rfft(kernels, self.b.block[last], last, workers=1)
        for axis in reversed(others):
            spectrum = self.fft.fft(spectrum, self.b.block[axis], axis, workers=1)
        return np.conjugate(spectrum, spectrum).reshape(*kernels.shape[:2], -1)

    @property
    def packed(self) -> int:
        """Elements of the packed weight."""
        g = self.g
        if self.b.ROWS:
            return int(g.OC * g.KH * self.numbers)
        return int(g.OC * (self.numbers if g.ICG == 1 else self.vectors * self.b.VL * g.ICG))

    def _store(self, spectrum: np.ndarray, to: np.ndarray) -> None:
        """Bring spectra (two axes, frequencies) to vectors of frequencies (vectors, two axes, VL)."""
        VL, numbers = self.b.VL, spectrum.view(self.dtype)
        whole = self.numbers // VL
        vectors = numbers[..., : whole * VL].reshape(*numbers.shape[:2], whole, VL)
        to[:whole] = vectors.transpose(2, 0, 1, 3)
        if whole < len(to):
            # The last vector overlaps its neighbour.
            to[whole] = numbers[..., self.numbers - VL :]

    # The convolution.

    def convolve(self, p: np.ndarray, io: np.ndarray, scratch: int, lo: int, hi: int) -> None:
        """Compute groups of blocks lo to hi, of channels of their own, or of a group of channels."""
        g, b = self.g, self.b
        shape = (g.N, g.D, g.H, g.W, g.IC) if self.last else (g.N, g.IC, g.D, g.H, g.W)
        x = array_at(self.dtype, io[F.X], math.prod(shape)).reshape(shape)
        x = x.transpose(0, 4, 1, 2, 3) if self.last else x
        groups = -(-self.blocks.total // b.T)
        with np.errstate(all="ignore"):
            for task in range(lo, hi):
                part, first = divmod(task, groups)
                first *= b.T
                blocks = self.blocks.group(first, min(first + b.T, self.blocks.total))
                if g.ICG == 1:
                    self._single(x, io, blocks, slice(part * b.C, min((part + 1) * b.C, g.G)))
                else:
                    self._group(x, io, blocks, part)

    def _single(self, x: np.ndarray, io: np.ndarray, blocks: Group, channels: slice) -> None:
        """Compute blocks of channels that are groups of their own."""
        g, count = self.g, channels.stop - channels.start
        to = empty((count, len(blocks.blocks), *self.b.block), self.dtype)
        self.blocks.load(x, blocks, channels, to)
        spectrum = self.forward(to)
        weight = array_at(self.complex, io[F.WEIGHT], self.packed // 2).reshape(g.G, g.OCG, 1, -1)
        if self.b.ROWS:
            product = self._lines(spectrum, weight[channels])
        elif g.OCG == 1:
            product = np.multiply(spectrum, weight[channels, 0], spectrum)
        else:
            product = spectrum[:, None] * weight[channels]
        product = product.reshape(-1, spectrum.shape[1], product.shape[-1])
        self._finish(self.back(product), io, blocks, channels.start * g.OCG)

    def _lines(self, spectrum: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the sums over the rows of the kernels of the spectra of rows: (channels, blocks, frequencies)."""
        g, (count, T, _) = self.g, spectrum.shape
        rows = self.b.valid[1]
        sums = empty((count * g.OCG, T, rows * self.b.FREQUENCIES), self.complex)
        fields = table((g.OCG, g.KH, T, rows, self.numbers, self.b.block[1], g.SH, g.DH))
        kernel = spectra.lines(self.bits, self.b.MT, self.b.VL)
        kernel(fields, table(map(address, (weight, spectrum, sums))), 0, 0, count)
        return sums

    def _group(self, x: np.ndarray, io: np.ndarray, blocks: Group, group: int) -> None:
        """Compute blocks of a group of channels; each step is shared by threads."""
        g, b, T = self.g, self.b, len(blocks.blocks)
        el, VL = math.prod(b.block), b.VL
        packed = empty((self.vectors, g.ICG, T, VL), self.dtype)
        batch = max(1, BATCH // (T * el))

        def transform(_p: Any, _io: Any, _scratch: int, lo: int, hi: int) -> None:
            for i in range(lo, hi):
                c, end = i * batch, min((i + 1) * batch, g.ICG)
                to = empty((end - c, T, *b.block), self.dtype)
                with np.errstate(all="ignore"):
                    self.blocks.load(x, blocks, slice(group * g.ICG + c, group * g.ICG + end), to)
                    self._store(self.forward(to), packed[:, c:end])

        run(transform, None, None, -(-g.ICG // batch), 0, g.ICG * T * el * TRANSFORM_SECONDS)
        kernel = spectra.contraction(self.bits, b.MO, b.MT, VL)
        for first in range(0, g.OCG, b.OCB):
            channels = min(b.OCB, g.OCG - first)
            sums = empty((channels, T, self.numbers), self.dtype)
            line, together = self.size * VL, self._together(channels)
            pitches = line * g.OC * g.ICG, line * g.ICG * T
            fields = table((channels, g.ICG, T, self.numbers, *pitches, self.vectors, together))
            weight = int(io[F.WEIGHT]) + self.size * (group * g.OCG + first) * g.ICG * VL
            seconds = channels * T * g.ICG * self.vectors * PRODUCT_SECONDS
            run(
                kernel,
                fields,
                table((weight, address(packed), address(sums))),
                -(-self.vectors // together),
                0,
                seconds,
            )

            def invert(first: int, sums: Any, _scratch: int, lo: int, hi: int) -> None:
                for i in range(lo, hi):
                    part = sums[i * batch : (i + 1) * batch]
                    with np.errstate(all="ignore"):
                        self._finish(self.back(part.view(self.complex)), io, blocks, group * g.OCG + first + i * batch)

            run(invert, first, sums, -(-channels // batch), 0, channels * T * el * TRANSFORM_SECONDS)

    def _together(self, channels: int) -> int:
        """Return how many vectors of frequencies have their weights in L2 at a time."""
        return max(1, min(8, WEIGHT_BYTES // (self.size * self.b.VL * channels * self.g.ICG)))

    def _finish(self, sums: np.ndarray, io: np.ndarray, blocks: Group, channel: int) -> None:
        """Write the outputs of blocks from their sums (channels, blocks, *block), and flag what is not finite."""
        g, strides = self.g, self.strides
        kept = tuple(slice(0, (n - 1) * s + 1, s) for n, s in zip(self.b.valid, strides, strict=True))
        valid: np.ndarray = sums[(slice(None), slice(None), *kept)]
        for t in np.flatnonzero(~np.isfinite(valid.sum((0, 2, 3, 4)))).tolist():
            array_at(np.uint8, int(io[F.FLAGS]) + blocks.blocks[t].number, 1)[0] = 1
        if self.last:
            valid = np.ascontiguousarray(np.moveaxis(valid, 0, -1))
        elif g.SW > 1:
            valid = np.ascontiguousarray(valid)
        pitches = [step // self.size for step in valid.strides]
        if self.last:
            channels, sum_pitches, begin = valid.shape[4], pitches[:4], channel
            out_pitches = g.OH * g.OW * g.OC, g.OW * g.OC, g.OC
        else:
            channels, sum_pitches = valid.shape[0], [pitches[1], pitches[0], *pitches[2:4]]
            out_pitches, begin = (g.OD * g.OH * g.OW, g.OH * g.OW, g.OW), channel * g.OD * g.OH * g.OW
        residual, out = (int(io[i]) + self.size * begin if io[i] else 0 for i in (F.RESIDUAL, F.OUT))
        ends = address(valid), int(io[F.BIAS]) + self.size * channel, residual, out, address(blocks.places)
        fields = table((channels, *sum_pitches, *out_pitches, self.limits["LIMITS"], self.limits["ACTIVATION"]))
        finishing(self.bits, int(self.last))(fields, table(ends), 0, 0, len(blocks.blocks))


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of convolution by FFT."""
    host = _Fft(geometry, activation, b)
    nothing = np.empty(0, np.int64)
    packer = Packer(host.pack, nothing, geometry.OC, host.packed)
    blocks = host.blocks
    return Program(
        *(host.convolve, nothing, b.tasks, 0, (packer,)), flags=blocks.total, regions=blocks.regions, geometry=geometry
    )
