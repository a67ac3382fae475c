"""Rewrite the performance table of README.md from bench/results/headline.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fastconv.benchmarks.machine import line
from fastconv.benchmarks.report import summary, time_text

HERE = Path(__file__).resolve().parent
README, RESULTS = HERE.parent / "README.md", HERE / "results" / "headline.json"
START, END = "<!-- performance: written by bench/readme.py -->", "<!-- end of performance -->"
PEERS = {"torch": "call", "onnxruntime": "plan", "openvino": "plan"}


def table(records: list[dict[str, Any]]) -> str:
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
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Write the section between the two marks."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    green = [record for record in found["results"] if record["gate"] == "green"]
    lines = "\n".join(f"- {each}" for each in summary(found["results"]))
    where = f"Measured by `{found['command']}` on: {line(found['machine'])}."
    parts = (START, table([r for r in green if r["threads"] == 1]), lines, where, END)
    text = README.read_text(encoding="utf-8")
    section = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    README.write_text(section.sub(lambda _: "\n\n".join(parts), text), encoding="utf-8")


if __name__ == "__main__":
    main()
