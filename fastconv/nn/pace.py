"""How many threads the steps of a training take: those of the caller, or one, whichever is the faster.

A step is a few dozen short kernels, and to wake a thread can cost more than its share of one: that depends on the
network, the batch and the machine, also on who else uses it, so it is measured, now and then. The results have the same
bits for every number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastconv.threads import get_num_threads, threads

# Steps that may still compile kernels, and then steps of each number of threads, in turns.
WARM_UP, TRIALS = 4, 8
# Until the next trial: the machine may have become another one.
PERIOD = 500


class Pace:
    """The number of threads of one training's steps, found from the times of the steps."""

    def __init__(self, size: int):
        most = get_num_threads()
        self.size, self.counts = size, (most, 1) if most > 1 else (most,)
        self.best, self.turn = most, -WARM_UP
        self.times: dict[int, list[float]] = {count: [] for count in self.counts}

    @contextmanager
    def step(self, size: int) -> Iterator[None]:
        """Run one step on a batch of so many samples; a smaller one than usual does not count."""
        trial = 0 <= self.turn < TRIALS * len(self.counts)
        count = self.counts[self.turn % len(self.counts)] if trial else self.best
        start = time.perf_counter()
        with threads(count):
            yield
        if size < self.size:
            return
        if trial:
            self.times[count].append(time.perf_counter() - start)
        self.turn += 1
        if self.turn == TRIALS * len(self.counts):
            # The quickest step of each: what disturbs a step only makes it slower.
            self.best = min(self.counts, key=lambda n: min(self.times[n]))
        elif self.turn >= PERIOD:
            self.turn, self.times = 0, {n: [] for n in self.counts}
