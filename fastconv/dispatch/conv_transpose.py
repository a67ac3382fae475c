"""Transposed convolutions, prepared: a convolution for each stride phase, and how they become one result.

The result is computed band by band, a band being the rows of one phase along depth and height. The convolutions of its
phases along the width run into a temporary buffer, which is then interleaved into the result. Where all strides are 1
there is one convolution, which writes the result itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch import load, wisdom, workspace
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.choose import Candidate, choose, judge, pays, refusal
from fastconv.dispatch.conv_table import ROWS, TABLE
from fastconv.dispatch.cost import Cost, OpCount, pack_seconds, transpose_ops
from fastconv.dispatch.measure import fastest_name
from fastconv.dispatch.plan import free_buffers, prepare
from fastconv.dispatch.transpose_bands import Band, Piece, bands_of, images_at_once, moves_of, regrouped, taps_of
from fastconv.errors import UnsupportedError
from fastconv.geometry.arrays import address
from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.conv_transpose import TransposeGeometry, constant_convolution, has_gaps
from fastconv.threads import run

# The temporary buffer holds one band of so many images, at least of one, as fit in this.
TEMPORARY_BYTES = 4 << 20

# Seconds to regroup or flip an element of the weight and to move a byte of the result; they only decide about threads.
_REGROUP_SECONDS, _FLIP_SECONDS, _MOVE_SECONDS = 1.5e-9, 3e-10, 2e-10

# Of the widest vectors, for what packing has to write to nowhere.
_VECTOR_BYTES = 64
# What the kernels of convolutions take (fields.py), the longest of all.
_IO_LENGTH = 6


# Where an address counts from: one of the arrays, nothing, or from _BIAS on the bias, repeated in one way or another.
_X, _WEIGHT, _OUT, _BUFFER, _NOTHING, _BIAS = range(6)


class _Launch(NamedTuple):
    """A kernel with all that it takes but where arrays lie; that is row `io` of the addresses of a call."""

    kernel: Any
    g: np.ndarray
    tasks: int
    scratch_bytes: int
    seconds: float
    io: int
    # Its tables, whose addresses stand in g, live as long as it does.
    program: Any


class _Addresses:
    """Collects, for every launch, which addresses it takes, as (base, offset in bytes)."""

    def __init__(self) -> None:
        self.bases: list[list[int]] = []
        self.offsets: list[list[int]] = []

    def launch(self, program: Any, io: Sequence[tuple[int, int]], seconds: float) -> _Launch:
        """Return the launch of a program, or a packer, on these addresses."""
        rest = _IO_LENGTH - len(io)
        self.bases.append([base for base, _ in io] + [_NOTHING] * rest)
        self.offsets.append([offset for _, offset in io] + [0] * rest)
        g, scratch = (program.p, 0) if hasattr(program, "p") else (program.g, program.scratch_bytes)
        return _Launch(program.kernel, g, program.tasks, scratch, seconds, len(self.bases) - 1, program)


class PreparedTranspose:
    """A transposed convolution ready but for the weight. Immutable, so any number of threads may run it.

    A call is a list of launches, of which all is known but where its arrays lie. Its buffer holds the weights of all
    phases, as `_pack` says, then the results of a band's convolutions.
    """

    # There is no plan of it.
    entry = "call"
    __slots__ = (
        "_bands",
        "_bases",
        "_bytes",
        "_constant",
        "_offsets",
        "_packing",
        "_parts",
        "_repeats",
        "_whole",
        "_zeros",
        "activation",
        "algorithm",
        "convolutions",
        "dtype",
        "geometry",
        "out_shape",
        "precision",
    )

    def __init__(self, function: str, g: TransposeGeometry, activation: str | None, algorithm: str, precision: str):
        self.geometry, self.out_shape, self.dtype, self.algorithm = g, g.output_shape, np.dtype(g.dtype), algorithm
        self.activation, self.precision = activation, precision
        itemsize, N = self.dtype.itemsize, max(g.N, 1)
        images = N if g.stride == (1, 1, 1) else images_at_once(g, TEMPORARY_BYTES // itemsize)
        self._parts = N // images
        bands = bands_of(g, images)
        pieces = [piece for band in bands for piece in band.pieces]
        convs = {piece.conv: len(piece.phase.starts) for piece in pieces}
        _check_algorithm(function, g, algorithm, precision)
        # What others round away, NaN above all, no one computes anew in a phase.
        if algorithm == "auto" and not _rounding_pays(function, g, list(convs), precision):
            precision = "strict"
        self.convolutions = {conv: prepare(function, conv, activation, algorithm, precision) for conv in convs}
        # A convolution that is not only a kernel on packed arrays.
        self._whole = next((one for one in self.convolutions.values() if not one.candidate.row.exact), None)
        self._repeats = sorted(set(convs.values()))
        self._zeros = np.zeros(g.OC * max(self._repeats, default=1), self.dtype)
        self._constant = None
        if has_gaps(g):
            self._constant = prepare(function, constant_convolution(g), activation, "direct", precision, "repair")
        addresses, taps = _Addresses(), taps_of(g, bands)
        self._bands: list[list[_Launch]] = []
        if self._whole is not None:
            self._packing, self._bytes = self._regrouped(addresses, pieces, taps, 0)
        else:
            self._packing, weights, begin = self._pack(addresses, pieces, taps)
            self._bytes = begin
            for band in bands:
                own, weights = weights[: len(band.pieces)], weights[len(band.pieces) :]
                self._bands.append(self._launches(addresses, band, images, own, begin))
        self._bases, self._offsets = np.array(addresses.bases), np.array(addresses.offsets, np.int64)

    def _regrouped(
        self, addresses: _Addresses, pieces: Sequence[Piece], taps: Sequence[tuple[int, int, int] | None], begin: int
    ) -> tuple[list[_Launch], int]:
        """Return what cuts the weight in those of all pieces, in the buffer from `begin` on, and where they all end."""
        g, itemsize, size = self.geometry, self.dtype.itemsize, math.prod(self.geometry.weight_shape)
        channels, seconds = (g.G, g.ICG, g.OCG), _REGROUP_SECONDS
        if g.stride == (1, 1, 1):
            program, seconds = load.load("phase_packing:flip")(itemsize, channels, len(taps)), _FLIP_SECONDS
        else:
            program = load.load("phase_packing:regroup")(
                itemsize, channels, [regrouped(g, pieces, tap) for tap in taps]
            )
        launch = addresses.launch(program, [(_WEIGHT, 0), (_BUFFER, begin)], size * seconds)
        return [launch], begin + _whole_lines(size * itemsize)

    def _pack(
        self, addresses: _Addresses, pieces: Sequence[Piece], taps: Sequence[tuple[int, int, int] | None]
    ) -> tuple[list[_Launch], list[int], int]:
        """Return what packs the weights, where in the buffer that of each piece then is, and where they all end."""
        g, itemsize = self.geometry, self.dtype.itemsize
        seconds, channels = math.prod(g.weight_shape) * _REGROUP_SECONDS, (g.G, g.ICG, g.OCG)
        packers = [next(iter(self.convolutions[piece.conv].program.packers), None) for piece in pieces]
        lengths = [_whole_lines(packer.elements * itemsize) if packer else 0 for packer in packers]
        packed = list(itertools.accumulate(lengths, initial=0))
        begins, nowhere = [at // itemsize for at in packed], packed[-1] // itemsize
        program = load.load("phase_packing:pack_lanes")(itemsize, channels, taps, packers, begins, nowhere)
        if program is not None:
            launch = addresses.launch(program, [(_WEIGHT, 0), (_BUFFER, 0)], seconds)
            return [launch], packed[:-1], packed[-1] + _VECTOR_BYTES
        launches, end = self._regrouped(addresses, pieces, taps, packed[-1])
        weights = []
        for piece, packer, at in zip(pieces, packers, packed[:-1], strict=True):
            weights.append(packed[-1] + piece.weight.start * itemsize)
            if packer is not None:
                io = [(_BUFFER, weights[-1]), (_BUFFER, at)]
                launches.append(addresses.launch(packer, io, pack_seconds(packer.elements)))
                weights[-1] = at
        return launches, weights, end

    def _launches(
        self, addresses: _Addresses, band: Band, images: int, weights: Sequence[int], begin: int
    ) -> list[_Launch]:
        """Return what computes a band for each part of the batch; its results stand in the buffer from `begin` on."""
        g, itemsize, direct = self.geometry, self.dtype.itemsize, self.geometry.stride == (1, 1, 1)
        launches = []
        for piece, weight in zip(band.pieces, weights, strict=True):
            one, bias = self.convolutions[piece.conv], _BIAS + self._repeats.index(len(piece.phase.starts))
            out = (_OUT, 0) if direct else (_BUFFER, begin + piece.result.start * itemsize)
            io = [(_X, 0), (_BUFFER, weight), (bias, 0), (_NOTHING, 0), out, (_BUFFER, weight)]
            launches.append(addresses.launch(one.program, io, one.seconds))
        if not direct:
            moves = load.load("interleave:interleave")(itemsize, moves_of(g, images, band))
            length = band.pieces[-1].result.stop * itemsize
            launches.append(addresses.launch(moves, [(_BUFFER, begin), (_OUT, 0)], length * _MOVE_SECONDS))
            self._bytes = max(self._bytes, begin + length)
        return launches

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
        biases = [self._repeated(bias, starts) for starts in self._repeats]
        buffer = free_buffers.take(self._bytes)
        try:
            arrays = [address(array) for array in (x, weights[0], out, buffer)]
            bases = np.array([*arrays, 0, *(address(array) for array in biases)], np.int64)
            step = np.zeros_like(bases)
            step[[_X, _OUT]] = x.nbytes // self._parts, out.nbytes // self._parts
            addresses = [(bases + part * step)[self._bases] + self._offsets for part in range(self._parts)]
            _run(self._packing, addresses[0])
            if self._whole is not None:
                weight = buffer[: weights[0].nbytes].view(self.dtype)
                self._whole.run_once(x, [weight], bias, None, out)
            for launches in self._bands:
                for part in addresses:
                    _run(launches, part)
        finally:
            free_buffers.give_back(buffer)

    def _repeated(self, bias: np.ndarray | None, starts: int) -> np.ndarray:
        """Return the bias of a convolution with the channels (group, start, channel of the group)."""
        if bias is None:
            return self._zeros
        if starts == 1:
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


def _run(launches: Sequence[_Launch], addresses: np.ndarray) -> None:
    for kernel, g, tasks, scratch_bytes, seconds, io, _ in launches:
        run(kernel, g, addresses[io], tasks, scratch_bytes, seconds)


def _whole_lines(size: int) -> int:
    """Round bytes up to whole cache lines."""
    return -(-size // 64) * 64


def _rounding_pays(function: str, g: TransposeGeometry, convs: Sequence[ConvGeometry], precision: str) -> bool:
    """Return whether what rounds more than direct summation is faster, with the weight flipped for it."""
    if g.stride != (1, 1, 1) or precision == "strict":
        return False
    flipping = math.prod(g.weight_shape) * _FLIP_SECONDS
    best, exact = (
        [choose(function, conv, "auto", allowed).cost for conv in convs] for allowed in (precision, "strict")
    )
    fastest = sum(cost.seconds for cost in best if cost) + flipping
    return best != exact and pays(fastest, sum(cost.seconds for cost in exact if cost))


def _convolutions(g: TransposeGeometry) -> list[ConvGeometry]:
    return [piece.conv for band in bands_of(g, max(g.N, 1)) for piece in band.pieces]


def _check_algorithm(function: str, g: TransposeGeometry, algorithm: str, precision: str) -> None:
    """Raise `UnsupportedError` if the named algorithm cannot do the convolution of each phase."""
    if algorithm == "auto":
        return
    row = ROWS.get(algorithm)
    refused = _refusal(g, row, precision) if row else "this version does not have it"
    if refused is not None:
        able = ", ".join(row.name for row in TABLE if _refusal(g, row, precision) is None)
        raise UnsupportedError(f'{function}: algorithm "{algorithm}" refused: {refused}; {able} can')


def _refusal(g: TransposeGeometry, row: Algorithm, precision: str) -> str | None:
    if row.name == "separable":
        return "it takes one kernel, which transposed convolution cuts in stride phases"
    if not row.exact and g.stride != (1, 1, 1):
        return "transposed convolution with a stride takes what rounds as direct summation does"
    reasons = (refusal(conv, row, precision) for conv in _convolutions(g))
    return next((f"{reason} (in a stride phase)" for reason in reasons if reason is not None), None)


def judge_transpose(g: TransposeGeometry, row: Algorithm, precision: str = "default", bias: bool = False) -> Candidate:
    """Return what a row says to a problem: the sum over its phases, which share one scratch.

    The blocking is a tuple with (convolution, blocking) of each phase.
    """
    refused = _refusal(g, row, precision)
    if refused is not None:
        return Candidate(row, refused, None, None)
    convolutions = _convolutions(g)
    judged = [judge(conv, row, precision) for conv in convolutions]
    over = next((c.refused for c in judged if c.refused is not None), None)
    if over is not None:
        return Candidate(row, over, None, None)
    costs = [c.cost for c in judged if c.cost is not None]
    scratch, seconds = max((cost.scratch_bytes for cost in costs), default=0), sum(cost.seconds for cost in costs)
    blockings = tuple(zip(convolutions, (c.blocking for c in judged), strict=True))
    return Candidate(row, None, blockings, Cost(_ops(g, row, bias), scratch, seconds))


def _ops(g: TransposeGeometry, row: Algorithm, bias: bool) -> OpCount:
    """Return the definition's operations; of what computes in another way, those of the convolution of each phase."""
    counted = transpose_ops(g, bias)
    if row.exact:
        return counted
    each = [row.ops(conv, bias) for conv in _convolutions(g)]
    return counted._replace(multiplies=sum(ops.multiplies for ops in each), adds=sum(ops.adds for ops in each))


def count_transpose(function: str, g: TransposeGeometry, algorithm: str, precision: str, bias: bool) -> OpCount:
    """Return the operations of a problem, or raise if the named algorithm cannot do it; no kernel is prepared."""
    _check_algorithm(function, g, "auto" if algorithm == "measure" else algorithm, precision)
    return _ops(g, ROWS.get(algorithm, ROWS["direct"]), bias)


@lru_cache(maxsize=512)
def prepare_transpose(
    function: str, g: TransposeGeometry, activation: str | None, algorithm: str, precision: str
) -> PreparedTranspose:
    """Return the prepared problem, from the bounded cache if it was met before."""
    return PreparedTranspose(function, g, activation, algorithm, precision)


workspace.on_change(prepare_transpose.cache_clear)


def fastest_transpose(
    function: str,
    g: TransposeGeometry,
    activation: str | None,
    precision: str,
    arrays: tuple[np.ndarray, np.ndarray],
) -> PreparedTranspose:
    """Return the prepared problem of the algorithm that was fastest when this problem was first measured."""

    def prepared(name: str) -> PreparedTranspose:
        return prepare_transpose(function, g, activation, name, precision)

    judged = [judge_transpose(g, row, precision) for row in TABLE if not row.automatic]
    predicted = {c.row.name: c.cost.seconds for c in judged if c.cost is not None}
    # It may take another one for each phase.
    predicted["auto"] = min(predicted.values(), default=0.0)
    return prepared(fastest_name(wisdom.problem("conv_transpose", g, precision, "call"), predicted, prepared, arrays))
