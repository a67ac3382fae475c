"""The one door from planning to kernels: names, as strings, are imported when they are first used."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any


@cache
def load(name: str, backend: str = "cpu") -> Any:
    """Return the object `module:attribute` of fastconv.kernels.<backend>."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"fastconv.kernels.{backend}.{module}"), attribute)


def target() -> Any:
    """Return the instruction set that kernels are generated for."""
    return load("target:current")()
