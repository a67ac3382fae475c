"""Where the blocks of a convolution by FFT lie: what they read of the input, padding included, and what they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastconv.kernels.cpu.program import Region

Slices = tuple[slice, slice, slice]


class Block(NamedTuple):
    """One block: its number, its image, its outputs along depth, height and width."""

    number: int
    n: int
    outputs: Slices


class Blocks:
    """All blocks of a problem, of the sizes that a blocking gives."""

    def __init__(self, geometry: Any, b: Any):
        self.g, self.b = geometry, b
        self.outputs = geometry.OD, geometry.OH, geometry.OW
        self.strides = geometry.SD, geometry.SH, geometry.SW
        self.total: int = geometry.N * math.prod(b.counts)

    def at(self, number: int) -> Block:
        """Return a block by its number."""
        rest, (_, rows, columns) = number, self.b.counts
        rest, w = divmod(rest, columns)
        rest, h = divmod(rest, rows)
        n, d = divmod(rest, self.b.counts[0])
        ends = zip((d, h, w), self.b.valid, self.outputs, strict=True)
        front, rows, columns = (slice(i * v, min((i + 1) * v, n)) for i, v, n in ends)
        return Block(number, n, (front, rows, columns))

    def regions(self, number: int) -> Sequence[Region]:
        """Return the parts of the output that a block gives, one for each plane."""
        _, n, (front, rows, columns) = self.at(number)
        size = rows.start, rows.stop - rows.start, columns.start, columns.stop - columns.start
        return [Region(n * self.g.OD + od, *size) for od in range(front.start, front.stop)]

    @cached_property
    def sources(self) -> list[np.ndarray]:
        """For each axis, which input stands at each position of the padded one; -1: a zero."""
        g = self.g
        ends = (g.D, g.PF, g.PK), (g.H, g.PT, g.PB), (g.W, g.PL, g.PR)
        return [_sources(*axis, g.padding_mode) for axis in ends]

    def load(self, x: np.ndarray, blocks: Sequence[Block], channels: slice, to: np.ndarray) -> None:
        """Fill `to`, of shape (channels, blocks, *block), from x, of shape (N, IC, D, H, W)."""
        for t, block in enumerate(blocks):
            part, places = self._window(block)
            here = to[:, t]
            if any(place != slice(0, n) for place, n in zip(places, self.b.block, strict=True)):
                here[...] = 0
            source = x[block.n, channels]
            if all(isinstance(index, slice) for index in part):
                here[:, *places] = source[:, *part]
            else:
                index = [np.arange(n)[i] for n, i in zip(source.shape[1:], part, strict=True)]
                here[:, *places] = source[:, *np.ix_(*index)]

    def _window(self, block: Block) -> tuple[list[Any], list[slice]]:
        """Return which inputs a block reads along each axis, and where in the block they go."""
        part: list[Any] = []
        places = []
        for index, out, stride, size in zip(self.sources, block.outputs, self.strides, self.b.block, strict=True):
            index = index[out.start * stride : out.start * stride + size]
            inside = np.flatnonzero(index >= 0)
            if not len(inside):
                part.append(slice(0, 0))
                places.append(slice(0, 0))
                continue
            # What is outside is at the ends.
            place = slice(int(inside[0]), int(inside[-1]) + 1)
            kept = index[place]
            run = len(kept) == 1 or bool((np.diff(kept) == 1).all())
            part.append(slice(int(kept[0]), int(kept[-1]) + 1) if run else kept)
            places.append(place)
        return part, places


def _sources(n: int, before: int, after: int, mode: str) -> np.ndarray:
    """Return which of n elements stands at each position of a padded axis, as numpy.pad has it; -1: a zero."""
    index, pad = np.arange(n), (max(before, 0), max(after, 0))
    if mode == "zeros":
        index = np.pad(index, pad, constant_values=-1)
    else:
        name: Any = {"circular": "wrap", "replicate": "edge"}.get(mode, mode)
        index = np.pad(index, pad, mode=name)
    return index[max(0, -before) : len(index) - max(0, -after)]
