"""What must not stop half-way: imports of the compiler, and compilations.

Python raises KeyboardInterrupt between any two steps of the main thread. Half of an import leaves modules that no later
import repairs, half of a compilation a registry of which the rest is lost: every later call of the process would fail.
So both run in a thread of their own, where nothing interrupts them; an interrupt ends the wait for it at once, and what
was begun is there for the next call. The process does not end before it is done.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from fastconv.system import start

__all__ = ["fork_without", "unforked", "uninterrupted"]

T = TypeVar("T")

_lock = threading.RLock()


def uninterrupted(function: Callable[[], T]) -> T:
    """Return ``function()``, which an interrupt of this thread does not stop, only the wait for it.

    Raises
    ------
    BaseException
        What it raises, or KeyboardInterrupt.
    """
    # Only the main thread is interrupted. What it imports meanwhile, another thread could wait for.
    if threading.current_thread() is not threading.main_thread() or _is_importing():
        return function()
    found: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="fastconv-compiler")
    try:
        start(thread)
    except RuntimeError:
        # No more threads to be had, or the interpreter is shutting down.
        return function()
    thread.join()
    if errors:
        try:
            raise errors[0]
        finally:
            # The traceback holds this frame: break the cycle.
            errors.clear()
    return found[0]


def unforked(function: Callable[[], T]) -> T:
    """Return ``function()``, during which no other thread forks: the child would never see the end of it."""
    with _lock:
        return function()


def _is_importing() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def fork_without(lock: Any) -> None:
    """Have forks wait until a lock, which the child could otherwise never get, is free."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


fork_without(_lock)
