"""Layers as pictures: time against the arithmetic floor, and speed under the roofline of the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv.benchmarks.measure import OURS

__all__ = ["floor", "roofline"]

# What is ours is drawn above the others.
_MARKS = {"plan": "o", "call": ".", "torch": "^", "onnxruntime": "s", "openvino": "D"}


def _panels(found: dict[str, Any], plt: Any, fill: Callable[[Any, list[dict[str, Any]], int], None]) -> Any:
    """Return a figure with a panel for each number of threads, or None without records."""
    records = [record for record in found.get("results", ()) if record["gate"] == "green"]
    counts = sorted({record["threads"] for record in records})
    if not counts or "peak_gflops" not in found:
        return None
    figure, panels = plt.subplots(1, len(counts), figsize=(6 * len(counts), 5.5), squeeze=False)
    for panel, threads in zip(panels[0], counts, strict=True):
        fill(panel, [r for r in records if r["threads"] == threads], threads)
        panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}")
        panel.grid(alpha=0.3)
    return figure


def floor(found: dict[str, Any], plt: Any) -> Any:
    """Draw times against the floor: the multiply-adds, counted as in direct summation, at the peak of the cores.

    Below it lie algorithms that save multiplications, or use a unit beside the vectors.
    """

    def fill(panel: Any, records: list[dict[str, Any]], threads: int) -> None:
        gflops = found["peak_gflops"] * threads
        floors = {record["name"]: 2e3 * record["macs"] / (gflops * 1e9) for record in records}
        for who, mark in _MARKS.items():
            points = [(floors[r["name"]], 1e3 * r["seconds"][who]) for r in records if who in r["seconds"]]
            if points:
                own = who in OURS
                x, y = zip(*points, strict=True)
                label = f"fastconv, {who}" if own else who
                panel.plot(x, y, mark, label=label, alpha=0.9 if own else 0.5, zorder=3 if own else 2)
        ends = [min(floors.values()), max(floors.values())]
        panel.plot(ends, ends, color="gray", linewidth=1, label=f"floor: {gflops:.0f} GFLOP/s")
        panel.set(xscale="log", yscale="log", xlabel="time of the multiply-adds at the peak (ms)", ylabel="time (ms)")
        panel.legend()

    return _panels(found, plt, fill)


def roofline(found: dict[str, Any], plt: Any) -> Any:
    """Draw the speed in operations of direct summation against how many there are for each byte that must move.

    The roof is the peak of the cores, and left of it what second-level cache and memory give, as one core reads them,
    times the cores. S. Williams et al., 2009, doi:10.1145/1498765.1498785.
    """

    def fill(panel: Any, records: list[dict[str, Any]], threads: int) -> None:
        intensity = {record["name"]: 2 * record["macs"] / record["bytes"] for record in records}
        peak = found["peak_gflops"] * threads
        low, high = min(intensity.values()) / 2, max(intensity.values()) * 2
        panel.plot([low, high], [peak, peak], color="black", linewidth=1, label=f"peak: {peak:.0f} GFLOP/s")
        for name, style in (("l2", ":"), ("memory", "--")):
            if name in found.get("read_gbytes", {}):
                rate = found["read_gbytes"][name] * threads
                ends = [low, max(low, min(high, peak / rate))]
                label = f"{'L2' if name == 'l2' else name}: {rate:.0f} GB/s"
                panel.plot(ends, [rate * x for x in ends], style, color="black", linewidth=1, label=label)
        for algorithm in sorted({record["algorithm"] for record in records}):
            some = [record for record in records if record["algorithm"] == algorithm]
            best = [max(r["gflops"][who] for who in OURS if who in r["gflops"]) for r in some]
            panel.plot([intensity[r["name"]] for r in some], best, "o", alpha=0.8, label=algorithm)
        panel.set(xscale="log", yscale="log", xlabel="operations a byte (FLOP/B)", ylabel="operations (GFLOP/s)")
        panel.legend(fontsize="small")

    return _panels(found, plt, fill)
