"""algorithm="measure": time the candidates once on the user's problem, and remember the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.dispatch.choose import refusal
from fastconv.dispatch.conv_table import TABLE
from fastconv.dispatch.plan import Prepared, prepare
from fastconv.geometry.conv import ConvGeometry

REPEATS = 3
_LIMIT = 512

_fastest: dict[Any, str] = {}


def measured_seconds(prepared: Any, x: np.ndarray, weights: Any, repeats: int = REPEATS) -> float:
    """Return the median time of a call, after one that may compile: with packing, unless a plan has done it."""
    out = np.empty(prepared.out_shape, prepared.dtype)
    run = prepared.run_once
    if prepared.entry == "plan":
        run, weights = prepared.run, prepared.pack(weights)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run(x, weights, None, None, out)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def fastest(
    function: str, g: ConvGeometry, activation: str | None, precision: str, entry: str, x: np.ndarray, w: np.ndarray
) -> Prepared:
    """Return the prepared problem of the algorithm that was fastest when this problem was first measured."""

    def prepared(name: str) -> Prepared:
        return prepare(function, g, activation, name, precision, entry)

    able = [row.name for row in TABLE if not row.automatic and refusal(g, row, precision) is None]
    return prepared(fastest_name((g, activation, precision, entry), able, prepared, x, w))


def fastest_name(key: Any, names: Sequence[str], prepared: Callable[[str], Any], x: np.ndarray, w: np.ndarray) -> str:
    """Return the algorithm whose prepared problem was fastest when this key was first met."""
    name = _fastest.get(key)
    if name is None:
        candidates = {n: prepared(n) for n in names}
        name = min(names, key=lambda n: measured_seconds(candidates[n], x, (w,)))
        if len(_fastest) >= _LIMIT:
            _fastest.clear()
        name = _fastest.setdefault(key, name)
    return name
