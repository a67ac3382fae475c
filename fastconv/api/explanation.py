"""What `explain` returns: a table of algorithms that prints in a terminal, in a notebook, and as JSON."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastconv.dispatch.cost import OpCount

# Columns of a terminal.
WIDTH = 120

# Algorithms that mix neighbouring outputs, by the ends of their names.
_MIXED = ("winograd", "fft")
_NUMBERS = ("multiplies", "adds", "saved", "MB", "scratch kB", "flop/B", "predicted ms", "measured ms", "roof", "error")


class Line(NamedTuple):
    """One algorithm on one problem; what is refused has a reason and no numbers. Times in seconds, of one thread.

    `ops` are the algorithm's own operations; `peak` is how many of them one thread does in a second at most, and
    `bandwidth` how many bytes it moves; `error_bound` is relative to ``sum(|x| * |weight|)`` of an output, of Winograd
    and FFT to ``max(|x|) * sum(|weight|)``.
    """

    algorithm: str
    chosen: bool
    refused: str | None
    ops: OpCount | None
    scratch_bytes: int | None
    predicted: float | None
    measured: float | None
    source: str
    # Why it is chosen, where that is not its predicted time.
    why: str = ""
    # Why it is not chosen, where that is not its predicted time either.
    note: str = ""
    peak: float | None = None
    bandwidth: float | None = None
    error_bound: float | None = None
    # What the definition takes, where that is not the explanation's `direct`.
    definition: OpCount | None = None

    @property
    def bytes_moved(self) -> int | None:
        """Bytes of all arrays, each once."""
        return None if self.ops is None else self.ops.bytes_read + self.ops.bytes_written

    @property
    def intensity(self) -> float | None:
        """Operations for each byte that is moved."""
        if self.ops is None or not self.bytes_moved:
            return None
        return (self.ops.multiplies + self.ops.adds) / self.bytes_moved

    @property
    def roof(self) -> float | None:
        """The operations in a second that one thread can reach: ``min(peak, intensity * bandwidth)``."""
        if self.intensity is None or not self.peak or not self.bandwidth:
            return None
        return min(self.peak, self.intensity * self.bandwidth)

    @property
    def roof_share(self) -> float | None:
        """The share of the roof that is reached in the measured time, or else in the predicted one.

        What computes nothing has the share of the bandwidth.
        """
        seconds = self.predicted if self.measured is None else self.measured
        if self.ops is None or not seconds or not self.peak or not self.bandwidth:
            return None
        least = max((self.ops.multiplies + self.ops.adds) / self.peak, (self.bytes_moved or 0) / self.bandwidth)
        return least / seconds

    @property
    def remark(self) -> str:
        """What there is to say about it."""
        if self.ops is None:
            return f"refused: {self.refused}"
        return f"chosen{self.why}" if self.chosen else self.note

    def cells(self, direct: OpCount, exact: bool = True) -> tuple[str, ...]:
        """Return the numbers as texts; not `exact`, with four digits where there are more."""
        if self.ops is None:
            return ("",) * len(_NUMBERS)
        count = "{:,}".format if exact else _short
        direct = self.definition or direct
        # Of what multiplies nothing, the sums.
        work, whole = (ops.multiplies if direct.macs else ops.multiplies + ops.adds for ops in (self.ops, direct))
        share = self.roof_share
        return (
            count(self.ops.multiplies),
            count(self.ops.adds),
            f"{whole / work:.3g}x" if work else "",
            f"{(self.bytes_moved or 0) / 1e6:.3g}",
            "" if self.scratch_bytes is None else f"{self.scratch_bytes / 1024:.0f}",
            "" if self.intensity is None else f"{self.intensity:.3g}",
            _milliseconds(self.predicted),
            _milliseconds(self.measured),
            "" if share is None else f"{100 * share:.0f}%",
            "" if self.error_bound is None else "exact" if self.error_bound == 0 else f"{self.error_bound:.1e}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the line in plain types."""
        names = ("bytes_moved", "intensity", "roof", "roof_share")
        derived = {name: getattr(self, name) for name in names}
        counts = {
            name: count and count._asdict() for name, count in (("ops", self.ops), ("definition", self.definition))
        }
        return self._asdict() | counts | derived


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.4g}"


def _short(number: int) -> str:
    for unit, letter in ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M")):
        if number >= unit:
            return f"{number / unit:.4g} {letter}"
    return f"{number:,}"


class Explanation:
    """Every algorithm on one problem. It prints as a table, in notebooks as HTML, and `to_dict` feeds JSON.

    Attributes
    ----------
    problem : str
        The problem in one word.
    direct : OpCount
        What direct summation takes.
    lines : tuple of Line
        One for each algorithm.
    threads : int or None
        How many threads `seconds` is for.
    seconds : float or None
        Measured: the time of a call by the chosen algorithm on all threads.
    """

    def __init__(
        self,
        problem: str,
        direct: OpCount,
        lines: Sequence[Line],
        threads: int | None = None,
        seconds: float | None = None,
    ):
        self.problem, self.direct, self.lines = problem, direct, tuple(lines)
        self.threads, self.seconds = threads, seconds

    @property
    def chosen(self) -> str:
        """Name of the algorithm that `algorithm="auto"`, or the name asked for, takes; of several parts, of each."""
        return " + ".join(line.algorithm for line in self.lines if line.chosen)

    @property
    def title(self) -> str:
        """The problem, and what it is by the definition."""
        if not self.direct.macs:
            return f"{self.problem}: {self.direct.adds:,} additions or comparisons by the definition"
        return f"{self.problem}: {self.direct.macs:,} multiply-accumulates by direct summation"

    def _header(self) -> tuple[str, ...]:
        return ("  algorithm", *_NUMBERS)

    def _table(self, exact: bool) -> list[str]:
        rows = [self._header()]
        for line in self.lines:
            name = ("> " if line.chosen else "  ") + line.algorithm
            rows.append((name, *line.cells(self.direct, exact)))
        # A column that is empty throughout says nothing.
        used = [i for i in range(len(rows[0])) if i == 0 or any(row[i] for row in rows[1:])]
        widths = {i: max(len(row[i]) for row in rows) for i in used}
        texts = []
        refused = {i for i, line in enumerate(self.lines, 1) if line.ops is None}
        for number, row in enumerate(rows):
            cells = [row[i].ljust(widths[i]) if i == 0 else row[i].rjust(widths[i]) for i in used]
            if number in refused:
                indent, remark = " " * (widths[0] + 2), self.lines[number - 1].remark
                texts.append(textwrap.fill(f"{cells[0]}  {remark}", WIDTH, subsequent_indent=indent))
            else:
                texts.append("  ".join(cells).rstrip())
        return texts

    def _remarks(self) -> list[str]:
        said = [f"{line.algorithm}: chosen{line.why}" for line in self.lines if line.chosen]
        said += [f"{line.algorithm}: {line.note}" for line in self.lines if line.ops and line.note and not line.chosen]
        first = next((line for line in self.lines if line.chosen and line.peak and line.bandwidth), None)
        if first is not None and first.peak and first.bandwidth:
            rates = f"{first.peak / 1e9:.3g} GFLOP/s and {first.bandwidth / 1e9:.3g} GB/s"
            timed = "measured" if any(line.measured for line in self.lines) else "predicted"
            said.append(f"times: of one thread; roof: what the {timed} time reaches of this machine's {rates}")
        if any(line.error_bound is not None for line in self.lines):
            mixed = [line.algorithm for line in self.lines if line.ops and line.algorithm.endswith(_MIXED)]
            more = f"; of {' and '.join(mixed)} to max(|x|) * sum(|weight|)" if mixed else ""
            said.append(f"error: the most that rounding can do, relative to sum(|x| * |weight|){more}")
        if self.seconds is not None:
            count = "1 thread" if self.threads == 1 else f"{self.threads} threads"
            said.append(f"measured: {_milliseconds(self.seconds)} ms for a call by {self.chosen} on {count}")
        return [textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in said]

    def __str__(self) -> str:
        table = self._table(exact=True)
        if max(map(len, "\n".join(table).splitlines())) > WIDTH:
            table = self._table(exact=False)
        return "\n".join([*textwrap.wrap(self.title, WIDTH), *table, *self._remarks()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(c)}</th>" for c in (*self._header(), "note"))
        rows = []
        for line in self.lines:
            name = ("> " if line.chosen else "  ") + line.algorithm
            texts = (name, *line.cells(self.direct), line.remark)
            rows.append("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in texts) + "</tr>")
        return f"<p>{html.escape(self.title)}</p><table><tr>{head}</tr>{''.join(rows)}</table>"

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation in plain types, which `json.dumps` takes."""
        return {
            "problem": self.problem,
            "chosen": self.chosen,
            "direct": self.direct._asdict(),
            "algorithms": [line.to_dict() for line in self.lines],
            "threads": self.threads,
            "seconds": self.seconds,
        }
