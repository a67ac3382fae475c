"""Transposed convolutions, prepared: a convolution for each stride phase, and how they become one result.

The result is computed band by band, a band being the rows of one phase along depth and height. The convolutions of its
phases along the width run into a temporary buffer, which is then interleaved into the result. Where all strides are 1
there is one convolution, which writes the result itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.choose import refusal
from fastconv.dispatch.conv_table import ROWS, TABLE
from fastconv.dispatch.measure import fastest_name
from fastconv.dispatch.plan import Prepared, free_buffers, prepare
from fastconv.dispatch.transpose_bands import bands_of, images_at_once, moves_of, taps_of
from fastconv.errors import UnsupportedError
from fastconv.geometry.arrays import address
from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.conv_transpose import TransposeGeometry, constant_convolution, has_gaps
from fastconv.threads import run

# The temporary buffer holds one band of so many images, at least of one, as fit in this.
TEMPORARY_BYTES = 4 << 20

# Seconds to regroup an element of the weight and to move a byte of the result; they only decide about threads.
_REGROUP_SECONDS, _MOVE_SECONDS = 1.5e-9, 2e-10


class _Part(NamedTuple):
    """A convolution of a band, for `starts` columns of each stride; its weight and its result in the buffer."""

    prepared: Prepared
    starts: int
    weight: slice
    result: slice


class _Band(NamedTuple):
    """Convolutions, and the program that interleaves their results; None: the only one writes the result itself."""

    parts: list[_Part]
    moves: Any


class PreparedTranspose:
    """A transposed convolution ready but for the weight. Immutable, so any number of threads may run it."""

    __slots__ = (
        "_bands",
        "_chunk",
        "_constant",
        "_elements",
        "_regroup",
        "algorithm",
        "dtype",
        "geometry",
        "out_shape",
    )

    def __init__(self, function: str, g: TransposeGeometry, activation: str | None, algorithm: str, precision: str):
        self.geometry, self.out_shape, self.dtype, self.algorithm = g, g.output_shape, np.dtype(g.dtype), algorithm
        itemsize, direct = self.dtype.itemsize, g.stride == (1, 1, 1)
        self._chunk = max(g.N, 1) if direct else images_at_once(g, TEMPORARY_BYTES // itemsize)
        bands = bands_of(g, self._chunk)
        pieces = [piece for band in bands for piece in band.pieces]
        _check_algorithm(function, [piece.conv for piece in pieces], algorithm, precision)
        # The weights of all phases, then the results of one band.
        weights = max((piece.weight.stop for piece in pieces), default=0)
        results = max((piece.result.stop for piece in pieces), default=0)
        self._elements = weights + (0 if direct else results)
        self._regroup = load.load("interleave:regroup")(itemsize, g.G, (g.ICG, g.OCG), taps_of(g, bands))
        interleave = load.load("interleave:interleave")
        self._bands = []
        for band in bands:
            parts = []
            for conv, phase, weight, result in band.pieces:
                prepared = prepare(function, conv, activation, algorithm, precision)
                parts.append(
                    _Part(prepared, len(phase.starts), weight, slice(weights + result.start, weights + result.stop))
                )
            moves = None if direct else interleave(itemsize, moves_of(g, self._chunk, band, weights))
            self._bands.append(_Band(parts, moves))
        self._constant = None
        if has_gaps(g):
            self._constant = prepare(function, constant_convolution(g), activation, "direct", precision)

    def run_once(
        self,
        x: np.ndarray,
        weights: Sequence[np.ndarray],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Fill `out`, which overlaps no other array; all are C-contiguous, of the plan's dtype; `residual` is None."""
        if out.size == 0:
            return
        if self._constant is not None:
            self._fill(bias, out)
        size = self._elements * self.dtype.itemsize
        buffer = free_buffers.take(size)
        try:
            memory = buffer[:size].view(self.dtype)
            io = np.array((address(weights[0]), address(memory)), np.int64)
            seconds = weights[0].size * _REGROUP_SECONDS
            run(self._regroup.kernel, self._regroup.g, io, self._regroup.tasks, 0, seconds)
            x, out = x.reshape(-1), out.reshape(-1)
            for band in self._bands:
                self._run_band(band, x, memory, bias, out)
        finally:
            free_buffers.give_back(buffer)

    def _run_band(
        self, band: _Band, x: np.ndarray, memory: np.ndarray, bias: np.ndarray | None, out: np.ndarray
    ) -> None:
        chunks = max(self.geometry.N, 1) // self._chunk
        biases = [self._repeated(bias, part.starts) for part in band.parts]
        if chunks > 1:
            packed = [part.prepared.pack([memory[part.weight]]) for part in band.parts]
        for chunk in range(chunks):
            images, results = (a[chunk * (a.size // chunks) : (chunk + 1) * (a.size // chunks)] for a in (x, out))
            for i, (prepared, _, weight, result) in enumerate(band.parts):
                target = results if band.moves is None else memory[result]
                if chunks > 1:
                    prepared.run(images, packed[i], biases[i], None, target)
                else:
                    prepared.run_once(images, [memory[weight]], biases[i], None, target)
            if band.moves is not None:
                io = np.array((address(memory), address(results)), np.int64)
                seconds = results.nbytes / len(self._bands) * _MOVE_SECONDS
                run(band.moves.kernel, band.moves.g, io, band.moves.tasks, 0, seconds)

    def _repeated(self, bias: np.ndarray | None, starts: int) -> np.ndarray | None:
        """Return the bias of a convolution with the channels (group, start, channel of the group)."""
        if bias is None or starts == 1:
            return bias
        return bias.reshape(self.geometry.G, 1, -1).repeat(starts, 1).reshape(-1)

    def _fill(self, bias: np.ndarray | None, out: np.ndarray) -> None:
        """Fill `out` with what stands where no tap of the kernel comes: the bias, activated."""
        g, nothing, constant = self.geometry, np.empty(0, self.dtype), np.empty(self.geometry.OC, self.dtype)
        assert self._constant is not None
        self._constant.run_once(nothing, [nothing], bias, None, constant)
        if g.layout == "channels_first":
            out.reshape(g.N, g.OC, -1)[...] = constant[:, None]
        else:
            out.reshape(-1, g.OC)[...] = constant


def _check_algorithm(function: str, convs: Sequence[ConvGeometry], algorithm: str, precision: str) -> None:
    """Raise `UnsupportedError` if the named algorithm cannot do the convolution of each phase."""
    if algorithm == "auto":
        return
    row = ROWS.get(algorithm)
    refused = _refusal(convs, row, precision) if row else "this version does not have it"
    if refused is not None:
        able = ", ".join(row.name for row in TABLE if _refusal(convs, row, precision) is None)
        raise UnsupportedError(f'{function}: algorithm "{algorithm}" refused: {refused}; {able} can')


def _refusal(convs: Sequence[ConvGeometry], row: Algorithm, precision: str) -> str | None:
    if row.name == "separable":
        return "it takes one kernel, which transposed convolution cuts in stride phases"
    reasons = (refusal(conv, row, precision) for conv in convs)
    return next((f"{reason} (in a stride phase)" for reason in reasons if reason is not None), None)


@lru_cache(maxsize=512)
def prepare_transpose(
    function: str, g: TransposeGeometry, activation: str | None, algorithm: str, precision: str
) -> PreparedTranspose:
    """Return the prepared problem, from the bounded cache if it was met before."""
    return PreparedTranspose(function, g, activation, algorithm, precision)


def fastest_transpose(
    function: str, g: TransposeGeometry, activation: str | None, precision: str, x: np.ndarray, w: np.ndarray
) -> PreparedTranspose:
    """Return the prepared problem of the algorithm that was fastest when this problem was first measured."""

    def prepared(name: str) -> PreparedTranspose:
        return prepare_transpose(function, g, activation, name, precision)

    convs = [piece.conv for band in bands_of(g, 1) for piece in band.pieces]
    # "auto" may take another one for each phase.
    able = ["auto", *(row.name for row in TABLE if not row.automatic and _refusal(convs, row, precision) is None)]
    return prepared(fastest_name((g, activation, precision), able, prepared, x, w))
