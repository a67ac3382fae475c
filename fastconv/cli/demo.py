"""`fastconv demo`: a photograph through filters and layers, by every algorithm, each result checked against SciPy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

import fastconv as fc
from fastconv.cli import demo_image, demo_pools
from fastconv.cli.demo_steps import Choice, Results, Step, seconds, steps

# Largest error of an output, relative to the largest output. Sums of 147 float32 products stay under 1e-6; what an
# algorithm may have that rounds more is the bound of `conv2d`.
BOUND = 3e-5
REPEATS = 7

HEADER = ("", "algorithm", "MACs", "saved", "predicted ms", "measured ms", "vs SciPy", "error", "")


class Row(NamedTuple):
    """One algorithm on one step, measured and checked; times in seconds."""

    step: Step
    choice: Choice
    measured: float
    scipy: float
    error: float

    @property
    def saved(self) -> float:
        """How many times fewer multiplications than direct summation."""
        return self.step.direct / self.choice.multiplies

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound; NaN is not."""
        return self.error <= BOUND

    def cells(self, title: str) -> tuple[str, ...]:
        """Return the row as texts under the header."""
        return (
            title,
            ("> " if self.choice.chosen else "  ") + self.choice.algorithm,
            f"{self.choice.macs / 1e6:,.1f} M",
            f"{self.saved:.3g}x",
            f"{self.choice.predicted * 1e3:.3f}",
            f"{self.measured * 1e3:.3f}",
            f"{self.scipy / self.measured:,.0f}x",
            f"{self.error:.1e}",
            "ok" if self.passed else "FAIL",
        )


def demo(image: str | None, output: str, size: int) -> int:
    """Run the demo, print its table, save its sheet, and return the exit code.

    Parameters
    ----------
    image : str or None
        Path of a picture.
    output : str
        Path of the PNG.
    size : int
        Longest side of the picture.
    """
    # Fail on what is missing before the work, not after it.
    from fastconv.cli.demo_sheet import save

    photo = demo_image.load(image, size)
    if not Path(output).parent.is_dir():
        raise FileNotFoundError(2, "no such folder", str(Path(output).parent))
    results: Results = {"photo": photo}
    makers = steps()
    rows: list[Row] = []
    with Progress(len(makers) + 1) as progress:
        for make in makers:
            rows += compute(make(results), results, progress.tell)
            progress.advance()
        pools, pooled = demo_pools.compute(photo, progress.tell)
        progress.advance()
        progress.tell("picture")
        results |= pooled
        save(output, results, {row.step.name: row for row in sorted(rows, key=lambda row: -row.measured)}, pools)
    H, W = photo.shape[2:]
    print(f"{image or demo_image.SAMPLE}: {W} x {H} pixels, {fc.get_num_threads()} threads, {_cpu()}, float32\n")
    print(table(rows))
    print(f"\n{demo_pools.table(pools)}")
    print(f"\nsaved {output}")
    passed = [row.passed for row in rows] + [row.passed for row in pools]
    failed = passed.count(False)
    if failed:
        print(f"fastconv demo: {failed} of {len(passed)} results are wrong", file=sys.stderr)
    return 1 if failed else 0


def compute(step: Step, results: Results, tell: Callable[[str], None]) -> list[Row]:
    """Return the rows of a step and put its result among the others."""
    tell(f"{step.title}: SciPy")
    expected, scipy = step.reference(), step.rival()
    rows = []
    for choice in step.choices:
        # The first call may compile for seconds.
        tell(f"{step.title}: {choice.algorithm}, first call")
        try:
            actual = step.run(choice.algorithm)
        except fc.UnsupportedError:
            # Whether kernels have rank 1 shows in their values, not in the shapes that the planner judges.
            continue
        tell(f"{step.title}: {choice.algorithm}, timing")
        measured = seconds(lambda name=choice.algorithm: step.run(name), REPEATS)  # type: ignore[misc]
        rows.append(Row(step, choice, measured, scipy, relative_error(actual, expected)))
        if choice.chosen:
            results[step.name] = actual
    return rows


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference relative to the largest expected value; infinite if the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max() / (np.abs(expected).max() or 1))


def table(rows: list[Row]) -> str:
    """Return the rows as a table with its legend."""
    cells: list[tuple[str, ...]] = [HEADER]
    last = ""
    for row in rows:
        cells.append(row.cells(row.step.title if row.step.title != last else ""))
        last = row.step.title
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    lines = []
    for line in cells:
        left = [line[i].ljust(widths[i]) for i in (0, 1)]
        right = [line[i].rjust(widths[i]) for i in range(2, len(HEADER) - 1)]
        lines.append("  ".join([*left, *right, line[-1]]).rstrip())
    return "\n".join([*lines, "", LEGEND])


LEGEND = f"""\
> what algorithm="auto" takes. MACs: multiply-accumulates. saved: multiplications of direct summation over those done.
predicted: by the planner, for one thread. measured: median of {REPEATS} calls. vs SciPy: how many times faster than
correlate2d in float32, on one thread; it knows neither stride nor dilation, so it computes every output and multiplies
by the zeros inside a dilated kernel. error: largest, relative to the largest output, against correlate2d in float64; ok
up to {BOUND:.0e}."""


def _cpu() -> str:
    return str(fc.devices()["cpu"]["name"])


class Progress:
    """Shows on stderr what is done: a bar if tqdm is there, else lines."""

    def __init__(self, total: int):
        self._total, self._done, self._bar = total, 0, None
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, leave=False, file=sys.stderr, bar_format="{n_fmt}/{total_fmt} |{bar:20}| {desc}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def tell(self, text: str) -> None:
        """Show what is being done."""
        if self._bar is not None:
            self._bar.set_description_str(text)
        else:
            print(f"{self._done}/{self._total} {text}", file=sys.stderr, flush=True)

    def advance(self) -> None:
        """Count one more as done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
