"""Time against the size of a kernel, and where direct sums, two passes and Fourier transforms overtake each other."""

from __future__ import annotations

from typing import Any

from fastconv.benchmarks.stats import crossover

__all__ = ["crossings", "draw", "is_one"]

_FAMILY = "kernel-size."
# Direct sums have two kernels, of which the faster one counts.
DIRECT, SEPARABLE, FFT = ("fastconv-direct", "fastconv-depthwise"), ("fastconv-separable",), ("fastconv-fft",)
_WORDS = {DIRECT: "direct summation", SEPARABLE: "separable summation", FFT: "an FFT"}
_STYLES = {"call": "k--", "opencv": ":", "opencv-separable": ":", "scipy": ":", "torch": ":"}


def is_one(name: str) -> bool:
    """Return whether a layer is of the suite `kernel-size`."""
    return name.startswith(_FAMILY)


def _records(found: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    return [
        record
        for record in found.get("results", ())
        if is_one(record["name"]) and record["gate"] == "green" and record["threads"] == threads
    ]


def _size(record: dict[str, Any]) -> int:
    return int(record["name"].rpartition("x")[2])


def _counts(found: dict[str, Any]) -> list[int]:
    return sorted({record["threads"] for record in found.get("results", ())})


def crossings(found: dict[str, Any], threads: int) -> list[tuple[str, str, float | None]]:
    """Return (before, after, size): from this size on the one after is the faster one; None: up to the largest not."""
    records = [r for r in _records(found, threads) if {*SEPARABLE, *FFT} < set(r["seconds"])]
    times = {
        ways: [min(r["seconds"][who] for who in ways if who in r["seconds"]) for r in records]
        for ways in (DIRECT, SEPARABLE, FFT)
        if all(set(ways) & set(r["seconds"]) for r in records)
    }
    sizes = [_size(record) for record in records]
    pairs = ((DIRECT, SEPARABLE), (DIRECT, FFT), (SEPARABLE, FFT))
    return [
        (_WORDS[a], _WORDS[b], crossover(sizes, times[a], times[b]))
        for a, b in pairs
        if sizes and a in times and b in times
    ]


def lines(found: dict[str, Any]) -> list[str]:
    """Return the crossings in words."""
    said = []
    for threads in _counts(found):
        for before, after, size in crossings(found, threads):
            where = "for no size measured" if size is None else f"from {size}x{size} on"
            said.append(f"{threads} thread(s): {after} is faster than {before} {where}")
    return said


def draw(found: dict[str, Any], plt: Any) -> Any:
    """Draw a panel for each number of threads."""
    counts = [threads for threads in _counts(found) if _records(found, threads)]
    if not counts:
        return None
    figure, panels = plt.subplots(1, len(counts), figsize=(7 * len(counts), 5.5), squeeze=False)
    for panel, threads in zip(panels[0], counts, strict=True):
        records = _records(found, threads)
        for who in dict.fromkeys(who for record in records for who in record["seconds"]):
            points = [(_size(r), 1e3 * r["seconds"][who]) for r in records if who in r["seconds"]]
            label = {"call": "fastconv, default choice", "plan": "fastconv, plan"}.get(who, who)
            panel.plot(*zip(*points, strict=True), _STYLES.get(who, "o-"), markersize=4, label=label)
        for before, after, size in crossings(found, threads):
            if size is not None:
                panel.axvline(size, color="gray", linewidth=0.8, alpha=0.6)
                where = {"transform": panel.get_xaxis_transform(), "rotation": 90, "va": "bottom", "fontsize": 7}
                panel.text(size, 0.01, f" {after}\n overtakes {before}", **where)
        panel.set(xscale="log", yscale="log", xlabel="kernel size (taps along an axis)", ylabel="time (ms)")
        # Room for the names of the crossings below the curves.
        panel.set_ylim(bottom=panel.get_ylim()[0] / 4)
        ticks = [_size(record) for record in records]
        panel.set_xticks(ticks, [str(size) for size in ticks], minor=False)
        panel.set_xticks([], minor=True)
        panel.set_title(f"one image of 512x512, {threads} thread{'s' if threads > 1 else ''}")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    return figure
