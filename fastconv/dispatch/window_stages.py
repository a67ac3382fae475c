"""How windows along one axis are put together: from their elements, or in stages from smaller windows.

Positions of the padded axis are kept apart by stride phase, so the windows of neighbouring outputs start at
neighbouring positions, and a stage is the combination of a few runs: ``area[i] = combination of tap + i over taps``.
A stage of m taps makes windows m times as long, so windows of K elements cost about log K operations, whatever is
combined; overlapping windows are allowed where an element may count twice (maxima, not sums).
Source: the power-of-two decomposition of running maxima, as in Gil and Kimmel 2002, doi:10.1109/TPAMI.2002.1114852.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

# A stage costs what so many taps cost: stores, and the walk over its table.
STAGE_COST = 1.5


class Stage(NamedTuple):
    """Fill `area` at the positions before outputs + extra; a tap is (area, position). The last stage is the result."""

    area: int
    taps: tuple[tuple[int, int], ...]
    extra: int


class Plan(NamedTuple):
    """Areas 0 to phases - 1 hold the input by stride phase, `reach` positions more than outputs; stages fill others."""

    phases: int
    reach: int
    stages: tuple[Stage, ...]

    @property
    def areas(self) -> int:
        """Areas that hold inputs or intermediate windows."""
        return max(self.phases, 1 + max((stage.area for stage in self.stages[:-1]), default=0))

    @property
    def cost(self) -> float:
        """Operations for each output."""
        return sum(len(stage.taps) + STAGE_COST for stage in self.stages)


@lru_cache(maxsize=256)
def plan(kernel: int, stride: int, dilation: int, repeatable: bool) -> Plan:
    """Return the cheapest plan for windows of `kernel` elements."""
    positions = [k * dilation for k in range(kernel)]
    direct = Plan(
        stride,
        positions[-1] // stride,
        (Stage(stride, tuple((p % stride, p // stride) for p in positions), 0),),
    )
    found = [direct]
    if kernel > 4 and (stride == 1 or dilation == 1):
        levels = [(), *((a,) for a in range(2, 9)), *product(range(2, 9), repeat=2)]
        levels += list(product(range(2, 7), repeat=3)) if kernel > 64 else []
        candidates = (_staged(kernel, stride, dilation, level, repeatable) for level in levels)
        found += [candidate for candidate in candidates if candidate is not None]
    return min(found, key=lambda p: p.cost)


def in_place(p: Plan) -> Plan:
    """Return a plan whose windows take the place of the elements or windows that they start with.

    That is right where a run is read no more once its place is taken, and an element may count twice; without stride.
    """
    taps = [tuple((0, at) for _, at in stage.taps) for stage in p.stages]
    return Plan(p.phases, p.reach, tuple(Stage(0, t, stage.extra) for t, stage in zip(taps, p.stages, strict=True)))


def _staged(kernel: int, stride: int, step: int, factors: tuple[int, ...], repeatable: bool) -> Plan | None:
    """Return the plan whose windows grow by these factors, or None if they grow beyond the kernel.

    With a stride, the first stage combines the phases to windows of `stride` elements, one for each output; the rest of
    the kernel comes from the phases at the end.
    """
    length, left = divmod(kernel, stride)
    if stride == 1:
        length, left = kernel, 0
    stages, base, width = [], 0, 1
    if stride > 1:
        stages.append(Stage(stride, tuple((j, 0) for j in range(stride)), length - 1))
        base = stride
    held = [(base, 1)]
    for factor in factors:
        taps = tuple((base, t * width * step) for t in range(factor))
        base, width = stride + len(stages), width * factor
        if width > length:
            return None
        stages.append(Stage(base, taps, (length - width) * step))
        held.append((base, width))
    last = [(area, at * step) for area, at in _cover(length, held, repeatable)]
    last += [(j, length) for j in range(left)]
    stages.append(Stage(stride + len(stages), tuple(last), 0))
    return Plan(stride, (kernel - 1) * step // stride, tuple(stages))


def _cover(length: int, held: list[tuple[int, int]], repeatable: bool) -> list[tuple[int, int]]:
    """Return (area, position) of the windows of the areas `held`, (area, width) each, that make one of `length`."""
    area, width = held[-1]
    found = [(area, at) for at in range(0, length - width + 1, width)]
    done = len(found) * width
    if repeatable and done < length:
        return [*found, (area, length - width)]
    for area, width in reversed(held[:-1]):
        while done + width <= length:
            found.append((area, done))
            done += width
    return found
