"""Operations saved against time saved, predicted beside measured."""

from __future__ import annotations

from typing import Any

from fastconv.benchmarks.savings import METHODS, ratios

__all__ = ["draw"]


def draw(found: dict[str, Any], plt: Any) -> Any:
    """Draw a panel for each number of threads: the nearer to the diagonal, the more of what is saved is time."""
    records = [record for record in found.get("savings", ()) if record["gate"] == "green"]
    counts = sorted({record["threads"] for record in records})
    if not counts:
        return None
    figure, panels = plt.subplots(1, len(counts), figsize=(6.5 * len(counts), 6), squeeze=False)
    for panel, threads in zip(panels[0], counts, strict=True):
        _fill(panel, [record for record in records if record["threads"] == threads])
        panel.set_title(f"saved, beside direct summation; {threads} thread{'s' if threads > 1 else ''}")
    return figure


def _fill(panel: Any, records: list[dict[str, Any]]) -> None:
    every: list[float] = []
    for method in METHODS:
        found = [ratios(record) for record in records if record["name"] == method]
        if not found:
            continue
        fewer, predicted, measured = ([each[name] for each in found] for name in ("fewer", "predicted", "measured"))
        (line,) = panel.plot(fewer, measured, "o", label=method, zorder=3)
        panel.plot(fewer, predicted, "o", color=line.get_color(), markerfacecolor="none", zorder=2)
        panel.vlines(fewer, predicted, measured, color=line.get_color(), linewidth=0.8, alpha=0.5)
        every += [*fewer, *predicted, *measured]
    ends = [min(every) / 1.3, max(every) * 1.3]
    panel.plot(ends, ends, color="gray", linewidth=1)
    panel.axhline(1, color="gray", linewidth=0.5)
    panel.plot([], [], "o", color="gray", label="measured")
    panel.plot([], [], "o", color="gray", markerfacecolor="none", label="predicted")
    panel.set(xscale="log", yscale="log", xlabel="times fewer multiplications", ylabel="times faster")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
