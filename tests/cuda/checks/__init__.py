"""The public API on a device, against the definitions, in groups: what every stand-in for a device has to compute.

Each module has ``CHECKS``, a dict of functions without arguments; one that compares drawn problems of real size has
``LARGE`` too, for what is fast enough for them. ``SLOW`` names checks that take long and launch no float32 kernel that
others do not, but for literals.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

_NAMES = [name for _, name, _ in pkgutil.iter_modules(__path__) if name not in ("__main__", "inputs")]
GROUPS = {name: importlib.import_module(f"{__name__}.{name}") for name in _NAMES}


def checks_of(group: str, *, every: bool = True) -> dict[str, Callable[[], None]]:
    """Return the checks of a group by name: every one, or those that are quick."""
    module = GROUPS[group]
    left_out = () if every else getattr(module, "SLOW", ())
    return {name: check for name, check in module.CHECKS.items() if name not in left_out}
