"""Ctrl-C between the steps of training, never inside one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Deferred:
    """Inside ``with deferred:`` an interrupt waits for the end of the block; elsewhere it acts at once.

    It takes the place of Python's own handler, in the main thread, from `install` to `restore`; a handler of the user
    is left alone.
    """

    def __init__(self) -> None:
        self._is_inside = self._is_pending = self._is_installed = False

    def install(self) -> None:
        """Take the place of Python's handler."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._is_installed = True

    def restore(self) -> None:
        """Give the place back."""
        if self._is_installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._is_installed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._is_inside:
            raise KeyboardInterrupt
        self._is_pending = True

    def __enter__(self) -> Deferred:
        self._is_inside = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self._is_inside = False
        if self._is_pending:
            self._is_pending = False
            raise KeyboardInterrupt
