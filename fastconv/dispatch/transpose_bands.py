"""Where everything of a transposed convolution lies: the weights of its phases, their results, the output rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.conv_transpose import Phase, TransposeGeometry, phase_convolution, phases

Quad = tuple[int, int, int, int]


class Piece(NamedTuple):
    """One convolution of a band: `phase` is that along the width; its weight and its result, in elements."""

    conv: ConvGeometry
    phase: Phase
    weight: slice
    result: slice


class Band(NamedTuple):
    """The output rows of one phase along depth and one along height."""

    depth: Phase
    height: Phase
    pieces: tuple[Piece, ...]


class Source(NamedTuple):
    """The outputs of one start along the width: pieces of rows, from `begin` on, of which `start` is a row's first."""

    strides: Quad
    begin: int
    pitch: int
    pieces: int
    start: int


class Moves(NamedTuple):
    """How the results of a band become output rows, in elements, as `interleave` in kernels/cpu/interleave.py reads it.

    A row is (outer, inner, depth, height): an outer one is an image, or a group of one with channels first, an inner
    one a channel; there are `counts` of the last three. Its pieces are pixels, and each source fills every `step`-th.
    """

    rows: int
    counts: tuple[int, int, int]
    strides: Quad
    first: int
    length: int
    piece: int
    step: int
    sources: list[Source]


def bands_of(g: TransposeGeometry, N: int) -> list[Band]:
    """Return the bands of N images; each has its own weights, and all have their results from 0 on."""
    # With channels last, channels of several groups could not be copied as one piece.
    merged = g.layout == "channels_first" or g.G == 1
    along = [phases(g, axis, merged and axis == 2) for axis in range(3)]
    bands, weight = [], 0
    for depth, height in itertools.product(*along[:2]) if along[2] else ():
        pieces, result = [], 0
        for width in along[2]:
            conv = phase_convolution(g, N, (depth, height, width))
            weights = conv.OC * conv.ICG * conv.KD * conv.KH * conv.KW
            results = N * conv.OC * conv.OD * conv.OH * conv.OW
            pieces.append(Piece(conv, width, slice(weight, weight + weights), slice(result, result + results)))
            weight, result = weight + weights, result + results
        bands.append(Band(depth, height, tuple(pieces)))
    return bands


def images_at_once(g: TransposeGeometry, elements: int) -> int:
    """Return the largest divisor of the batch size whose bands have at most so many elements, at least 1."""
    largest = max((band.pieces[-1].result.stop for band in bands_of(g, 1)), default=1)
    most = max(1, min(g.N, elements // largest))
    return next(n for n in range(most, 0, -1) if g.N % n == 0)


def taps_of(g: TransposeGeometry, bands: Sequence[Band]) -> list[tuple[int, int, int] | None]:
    """Return for each tap of the weight (piece, start, place among the taps of that), or None: it is in no phase.

    Pieces are counted over all bands.
    """
    _, KH, KW = g.kernel
    taps: list[tuple[int, int, int] | None] = [None] * math.prod(g.kernel)
    pieces = [(band, piece.phase) for band in bands for piece in band.pieces]
    for i, (band, width) in enumerate(pieces):
        for start in range(len(width.starts)):
            lines = (_flipped(band.depth, 0), _flipped(band.height, 0), _flipped(width, start))
            for place, (kd, kh, kw) in enumerate(itertools.product(*lines)):
                taps[(kd * KH + kh) * KW + kw] = (i, start, place)
    return taps


def regrouped(g: TransposeGeometry, pieces: Sequence[Piece], tap: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Return where a tap goes in the weights of all pieces, as the table of `regroup` in phase_packing.py says."""
    if tap is None:
        return 0, 0, 0
    piece, (_, start, place) = pieces[tap[0]], tap
    taps, channels = piece.conv.KD * piece.conv.KH * piece.conv.KW, g.OCG * g.ICG
    return piece.weight.start + start * channels * taps + place, len(piece.phase.starts) * channels * taps, taps


def _flipped(phase: Phase, start: int) -> Iterator[int]:
    """Yield the taps of one start of a phase in the order of the input that they meet."""
    return (phase.first[start] - j * phase.step for j in range(phase.taps))


def moves_of(g: TransposeGeometry, N: int, band: Band) -> Moves:
    """Return how N images of a band become output rows."""
    first = g.layout == "channels_first"
    (_, OH, OW), (SD, SH, SW) = g.outputs, g.stride
    # Elements of a pixel; planes of one channel with channels first, of all channels with channels last.
    pixel, planes = (1, g.OCG) if first else (g.OC, 1)
    plane = math.prod(g.outputs) * pixel
    counts = (planes, band.depth.outputs, band.height.outputs)
    strides = (planes * plane, plane, SD * OH * OW * pixel, SH * OW * pixel)
    begin = (band.depth.starts[0] * OH + band.height.starts[0]) * OW * pixel
    rows = N * (g.G if first else 1) * math.prod(counts)
    whole = _whole_rows(g, band)
    sources = []
    for piece in band.pieces:
        conv, starts = piece.conv, len(piece.phase.starts)
        # From start to start: a plane of channels, or pixels in a row.
        volume, pitch = conv.OD * conv.OH * conv.OW, 1 if first else starts * pixel
        line = conv.OW * pitch
        across = planes * starts * volume if first else volume * pitch
        along = (across, volume * pitch, conv.OH * line, line)
        for p, start in enumerate(piece.phase.starts[: 1 if whole else None]):
            offset = piece.result.start + p * (planes * volume if first else pixel)
            pieces = 1 if whole else -(-(OW - start) // SW)
            sources.append(Source(along, offset, pitch, pieces, start))
    length = OW * pixel
    return Moves(rows, counts, strides, begin, length, length if whole else pixel, 1 if whole else SW, sources)


def _whole_rows(g: TransposeGeometry, band: Band) -> bool:
    """Return whether the rows of a band's only convolution begin with output rows as they are."""
    if len(band.pieces) != 1:
        return False
    starts = band.pieces[0].phase.starts
    return starts == tuple(range(g.stride[2])) and (len(starts) == 1 or g.layout == "channels_last")
