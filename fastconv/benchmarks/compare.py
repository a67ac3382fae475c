"""Two results of `fastconv bench --json`: what became slower, beyond the noise."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.benchmarks.measure import OURS
from fastconv.benchmarks.report import text, time_text
from fastconv.benchmarks.results import read, timed, wrong
from fastconv.benchmarks.stats import geometric_mean, quartiles
from fastconv.errors import OptionError

__all__ = ["Change", "changes", "compare"]

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
    ours: bool

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


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Return what both results have timed: ours and the rivals'."""
    old = {_key(record): record for record in timed(before)}
    found = []
    for record in timed(after):
        earlier = old.get(_key(record))
        if earlier is not None:
            found += [_change(earlier, record, who) for who in record["seconds"] if who in earlier["seconds"]]
    return found


def _key(record: dict[str, Any]) -> tuple[str, str, int, bool]:
    # Two operations may have a problem in common; a layer keeps its times when it is named anew.
    name = "" if "macs" in record else record["name"]
    return name, record["problem"], record.get("threads", 1), _is_ours(record, "cuda")


def _is_ours(record: dict[str, Any], who: str) -> bool:
    """Return whether a time is one of ours, and not a rival's."""
    if who not in record["seconds"]:
        return False
    device = ("cuda", "cuda with copies", "cpu") if "cuda" in record["seconds"] else ()
    saving = ("direct", "method", "default") if "method" in record["seconds"] else ()
    return who in (*OURS, *device, *saving) or who.startswith("fastconv")


def _change(before: dict[str, Any], after: dict[str, Any], who: str) -> Change:
    (low_before, high_before), (low_after, high_after) = _box(before, who), _box(after, who)
    apart = low_after > high_before or high_after < low_before
    times = before["seconds"][who], after["seconds"][who]
    return Change(after["name"], after.get("threads", 1), who, *times, apart, _is_ours(after, who))


def _box(record: dict[str, Any], who: str) -> tuple[float, float]:
    """Return the quartiles; of old records, which only have the samples or the median, what there is."""
    if "quartiles" in record:
        low, high = record["quartiles"][who]
        return low, high
    return quartiles(record.get("samples", {}).get(who, [record["seconds"][who]]))


def compare(before: str, after: str) -> int:
    """Print the changes from one result file to another; return 1 if anything of ours became slower or wrong, else 0.

    The rivals are the control: where they changed too, it was the machine.
    """
    old, new = read(before), read(after)
    found = changes(old, new)
    own = [c for c in found if c.ours]
    if not own:
        raise OptionError(f"{before} and {after} have no layer in common")
    rows = [(c.name, str(c.threads), c.who, *_cells(c)) for c in own]
    print(text([_HEADER, *rows]))
    others = [c.factor for c in found if not c.ours]
    print(f"\nours: times changed by {geometric_mean(c.factor for c in own):.3f} (geometric mean of after / before)")
    if others:
        print(f"rivals, which should not have changed: {geometric_mean(others):.3f}")
    for what, each in (("CPUs", ("machine", "cpu")), ("GPUs", ("device", "name"))):
        if (old.get(each[0]) or {}).get(each[1]) != (new.get(each[0]) or {}).get(each[1]):
            print(f"measured on different {what}: the changes are not those of the code")
    failed = wrong(new)
    for record in failed:
        reason = record.get("gate", record.get("wrong"))
        print(f"WRONG RESULT: {record.get('name', record['problem'])}, threads {record.get('threads', 1)}: {reason}")
    slower = sum(c.verdict == "SLOWER" for c in own)
    print(f"{slower} of {len(own)} slower by more than {LIMIT:.0%} and beyond the quartiles")
    return 1 if slower or failed else 0


def _cells(change: Change) -> tuple[str, ...]:
    return time_text(change.before), time_text(change.after), f"{change.factor:.3f}", change.verdict
