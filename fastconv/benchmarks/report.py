"""Results as tables: plain text for the terminal, Markdown for documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastconv.benchmarks.machine import line
from fastconv.benchmarks.measure import OURS, Record
from fastconv.benchmarks.stats import geometric_mean

__all__ = ["markdown", "ratios", "scaling", "summary", "text", "time_text"]

Table = list[tuple[str, ...]]

HEADER = (
    "layer", "problem", "threads", "algorithm", "call", "plan", "rival", "its time", "ratio", "plan ratio",
    "call GFLOP/s", "call of peak", "plan of peak",
)  # fmt: skip
_SCALING_HEADER = ("layer", "threads", "who", "one thread", "all threads", "speed-up")


def time_text(seconds: float | None) -> str:
    """Return a time with four digits, in the unit that suits it."""
    if seconds is None:
        return ""
    return f"{seconds * 1e6:.4g} us" if seconds < 1e-4 else f"{seconds * 1e3:.4g} ms"


def ratios(records: Sequence[Record]) -> Table:
    """Return the table of every layer beside each of its rivals; ratio = rival's time / ours."""
    return [HEADER, *(row for record in records for row in _ratio_rows(record))]


def _ratio_rows(record: Record) -> Iterator[tuple[str, ...]]:
    first = (record["name"], record["problem"], str(record["threads"]), record["algorithm"])
    if record["gate"] != "green":
        yield (*first, "WRONG", *[""] * (len(HEADER) - 5))
        return
    seconds, share = record["seconds"], record["peak_share"]
    own = tuple(time_text(seconds.get(name)) for name in OURS)
    last = (f"{record['gflops']['call']:.1f}", *(_percent(share.get(name)) for name in OURS))
    for rival, ratio in record["ratios"].items():
        numbers = tuple(_ratio(ratio.get(name)) for name in OURS)
        yield (*first, *own, rival, time_text(seconds[rival]), *numbers, *last)
    if not record["ratios"]:
        yield (*first, *own, "", "", "", "", *last)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def summary(records: Sequence[Record]) -> list[str]:
    """Return lines with the geometric mean and the worst ratio to each rival, for each number of threads."""
    groups: dict[tuple[int, str, str], dict[str, float]] = {}
    for record in records:
        for rival, ratio in record.get("ratios", {}).items():
            # A copy of the data is a measure, no convolution.
            if rival == "copy":
                continue
            for own, value in ratio.items():
                groups.setdefault((record["threads"], rival, own), {})[record["name"]] = value
    lines = []
    for (threads, rival, own), values in groups.items():
        worst = min(values, key=lambda name: values[name])
        lines.append(
            f"{_threads(threads)}, {own} beside {rival}: geometric mean {_ratio(geometric_mean(values.values()))}, "
            f"worst {_ratio(values[worst])} ({worst}), {sum(v >= 1 for v in values.values())} of {len(values)} faster",
        )
    wrong = [record for record in records if record["gate"] != "green"]
    lines += [f"WRONG RESULT, not timed: {r['name']}, {_threads(r['threads'])}: {r['gate']}" for r in wrong]
    return lines


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def scaling(records: Sequence[Record]) -> Table:
    """Return the speed-up of more threads over one for each layer and entrant; no rows without a single-thread run."""
    single = {record["name"]: record["seconds"] for record in records if record["threads"] == 1 and "seconds" in record}
    rows = []
    speedups: dict[tuple[int, str], list[float]] = {}
    for record in records:
        if record["threads"] == 1 or record["name"] not in single or "seconds" not in record:
            continue
        for who, seconds in record["seconds"].items():
            if (one := single[record["name"]].get(who)) is None:
                continue
            speedups.setdefault((record["threads"], who), []).append(one / seconds)
            times = time_text(one), time_text(seconds)
            rows.append((record["name"], str(record["threads"]), who, *times, f"{one / seconds:.2f}"))
    means = [
        ("geometric mean", str(threads), who, "", "", f"{geometric_mean(values):.2f}")
        for (threads, who), values in speedups.items()
    ]
    return [_SCALING_HEADER, *rows, *means] if rows else []


def text(table: Table) -> str:
    """Return a table with aligned columns: words to the left, numbers to the right."""
    if not table:
        return ""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    right = [all(not cell or cell[0].isdigit() for cell in column[1:]) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(tables: Sequence[Table], lines: Sequence[str], machine: dict[str, Any], command: str) -> str:
    """Return the tables, the summary, the machine and the command that measured them."""
    parts = [_markdown_table(table) for table in tables if table]
    parts.append("\n".join(f"- {each}" for each in lines))
    parts.append(f"Measured by `{command}` on: {line(machine)}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: Table) -> str:
    header, *rows = table
    body = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in body)
