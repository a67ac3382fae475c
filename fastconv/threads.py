"""The thread pool: independent tasks [0, tasks) of a kernel that releases the GIL, split over threads.

The caller takes part. Helpers are started when they are first needed, are shared by all callers, and sleep in a queue.
They take chunks from a counter that they share with the caller, who then waits only for helpers that really started: a
helper that wakes late costs nothing, a nested call cannot deadlock, and after a fork, or at exit, the caller does the
work alone. Short work never leaves the caller's thread, and calls at the same time share the threads.

How tasks are cut never changes a result, since kernels write each output in exactly one task.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np

from fastconv.errors import OptionError
from fastconv.system import cgroup_cpus, cpus, empty, start

__all__ = ["get_num_threads", "run", "set_num_threads", "threads"]

# Below this a second thread does not pay: to wake it and to hand over the GIL takes 10 to 50 us.
PARALLEL_SECONDS = 150e-6
# Several chunks per thread, so that a slow thread does not hold up the rest, but long against the cost of taking one
# (1 us), and short enough that Ctrl-C is felt at once.
CHUNKS_PER_THREAD = 6
CHUNK_SECONDS = (50e-6, 25e-3)
# A larger scratch buffer is freed after the run, a smaller one kept for the thread's next.
KEEP_BYTES = 8 << 20
# More threads than this are never started, whatever the user sets.
MAX_HELPERS = 255

Kernel = Callable[[Any, Any, int, int, int], Any]


class _ThreadState(threading.local):
    """What belongs to one thread: its count inside `threads(n)`, else 0, and its free scratch buffers."""

    def __init__(self) -> None:
        self.count = 0
        self.buffers: list[_Scratch] = []


class _Scratch:
    """A buffer of at least `size` + 64 bytes from `address`, a multiple of 64."""

    __slots__ = ("_memory", "address", "size")

    def __init__(self, size: int):
        self._memory = empty(size + 128, np.uint8)
        self.address = (self._memory.ctypes.data + 63) & -64
        self.size = size


_state = _ThreadState()
_count = 0
_default = 0


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, for the whole process.

    Parameters
    ----------
    n : int
        At least 1. It may exceed the number of CPUs. Results have the same bits for every n.

    Raises
    ------
    OptionError
        If n is not an integer of at least 1.
    """
    global _count
    _count = _checked("set_num_threads", n)
    _pool.limit = MAX_HELPERS


def get_num_threads() -> int:
    """Return how many threads a call from this thread may use.

    Returns
    -------
    int
        The n of the innermost ``with threads(n)`` of this thread, else of the last `set_num_threads`, else the least of
        the CPUs that the process may run on, the CPU quota of its cgroup, and ``FASTCONV_NUM_THREADS`` (if not set,
        ``OMP_NUM_THREADS``), which are read once.

    Raises
    ------
    OptionError
        If ``FASTCONV_NUM_THREADS`` is not an integer of at least 1.
    """
    global _default
    count = _state.count or _count or _default
    if not count:
        count = _default = min(n for n in (cpus(), cgroup_cpus(), _environment_count()) if n)
    return count


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Set how many threads calls of this thread may use inside a ``with`` block; n is as in `set_num_threads`."""
    n = _checked("threads", n)
    before, _state.count = _state.count, n
    try:
        yield
    finally:
        _state.count = before


def run(kernel: Kernel, g: Any, io: Any, tasks: int, scratch_bytes: int, seconds: float) -> None:
    """Call ``kernel(g, io, scratch, lo, hi)`` so that the ranges [lo, hi) cover [0, tasks) exactly once.

    Parameters
    ----------
    kernel : callable
        Its tasks are independent. For a gain by threads it releases the GIL.
    g, io : object
        Passed through.
    tasks : int
        With 0, nothing is called.
    scratch_bytes : int
        The kernel gets the address, a multiple of 64, of at least 64 bytes more than that, undefined, which no one else
        uses during the call. For 0 it may get 0.
    seconds : float
        Estimate of the time that one thread takes for all tasks; it only decides how they are cut.

    Raises
    ------
    BaseException
        What a kernel raises, or KeyboardInterrupt, once no thread runs the kernel any more. Part of the output may
        then be written.
    """
    if seconds >= PARALLEL_SECONDS and tasks > 1:
        _run_long(kernel, g, io, tasks, scratch_bytes, seconds)
    elif tasks < 1:
        return
    elif scratch_bytes:
        scratch = _take(scratch_bytes)
        try:
            kernel(g, io, scratch.address, 0, tasks)
        finally:
            _give_back(scratch)
    else:
        kernel(g, io, 0, 0, tasks)


def _run_long(kernel: Kernel, g: Any, io: Any, tasks: int, scratch_bytes: int, seconds: float) -> None:
    callers, me = _pool.callers, threading.get_ident()
    try:
        callers.add(me)
        _run_split(kernel, g, io, tasks, scratch_bytes, seconds, _share(seconds, len(callers)))
    finally:
        callers.discard(me)


def _share(seconds: float, callers: int) -> int:
    """Return how many threads a call may use while so many compute.

    Where there is a call for each core, helpers only make threads wait for the GIL and for each other's lines in the
    caches: 16 threads with calls of some ms are 15 % faster without. A long call may soon be the only one.
    """
    count = get_num_threads()
    return max(1, count // callers) if seconds < CHUNK_SECONDS[1] else count


def _run_split(kernel: Kernel, g: Any, io: Any, tasks: int, scratch_bytes: int, seconds: float, count: int) -> None:
    chunk = _chunk(tasks, seconds, count)
    scratch = _take(scratch_bytes)
    try:
        if chunk >= tasks:
            kernel(g, io, scratch.address, 0, tasks)
        else:
            helpers = min(count, -(-tasks // chunk)) - 1
            _Job((kernel, g, io, scratch_bytes), tasks, chunk, count).lead(scratch.address, helpers)
    finally:
        _give_back(scratch)


def _chunk(tasks: int, seconds: float, count: int) -> int:
    """Return how many tasks make a chunk."""
    shortest, longest = CHUNK_SECONDS
    share = min(max(seconds / (count * CHUNKS_PER_THREAD), shortest), longest) if count > 1 else longest
    chunks = math.ceil(min(seconds / share, tasks))
    if chunks > count:
        # As many for each thread: 3 chunks take 2 threads longer than 4.
        chunks = -(-chunks // count) * count
    return max(1, -(-tasks // chunks))


# Scratch: a stack of free buffers per thread, so that a nested call gets another one.


def _take(size: int) -> _Scratch:
    if _state.buffers and size <= KEEP_BYTES:
        scratch = _state.buffers.pop()
        if scratch.size >= size:
            return scratch
    return _Scratch(size)


def _give_back(scratch: _Scratch) -> None:
    if scratch.size <= KEEP_BYTES:
        _state.buffers.append(scratch)


# The pool.


class _Job:
    """One call: a shared counter of chunks, and who works on it."""

    __slots__ = (
        "active",
        "call",
        "chunk",
        "closed",
        "count",
        "error",
        "idle",
        "left",
        "lock",
        "pool",
        "starts",
        "tasks",
    )

    def __init__(self, call: tuple[Kernel, Any, Any, int], tasks: int, chunk: int, count: int):
        self.call = call
        self.tasks = tasks
        self.chunk = chunk
        self.count = count
        # next() of a count is one step under the GIL: each chunk has one taker.
        self.starts = itertools.count(0, chunk)
        self.lock = threading.Lock()
        self.active = 0
        self.closed = False
        self.error: BaseException | None = None
        # Where the chunks begin for which a thread had no memory.
        self.left: list[int] = []
        # Held until the last helper leaves a closed job.
        self.idle = threading.Lock()
        self.idle.acquire()
        self.pool = _pool

    def lead(self, address: int, helpers: int) -> None:
        """Do the job with up to `helpers` others; when it returns or raises, no one works on it any more."""
        # An interrupt can come out of any call here, even while an earlier one is being handled. So every call lies in
        # a try, and closing, which can be repeated, is repeated until it gets through.
        try:
            self.pool.invite(self, helpers)
            self._work(address, self.starts, self.left)
        except BaseException as error:
            self.error = error
        while True:
            try:
                self._close()
                break
            except BaseException as error:
                self.error = error
        try:
            # What a thread had no memory for: alone, the caller needs the least.
            self._work(address, itertools.chain(self.left, self.starts))
        except BaseException as error:
            self.error = error
        try:
            if self.error is not None:
                raise self.error
        finally:
            # The traceback holds this frame, hence the job: break the cycle.
            self.error = None

    def help(self) -> None:
        """Work on the job if it is not yet done."""
        try:
            scratch = _take(self.call[3])
        except MemoryError:
            # The caller has its buffer and gets along alone.
            return
        with self.lock:
            joined = not self.closed
            self.active += joined
        if joined:
            self._follow(scratch.address)
        _give_back(scratch)

    def _follow(self, address: int) -> None:
        try:
            # For the nested calls of a kernel.
            _state.count = self.count
            self._work(address, self.starts, self.left)
        except BaseException as error:
            self.error = error
        with self.lock:
            self.active -= 1
            if self.closed and not self.active:
                self.idle.release()

    def _work(self, address: int, starts: Iterator[int], left: list[int] | None = None) -> None:
        """Do chunks, but for the first that there is no memory for, if it may be `left` for later, and what follows."""
        kernel, g, io, _ = self.call
        tasks, chunk = self.tasks, self.chunk
        for lo in starts:
            if lo >= tasks or self.error is not None:
                return
            try:
                kernel(g, io, address, lo, min(lo + chunk, tasks))
            except MemoryError:
                if left is None:
                    raise
                left.append(lo)
                return

    def _close(self) -> None:
        with self.lock:
            self.closed = True
        # After a fork inside a task, the helpers are in the parent only.
        while self.active and self.pool is _pool:
            self.idle.acquire()


class _Pool:
    """Daemon threads that help with the jobs of a queue."""

    def __init__(self) -> None:
        self.limit = MAX_HELPERS
        # A signal handler may run a kernel while its thread is in _grow.
        self.lock = threading.RLock()
        self.queue: SimpleQueue[_Job] = SimpleQueue()
        self.workers = 0
        # The threads whose calls compute now.
        self.callers: set[int] = set()

    def invite(self, job: _Job, helpers: int) -> None:
        """Ask up to `helpers` threads to help with a job."""
        if self.workers < min(helpers, self.limit):
            self._grow(helpers)
        for _ in range(min(helpers, self.workers)):
            # Invitations pile up while all helpers work on a long job; more than one for each would never be of use.
            if self.queue.qsize() >= self.workers:
                return
            self.queue.put(job)

    def _grow(self, helpers: int) -> None:
        with self.lock:
            while self.workers < min(helpers, self.limit):
                name = f"fastconv-{self.workers + 1}"
                try:
                    start(threading.Thread(target=_serve, args=(self.queue,), name=name, daemon=True))
                except RuntimeError:
                    # No more threads to be had, or the interpreter is shutting down: go on with those that we have.
                    self.limit = self.workers
                    return
                self.workers += 1


def _serve(queue: SimpleQueue[_Job]) -> None:
    while True:
        job = queue.get()
        job.help()
        # Not to keep its arrays alive while asleep.
        del job


_pool = _Pool()


def _renew_pool() -> None:
    """Start afresh in a forked child: it has none of the threads, and perhaps a lock that no one will release."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_pool)


# The default number of threads.


def _checked(function: str, n: Any) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__") or operator.index(n) < 1:
        raise OptionError(f"{function}: n must be an integer of at least 1, got {n!r}")
    return operator.index(n)


def _environment_count() -> int | None:
    text = os.environ.get("FASTCONV_NUM_THREADS", "").strip()
    if text:
        if not re.fullmatch(r"\+?0*[1-9][0-9]*", text):
            raise OptionError(f"FASTCONV_NUM_THREADS must be an integer of at least 1, got {text!r}")
        return int(text)
    # It is not ours, so a value that we cannot read is no error; a list is one number per nesting level.
    first = re.match(r"\s*0*([1-9][0-9]*)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return int(first[1]) if first else None
