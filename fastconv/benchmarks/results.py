"""What `fastconv bench --json` writes: read again, and shown as tables whatever the suite was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastconv.benchmarks import (
    choice,
    device,
    filters,
    first_call,
    operations,
    plot_sizes,
    report,
    savings,
    training,
    trunks,
)
from fastconv.errors import OptionError

__all__ = ["read", "shown", "timed", "wrong"]

Shown = tuple[list[report.Table], list[str]]

# By the key under which a suite that is no list of layers keeps its records.
_TABLES: dict[str, Callable[[dict[str, Any]], tuple[report.Table, list[str]]]] = {
    "cuda": device.table,
    "savings": savings.table,
    "operations": operations.table,
    "filters": filters.table,
    "choices": choice.table,
    "first_calls": first_call.table,
    "training": training.table,
}


def read(path: str) -> dict[str, Any]:
    """Return the content of a result file.

    Raises
    ------
    OptionError
        It is something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("results"), list) or "machine" not in found:
        raise OptionError(f"{path} is not a result of `fastconv bench --json`")
    return found


def shown(found: dict[str, Any]) -> Shown:
    """Return the tables of a result, and the lines that sum them up."""
    for key, table in _TABLES.items():
        if key in found:
            rows, lines = table(found)
            return [rows], lines
    if found.get("suite") == "trunks":
        rows, lines = trunks.table(found)
        return [rows], lines
    records = found["results"]
    lines = report.summary(records) + plot_sizes.lines(found)
    return [report.ratios(records), report.scaling(records)], lines


def timed(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records with a time for each who took part."""
    keys = ("results", "cuda", "savings", "operations")
    return [record for key in keys for record in found.get(key, ()) if record.get("seconds")]


def wrong(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records whose results were wrong."""
    every = [record for key in ("results", "cuda", "savings") for record in found.get(key, ())]
    missed = [record for record in found.get("choices", ()) if "wrong" in record]
    return [record for record in every if record.get("gate", "green") != "green"] + missed
