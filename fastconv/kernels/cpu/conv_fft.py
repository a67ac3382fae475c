"""Convolution by FFT, overlap-save: blocks of the padded input are transformed, multiplied and transformed back.

    out[n, oc, o] = sum over ic of F^-1(F(x[n, ic, block]) * conj(F(weight[oc, ic])))[o * stride]

A block gives the outputs whose taps do not wrap around it. Its sums over channels are taken frequency by frequency
(spectra.py), so with IC and OC channels a block costs IC + OC transforms, and IC * OC products of a number instead of
a kernel. Kernels are transformed once for each plan, or call. What is in memory at a time is a group of blocks, never
the padded input. The transforms are SciPy's, of one thread each, so that bits do not depend on the number of threads.
Sources: Stockham 1966, doi:10.1145/1464182.1464209; Oppenheim and Schafer, Discrete-Time Signal Processing, 3rd ed.,
2010, section 8.7.3; Mathieu, Henaff and LeCun 2014, arXiv:1312.5851 (transforms shared by channels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu import spectra
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.fft_blocks import Block, Blocks
from fastconv.kernels.cpu.memory import array_at
from fastconv.kernels.cpu.program import Packer, Program, address, bits_of, table
from fastconv.kernels.cpu.row_ops import call_row, finish_rows
from fastconv.threads import run

# Elements that one transform of several blocks takes, about.
BATCH = 1 << 16
# Seconds for each element of a transform, and for each product of vectors; they only decide about threads.
TRANSFORM_SECONDS, PRODUCT_SECONDS = 4e-9, 4e-10

# Fields of the finishing kernel: planes of rows of sums and of outputs, in two levels; elements from one to the next.
PLANES, LINES, ROWS, COLUMNS, SUM_PLANE, SUM_LINE, SUM_ROW, OUT_PLANE, OUT_LINE, OUT_ROW = range(10)
BIAS_STEP, LIMITS, ACTIVATION = range(10, 13)
# Its addresses.
SUMS, BIAS, RESIDUAL, OUT = range(4)


@cache
def finishing(BITS, LANES):
    """Return `kernel(g, io, scratch, lo, hi)`: out = activation(clamp(sums + bias + residual)), plane by plane."""
    size = BITS // 8

    @njit()
    def finish_sums(g, io, scratch, lo, hi):
        for plane in range(lo, hi):
            bias = io[BIAS] + size * plane * g[BIAS_STEP]
            for line in range(g[LINES]):
                c = io[SUMS] + size * (plane * g[SUM_PLANE] + line * g[SUM_LINE])
                at = size * (plane * g[OUT_PLANE] + line * g[OUT_LINE])
                dst, residual = io[OUT] + at, io[RESIDUAL] + at if io[RESIDUAL] else 0
                finish_rows(
                    BITS, LANES, dst, g[OUT_ROW], c, g[SUM_ROW], bias, residual, g[LIMITS], g[ROWS], g[COLUMNS]
                )
                if g[ACTIVATION]:
                    for r in range(g[ROWS]):
                        call_row(g[ACTIVATION], dst + size * r * g[OUT_ROW], g[COLUMNS])

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
        self.axes = [i - 3 for i in range(3) if b.block[i] > 1]
        self.last = geometry.layout == "channels_last"
        self.limits = epilogue_fields(activation, geometry.dtype)
        self.numbers: int = 2 * b.FREQUENCIES
        self.vectors = -(-self.numbers // b.VL)
        self.half = [n // 2 + 1 if i - 3 == self.axes[-1] else n for i, n in enumerate(b.block)]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the transforms of blocks as rows of complex numbers."""
        shape = [n for n in self.b.block if n > 1]
        spectrum = self.fft.rfftn(x, shape, self.axes, workers=1)
        return np.asarray(spectrum).reshape(*x.shape[:-3], -1)

    def back(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the blocks of rows of complex numbers."""
        shape = [n for n in self.b.block if n > 1]
        rows = spectrum.reshape(*spectrum.shape[:-1], *self.half)
        return np.ascontiguousarray(self.fft.irfftn(rows, shape, self.axes, workers=1))

    # The weight.

    def pack(self, p: np.ndarray, io: np.ndarray, scratch: int, lo: int, hi: int) -> None:
        """Transform the kernels of output channels lo to hi."""
        g, b = self.g, self.b
        kernel = g.KD, g.KH, g.KW
        weight = array_at(self.dtype, io[0], g.OC * g.ICG * math.prod(kernel)).reshape(g.OC, g.ICG, *kernel)
        packed = array_at(self.dtype, io[1], self.packed)
        here = tuple(slice(0, (k - 1) * d + 1, d) for k, d in zip(kernel, (g.DD, g.DH, g.DW), strict=True))
        step = max(1, BATCH // (g.ICG * math.prod(b.block)))
        for oc in range(lo, hi, step):
            part = slice(oc, min(oc + step, hi))
            padded = np.zeros((part.stop - oc, g.ICG, *b.block), self.dtype)
            padded[:, :, *here] = weight[part]
            with np.errstate(all="ignore"):
                spectrum = self.forward(padded)
                np.conjugate(spectrum, spectrum)
            if g.ICG == 1:
                packed.view(self.complex).reshape(g.OC, -1)[part] = spectrum[:, 0]
            else:
                self._store(spectrum, packed.reshape(self.vectors, g.OC, g.ICG, b.VL)[:, part])

    @property
    def packed(self) -> int:
        """Elements of the packed weight."""
        g = self.g
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
                blocks = [self.blocks.at(i) for i in range(first, min(first + b.T, self.blocks.total))]
                if g.ICG == 1:
                    self._single(x, io, blocks, slice(part * b.C, min((part + 1) * b.C, g.G)))
                else:
                    self._group(x, io, blocks, part)

    def _single(self, x: np.ndarray, io: np.ndarray, blocks: Sequence[Block], channels: slice) -> None:
        """Compute blocks of channels that are groups of their own."""
        g, count = self.g, channels.stop - channels.start
        to = np.empty((count, len(blocks), *self.b.block), self.dtype)
        self.blocks.load(x, blocks, channels, to)
        spectrum = self.forward(to)
        weight = array_at(self.complex, io[F.WEIGHT], self.packed // 2).reshape(g.G, g.OCG, 1, -1)
        if g.OCG == 1:
            product = np.multiply(spectrum, weight[channels, 0], spectrum)
        else:
            product = spectrum[:, None] * weight[channels]
        self._finish(self.back(product.reshape(-1, *spectrum.shape[1:])), io, blocks, channels.start * g.OCG)

    def _group(self, x: np.ndarray, io: np.ndarray, blocks: Sequence[Block], group: int) -> None:
        """Compute blocks of a group of channels; each step is shared by threads."""
        g, b, T = self.g, self.b, len(blocks)
        el, VL = math.prod(b.block), b.VL
        packed = np.empty((self.vectors, g.ICG, T, VL), self.dtype)
        batch = max(1, BATCH // (T * el))

        def transform(_p: Any, _io: Any, _scratch: int, lo: int, hi: int) -> None:
            for i in range(lo, hi):
                c, end = i * batch, min((i + 1) * batch, g.ICG)
                to = np.empty((end - c, T, *b.block), self.dtype)
                with np.errstate(all="ignore"):
                    self.blocks.load(x, blocks, slice(group * g.ICG + c, group * g.ICG + end), to)
                    self._store(self.forward(to), packed[:, c:end])

        run(transform, None, None, -(-g.ICG // batch), 0, g.ICG * T * el * TRANSFORM_SECONDS)
        kernel = spectra.contraction(self.bits, b.MO, b.MT, VL)
        for first in range(0, g.OCG, b.OCB):
            channels = min(b.OCB, g.OCG - first)
            sums = np.empty((channels, T, self.numbers), self.dtype)
            fields = table(
                (channels, g.ICG, T, self.numbers, self.size * g.OC * g.ICG * VL, self.size * g.ICG * T * VL)
            )
            weight = int(io[F.WEIGHT]) + self.size * (group * g.OCG + first) * g.ICG * VL
            seconds = channels * T * g.ICG * self.vectors * PRODUCT_SECONDS
            run(kernel, fields, table((weight, address(packed), address(sums))), self.vectors, 0, seconds)

            def invert(_p: Any, _io: Any, _scratch: int, lo: int, hi: int, first: int = first, sums: Any = sums) -> None:
                for i in range(lo, hi):
                    part = sums[i * batch : (i + 1) * batch]
                    with np.errstate(all="ignore"):
                        self._finish(self.back(part.view(self.complex)), io, blocks, group * g.OCG + first + i * batch)

            run(invert, None, None, -(-channels // batch), 0, channels * T * el * TRANSFORM_SECONDS)

    def _finish(self, sums: np.ndarray, io: np.ndarray, blocks: Sequence[Block], channel: int) -> None:
        """Write the outputs of blocks from their sums (channels, blocks, *block), and flag what is not finite."""
        for t, block in enumerate(blocks):
            counts = [out.stop - out.start for out in block.outputs]
            steps = zip(counts, self.blocks.strides, strict=True)
            valid = sums[:, t, *(slice(0, (n - 1) * s + 1, s) for n, s in steps)]
            if not math.isfinite(float(valid.sum())):
                array_at(np.uint8, int(io[F.FLAGS]) + block.number, 1)[0] = 1
            if self.last:
                self._finish_pixels(np.ascontiguousarray(np.moveaxis(valid, 0, -1)), io, block, channel)
            else:
                # A step of two or more along a row is a copy of the row.
                whole = valid if self.g.SW == 1 else np.ascontiguousarray(valid)
                self._finish_planes(whole, io, block, channel)

    def _finish_planes(self, valid: np.ndarray, io: np.ndarray, block: Block, channel: int) -> None:
        """Finish sums (channels, depth, rows, columns)."""
        g, (front, rows, columns) = self.g, block.outputs
        plane, row = g.OH * g.OW, g.OW
        at = (block.n * g.OC + channel) * g.OD * plane + front.start * plane + rows.start * row + columns.start
        channels, depth, height, width = valid.shape
        pitches = [step // self.size for step in valid.strides[:3]]
        sizes = channels, depth, height, width, *pitches, g.OD * plane, plane, row
        self._finished(0, sizes, 1, valid, io, at, channel)

    def _finish_pixels(self, valid: np.ndarray, io: np.ndarray, block: Block, channel: int) -> None:
        """Finish sums (depth, rows, columns, channels)."""
        g, (front, rows, columns) = self.g, block.outputs
        plane, row = g.OH * g.OW * g.OC, g.OW * g.OC
        at = block.n * g.OD * plane + front.start * plane + rows.start * row + columns.start * g.OC + channel
        depth, height, width, channels = valid.shape
        sizes = depth, height, width, channels, height * width * channels, width * channels, channels, plane, row, g.OC
        self._finished(1, sizes, 0, valid, io, at, channel)

    def _finished(
        self, lanes: int, sizes: Sequence[int], step: int, valid: np.ndarray, io: np.ndarray, at: int, channel: int
    ) -> None:
        residual = int(io[F.RESIDUAL]) + self.size * at if io[F.RESIDUAL] else 0
        ends = address(valid), int(io[F.BIAS]) + self.size * channel, residual, int(io[F.OUT]) + self.size * at
        fields = table((*sizes, step, self.limits["LIMITS"], self.limits["ACTIVATION"]))
        finishing(self.bits, lanes)(fields, table(ends), 0, 0, sizes[0])


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of convolution by FFT."""
    host = _Fft(geometry, activation, b)
    nothing = np.empty(0, np.int64)
    packer = Packer(host.pack, nothing, geometry.OC, host.packed)
    blocks = host.blocks
    return Program(
        *(host.convolve, nothing, b.tasks, 0, (packer,)), flags=blocks.total, regions=blocks.regions, geometry=geometry
    )
