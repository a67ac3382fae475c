"""The machine's constants: measured once, kept in the cache folder, and the same for all of a process.

What is chosen depends on them, so they are rounded to steps of a fifth, and a stored measurement is never repeated:
noise must not make two processes of one machine choose differently. Without a cache folder they would be measured anew
by each process; then, and with the JIT off, the constants below stand in their place.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fastconv import _disk
from fastconv.dispatch import load

SCHEMA = 1

# Constants are rounded to powers of 2**(1/STEPS).
_STEPS = 4
# A stored number outside of these is damaged; the same for all rates, which no machine will leave for a while.
_LEAST, _MOST = 1e6, 1e14


class Machine(NamedTuple):
    """What one core does in a second.

    Attributes
    ----------
    multiply_adds : float
        Multiplications with addition of float32 numbers, in registers.
    l1, l2, memory : float
        Bytes that it reads from the first and second cache, and from beyond them.
    calls : float
        Calls from Python of a convolution that takes no time.
    """

    multiply_adds: float
    l1: float
    l2: float
    memory: float
    calls: float

    def hertz(self) -> float:
        """Return how many of the cycles that blockings count pass in a second: two vector operations in each."""
        target = load.target()
        operations = 1 if target.fma else 2
        return self.multiply_adds * operations / (2 * target.lanes(32))


def current() -> Machine:
    """Return the constants of this process."""
    global _current
    found = _current
    if found is None:
        with _lock:
            found = _current = _current or _find()
    return found


def forget() -> None:
    """Look for constants anew, which only tests should do."""
    global _current
    _current = None


_current: Machine | None = None
_lock = threading.Lock()


def default() -> Machine:
    """Return the constants of a common CPU of 3 GHz with this instruction set."""
    target = load.target()
    width = target.lanes(32) if target.fma else target.lanes(32) / 2
    return Machine(6e9 * width, 3e9 * target.vector_bytes, 1.5e9 * target.vector_bytes, 1.5e10, 1.5e5)


def _find() -> Machine:
    path = _path()
    if path is None:
        return default()
    stored = _stored(path)
    if stored is not None:
        return stored
    measured = _measured()
    if measured is None:
        return default()
    # Another process may have been faster; then its constants count.
    stored = _stored(path)
    if stored is None:
        _store(path, measured)
    return stored or measured


def _measured() -> Machine | None:
    try:
        rates = load.load("calibration:measure")()
    except Exception:
        # Memory for machine code may be forbidden; then there is nothing to measure with, but nothing is wrong either.
        return None
    return None if rates is None else Machine(*(_rounded(number) for number in rates))


def _rounded(number: float) -> float:
    """Return the next power of 2**(1/STEPS)."""
    return float(2.0 ** (round(_STEPS * math.log2(number)) / _STEPS))


def _stored(path: Path) -> Machine | None:
    """Return the constants in a file, or None if there are none, or not of this CPU, or damaged."""
    try:
        record = json.loads(_disk.read("machine", path.name, limit=1 << 16))
        numbers = {name: float(record["rates"][name]) for name in Machine._fields}
        right = record["schema"] == SCHEMA and record["cpu"] == identity()
        return Machine(**numbers) if right and all(_is_sound(*pair) for pair in numbers.items()) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _is_sound(name: str, number: float) -> bool:
    return (1.0 if name == "calls" else _LEAST) <= number <= _MOST


def _store(path: Path, machine: Machine) -> None:
    record = {"schema": SCHEMA, "cpu": identity(), "rates": machine._asdict()}
    with contextlib.suppress(OSError):
        if _disk.make_folder("machine") is not None:
            _disk.put(path, (json.dumps(record, indent=1) + "\n").encode())


def _path() -> Path | None:
    root = _disk.root()
    return None if root is None else root / "machine" / f"{key()}.json"


def identity() -> str:
    """Return the CPU's model, and the instruction set that kernels are compiled for."""
    return f"{cpu_model()} / {load.target().name}"


def key() -> str:
    """Return a word that stands for `identity()`."""
    return _disk.hashed(identity().encode())


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """Return the name that the CPU gives itself."""
    text = ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    models = [row.partition(":")[2].strip() for row in text.splitlines() if row.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A forked child may have inherited the lock from a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
