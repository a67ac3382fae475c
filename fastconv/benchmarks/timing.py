"""Timing in turns: what is compared meets the same temperature, clock and neighbours."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

__all__ = ["Samples", "interleave", "loops_for", "sample"]

Call = Callable[[], Any]

# A sample repeats its call for so long, far above the resolution of the clock and a stray interrupt.
SAMPLE_SECONDS = 5e-3
# A slow call takes part in fewer rounds: at most so long in all, but in three at least.
CALL_SECONDS = 4.0
FEWEST = 3


class Samples(NamedTuple):
    """Times of one call in seconds, and for those that are probed what the probe said around each sample."""

    loops: int
    seconds: list[float]
    probes: list[float]


def sample(call: Call, loops: int) -> float:
    """Return the mean time of `loops` calls."""
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def loops_for(call: Call, seconds: float = SAMPLE_SECONDS) -> int:
    """Return how many calls last about `seconds`, at least one; the first of them is not counted."""
    call()
    loops = 1
    while True:
        each = sample(call, loops)
        # A fifth is long enough to extrapolate from.
        if each * loops >= seconds / 5:
            return max(1, math.ceil(seconds / each))
        loops *= 4


def interleave(
    calls: Mapping[str, Call],
    repeats: int,
    probe: Callable[[], float] | None = None,
    probed: Collection[str] = (),
) -> dict[str, Samples]:
    """Time the calls in turns, in an order that rotates from round to round.

    Parameters
    ----------
    calls : mapping of name to callable
    repeats : int
        Rounds, hence samples of each call.
    probe : callable, optional
        Run before and after each sample of the calls named in `probed`; the mean of the two is kept with the sample.
    probed : collection of str
    """
    names = list(calls)
    found = {name: Samples(loops_for(call), [], []) for name, call in calls.items()}
    rounds = dict.fromkeys(names, repeats)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(repeats):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                if turn >= rounds[name]:
                    continue
                _measure(calls[name], found[name], probe if name in probed else None)
                spent = sum(found[name].seconds) * found[name].loops
                if spent > CALL_SECONDS:
                    rounds[name] = min(rounds[name], max(FEWEST, turn + 1))
    finally:
        if collecting:
            gc.enable()
    return found


def _measure(call: Call, samples: Samples, probe: Callable[[], float] | None) -> None:
    before = probe() if probe else 0.0
    samples.seconds.append(sample(call, samples.loops))
    if probe:
        samples.probes.append((before + probe()) / 2)
