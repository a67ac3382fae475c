"""Two results of `fastconv bench --json`: what became slower, beyond the noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from fastconv.benchmarks.measure import OURS
from fastconv.benchmarks.report import text, time_text
from fastconv.benchmarks.stats import geometric_mean
from fastconv.errors import OptionError

__all__ = ["Change", "changes", "compare", "read"]

# Slower by more than this, and the boxes from the first to the third quartile apart.
LIMIT = 0.10

_HEADER = ("layer", "threads", "who", "before", "after", "after/before", "")


class Change(NamedTuple):
    """One entrant on one layer, before and after; times in seconds."""

    name: str
    threads: int
    who: str
    before: float
    after: float
    apart: bool

    @property
    def factor(self) -> float:
        """After / before: above 1 is slower."""
        return self.after / self.before

    @property
    def verdict(self) -> str:
        """The word "SLOWER" or "faster", or nothing."""
        if self.apart and self.factor > 1 + LIMIT:
            return "SLOWER"
        return "faster" if self.apart and self.factor < 1 / (1 + LIMIT) else ""


def read(path: str) -> dict[str, Any]:
    """Return the content of a result file."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get("results"), list):
        raise OptionError(f"{path} is not a result of `fastconv bench --json`")
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Return what both results have timed: ours and the rivals'."""
    old = {_key(record): record for record in before["results"] if "seconds" in record}
    found = []
    for record in after["results"]:
        if "seconds" not in record or _key(record) not in old:
            continue
        earlier = old[_key(record)]
        found += [_change(earlier, record, who) for who in record["seconds"] if who in earlier["seconds"]]
    return found


def _key(record: dict[str, Any]) -> tuple[str, int]:
    return record["problem"], record["threads"]


def _change(before: dict[str, Any], after: dict[str, Any], who: str) -> Change:
    (low_before, high_before), (low_after, high_after) = before["quartiles"][who], after["quartiles"][who]
    apart = low_after > high_before or high_after < low_before
    times = before["seconds"][who], after["seconds"][who]
    return Change(after["name"], after["threads"], who, *times, apart)


def compare(before: str, after: str) -> int:
    """Print the changes from one result file to another; return 1 if anything of ours became slower or wrong, else 0.

    The rivals are the control: where they changed too, it was the machine.
    """
    old, new = read(before), read(after)
    found = changes(old, new)
    own = [c for c in found if c.who in OURS or c.who.startswith("fastconv-")]
    if not own:
        raise OptionError(f"{before} and {after} have no layer in common")
    rows = [(c.name, str(c.threads), c.who, *_cells(c)) for c in own]
    print(text([_HEADER, *rows]))
    others = [c.factor for c in found if c not in own]
    print(f"\nours: times changed by {geometric_mean(c.factor for c in own):.3f} (geometric mean of after / before)")
    if others:
        print(f"rivals, which should not have changed: {geometric_mean(others):.3f}")
    if old.get("machine", {}).get("cpu") != new.get("machine", {}).get("cpu"):
        print("measured on different CPUs: the changes are not those of the code")
    wrong = [record for record in new["results"] if record["gate"] != "green"]
    for record in wrong:
        print(f"WRONG RESULT: {record['name']}, threads {record['threads']}: {record['gate']}")
    slower = sum(c.verdict == "SLOWER" for c in own)
    print(f"{slower} of {len(own)} slower by more than {LIMIT:.0%} and beyond the quartiles")
    return 1 if slower or wrong else 0


def _cells(change: Change) -> tuple[str, ...]:
    return time_text(change.before), time_text(change.after), f"{change.factor:.3f}", change.verdict
