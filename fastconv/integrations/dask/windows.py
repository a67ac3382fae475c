"""Which elements of a chunked axis a block of outputs reads: pieces of chunks, and the border made of them."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastconv.geometry.regions import source_indices
from fastconv.geometry.windows import Axis


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours in one chunk of the input, and where they stand in the block that is read.

    Attributes
    ----------
    chunk : int
    source : slice
        Forwards, as files are read.
    target : slice
        Backwards in a mirror; one element fills all of a longer target.
    count : int
        Positions of the target.
    whole : bool
        Whether the source is all of the chunk.
    """

    chunk: int
    source: slice
    target: slice
    count: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """What the outputs from `start` to `stop` read along an axis.

    Attributes
    ----------
    start, stop : int
    first, length : int
        The first position and how many; those outside the input are there unless the axis is cut off at its ends.
    before, after : int
        How many of the positions that are read have been cut off.
    runs : tuple of Run
        Those positions that no run covers are the fill value.
    """

    start: int
    stop: int
    first: int
    length: int
    before: int
    after: int
    runs: tuple[Run, ...]


def output_chunks(axis: Axis, chunks: Sequence[int]) -> tuple[int, ...]:
    """Return the chunks of the output: each output is where the input under the centre of its window is.

    None is empty, unless the axis is.
    """
    if axis.trivial:
        return tuple(n for n in chunks if n) or (0,)
    same = axis.out == axis.n and axis.stride == 1
    centre = 0 if same else axis.start(0) + (axis.reach(0) - axis.start(0) - 1) // 2
    bounds = {0, axis.out}
    for end in itertools.accumulate(chunks[:-1]):
        bounds.add(min(max(-((centre - end) // axis.stride), 0), axis.out))
    ordered = sorted(bounds)
    return tuple(b - a for a, b in itertools.pairwise(ordered)) or (0,)


def extents(axis: Axis, chunks: Sequence[int], sizes: Sequence[int]) -> list[Extent]:
    """Return what each chunk of the output reads of an axis with these chunks; windows are cut off if the mode says."""
    if axis.trivial:
        found = [_unchanged(i, start, n) for i, (start, n) in enumerate(zip(_starts(chunks), chunks, strict=True)) if n]
        return found or [_unchanged(0, 0, 0)]
    found, starts = [], _starts(chunks)
    for start, size in zip(_starts(sizes), sizes, strict=True):
        first, end = axis.start(start), axis.reach(start + size - 1)
        before, after = (max(-first, 0), max(end - axis.n, 0)) if axis.mode == "clip" else (0, 0)
        first, end = first + before, end - after
        runs = tuple(_runs(axis, chunks, starts, first, end)) or (Run(0, slice(0, 0), slice(0, 0), 0, False),)
        found.append(Extent(start, start + size, first, end - first, before, after, runs))
    return found


def unsplit(n: int, out: int) -> list[Extent]:
    """Return what the one chunk of the output reads of the one chunk of an axis."""
    return [Extent(0, out, 0, n, 0, 0, (_all_of(0, n),))]


def _unchanged(chunk: int, start: int, n: int) -> Extent:
    return Extent(start, start + n, start, n, 0, 0, (_all_of(chunk, n),))


def _all_of(chunk: int, n: int) -> Run:
    return Run(chunk, slice(0, n), slice(0, n), n, True)


def _starts(sizes: Sequence[int]) -> list[int]:
    return list(itertools.accumulate(sizes, initial=0))[:-1]


def _runs(axis: Axis, chunks: Sequence[int], starts: Sequence[int], first: int, end: int) -> Iterator[Run]:
    """Yield the runs of the positions from `first` to `end`."""
    n = axis.n
    yield from _border(axis, chunks, starts, first, first, min(end, 0))
    inside = min(end, n)
    position = max(first, 0)
    while position < inside:
        # Of chunks that start at the same element, the last one has it.
        chunk = bisect_right(starts, position) - 1
        stop = min(inside, starts[chunk] + chunks[chunk])
        source = slice(position - starts[chunk], stop - starts[chunk])
        count = stop - position
        yield Run(chunk, source, slice(position - first, stop - first), count, count == chunks[chunk])
        position = stop
    yield from _border(axis, chunks, starts, first, max(first, n), end)


def _border(
    axis: Axis, chunks: Sequence[int], starts: Sequence[int], first: int, start: int, end: int
) -> Iterator[Run]:
    """Yield the runs of positions outside the input."""
    if start >= end or axis.mode == "zeros":
        return
    indices = source_indices(start, end - start, axis.n, axis.mode).tolist()
    position = 0
    while position < len(indices):
        chunk = bisect_right(starts, indices[position]) - 1
        low, high = starts[chunk], starts[chunk] + chunks[chunk]
        count, step = _line(indices, position, low, high)
        a = indices[position] - low
        b = a + step * (count - 1)
        t = start + position - first
        target = slice(t, t + count)
        if step < 0:
            # A slice that goes down to the first element has no end.
            target = slice(t + count - 1, t - 1 if t else None, -1)
        source = slice(min(a, b), max(a, b) + 1)
        yield Run(chunk, source, target, count, source.stop - source.start == chunks[chunk])
        position += count


def _line(indices: Sequence[int], position: int, low: int, high: int) -> tuple[int, int]:
    """Return how many indices from `position` on are in one chunk and in steps of -1, 0 or 1, and the step."""
    step, count = 1, 1
    while position + count < len(indices):
        index = indices[position + count]
        difference = index - indices[position + count - 1]
        step = difference if count == 1 and difference in (-1, 0) else step
        if difference != step or not low <= index < high:
            break
        count += 1
    return count, step
