"""How much scratch an algorithm may use: a limit of the process, which choices depend on."""

from __future__ import annotations

from collections.abc import Callable

_limit: int | None = None
_forget: list[Callable[[], object]] = []


def limit() -> int | None:
    """Return the bytes of scratch that one thread may use, or None for any."""
    return _limit


def set_limit(size: int | None) -> None:
    """Set the limit, and forget all choices."""
    global _limit
    _limit = size
    for forget in _forget:
        forget()


def on_change(forget: Callable[[], object]) -> None:
    """Have `forget` called whenever the limit changes: it drops remembered choices."""
    _forget.append(forget)


def refusal(scratch_bytes: int) -> str | None:
    """Return why an algorithm with so much scratch may not be used, or None."""
    if _limit is None or scratch_bytes <= _limit:
        return None
    return f"it needs {scratch_bytes} bytes of scratch a thread, the limit is {_limit} (set_max_workspace)"
