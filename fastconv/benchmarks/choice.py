"""How good the default choice of algorithm is: on drawn problems, beside the best algorithm for each.

Every algorithm that "auto" may choose is timed once, then the three fastest, and the chosen one, in turns. The share of
problems on which the chosen one takes at most 15 % longer than the best is the figure; its target is 90 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.stats import geometric_mean, median
from fastconv.benchmarks.timing import interleave, sample
from fastconv.dispatch.choose import candidates, choose
from fastconv.dispatch.plan import prepare
from fastconv.geometry.conv import ConvGeometry, conv_geometry, input_shape, weight_shape
from fastconv.testing import problem

__all__ = ["COUNT", "drawn", "measure", "table"]

COUNT, ROUNDS, FINALISTS = 200, 9, 3
SLOWER, TARGET = 1.15, 0.9

# Multiply-accumulates by direct summation between which problems are drawn.
_LEAST, _MOST = 3e4, 4e8
# Of the largest output, what algorithms that are not exact may be wrong by.
_ERROR = 3e-5


def drawn(count: int, seed: int) -> list[tuple[ConvGeometry, str]]:
    """Return problems and who asks, a call or a plan: sizes as networks have them, evenly on a logarithmic scale."""
    rng = np.random.default_rng(seed)
    found: list[tuple[ConvGeometry, str]] = []
    while len(found) < count:
        p = problem(_text(rng))
        g = conv_geometry("bench", p.axes, p.input_shape, p.weight_shape, **p.keywords, dtype=p.dtype)
        if _LEAST <= g.macs <= _MOST:
            found.append((g, str(rng.choice(["call", "plan"]))))
    return found


def _text(rng: np.random.Generator) -> str:
    """Draw a problem in the notation of `fastconv.testing.problem`."""

    def size(low: float, high: float) -> int:
        return round(math.exp(rng.uniform(math.log(low), math.log(high))))

    axes = int(rng.choice([1, 2, 2, 2, 2, 2, 3]))
    k, s, d = int(rng.choice([1, 1, 3, 3, 3, 5, 7])), int(rng.choice([1, 1, 1, 2])), int(rng.choice([1, 1, 1, 1, 2]))
    n = [size(*{1: (64, 8192), 2: (5, 256), 3: (4, 40)}[axes]) for _ in range(axes)]
    if rng.random() < 0.7:
        n = [n[0]] * axes
    ic, oc, groups = size(1, 512), size(1, 512), 1
    kind = rng.choice(["dense", "dense", "dense", "image", "depthwise", "grouped"])
    if kind == "image":
        ic, oc = int(rng.choice([1, 3])), size(1, 64)
    elif kind == "depthwise":
        groups = oc = ic
    elif kind == "grouped":
        groups = int(rng.choice([2, 4, 8, 32]))
        ic, oc = (groups * max(1, c // groups) for c in (ic, oc))
    spatial = "".join(f"{axis}{m}" for axis, m in zip("dhw"[-axes:], n, strict=True))
    text = f"n{size(1, 4)}ic{ic}{spatial}_oc{oc}k{k}s{s}p{d * (k // 2)}"
    text += (f"d{d}" if d > 1 else "") + (f"g{groups}" if groups > 1 else "")
    return text + ("_nhwc" if rng.random() < 0.4 else "")


def measure(progress: Callable[[list[Any]], Any], count: int, seed: int) -> dict[str, Any]:
    """Return a record for each of `count` problems drawn with a seed; on one thread, as the model counts."""
    with fc.threads(1):
        records = [_measured(g, entry) for g, entry in progress(drawn(count, seed))]
    return {"seed": seed, "choices": records}


def _measured(g: ConvGeometry, entry: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(g.dtype) for shape in (input_shape(g), weight_shape(g)))
    names = [c.row.name for c in candidates(g, "default", entry)]
    chosen = choose("bench", g, "auto", "default", entry).row.name
    calls, outs = {}, {}
    for name in names:
        calls[name], outs[name] = _call(g, name, entry, x, w)
        calls[name]()
    record = {"problem": g.problem, "entry": entry, "chosen": chosen, "seconds": {}}
    allowed = _ERROR * float(np.abs(outs["direct"]).max())
    for name, out in outs.items():
        if not (error := float(np.abs(out - outs["direct"]).max())) <= allowed:
            return record | {"wrong": f"{name} differs from direct by {error:.3g}, allowed {allowed:.3g}"}
    once = {name: sample(call, 1) for name, call in calls.items()}
    finalists = dict.fromkeys([*sorted(names, key=lambda name: once[name])[:FINALISTS], chosen])
    found = interleave({name: calls[name] for name in finalists}, ROUNDS)
    every = {name: samples.seconds for name, samples in found.items()}
    return record | {"seconds": {name: median(times) for name, times in every.items()}, "samples": every}


def _call(
    g: ConvGeometry, name: str, entry: str, x: np.ndarray, w: np.ndarray
) -> tuple[Callable[[], None], np.ndarray]:
    """Return what an entry point makes the kernels of an algorithm do, and where the result stands then."""
    prepared = prepare("bench", g, None, name, "default", entry)
    out = np.empty(prepared.out_shape, prepared.dtype)
    if entry == "plan":
        packed = prepared.pack((w,))
        return lambda: prepared.run(x, packed, None, None, out), out
    return lambda: prepared.run_once(x, (w,), None, None, out), out


def table(found: dict[str, Any], worst: int = 10) -> tuple[Table, list[str]]:
    """Return the problems on which the choice costs most, and the lines that sum all up."""
    right = [record for record in found["choices"] if record["seconds"]]
    rows: Table = [("problem", "entry", "chosen", "its time", "best", "its time", "slower")]
    losses = {id(record): _loss(record) for record in right}
    for record in sorted(right, key=lambda r: -losses[id(r)])[:worst]:
        seconds, chosen, best = record["seconds"], record["chosen"], _best(record)
        times = time_text(seconds[chosen]), time_text(seconds[best])
        loss = f"{losses[id(record)]:.2f}"
        rows.append((record["problem"], record["entry"], chosen, times[0], best, times[1], loss))
    wrong = [f"WRONG RESULT: {r['problem']}: {r['wrong']}" for r in found["choices"] if "wrong" in r]
    if not right:
        return rows, ["no result was right", *wrong]
    good = sum(loss <= SLOWER for loss in losses.values())
    wins = Counter(_best(record) for record in right)
    lines = [
        f"{good / len(right):.1%} of {len(right)} drawn problems (seed {found['seed']}) at most "
        f"{SLOWER - 1:.0%} slower than the best algorithm; target {TARGET:.0%}",
        f"geometric mean {geometric_mean(losses.values()):.3f}, worst {max(losses.values()):.2f}",
        "best: " + ", ".join(f"{name} {n}" for name, n in wins.most_common()),
    ]
    return rows, [*lines, *wrong]


def _best(record: dict[str, Any]) -> str:
    seconds = record["seconds"]
    return min(seconds, key=lambda name: seconds[name])


def _loss(record: dict[str, Any]) -> float:
    return float(record["seconds"][record["chosen"]] / record["seconds"][_best(record)])
