"""Choices that were measured, on disk: a small file for each problem, of this CPU and this version of the package.

`algorithm="measure"` writes them and reads them at any time. `algorithm="auto"` follows those that stood there when the
process first looked, a snapshot: what is measured later, here or elsewhere, changes nothing that "auto" chooses.
A file is written once, whole, under another name, so processes that write at once do not meet; one that is damaged, of
another problem, or unreadable counts as missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from fastconv import _disk
from fastconv.dispatch import machine, workspace

SCHEMA = 1

# More files than this are neither written nor looked at.
LIMIT = 4096
# No file that is written here has more bytes.
_LONGEST = 1 << 16


def problem(kind: str, geometry: object, precision: str, entry: str) -> str:
    """Return all that a choice depends on, as one text."""
    limit = workspace.limit()
    within = "" if limit is None else f" workspace={limit}"
    return f"{kind} {geometry!r} precision={precision} entry={entry}{within}"


def advice(text: str, names: Collection[str]) -> str | None:
    """Return the algorithm that was measured before this process first looked, if it is one of `names`."""
    snapshot = _snapshot()
    found = snapshot.get(_name(text)) if snapshot else None
    if found is None:
        return None
    return found.algorithm(text, names)


def known(text: str, names: Collection[str]) -> str | None:
    """Return the algorithm that is stored now, if it is one of `names`."""
    root = _disk.root()
    with contextlib.suppress(OSError):
        return None if root is None else _read(root / "wisdom" / _stamp() / _name(text), text, names)
    return None


def remember(text: str, algorithm: str) -> None:
    """Store the choice of a problem; if that fails, it is measured again some day."""
    # What this process stores is not part of its snapshot.
    snapshot = _snapshot()
    record = {"schema": SCHEMA, "problem": text, "algorithm": algorithm}
    with contextlib.suppress(OSError):
        if len(snapshot) < LIMIT and (folder := _disk.make_folder("wisdom", _stamp())) is not None:
            if not snapshot:
                _disk.remove_old(folder)
            _disk.put(folder / _name(text), (json.dumps(record) + "\n").encode())


class _File:
    """A file of the snapshot, read when its problem is first met, and never again."""

    def __init__(self, path: Path):
        self._path = path
        self._read: dict[str, str | None] = {}

    def algorithm(self, text: str, names: Collection[str]) -> str | None:
        if text not in self._read:
            self._read[text] = _read(self._path, text, names)
        return self._read[text]


@lru_cache(maxsize=1)
def _once() -> dict[str, _File]:
    """Return the files that there are now."""
    root = _disk.root()
    with contextlib.suppress(OSError):
        # To find the name of the folder takes longer than to see that there is none.
        if root is not None and _disk.is_private(root) and (root / "wisdom").is_dir():
            with os.scandir(root / "wisdom" / _stamp()) as entries:
                return {e.name: _File(Path(e.path)) for e, _ in zip(entries, range(LIMIT), strict=False)}
    return {}


def _snapshot() -> dict[str, _File]:
    # lru_cache alone would let two threads look at different times.
    with _lock:
        return _once()


def forget() -> None:
    """Look at the folder anew, which only tests should do."""
    _once.cache_clear()
    _stamp.cache_clear()


_lock = threading.Lock()


def _read(path: Path, text: str, names: Collection[str]) -> str | None:
    try:
        record = json.loads(_disk.read("wisdom", path.parent.name, path.name, limit=_LONGEST))
        right = record["schema"] == SCHEMA and record["problem"] == text
        return str(record["algorithm"]) if right and record["algorithm"] in names else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _name(text: str) -> str:
    return f"{_disk.hashed(text.encode())}.json"


@lru_cache(maxsize=1)
def _stamp() -> str:
    """Hash what makes measurements worthless when it changes: the CPU, and the sources that are measured."""
    package = Path(__file__).parents[1]
    sources = [*package.glob("*.py"), *(package / "dispatch").glob("*.py"), *(package / "kernels").rglob("*.py")]
    return _disk.source_digest((SCHEMA, machine.identity()), sources)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A forked child may have inherited the lock from a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
