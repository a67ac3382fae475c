"""How a resampling is cut into tasks: which rows and columns are worked on while they are in cache."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastconv.geometry.taps import Taps, with_lanes

# Rows of a task that stay in L2, in bytes; sums of rows that stay in L1, where they are read once more right away;
# inputs of a chunk of columns, VL of each in L1.
ROWS_BYTES = 256 << 10
SUMS_BYTES = 16 << 10
COLUMN_INPUTS = 192
# Tasks that keep several threads busy.
TASKS = 16
# What a product along W costs with few lanes, in products along H, and what those take.
_COLUMN_COST = 4
_SECONDS = 0.06e-9


class Blocking(NamedTuple):
    """Tables and sizes for kernels/cpu/resample.py.

    `row_blocks` has rows of (first output row, end, first of its slots, slots), `slot_rows` the input row of each slot,
    and `columns` rows of (first output, end, first input, end), or none where the lanes of a pixel are summed as they
    are. `order` is when rows are summed along H: "after" they are resampled along W, "before", or "never". Taps along H
    count slots of their block if that is after, else rows.
    """

    PLANES: int
    H: int
    OH: int
    OW: int
    LANES: int
    ROW_IN: int
    ROW_OUT: int
    GROUP: int
    order: str
    row_blocks: np.ndarray
    slot_rows: np.ndarray
    columns: np.ndarray
    vertical: Taps
    horizontal: Taps
    seconds: float


def resample_blocking(
    itemsize: int, VL: int, planes: int, lanes: int, sizes: tuple[int, int], vertical: Taps, horizontal: Taps
) -> Blocking:
    """Return how to resample (planes, H, W, lanes) along H and W; `sizes` are H and W."""
    (H, W), OH, OW = sizes, vertical.out, horizontal.out
    narrow = 2 * lanes < VL
    order = _order(W, vertical, horizontal, narrow)
    used = len(np.unique(vertical.sources)) if order == "after" else OH
    seconds = planes * lanes * _SECONDS * (OH * OW + _work(W, order == "before", used, vertical, horizontal, narrow))
    turned = narrow and 4 * planes * used >= VL
    step, budget = (VL if turned else 1), ROWS_BYTES
    row = max(OW, W if order == "before" or vertical.weights.dtype.kind == "i" else 0) * lanes * itemsize
    if order == "before" and not turned:
        row, budget = W * lanes * itemsize, SUMS_BYTES
    most = step * min(max(budget // row // step, 1), -(-planes * used // (TASKS * step)))
    if order == "after":
        row_blocks, slot_rows, vertical = _slots(vertical, most)
    else:
        row_blocks, slot_rows = _runs(OH, most), np.arange(OH)
    columns = np.empty((0, 4), np.int64)
    if turned:
        horizontal = with_lanes(horizontal, lanes)
        columns = _column_blocks(horizontal, VL)
    group = 1
    if len(row_blocks) == 1:
        slots = int(row_blocks[0, 3])
        group = min(planes, max(-(-step // slots), min(most // slots, -(-planes // TASKS))))
    numbers = (planes, H, OH, OW, lanes, W * lanes, OW * lanes, group)
    return Blocking(*numbers, order, row_blocks, slot_rows, columns, vertical, horizontal, seconds)


def _order(W: int, vertical: Taps, horizontal: Taps, narrow: bool) -> str:
    """Return when rows are summed: whatever is less work."""
    if vertical.is_identity:
        return "never"
    if vertical.weights.dtype.kind == "i":
        # Rounded after each pass, along W first.
        return "after"
    used = len(np.unique(vertical.sources))
    before, after = (_work(W, first, used, vertical, horizontal, narrow) for first in (True, False))
    # With many lanes what is summed before stays in L1.
    return "before" if before < after or (before == after and not narrow) else "after"


def _work(W: int, before: bool, used: int, vertical: Taps, horizontal: Taps, narrow: bool) -> float:
    """Return the cost of a plane, in products along H; `used` rows are seen by some output."""
    along_h, along_w = len(vertical.sources), (_COLUMN_COST if narrow else 1) * len(horizontal.sources)
    return along_h * W + vertical.out * along_w if before else used * along_w + along_h * horizontal.out


def _slots(taps: Taps, most: int) -> tuple[np.ndarray, np.ndarray, Taps]:
    """Return blocks of output rows that see up to `most` input rows, those rows, and taps that count them."""
    starts, index = taps.start.tolist(), taps.sources.tolist()
    blocks: list[tuple[int, int, int, int]] = []
    slot_rows: list[int] = []
    relative: list[int] = []
    slots: dict[int, int] = {}
    first = 0
    for o in range(taps.out):
        rows = index[starts[o] : starts[o + 1]]
        if o > first and len(slots.keys() | rows) > most:
            blocks.append((first, o, len(slot_rows), len(slots)))
            slot_rows += slots
            slots, first = {}, o
        relative += [slots.setdefault(row, len(slots)) for row in rows]
    blocks.append((first, taps.out, len(slot_rows), len(slots)))
    slot_rows += slots
    return np.array(blocks), np.array(slot_rows), taps._replace(sources=np.array(relative))


def _runs(OH: int, most: int) -> np.ndarray:
    """Return blocks of up to `most` rows that see as many."""
    first = np.arange(0, OH, most)
    end = np.minimum(first + most, OH)
    return np.stack([first, end, first, end - first], 1)


def _column_blocks(taps: Taps, VL: int) -> np.ndarray:
    """Return chunks of outputs along W, multiples of VL, that see up to COLUMN_INPUTS inputs where possible."""
    low, high = (f.reduceat(taps.sources, taps.start[:-1]) for f in (np.minimum, np.maximum))
    edges = np.arange(0, taps.out, VL)
    low, high = np.minimum.reduceat(low, edges).tolist(), (np.maximum.reduceat(high, edges) + 1).tolist()
    blocks: list[tuple[int, int, int, int]] = []
    first = 0
    for i in range(1, len(edges) + 1):
        if i == len(edges) or high[i] - low[first] > COLUMN_INPUTS:
            blocks.append((first * VL, min(i * VL, taps.out), min(low[first:i]), max(high[first:i])))
            first = i
    return np.array(blocks)
