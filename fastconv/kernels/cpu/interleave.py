"""The results of a transposed convolution's stride phases, put together.

`interleave` fills one band of the output, the rows of one phase along depth and height, from the dense results of its
phases along the width, the sources. Two sources of single elements are zipped by shuffles of whole vectors; else each
source's pieces (pixels, with channels last) are copied one by one, or a row as a whole where there is one source.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv._jit import helper, njit
from fastconv.kernels.cpu.moves import bits_of_size, copy_rows, zip_rows
from fastconv.kernels.cpu.program import Program, table

# Fields of the g of `interleave`. An output row is (outer, inner, depth, height); there are COUNTS of the last three,
# and from row to row along all four there are STRIDES elements in the output. A row has LENGTH elements in pieces of
# PIECE. Then come SOURCE_FIELDS for each source: strides along the four, first element, elements from piece to piece,
# pieces, and which piece of a row is its first, of every STEP.
COUNTS, STRIDES = 0, 3
FIRST, LENGTH, PIECE, STEP, ZIPPED, SOURCES, SOURCE = range(7, 14)
SOURCE_FIELDS = 8
BEGIN, PITCH, PIECES, START = range(4, SOURCE_FIELDS)


@helper
def place_of(g, row):
    """Return the (outer, inner, depth, height) of a row."""
    height = row % g[COUNTS + 2]
    row //= g[COUNTS + 2]
    depth = row % g[COUNTS + 1]
    row //= g[COUNTS + 1]
    return row // g[COUNTS], row % g[COUNTS], depth, height


@helper
def offset_at(g, strides, place):
    """Return where a row is, by the four strides that stand from g[strides] on."""
    outer, inner, depth, height = place
    return outer * g[strides] + inner * g[strides + 1] + depth * g[strides + 2] + height * g[strides + 3]


@cache
def _interleave_kernel(BITS: int) -> Any:
    size = BITS // 8

    @njit()
    def interleave(g, io, scratch, lo, hi):
        """Tasks are output rows; io = (sources, output)."""
        line, down = lo, g[STRIDES + 3]
        while line < hi:
            place = place_of(g, line)
            rows = min(g[COUNTS + 2] - place[3], hi - line)
            dst = io[1] + size * (g[FIRST] + offset_at(g, STRIDES, place))
            if g[ZIPPED]:
                one, two = SOURCE, SOURCE + SOURCE_FIELDS
                even = io[0] + size * (g[one + BEGIN] + offset_at(g, one, place))
                odd = io[0] + size * (g[two + BEGIN] + offset_at(g, two, place))
                zip_rows(BITS, dst, down, even, g[one + 3], odd, g[two + 3], rows, g[LENGTH])
            else:
                for s in range(SOURCE, SOURCE + g[SOURCES] * SOURCE_FIELDS, SOURCE_FIELDS):
                    src = io[0] + size * (g[s + BEGIN] + offset_at(g, s, place))
                    to = dst + size * g[s + START] * g[PIECE]
                    for _ in range(rows):
                        copy_rows(BITS, to, g[STEP] * g[PIECE], src, g[s + PITCH], g[s + PIECES], g[PIECE])
                        to += size * down
                        src += size * g[s + 3]
            line += rows

    return interleave


def interleave(itemsize: int, moves: Any) -> Program:
    """Return the program that fills the rows of a band; io = (sources, output)."""
    sources = moves.sources
    zipped = moves.piece == 1 and moves.step == 2 and [source.start for source in sources] == [0, 1]
    numbers = [*moves.counts, *moves.strides, moves.first, moves.length, moves.piece, moves.step]
    numbers += [int(zipped and all(source.pitch == 1 for source in sources)), len(sources)]
    for source in sources:
        numbers += [*source.strides, source.begin, source.pitch, source.pieces, source.start]
    return Program(_interleave_kernel(bits_of_size(itemsize)), table(numbers), moves.rows, 0, ())
