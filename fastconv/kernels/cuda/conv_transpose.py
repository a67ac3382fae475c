"""Transposed convolutions: for each stride phase a convolution of stride 1, by the implicit GEMM (conv_direct.py).

A phase reads the unchanged input under the taps that meet it, flipped, and writes every S-th output: no zeros are
stuffed, none multiplied but at the border, and no two threads write one output, so sums have one order. The weights of
all phases are packed by one launch; then there is one for each phase.

Source: W. Shi et al. 2016, arXiv:1609.07009.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.errors import UnsupportedError
from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.conv_transpose import Phase, TransposeGeometry, has_gaps, phase_convolution, phases
from fastconv.kernels.cuda import activations, conv_direct
from fastconv.kernels.cuda.buffers import LIMIT, Buffer, upload
from fastconv.kernels.cuda.epilogue import is_fused
from fastconv.kernels.cuda.memory import code_of
from fastconv.kernels.cuda.phase_packing import pack, rows_of


class Piece(NamedTuple):
    """The convolution of one phase, its first output along D, H and W, and its first row of the packed weight."""

    convolution: conv_direct.Program
    start: tuple[int, ...]
    row: int


class Program:
    """A transposed convolution, ready to run."""

    def __init__(self, function: str, g: TransposeGeometry, activation: str | None):
        self.geometry, self.activation = g, activation
        self.fused = is_fused(activation)
        fused = activation if self.fused else None
        along = list(itertools.product(*(phases(g, axis, False) for axis in range(3))))
        convolutions = [phase_convolution(g, g.N, each) for each in along]
        pixels = max((conv.N * conv.OD * conv.OH * conv.OW for conv in convolutions), default=0)
        self.tile = conv_direct.best_tile(code_of(np.dtype(g.dtype)), g.OCG, pixels, g.G)
        self.pieces: list[Piece] = []
        rows: list[np.ndarray] = []
        for each, conv in zip(along, convolutions, strict=True):
            program = conv_direct.Program(function, conv, fused, self.tile)
            self.pieces.append(
                Piece(program, tuple(phase.starts[0] for phase in each), sum(len(numbers) for numbers in rows))
            )
            rows.append(
                rows_of((g.G, g.ICG, g.OCG), g.kernel, [_taps(phase) for phase in each], program.KP, self.tile.BM)
            )
        self.rows: np.ndarray = np.concatenate(rows) if rows else np.empty((0, 2), np.uint32)
        if len(self.rows) * self.tile.BM >= LIMIT:
            raise UnsupportedError(f"{function}: {g.problem} is too large for a CUDA device: 2**32 elements or more")
        # Where no tap comes stands what no input gives.
        self.constant = conv_direct.Program(function, _constant(g), fused) if has_gaps(g) else None

    def run(self, stream: Any, x: Buffer, weight: Buffer, bias: Buffer | None, out: Buffer) -> None:
        """Fill `out`, contiguous; weight and bias are, too; x and `out` have three spatial axes."""
        if self.constant is not None:
            self.constant.run(stream, x, None, bias, None, out)
        if self.pieces:
            self._run_phases(stream, x, weight, bias, out)
        if not self.fused:
            activations.run(stream, self.activation, out, out)

    def _run_phases(self, stream: Any, x: Buffer, weight: Buffer, bias: Buffer | None, out: Buffer) -> None:
        g = self.geometry
        packed = pack(stream, weight, _uploaded(self.rows.tobytes()), self.tile.BM)
        first = 2 if g.layout == "channels_first" else 1
        steps = out.strides[first : first + 3]
        apart = tuple(step * own for step, own in zip(g.stride, steps, strict=True))
        strides = (*out.strides[:first], *apart, *out.strides[first + 3 :])
        for program, start, row in self.pieces:
            begin = sum(at * step for at, step in zip(start, steps, strict=True))
            program.run(stream, x, packed.part(row * self.tile.BM), bias, None, out.part(begin, strides))


def _taps(phase: Phase) -> list[int]:
    """Return the taps of a phase in the order in which they meet the input."""
    return [phase.first[0] - j * phase.step for j in range(phase.taps)]


def _constant(g: TransposeGeometry) -> ConvGeometry:
    """Return a convolution without input channels."""
    ones = (1,) * 9
    return ConvGeometry(
        g.N, g.G, 0, g.OC, *g.outputs, *g.outputs, *ones[:6], *(0,) * 6, *ones[:3], g.layout, g.dtype, "zeros", g.axes
    )


@lru_cache(maxsize=64)
def _uploaded(rows: bytes) -> Buffer:
    return upload(np.frombuffer(rows, np.uint32))


@lru_cache(maxsize=512)
def program(function: str, g: TransposeGeometry, activation: str | None) -> Program:
    """Return a transposed convolution of this geometry."""
    return Program(function, g, activation)
