"""Who wants to know which namespaces are imported without importing them: some load SciPy, which takes long."""

from __future__ import annotations

from collections.abc import Callable

_imported = ["fastconv"]
_listeners: list[Callable[[str], None]] = []


def imported(namespace: str) -> None:
    """Say that a namespace, which calls this at its end, can be used."""
    _imported.append(namespace)
    for listener in _listeners:
        listener(namespace)


def listen(listener: Callable[[str], None]) -> list[str]:
    """Return the names of the namespaces that are imported, and call `listener` with those that will be.

    Again with the same listener, this does nothing and returns none.
    """
    if listener in _listeners:
        return []
    _listeners.append(listener)
    return list(_imported)
