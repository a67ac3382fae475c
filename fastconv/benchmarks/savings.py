"""What each algorithm saves: operations counted, time predicted and time measured, each beside direct summation.

Both sides of a case compute the same numbers. What factors a kernel (separable, depthwise-separable) or spreads its
taps (dilated) is compared with the dense kernel that it stands for; Winograd and Fourier transforms with direct sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.benchmarks.case import Call, draw
from fastconv.benchmarks.measure import GATE_FACTOR, Record
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.stats import geometric_mean, median, quartiles
from fastconv.benchmarks.timing import interleave
from fastconv.dispatch.cost import OpCount
from fastconv.errors import UnsupportedError
from fastconv.testing import assert_close

__all__ = ["METHODS", "Saving", "measure", "table"]

# The dense convolution by direct summation, the method, and the dense convolution as `algorithm="auto"` computes it.
DENSE, METHOD, DEFAULT = "direct", "method", "default"

KERNELS = (5, 9, 15, 31)
LARGE_KERNELS = (15, 31, 63)
# Of MobileNet-v1: channels, size, output channels.
BLOCKS = ((32, 112, 64), (128, 56, 128), (512, 14, 512))
# Of ResNet-50: channels, size.
BODIES = ((64, 56), (128, 28), (256, 14), (512, 7))
DILATIONS = (2, 4, 8)
IMAGE = 512

_HEADER = (
    "method", "problem", "threads", "multiplications", "direct", "fewer", "predicted", "measured",
    "time", "direct sums", "default choice", "is", "beside it",
)  # fmt: skip


class Side(NamedTuple):
    """A way to compute something: operations, the time that the planner expects on one thread, and the call."""

    ops: OpCount
    predicted: float
    call: Call


class Saving(NamedTuple):
    """A method on a problem. `dense` is the arguments of the convolution that it is compared with."""

    method: str
    problem: str
    saver: Side
    dense: tuple[np.ndarray, np.ndarray, dict[str, Any]]


def _side(x: np.ndarray, weight: np.ndarray, algorithm: str, **keywords: Any) -> Side:
    """Return a convolution by an algorithm."""
    lines = fc.explain(fc.conv2d, x.shape, weight.shape, **keywords).lines
    predicted = next(line.predicted for line in lines if line.algorithm == algorithm)
    if predicted is None:
        raise UnsupportedError(f"savings: {algorithm} cannot convolve {x.shape} with {weight.shape}")
    ops = fc.count_ops(fc.conv2d, x.shape, weight.shape, algorithm=algorithm, **keywords)
    return Side(ops, predicted, lambda: fc.conv2d(x, weight, algorithm=algorithm, **keywords))


def _separable() -> Iterator[Saving]:
    x = draw(1, 1, IMAGE, IMAGE)
    for k in KERNELS:
        bell = np.exp(-0.5 * np.square(np.linspace(-3, 3, k)))
        weight = np.outer(bell, bell)[None, None].astype(np.float32)
        more = {"padding": k // 2}
        saver = _side(x, weight, "separable", **more)
        yield Saving("separable", f"{k}x{k} Gaussian on {IMAGE}x{IMAGE}", saver, (x, weight, more))


def _depthwise_separable() -> Iterator[Saving]:
    for C, size, OC in BLOCKS:
        x, spatial, mixing = draw(1, C, size, size), draw(C, 1, 3, 3), draw(OC, C, 1, 1)
        ops = fc.count_ops(fc.separable_conv2d, x.shape, spatial.shape, mixing.shape, padding=1)
        parts = (
            fc.explain(fc.depthwise_conv2d, x.shape, spatial.shape, padding=1),
            fc.explain(fc.pointwise_conv2d, x.shape, mixing.shape),
        )
        predicted = sum(line.predicted or 0 for part in parts for line in part.lines if line.chosen)

        def call(x: np.ndarray = x, spatial: np.ndarray = spatial, mixing: np.ndarray = mixing) -> Any:
            return fc.separable_conv2d(x, spatial, mixing, padding=1)

        dense = np.ascontiguousarray(mixing * spatial[:, 0])
        what = f"3x3 on {C}x{size}x{size} to {OC}"
        yield Saving("depthwise-separable", what, Side(ops, predicted, call), (x, dense, {"padding": 1}))


def _winograd() -> Iterator[Saving]:
    for C, size in BODIES:
        x, weight = draw(1, C, size, size), draw(C, C, 3, 3)
        saver = _side(x, weight, "winograd", padding=1)
        yield Saving("winograd", f"3x3 on {C}x{size}x{size}", saver, (x, weight, {"padding": 1}))


def _fft() -> Iterator[Saving]:
    x = draw(1, 1, IMAGE, IMAGE)
    for k in LARGE_KERNELS:
        weight, more = draw(1, 1, k, k), {"padding": k // 2}
        yield Saving("fft", f"{k}x{k} on {IMAGE}x{IMAGE}", _side(x, weight, "fft", **more), (x, weight, more))


def _dilated() -> Iterator[Saving]:
    x, weight = draw(1, 64, 56, 56), draw(64, 64, 3, 3)
    for d in DILATIONS:
        k = 2 * d + 1
        dense = np.zeros((64, 64, k, k), np.float32)
        dense[:, :, ::d, ::d] = weight
        saver = _side(x, weight, "direct", padding=d, dilation=d)
        yield Saving("dilated", f"3x3 with dilation {d} for {k}x{k}, 64x56x56", saver, (x, dense, {"padding": d}))


METHODS: dict[str, Callable[[], Iterator[Saving]]] = {
    "separable": _separable,
    "depthwise-separable": _depthwise_separable,
    "winograd": _winograd,
    "fft": _fft,
    "dilated": _dilated,
}


def measure(progress: Callable[[list[Any]], Any], counts: list[int], repeats: int) -> dict[str, Any]:
    """Return a record for each case and number of threads; one whose results differ has no times."""
    cases = [case for method in METHODS.values() for case in method()]
    records = []
    for n, case in progress([(n, case) for n in counts for case in cases]):
        with fc.threads(n):
            records.append(_measured(case, n, repeats))
    return {"suite": "savings", "savings": records}


def _measured(case: Saving, threads: int, repeats: int) -> Record:
    x, weight, keywords = case.dense
    direct = _side(x, weight, "direct", **keywords)
    record: Record = {
        "name": case.method,
        "problem": case.problem,
        "threads": threads,
        "multiplies": {DENSE: direct.ops.multiplies, METHOD: case.saver.ops.multiplies},
        "predicted": {DENSE: direct.predicted, METHOD: case.saver.predicted},
        "default": fc.explain(fc.conv2d, x, weight, **keywords).chosen,
        "gate": "green",
    }
    expected = direct.call()
    try:
        assert_close(case.saver.call(), expected, terms=math.prod(weight.shape[1:]), factor=GATE_FACTOR)
    except AssertionError as error:
        return record | {"gate": str(error)}
    calls = {DENSE: direct.call, METHOD: case.saver.call, DEFAULT: lambda: fc.conv2d(x, weight, **keywords)}
    samples = {who: found.seconds for who, found in interleave(calls, repeats).items()}
    return record | {
        "samples": samples,
        "seconds": {who: median(each) for who, each in samples.items()},
        "quartiles": {who: quartiles(each) for who, each in samples.items()},
    }


def ratios(record: Record) -> dict[str, float]:
    """Return how many times fewer multiplications, and how many times less time by the model and by the clock."""
    pairs = {"fewer": "multiplies", "predicted": "predicted", "measured": "seconds"}
    return {name: record[key][DENSE] / record[key][METHOD] for name, key in pairs.items() if key in record}


def table(found: dict[str, Any]) -> tuple[Table, list[str]]:
    """Return the table, and the lines that sum it up."""
    rows: Table = [_HEADER]
    groups: dict[tuple[int, str], list[dict[str, float]]] = {}
    for record in found["savings"]:
        head = (record["name"], record["problem"], str(record["threads"]))
        counts = tuple(f"{record['multiplies'][who]:,}" for who in (METHOD, DENSE))
        if record["gate"] != "green":
            rows.append((*head, *counts, *[""] * 2, "WRONG", *[""] * 5))
            continue
        each, seconds = ratios(record), record["seconds"]
        groups.setdefault((record["threads"], record["name"]), []).append(each)
        times = (time_text(seconds[who]) for who in (METHOD, DENSE, DEFAULT))
        beside = f"{seconds[DEFAULT] / seconds[METHOD]:.2f}"
        rows.append((*head, *counts, *(f"{ratio:.3g}x" for ratio in each.values()), *times, record["default"], beside))
    lines = []
    for (threads, method), values in groups.items():
        mean = {name: geometric_mean(value[name] for value in values) for name in values[0]}
        lines.append(
            f"{threads} thread(s), {method}: {mean['fewer']:.3g} times fewer multiplications than direct summation, "
            f"{mean['measured']:.3g} times faster (predicted {mean['predicted']:.3g}; geometric means)"
        )
    lines += [
        f"WRONG RESULT: {r['name']}, {r['problem']}: {r['gate']}" for r in found["savings"] if r["gate"] != "green"
    ]
    return rows, lines
