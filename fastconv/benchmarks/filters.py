"""`fastconv.signal.correlate2d` beside SciPy's, over sizes, kernels, dtypes and boundaries.

SciPy's time for a large kernel grows with the image and takes minutes: above `WHOLE_TAPS` it is measured on a corner of
`CORNER` x `CORNER` pixels and multiplied by how many of these the image has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.stats import geometric_mean, median
from fastconv.benchmarks.timing import interleave

__all__ = ["measure", "table"]

DTYPES = ("float32", "float64", "uint8")
SIZES = (512, 2048)
KERNELS = (3, 5, 9, 15, 31, 63)
BOUNDARIES = ("fill", "wrap", "symm")
WHOLE_TAPS = 9
CORNER = 256


def measure(progress: Callable[[list[Any]], Any], threads: int, repeats: int) -> dict[str, Any]:
    """Return a record for each problem; one whose result differs from SciPy's has no times."""
    problems = list(itertools.product(DTYPES, SIZES, KERNELS, BOUNDARIES))
    with fc.threads(threads):
        return {"threads": threads, "filters": [_measured(d, n, k, b, repeats) for d, n, k, b in progress(problems)]}


def _measured(dtype: str, n: int, k: int, boundary: str, repeats: int) -> dict[str, Any]:
    from scipy.signal import correlate2d

    from fastconv import signal

    rng = np.random.default_rng(0)
    draw: Callable[..., Any] = rng.integers if dtype == "uint8" else rng.standard_normal
    image, kernel = (draw(*((0, 256) if dtype == "uint8" else ()), size=(m, m)).astype(dtype) for m in (n, k))
    size = n if k <= WHOLE_TAPS else CORNER
    corner = np.ascontiguousarray(image[:size, :size])
    record: dict[str, Any] = {"dtype": dtype, "size": n, "kernel": k, "boundary": boundary}
    got, expected = (f(corner, kernel, "same", boundary) for f in (signal.correlate2d, correlate2d))
    allowed = 0.0 if dtype == "uint8" else 8 * k * float(np.finfo(dtype).eps) * float(np.abs(expected).max())
    if np.abs(got.astype(np.float64) - expected).max() > allowed:
        return record | {"seconds": None}
    calls = {
        "fastconv": lambda: signal.correlate2d(image, kernel, "same", boundary),
        "scipy": lambda: correlate2d(corner, kernel, "same", boundary),
    }
    seconds = {name: median(samples.seconds) for name, samples in interleave(calls, repeats).items()}
    seconds["scipy"] *= (n / size) ** 2
    return record | {"seconds": seconds}


def table(found: dict[str, Any]) -> tuple[Table, list[str]]:
    """Return the table, and the lines that sum it up."""
    rows: Table = [("dtype", "image", "kernel", "boundary", "fastconv", "scipy", "ratio")]
    ratios: dict[str, list[float]] = {}
    for record in found["filters"]:
        n, k, seconds = record["size"], record["kernel"], record["seconds"]
        head = (record["dtype"], f"{n}x{n}", f"{k}x{k}", record["boundary"])
        if seconds is None:
            rows.append((*head, "WRONG", "", ""))
            continue
        ratio = seconds["scipy"] / seconds["fastconv"]
        ratios.setdefault(record["dtype"], []).append(ratio)
        rows.append((*head, time_text(seconds["fastconv"]), time_text(seconds["scipy"]), f"{ratio:.1f}"))
    everything = [ratio for each in ratios.values() for ratio in each]
    if not everything:
        return rows, ["no result was right"]
    lines = [f"{dtype}: geometric mean {geometric_mean(each):.1f}" for dtype, each in ratios.items()]
    total = f"{found['threads']} thread(s) beside SciPy: geometric mean {geometric_mean(everything):.1f}"
    return rows, [*lines, f"{total}, worst {min(everything):.1f} of {len(found['filters'])}"]
