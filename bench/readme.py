"""Rewrite the measured tables of README.md from bench/results: what each algorithm saves, and the performance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fastconv.benchmarks.machine import line
from fastconv.benchmarks.report import summary, time_text
from fastconv.benchmarks.savings import DENSE, METHOD, ratios

HERE = Path(__file__).resolve().parent
README, RESULTS = HERE.parent / "README.md", HERE / "results"
PEERS = {"torch": "call", "onnxruntime": "plan", "openvino": "plan"}


def layers(records: list[dict[str, Any]]) -> str:
    """Return the table of the layers on one thread."""
    head = ["layer", "algorithm", "call", "plan"]
    for peer, own in PEERS.items():
        head += [peer, f"ratio of the {own}"]
    rows = [[*head, "plan of peak"], ["---"] * (len(head) + 1)]
    for record in records:
        seconds = record["seconds"]
        row = [record["name"], record["algorithm"], time_text(seconds["call"]), time_text(seconds["plan"])]
        for peer, own in PEERS.items():
            row += [time_text(seconds[peer]), f"{seconds[peer] / seconds[own]:.2f}"]
        share = record["peak_share"].get("plan")
        rows.append([*row, "" if share is None else f"{share:.0%}"])
    return _markdown(rows)


def savings(records: list[dict[str, Any]]) -> str:
    """Return the table of what each method saves, on one thread."""
    head = ["method", "problem", "multiplications", "fewer", "faster, predicted", "faster, measured", "time"]
    rows = [head, ["---"] * len(head)]
    for record in records:
        counts = " of ".join(f"{record['multiplies'][who] / 1e6:,.1f} M" for who in (METHOD, DENSE))
        times = [f"{ratio:.3g}x" for ratio in ratios(record).values()]
        rows.append([record["name"], record["problem"], counts, *times, time_text(record["seconds"][METHOD])])
    return _markdown(rows)


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _section(text: str, name: str, *parts: str) -> str:
    """Return the text with these parts between the two marks of a name."""
    marks = (f"<!-- {name}: written by bench/readme.py -->", f"<!-- end of {name} -->")
    section = re.compile(f"{re.escape(marks[0])}.*{re.escape(marks[1])}", re.DOTALL)
    return section.sub(lambda _: "\n\n".join((marks[0], *parts, marks[1])), text)


def _found(name: str, records: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Return all records of a file of results, those of one thread, and where they were measured."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    green = [record for record in found[records] if record["gate"] == "green"]
    where = f"Measured by `{found['command']}` on: {line(found['machine'])}."
    return green, [record for record in green if record["threads"] == 1], where


def main() -> None:
    """Write each section between its two marks."""
    text = README.read_text(encoding="utf-8")
    every, one, where = _found("headline", "results")
    text = _section(text, "performance", layers(one), "\n".join(f"- {each}" for each in summary(every)), where)
    _, one, where = _found("savings", "savings")
    text = _section(text, "savings", savings(one), where)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
