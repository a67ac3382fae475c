"""Results as a picture: time against the arithmetic floor, ours beside the peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastconv.benchmarks.measure import OURS

__all__ = ["draw"]

# What is ours is drawn above the others.
_MARKS = {"plan": "o", "call": ".", "torch": "^", "onnxruntime": "s", "openvino": "D"}


def draw(found: dict[str, Any], path: str) -> None:
    """Write a picture of a result of `fastconv bench`: one panel for each number of threads.

    The floor of a layer is the time of its multiply-adds, counted as in direct summation, at the measured peak of the
    cores. Below it lie algorithms that save multiplications, or use a unit beside the vectors.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = [record for record in found["results"] if record["gate"] == "green"]
    counts = sorted({record["threads"] for record in records})
    figure, panels = plt.subplots(1, len(counts), figsize=(6 * len(counts), 5.5), squeeze=False)
    for panel, threads in zip(panels[0], counts, strict=True):
        _panel(panel, [r for r in records if r["threads"] == threads], found["peak_gflops"] * threads)
        panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}")
    figure.tight_layout()
    figure.savefig(Path(path), metadata={"Date": None} if str(path).endswith(".svg") else None)
    plt.close(figure)


def _panel(panel: Any, records: list[dict[str, Any]], gflops: float) -> None:
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
    panel.grid(alpha=0.3)
    panel.legend()
