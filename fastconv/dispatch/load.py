"""The one door from planning to kernels: names, as strings, are imported when they are first used."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from fastconv.interrupts import unforked, uninterrupted


@cache
def load(name: str, backend: str = "cpu") -> Any:
    """Return the object `module:attribute` of fastconv.kernels.<backend>."""
    module, _, attribute = name.partition(":")
    full = f"fastconv.kernels.{backend}.{module}"
    found = uninterrupted(lambda: unforked(lambda: importlib.import_module(full)))
    return getattr(found, attribute)


def target() -> Any:
    """Return the instruction set that kernels are generated for."""
    return load("target:current")()
