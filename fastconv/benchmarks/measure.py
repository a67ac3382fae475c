"""One layer on so many threads: checked first, then timed in turns with its rivals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.benchmarks import problems, timing
from fastconv.benchmarks.problems import Layer
from fastconv.benchmarks.rivals import Rival
from fastconv.benchmarks.stats import median, quartiles
from fastconv.errors import UnsupportedError
from fastconv.testing import assert_close, reference

__all__ = ["OURS", "Record", "measure"]

Record = dict[str, Any]

# What is ours: the plain call and the call of a plan. The other entrants are rivals.
OURS = ("call", "plan")

# A probed layer is bound by arithmetic and long against the probe.
PROBED_MACS = 20_000_000
PROBED_ALGORITHMS = ("direct", "im2col", "pointwise", "winograd", "bf16x3")

# Rounding of two libraries at once, one of which may have used Winograd or a Fourier transform.
GATE_FACTOR = 32.0


def measure(layer: Layer, rivals: Sequence[Rival], threads: int, repeats: int, with_plan: bool = True) -> Record:
    """Return the record of a layer, in types that JSON has; without times if the gate is red.

    Parameters
    ----------
    layer : Layer
    rivals : sequence of Rival
        Those that refuse the layer are left out, with their reason in the record.
    threads, repeats : int
    with_plan : bool
        Measure the call of a plan too.
    """
    with fc.threads(threads):
        return _measured(layer, rivals, threads, repeats, with_plan)


def _measured(layer: Layer, rivals: Sequence[Rival], threads: int, repeats: int, with_plan: bool) -> Record:
    problem, arrays = layer.problem, problems.draw(layer)
    x, weight = arrays
    keywords, convolve = layer.keywords, layer.function
    calls: dict[str, Callable[[], Any]] = {"call": lambda: convolve(x, weight, **keywords)}
    if with_plan and problem.axes == 2:
        plan = fc.plan_conv2d(problem.input_shape, weight, **keywords, dtype=problem.dtype)
        calls["plan"] = lambda: plan(x)
    others, skipped = _rival_calls(layer, rivals, arrays, threads)
    explanation = fc.explain(convolve, x, weight, **keywords)
    explained, algorithm = explanation.to_dict(), explanation.chosen
    direct = explained["direct"]
    taken = next(line["ops"] for line in explained["algorithms"] if line["algorithm"] == algorithm)
    record: Record = {
        "name": layer.name,
        "problem": layer.text,
        "threads": threads,
        "float32": problem.dtype == "float32",
        "algorithm": algorithm,
        "macs": direct["macs"],
        "saved": direct["multiplies"] / taken["multiplies"],
        "bytes": direct["bytes_read"] + direct["bytes_written"],
        "skipped": skipped,
        "gate": _gate(layer, calls, others, rivals, arrays),
    }
    if record["gate"] == "green":
        record |= _times(calls | others, record, threads, repeats)
    return record


def _rival_calls(
    layer: Layer, rivals: Sequence[Rival], arrays: tuple[np.ndarray, np.ndarray], threads: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Return the calls of the rivals that can do the layer, and the reasons of the others."""
    calls, skipped = {}, {}
    for rival in rivals:
        reason = rival.refusal(layer)
        if reason is None:
            try:
                calls[rival.name] = rival.make(layer, arrays, threads)
            except UnsupportedError as error:
                reason = str(error)
        if reason is not None:
            skipped[rival.name] = reason
    return calls, skipped


def _gate(
    layer: Layer,
    calls: Mapping[str, Callable[[], Any]],
    others: Mapping[str, Callable[[], Any]],
    rivals: Sequence[Rival],
    arrays: tuple[np.ndarray, np.ndarray],
) -> str:
    """Return "green" if all results agree, else what differs. Without another library the reference decides."""
    judges = [rival.name for rival in rivals if rival.name in others and rival.independent]
    if judges:
        expected = np.asarray(others[judges[0]]())
        expected = expected.astype(np.result_type(expected, np.float64)) if expected.dtype.kind in "fc" else expected
    else:
        expected = reference(*arrays, **layer.problem.keywords)
    compared = {**calls, **{name: call for name, call in others.items() if name in judges[1:]}}
    compared |= {name: call for name, call in others.items() if name.startswith("fastconv-")}
    for name, call in compared.items():
        try:
            result = np.asarray(call())
            assert_close(result, expected, terms=math.prod(arrays[1].shape[1:]), factor=GATE_FACTOR)
        except AssertionError as error:
            return f"{name}: {error}"
    return "green"


def _times(calls: Mapping[str, Callable[[], Any]], record: Record, threads: int, repeats: int) -> Record:
    probed: tuple[str, ...] = ()
    probe: Callable[[], float] | None = None
    if record["macs"] >= PROBED_MACS and record["algorithm"] in PROBED_ALGORITHMS and record["float32"]:
        # Imports a compiler, which only benchmarks that need it should.
        from fastconv.benchmarks import peak

        probe = peak.gflops
        probed = tuple(name for name in calls if name in OURS)
    found = timing.interleave(calls, repeats, probe, probed)
    seconds = {name: median(samples.seconds) for name, samples in found.items()}
    flop = 2 * record["macs"]
    rivals = [name for name in found if name not in OURS]
    return {
        "samples": {name: samples.seconds for name, samples in found.items()},
        "loops": {name: samples.loops for name, samples in found.items()},
        "seconds": seconds,
        "quartiles": {name: quartiles(samples.seconds) for name, samples in found.items()},
        "gflops": {name: flop / s / 1e9 for name, s in seconds.items() if name != "copy"},
        "gbytes": {name: record["bytes"] / s / 1e9 for name, s in seconds.items()},
        "ratios": {rival: {own: seconds[rival] / seconds[own] for own in OURS if own in found} for rival in rivals},
        "peak_share": {name: _peak_share(found[name], flop, threads) for name in probed},
    }


def _peak_share(samples: timing.Samples, flop: int, threads: int) -> float | None:
    """Return the median share of the peak of so many cores, each as fast as the one that was probed beside it."""
    shares = [flop / s / 1e9 / (p * threads) for s, p in zip(samples.seconds, samples.probes, strict=True)]
    return None if any(math.isnan(share) for share in shares) else median(shares)
