"""Where the blocks of a convolution by FFT lie: what they read of the input, padding included, and what they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastconv.kernels.cpu.program import Region, table

Slices = tuple[slice, slice, slice]


class Block(NamedTuple):
    """One block: its number, its image, its place among the blocks of that, its outputs along depth, height, width."""

    number: int
    n: int
    at: tuple[int, int, int]
    outputs: Slices


class Window(NamedTuple):
    """What a block reads along an axis: a run of the input, or the `indices` given, and where in the block that goes.

    Before and behind are zeros.
    """

    run: slice
    indices: np.ndarray | None
    place: slice
    length: int


class Group(NamedTuple):
    """Some blocks, and the table of their `places`: first output in channel 0, in elements; depth, rows, columns."""

    blocks: Sequence[Block]
    places: np.ndarray


class Blocks:
    """All blocks of a problem, of the sizes that a blocking gives."""

    def __init__(self, geometry: Any, b: Any):
        self.g, self.b = geometry, b
        self.outputs = geometry.OD, geometry.OH, geometry.OW
        self.strides = geometry.SD, geometry.SH, geometry.SW
        self.total: int = geometry.N * math.prod(b.counts)

    def at(self, number: int) -> Block:
        """Return a block by its number."""
        rest, w = divmod(number, self.b.counts[2])
        rest, h = divmod(rest, self.b.counts[1])
        n, d = divmod(rest, self.b.counts[0])
        ends = zip((d, h, w), self.b.valid, self.outputs, strict=True)
        front, rows, columns = (slice(i * v, min((i + 1) * v, size)) for i, v, size in ends)
        return Block(number, n, (d, h, w), (front, rows, columns))

    def group(self, first: int, end: int) -> Group:
        """Return the blocks of numbers first to end."""
        blocks = [self.at(number) for number in range(first, end)]
        return Group(blocks, table(n for block in blocks for n in self._place(block)))

    def _place(self, block: Block) -> tuple[int, ...]:
        g, (front, rows, columns) = self.g, block.outputs
        image = block.n * g.OC * g.OD * g.OH * g.OW
        at = (front.start * g.OH + rows.start) * g.OW + columns.start
        at *= 1 if g.layout == "channels_first" else g.OC
        return image + at, *(out.stop - out.start for out in block.outputs)

    def regions(self, number: int) -> Sequence[Region]:
        """Return the parts of the output that a block gives, one for each plane."""
        block = self.at(number)
        front, rows, columns = block.outputs
        size = rows.start, rows.stop - rows.start, columns.start, columns.stop - columns.start
        return [Region(block.n * self.g.OD + od, *size) for od in range(front.start, front.stop)]

    @cached_property
    def windows(self) -> list[list[Window]]:
        """For each axis, what each block along it reads."""
        g, b = self.g, self.b
        ends = (g.D, g.PF, g.PK), (g.H, g.PT, g.PB), (g.W, g.PL, g.PR)
        sources = [_sources(*axis, g.padding_mode) for axis in ends]
        steps = [v * stride for v, stride in zip(b.valid, self.strides, strict=True)]
        axes = zip(sources, b.counts, steps, b.block, strict=True)
        return [[_window(index[i * step : i * step + size]) for i in range(n)] for index, n, step, size in axes]

    def load(self, x: Any, group: Group, channels: slice, to: Any) -> None:
        """Fill `to`, of shape (channels, blocks, *block), from x, of shape (N, IC, D, H, W)."""
        for t, block in enumerate(group.blocks):
            windows = [axis[i] for axis, i in zip(self.windows, block.at, strict=True)]
            here = to[:, t]
            places = (slice(None), *(w.place for w in windows))
            if any(w.length < n for w, n in zip(windows, self.b.block, strict=True)):
                here[...] = 0
            image = x[block.n, channels]
            if all(w.indices is None for w in windows):
                here[places] = image[(slice(None), *(w.run for w in windows))]
            else:
                indices = [np.arange(w.run.start, w.run.stop) if w.indices is None else w.indices for w in windows]
                index: tuple[Any, ...] = np.ix_(*indices)
                here[places] = image[(slice(None), *index)]


def _sources(n: int, before: int, after: int, mode: str) -> np.ndarray:
    """Return which of n elements stands at each position of a padded axis, as numpy.pad has it; -1: a zero."""
    index, pad = np.arange(n), (max(before, 0), max(after, 0))
    if mode == "zeros":
        index = np.pad(index, pad, constant_values=-1)
    else:
        name: Any = {"circular": "wrap", "replicate": "edge"}.get(mode, mode)
        index = np.pad(index, pad, mode=name)
    return index[max(0, -before) : len(index) - max(0, -after)]


def _window(index: np.ndarray) -> Window:
    """Return what the positions of a block along an axis are."""
    inside = np.flatnonzero(index >= 0)
    if not len(inside):
        return Window(slice(0, 0), None, slice(0, 0), 0)
    # What is outside is at the ends.
    place = slice(int(inside[0]), int(inside[-1]) + 1)
    kept = index[place]
    run = bool((np.diff(kept) == 1).all())
    return Window(slice(int(kept[0]), int(kept[-1]) + 1), None if run else kept, place, len(kept))
