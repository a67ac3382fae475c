"""CPU beside GPU: times over the batch size, or over the work of a layer, with copies and without."""

from __future__ import annotations

from typing import Any

from fastconv.benchmarks.device import WHO, batches, crossings
from fastconv.testing import problem

__all__ = ["draw"]

_LABELS = {"cuda": "device", "cuda with copies": "device, with copies", "cudnn": "cuDNN", "cpu": "CPU"}
_STYLES = {"cuda": "o-", "cuda with copies": "o--", "cudnn": "^:", "cpu": "s-"}


def draw(found: dict[str, Any], plt: Any) -> Any:
    """Draw the batches of one layer as lines with their crossings, or layers as points over their multiply-adds."""
    records = [record for record in found.get("cuda", ()) if "seconds" in record]
    if not records:
        return None
    figure, panel = plt.subplots(figsize=(7, 5.5))
    is_sweep = batches(records) is not None
    places = [problem(r["problem"]).input_shape[0] if is_sweep else r["macs"] / 1e6 for r in records]
    for who in WHO:
        points = sorted(
            (place, 1e3 * r["seconds"][who]) for place, r in zip(places, records, strict=True) if who in r["seconds"]
        )
        if points:
            style = _STYLES[who] if is_sweep else _STYLES[who][0]
            panel.plot(*zip(*points, strict=True), style, markersize=5, label=_LABELS[who], alpha=0.8)
    for who, place in crossings(records).items():
        if place is not None:
            panel.axvline(place, color="gray", linewidth=0.8)
            where = {"transform": panel.get_xaxis_transform(), "rotation": 90, "va": "top", "fontsize": 7}
            panel.text(place, 0.98, f" {_LABELS[who]}: from {place}", **where)
    name = (found.get("device") or {}).get("name", "a device that is emulated")
    panel.set(
        xscale="log", yscale="log", ylabel="time (ms)", xlabel="batch size" if is_sweep else "multiply-adds (millions)"
    )
    if is_sweep:
        panel.set_xticks(places, [str(place) for place in places], minor=False)
        panel.set_xticks([], minor=True)
    panel.set_title(f"{name} beside {found['machine']['cpu']}", fontsize="medium")
    panel.grid(alpha=0.3)
    panel.legend()
    return figure
