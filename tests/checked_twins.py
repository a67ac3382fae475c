"""The Python twins of the kernels' operations, with every address that they view checked: for NUMBA_DISABLE_JIT=1."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any

import numpy as np

from tests.fence import Fence


def install(fence: Fence) -> Callable[[], set[str]]:
    """Import the package with its views of memory checked; return what tells which twins have run."""
    memory = import_module("fastconv.kernels.cpu.memory")
    plain = memory.array_at

    def check(address: int, size: int) -> None:
        if size > 0 and not fence.holds(int(address), int(size)):
            raise AssertionError(f"outside: {_twin()}: {size} bytes {fence.place(int(address))}")

    def array_at(dtype: Any, address: int, count: int) -> Any:
        check(address, int(count) * np.dtype(dtype).itemsize)
        return plain(dtype, address, count)

    memory.array_at = array_at
    # These copy without a view.
    ops = import_module("fastconv.kernels.cpu.element_ops")
    copy, zero = ops.copy_bytes, ops.zero_bytes

    def copy_bytes(dst: int, src: int, n: int) -> None:
        check(dst, n)
        check(src, n)
        copy(dst, src, n)

    def zero_bytes(dst: int, n: int) -> None:
        check(dst, n)
        zero(dst, n)

    ops.copy_bytes, ops.zero_bytes = copy_bytes, zero_bytes
    _emulate()
    return _note()


def _emulate() -> None:
    """Let the target have the matrix unit and the dot products, whose twins run on every CPU."""
    target = import_module("fastconv.kernels.cpu.target")
    one = target.current()._replace(matrix_unit=True, dots=True)
    target.current = lambda: one


def _note() -> Callable[[], set[str]]:
    """Note the twins that are called."""
    found: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name.endswith("_twin") and "/kernels/cpu/" in code.co_filename:
            found.add(f"{code.co_filename.rpartition('/')[2][:-3]}:{code.co_name}")

    sys.setprofile(profile)
    return lambda: set(found)


def _twin() -> str:
    """Return the calls of kernels that led here, the last first."""
    frame: FrameType | None = sys._getframe(2)
    found = []
    while frame is not None and len(found) < 3:
        if "/fastconv/kernels/" in frame.f_code.co_filename and frame.f_code.co_name not in ("elements", "ints"):
            found.append(f"{frame.f_code.co_name} ({frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(found)
