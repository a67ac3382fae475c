"""The public API on a device, against the definitions, in groups: what every stand-in for a device has to compute.

Each module has ``CHECKS``, a dict of functions without arguments; one that compares drawn problems of real size has
``LARGE`` too, for what is fast enough for them.
"""

from __future__ import annotations

import importlib
import pkgutil

_NAMES = [name for _, name, _ in pkgutil.iter_modules(__path__) if name not in ("__main__", "inputs")]
GROUPS = {name: importlib.import_module(f"{__name__}.{name}") for name in _NAMES}
