"""Who touched which memory since the last barrier: races, uninitialised reads, copies in flight.

A shadow holds for every granule of memory its last writer and its readers, each with the barrier interval (epoch) of
its block and of its warp. Two accesses of different threads of which one writes are ordered by a barrier of the block
between them, or by `bar.warp.sync` if both threads are of one warp, and by nothing if they are of two blocks.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import Array

NOBODY, SEVERAL = -1, -2


class Clock:
    """The barrier intervals of all blocks and warps that run."""

    def __init__(self, blocks: int, threads: int, first_thread: int) -> None:
        lanes = np.arange(blocks * threads)
        self.block, self.warp = lanes // threads, lanes // threads * -(-threads // 32) + lanes % threads // 32
        # Unique in the whole grid.
        self.thread = lanes + first_thread
        self.blocks = np.zeros(blocks, np.int64)
        self.warps = np.zeros(int(self.warp[-1]) + 1, np.int64)
        self.threads = threads

    def now(self, lanes: Array) -> tuple[Array, Array]:
        """Return the interval of the block and of the warp of each lane."""
        return self.blocks[self.block[lanes]], self.warps[self.warp[lanes]]


class _Access:
    """The last access of one kind to every granule."""

    def __init__(self, granules: int) -> None:
        self.thread = np.full(granules, NOBODY, np.int64)
        self.warp = np.full(granules, NOBODY, np.int64)
        self.block_time = np.full(granules, -1, np.int64)
        self.warp_time = np.full(granules, -1, np.int64)

    def put(self, at: Array, thread: Array, warp: Array, times: tuple[Array, Array]) -> None:
        self.thread[at], self.warp[at] = thread, warp
        self.block_time[at], self.warp_time[at] = times


class Shadow:
    """The shadow of one memory.

    Parameters
    ----------
    granules, granule : int
        How many, and the bytes of each.
    findings : Counter
        Where a race is counted, by its description.
    grid_wide : bool
        Global memory: all blocks share it, and no barrier orders them.
    """

    def __init__(self, granules: int, granule: int, findings: Counter[str], grid_wide: bool) -> None:
        self.granule, self.findings, self.grid_wide = granule, findings, grid_wide
        self.writes, self.reads = _Access(granules), _Access(granules)
        self.in_flight = np.zeros(granules, np.bool_)

    def touched(self, offsets: Array, size: int) -> list[Array]:
        """Return the granules under accesses of `size` bytes: one array for each granule of an access."""
        return [offsets // self.granule + n for n in range(-(-size // self.granule))]

    def read(self, clock: Clock, lanes: Array, offsets: Array, size: int, what: str) -> None:
        """Check and remember a load."""
        for at in self.touched(offsets, size):
            if not self.grid_wide:
                self._count(self.writes.thread[at] == NOBODY, "uninitialised read", what)
            elif ".nc" in what:
                self._count(self.writes.thread[at] != NOBODY, "read-only load of written memory", what)
            self._count(self.in_flight[at], "read while cp.async is in flight", what)
            self._conflict(self.writes, clock, lanes, at, "RAW race", what)
            self._remember_readers(clock, lanes, at)

    def write(self, clock: Clock, lanes: Array, offsets: Array, size: int, what: str) -> None:
        """Check and remember a store."""
        for at in self.touched(offsets, size):
            self._count(self.in_flight[at], "written while cp.async is in flight", what)
            self._conflict(self.writes, clock, lanes, at, "WAW race", what)
            self._conflict(self.reads, clock, lanes, at, "WAR race", what)
            self.writes.put(at, clock.thread[lanes], clock.warp[lanes], clock.now(lanes))
            lost = self.writes.thread[at] != clock.thread[lanes]
            self._count(lost, "WAW race of one instruction", what)

    def start_copy(self, clock: Clock, lanes: Array, offsets: Array, size: int, what: str) -> None:
        """Check the target of an asynchronous copy when it is issued: from now on nobody may touch it."""
        for at in self.touched(offsets, size):
            self._count(self.in_flight[at], "target of two copies in flight", what)
            self._conflict(self.reads, clock, lanes, at, "WAR race", what)
            self.in_flight[at] = True

    def end_copy(self, offsets: Array, size: int) -> None:
        """Forget that a copy is in flight."""
        for at in self.touched(offsets, size):
            self.in_flight[at] = False

    def initialise(self, clock: Clock, lanes: Array, offsets: Array, size: int) -> None:
        """Remember what an atomic operation wrote: atomics do not race with each other."""
        for at in self.touched(offsets, size):
            fresh = self.writes.thread[at] == NOBODY
            if fresh.any():
                self.writes.put(at[fresh], np.int64(SEVERAL), np.int64(SEVERAL), (np.int64(-1), np.int64(-1)))

    def _conflict(self, earlier: _Access, clock: Clock, lanes: Array, at: Array, title: str, what: str) -> None:
        thread, warp = clock.thread[lanes], clock.warp[lanes]
        block_time, warp_time = clock.now(lanes)
        other = earlier.thread[at]
        wrong = (other != NOBODY) & (other != thread) & (earlier.block_time[at] == block_time)
        wrong &= (earlier.warp[at] != warp) | (earlier.warp_time[at] == warp_time)
        if self.grid_wide:
            wrong &= (other == SEVERAL) | (other // clock.threads == thread // clock.threads)
            wrong |= (other >= 0) & (other // clock.threads != thread // clock.threads)
        self._count(wrong, title, what)

    def _remember_readers(self, clock: Clock, lanes: Array, at: Array) -> None:
        thread, warp, now = clock.thread[lanes], clock.warp[lanes], clock.now(lanes)
        known = (self.reads.block_time[at] == now[0]) & (self.reads.thread[at] != NOBODY)
        other = known & (self.reads.thread[at] != thread)
        strange = known & (self.reads.warp[at] != warp)
        # An earlier interval of the same warp is over for the warp, and its readers are this warp's.
        stale = other & ~strange & (self.reads.warp_time[at] != now[1])
        self.reads.put(at, np.where(other & ~stale, SEVERAL, thread), np.where(strange, SEVERAL, warp), now)
        lost = self.reads.thread[at] != np.where(other & ~stale, SEVERAL, thread)
        self.reads.thread[at[lost]] = SEVERAL
        lost = self.reads.warp[at] != np.where(strange, SEVERAL, warp)
        self.reads.warp[at[lost]] = SEVERAL

    def _count(self, wrong: Array, title: str, what: str) -> None:
        if wrong.any():
            space = "global" if self.grid_wide else "shared"
            self.findings[f"{title} in {space} memory: {what}"] += int(wrong.sum())
