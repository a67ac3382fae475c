"""CPU beside GPU: the time of a layer on the device, with its copies from and to the host, and cuDNN's.

Times on the device are those between two events around calls that are queued without a pause, on inputs that together
do not fit its cache. With copies is the time of a call with NumPy arrays on the host's clock.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.benchmarks import problems, timing
from fastconv.benchmarks.measure import GATE_FACTOR, Record
from fastconv.benchmarks.problems import Layer
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.stats import crossover, geometric_mean, median, quartiles
from fastconv.dispatch import cuda
from fastconv.testing import assert_close, problem, reference

__all__ = ["batches", "crossings", "measure", "table"]

Call = Callable[[], Any]
Clock = Callable[[Call, int], float]

# Of a sample, on the device and on the host.
SECONDS = 20e-3
MOST_INPUTS = 16
# Larger layers are judged by the kernels of the CPU, which tests compare with the reference.
REFERENCE_MACS = 5_000_000
WHO = ("cuda", "cuda with copies", "cudnn", "cpu")
HEADER = ("layer", "problem", *WHO, "beside cudnn", "beside cpu", "with copies beside cpu", "GFLOP/s", "of peak")


def measure(
    layers: Sequence[Layer],
    progress: Callable[[list[Any]], Iterable[Any]],
    repeats: int,
    with_cpu: bool = True,
) -> dict[str, Any]:
    """Return records of layers, in types that JSON has, or why there are none.

    Parameters
    ----------
    layers : sequence of Layer
    progress : callable
        Shows how far a list is done.
    repeats : int
        Samples, of which the median counts.
    with_cpu : bool
        Measure the CPU too, with the threads of `fastconv.threads`.
    """
    missing = cuda.missing()
    if missing is not None:
        return {"cuda": [], "device": None, "missing": missing}
    devices = fc.devices()["cuda"]
    found = devices[0] if devices else None
    records = [_measured(layer, repeats, with_cpu, found or {}) for layer in progress(list(layers))]
    return {"cuda": records, "device": found, "missing": None}


def table(found: dict[str, Any]) -> tuple[Table, list[str]]:
    """Return the rows, and lines with the means."""
    if found["missing"] is not None:
        return [], [f"no times on a CUDA device: {found['missing']}"]
    rows: Table = [HEADER]
    ratios: dict[str, list[float]] = {"cudnn": [], "cpu": []}
    for record in found["cuda"]:
        seconds = record.get("seconds")
        if seconds is None:
            rows.append((record["name"], record["problem"], "WRONG", *[""] * (len(HEADER) - 3)))
            continue
        for who, values in ratios.items():
            if who in seconds:
                values.append(seconds[who] / seconds["cuda"])
        rows.append(_row(record, seconds))
    name = (found["device"] or {}).get("name", "a device that is emulated")
    lines = [
        f"{name} beside {who}: geometric mean {geometric_mean(values):.2f}, worst {min(values):.2f}"
        for who, values in ratios.items()
        if values
    ]
    lines += _crossing_lines(found["cuda"])
    lines += [f"WRONG RESULT: {r['name']}: {r['gate']}" for r in found["cuda"] if r["gate"] != "green"]
    return rows, lines or [f"{name}, alone"]


def batches(records: Sequence[Record]) -> list[int] | None:
    """Return the batch sizes if the records are one layer in batches of growing size, else None."""
    problems_of = [problem(record["problem"]) for record in records]
    layers = {(p.input_shape[1:], p.weight_shape, repr(p.keywords), p.dtype) for p in problems_of}
    sizes = [p.input_shape[0] for p in problems_of]
    return sizes if len(layers) == 1 and len(sizes) > 1 and sizes == sorted(set(sizes)) else None


def crossings(records: Sequence[Record]) -> dict[str, int | None]:
    """Return from which batch size on the device is faster than the CPU, without copies and with; None: for none."""
    timed = [r for r in records if "cpu" in r.get("seconds", {})]
    sizes = batches(timed)
    if sizes is None:
        return {}
    times = {who: [r["seconds"][who] for r in timed] for who in ("cpu", "cuda", "cuda with copies")}
    found = {who: crossover(sizes, times["cpu"], times[who]) for who in ("cuda", "cuda with copies")}
    return {who: None if place is None else int(place) for who, place in found.items()}


def _crossing_lines(records: Sequence[Record]) -> list[str]:
    said = {"cuda": "without copies", "cuda with copies": "with copies"}
    return [
        f"{said[who]} the device is faster than the CPU "
        + ("for no batch size measured" if place is None else f"from a batch of {place} on")
        for who, place in crossings(records).items()
    ]


def _row(record: Record, seconds: dict[str, float]) -> tuple[str, ...]:
    def ratio(above: str, below: str) -> str:
        return f"{seconds[above] / seconds[below]:.2f}" if above in seconds and below in seconds else ""

    share = record["peak_share"]
    return (
        record["name"],
        record["problem"],
        *(time_text(seconds.get(who)) for who in WHO),
        ratio("cudnn", "cuda"),
        ratio("cpu", "cuda"),
        ratio("cpu", "cuda with copies"),
        f"{record['gflops']:.1f}",
        "" if share is None else f"{share:.0%}",
    )


def _measured(layer: Layer, repeats: int, with_cpu: bool, device: dict[str, Any]) -> Record:
    x, weight = problems.draw(layer)
    keywords, convolve = layer.keywords, layer.function
    macs = fc.count_ops(convolve, x, weight, **keywords).macs
    record: Record = {"name": layer.name, "problem": layer.text, "macs": macs, "gate": "green"}
    expected = (
        reference(x, weight, **layer.problem.keywords)
        if macs <= REFERENCE_MACS
        else convolve(x, weight, **keywords, device="cpu", precision="strict")
    )
    try:
        result = convolve(x, weight, **keywords, device="cuda")
        assert_close(result, expected, terms=math.prod(weight.shape[1:]), factor=GATE_FACTOR)
    except AssertionError as error:
        return record | {"gate": str(error)}
    runtime = cuda.kernels("runtime:current")()
    calls: dict[str, tuple[Clock, Call]] = {
        "cuda": (runtime.seconds, _on_device(layer, x, weight, runtime, device)),
        "cuda with copies": (timing.sample, lambda: convolve(x, weight, **keywords, device="cuda")),
    }
    if (cudnn := _cudnn(layer, x, weight, device)) is not None:
        calls["cudnn"] = (runtime.seconds, cudnn)
    if with_cpu:
        calls["cpu"] = (timing.sample, lambda: convolve(x, weight, **keywords, device="cpu"))
    samples = {who: _samples(clock, call, repeats) for who, (clock, call) in calls.items()}
    seconds = {who: median(values) for who, values in samples.items()}
    spread = {who: quartiles(values) for who, values in samples.items()}
    gflops = 2 * macs / seconds["cuda"] / 1e9
    peak = device.get("peak_gflops")
    share = None if peak is None else gflops / peak
    measured = {"samples": samples, "seconds": seconds, "quartiles": spread, "threads": fc.get_num_threads()}
    return record | measured | {"gflops": gflops, "peak_share": share}


def _samples(clock: Clock, call: Call, repeats: int) -> list[float]:
    clock(call, 1)
    loops = max(1, math.ceil(SECONDS / clock(call, 1)))
    return [clock(call, loops) for _ in range(repeats)]


def _copies(x: np.ndarray, device: dict[str, Any]) -> int:
    """Return how many inputs do not fit the device's cache twice."""
    return min(MOST_INPUTS, 1 + 2 * device.get("l2_bytes", 0) // max(x.nbytes, 1))


def _on_device(layer: Layer, x: np.ndarray, weight: np.ndarray, runtime: Any, device: dict[str, Any]) -> Call:
    inputs = itertools.cycle([runtime.to_device(x, 0) for _ in range(_copies(x, device))])
    w, keywords, convolve = runtime.to_device(weight, 0), layer.keywords, layer.function
    return lambda: convolve(next(inputs), w, **keywords)


def _cudnn(layer: Layer, x: np.ndarray, weight: np.ndarray, device: dict[str, Any]) -> Call | None:
    """Return PyTorch's call on the same device in float32 proper, or None where it has none, or other padding."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    k = layer.problem.keywords
    if not torch.cuda.is_available() or any(before != after or before < 0 for before, after in k["padding"]):
        return None
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    last = k["layout"] == "channels_last"
    tensors = [torch.from_numpy(x).cuda() for _ in range(_copies(x, device))]
    inputs = itertools.cycle([tensor.movedim(-1, 1) if last else tensor for tensor in tensors])
    w = torch.from_numpy(weight).cuda()
    if last and layer.problem.axes == 2:
        w = w.contiguous(memory_format=torch.channels_last)
    convolve = getattr(torch.nn.functional, f"conv{layer.problem.axes}d")
    padding = tuple(before for before, _ in k["padding"])

    def call() -> Any:
        with torch.no_grad():
            return convolve(next(inputs), w, None, k["stride"], padding, k["dilation"], k["groups"])

    return call
