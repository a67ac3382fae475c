"""What a result was measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import fastconv as fc
from fastconv.dispatch import machine as constants

__all__ = ["describe", "line", "read_rates"]

_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "torch", "opencv-python-headless")


def describe() -> dict[str, Any]:
    """Return CPU, cores, instruction set, system, versions and date, in types that JSON has."""
    versions = {"fastconv": fc.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": fc.devices()["cpu"]["model"],
        "cores": fc.devices()["cpu"]["cores"],
        "target": {k: v for k, v in fc.devices()["cpu"].items() if k not in ("model", "cores", "threads")},
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        # Above 0 something else was running, if it is not what ran before.
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read_rates() -> dict[str, float]:
    """Return how many GB a second one core reads from its second-level cache and from memory."""
    rates = constants.current()
    return {"l2": rates.l2 / 1e9, "memory": rates.memory / 1e9}


def line(machine: dict[str, Any]) -> str:
    """Return a description in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['target']['name']}, {machine['system']}"
    load = "" if machine["load"] is None else f"; load average before {machine['load']:.2f}"
    return f"{where}; {versions}; {machine['date'][:10]}{load}"
