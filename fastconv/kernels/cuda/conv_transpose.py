"""Transposed convolutions: for each stride phase a convolution of stride 1, by the implicit GEMM (conv_direct.py).

A phase reads the unchanged input under the taps that meet it, flipped, and writes every S-th output: no zeros are
stuffed, none multiplied but at the border, and no two threads write one output, so sums have one order. The weights of
all phases are packed by one launch; then there is one for each phase.

Source: W. Shi et al. 2016, arXiv:1609.07009.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.errors import UnsupportedError
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
    """A transposed convolution, ready to run.

    Parameters
    ----------
    function : str
    g : TransposeGeometry
    activation : str or None
    phases : sequence
        Of each phase its convolution, its taps along D, H and W in the order in which they meet the input, and its
        first output.
    constant : ConvGeometry or None
        A convolution without input channels, which writes where no tap comes.
    """

    def __init__(self, function: str, g: Any, activation: str | None, phases: Sequence[Any], constant: Any):
        self.geometry, self.activation = g, activation
        self.fused = is_fused(activation)
        fused = activation if self.fused else None
        pixels = max((conv.N * conv.OD * conv.OH * conv.OW for conv, _, _ in phases), default=0)
        self.tile = conv_direct.best_tile(code_of(np.dtype(g.dtype)), g.OCG, pixels, g.G)
        self.pieces: list[Piece] = []
        rows: list[np.ndarray] = []
        for conv, taps, start in phases:
            program = conv_direct.Program(function, conv, fused, self.tile)
            self.pieces.append(Piece(program, start, sum(len(numbers) for numbers in rows)))
            rows.append(rows_of((g.G, g.ICG, g.OCG), g.kernel, taps, program.KP, self.tile.BM))
        self.rows: np.ndarray = np.concatenate(rows) if rows else np.empty((0, 2), np.uint32)
        if len(self.rows) * self.tile.BM >= LIMIT:
            raise UnsupportedError(f"{function}: {g.problem} is too large for a CUDA device: 2**32 elements or more")
        self.constant = None if constant is None else conv_direct.Program(function, constant, fused)

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


@lru_cache(maxsize=64)
def _uploaded(rows: bytes) -> Buffer:
    return upload(np.frombuffer(rows, np.uint32))
