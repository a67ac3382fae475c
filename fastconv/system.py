"""What the operating system lets this process have: processors, and memory before it is promised to anyone.

Linux hands out memory that it does not have, and ends a process, with no error that could be caught, when it is
written. So what is large is compared with what there is: the machine's memory, and the limit of each control group
(container) that the process is in, in both versions of the file system. Elsewhere, and where a file cannot be read,
there is no limit to know of. Limits of the address space (`ulimit -v`) need no help: the allocation itself fails.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["available_bytes", "cast", "cgroup_cpus", "check_memory", "cpus", "empty", "start"]

# To look takes 0.1 ms, to write so many bytes 50.
CHECKED_BYTES = 256 << 20
# Left for the scratch of the threads, which is not allocated yet, and for the rest of the program.
RESERVED_BYTES = 64 << 20
# The stack of a thread, 8 MiB, and its own parts of the heap and of libraries.
THREAD_BYTES = 64 << 20


def empty(shape: int | Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Return an array as `numpy.empty`, if there is memory for all of it.

    Raises
    ------
    MemoryError
        There is not.
    """
    array: np.ndarray = np.empty(shape, dtype)
    if array.nbytes >= CHECKED_BYTES:
        check_memory(array.nbytes)
    return array


def cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array in another dtype, itself if that is its own, if there is memory for it.

    Raises
    ------
    MemoryError
        There is not.
    """
    if array.dtype != dtype:
        check_memory(array.size * dtype.itemsize)
    return array.astype(dtype, copy=False)


def check_memory(size: int) -> None:
    """Raise MemoryError if so many bytes, where they are many, are not to be had."""
    if size < CHECKED_BYTES:
        return
    there = available_bytes()
    if there is not None and size + RESERVED_BYTES > there:
        raise MemoryError(f"fastconv: {size} bytes are needed at once, the system has {there} available")


def start(thread: threading.Thread) -> None:
    """Start a thread, if there is memory for its stack and for what each library keeps for every thread.

    Raises
    ------
    RuntimeError
        There is not, or the interpreter is shutting down.
    """
    try:
        # Addresses only. Where a thread that runs finds none, the C library ends the process.
        np.empty(THREAD_BYTES, np.uint8)
    except MemoryError as error:
        raise RuntimeError("there is no memory for another thread") from error
    thread.start()


def available_bytes(proc: str = "/proc", root: str = "/sys/fs/cgroup") -> int | None:
    """Return how much memory this process can still get, swap space included, or None where that is not known."""
    machine = _numbers(_read(Path(proc, "meminfo")))
    # The kernel's own estimate, in KiB: what is free, and what it could free.
    swap = machine.get("SwapFree", 0) << 10
    found = [(machine["MemAvailable"] << 10) + swap] if "MemAvailable" in machine else []
    for folder in _groups("memory", proc, root):
        limit, used = (_number(folder, *names) for names in _MEMORY)
        if limit is not None and used is not None:
            stat = _numbers(_read(folder / "memory.stat"))
            # Pages of files count as used, but go first.
            files = stat.get("total_inactive_file", stat.get("inactive_file", 0))
            found.append(max(0, limit - used + files) + swap)
    return min(found, default=None)


# Limit and use, in version 2 and in version 1.
_MEMORY = (("memory.max", "memory.limit_in_bytes"), ("memory.current", "memory.usage_in_bytes"))


def cpus() -> int:
    """Return how many processors the process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def cgroup_cpus(proc: str = "/proc", root: str = "/sys/fs/cgroup") -> int | None:
    """Return the CPU quota of the process, rounded up, or None if there is none."""
    quotas = [_quota(folder) for folder in _groups("cpu", proc, root)]
    return min((quota for quota in quotas if quota), default=None)


def _quota(folder: Path) -> int | None:
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = map(int, words)
    except ValueError:
        # "max", no such file, or a format that we do not know.
        return None
    return -(-quota // period) if quota > 0 and period > 0 else None


def _groups(controller: str, proc: str, root: str) -> Iterator[Path]:
    """Yield the folders on the way from the root to the process's group; the limits of all of them hold."""
    # A line is id:controllers:group, without controllers in version 2.
    for controllers, group in re.findall(r"^\d+:([^:]*):(.*)$", _read(Path(proc, "self", "cgroup")), re.MULTILINE):
        if not controllers or controller in controllers.split(","):
            parts = [part for part in group.split("/") if part not in ("", "..")]
            for depth in range(len(parts) + 1):
                yield Path(root, controllers, *parts[:depth])


def _number(folder: Path, *names: str) -> int | None:
    """Return what the first of these files that is there holds, or None."""
    for name in names:
        text = _read(folder / name).strip()
        if text.isdecimal():
            return int(text)
    return None


def _numbers(text: str) -> dict[str, int]:
    """Return the numbers of lines "name: number" or "name number"."""
    pairs: list[Any] = re.findall(r"^(\w+):?\s+(\d+)", text, re.MULTILINE)
    return {name: int(number) for name, number in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
