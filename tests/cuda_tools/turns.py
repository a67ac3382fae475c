"""Blocks of Numba's simulator whose threads take turns, each from one barrier to the next.

The simulator starts a thread of Python for each of CUDA's, lets them all compete for the interpreter, and looks without
a pause which of them wait. Here one runs at a time, in the order of their numbers, on threads that are used again.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class _Carrier(threading.Thread):
    """A thread of Python that carries one of CUDA's until that ends, and then the next one."""

    free: list[_Carrier] = []  # noqa: RUF012
    # Released by the one that ran when its turn is over: locks that one thread takes and another one releases.
    over = _held()

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.go, self.turn = _held(), None
        self.start()

    def run(self) -> None:
        while True:
            self.go.acquire()
            self.turn.run()
            self.free.append(self)
            self.over.release()


_running = SimpleNamespace(thread=None)


def current() -> Any:
    """Return the thread of CUDA whose turn it is."""
    return _running.thread


@functools.cache
def _turn() -> Any:
    """Return the class of such threads; importing Numba takes long."""
    from numba.cuda.simulator.kernel import BlockThread

    class Turn(BlockThread):
        carrier: Any = None

        def proceed(self) -> bool:
            """Run it up to its next barrier; return whether there is one."""
            if self.carrier is None:
                self.carrier = _Carrier.free.pop() if _Carrier.free else _Carrier()
                self.carrier.turn = self
            _running.thread, self.syncthreads_blocked = self, False
            self.carrier.go.release()
            _Carrier.over.acquire()
            return self.syncthreads_blocked

        def syncthreads(self) -> None:
            self.syncthreads_blocked = True
            _Carrier.over.release()
            self.carrier.go.acquire()
            if self.abort:
                raise RuntimeError("another thread of the block failed")

    return Turn


def _run(self: Any, grid_point: tuple[int, ...], *arguments: Any) -> None:
    """Run a block, in the place of BlockManager.run."""
    waiting = [
        _turn()(functools.partial(self._f, *arguments), self, grid_point, place, self._debug)
        for place in np.ndindex(*self._block_dim)
    ]
    begun: list[Any] = []
    while waiting:
        begun, left = [], waiting
        for i, thread in enumerate(left):
            if thread.proceed():
                begun.append(thread)
            if thread.exception:
                for other in (*begun, *(later for later in left[i + 1 :] if later.carrier)):
                    other.abort = True
                    other.proceed()
                raise thread.exception[0].with_traceback(thread.exception[1])
        waiting = begun


@contextmanager
def taken() -> Iterator[None]:
    """Let blocks run so."""
    from numba.cuda.simulator import kernel, kernelapi

    stand_in = SimpleNamespace(current_thread=current, Lock=threading.Lock)
    with mock.patch.object(kernel.BlockManager, "run", _run), mock.patch.object(kernelapi, "threading", stand_in):
        yield
