"""What pages have in the place of `<!-- generated: name -->`: the functions of this module, as Markdown."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fastconv.benchmarks import filters, operations, plot_sizes, report, savings, trunks
from fastconv.benchmarks.machine import line

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
PICTURES = {
    "headline": "Time of each layer beside that of its multiply-adds at the peak",
    "kernel-size": "Time against the size of a kernel, by each algorithm",
    "savings": "Times fewer multiplications beside times faster, predicted and measured",
}
MARKS = ("<!-- performance: written by bench/readme.py -->", "<!-- end of performance -->")


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def code(text: str, language: str = "text") -> str:
    """Return a fenced block."""
    return f"```{language}\n{text.rstrip()}\n```"


def algorithms() -> str:
    """Return the rows of the table of algorithms."""
    from fastconv.dispatch.conv_table import TABLE

    rows = [("`algorithm=`", "kernel", "rounds as direct summation", "left out of `auto`", "source")]
    for row in TABLE:
        exact = "yes" if row.exact else "no"
        rows.append((f"`{row.name}`", f"`{row.kernel}`", exact, row.automatic or "", row.source))
    return table(rows)


def tiles() -> str:
    """Return the menus of register tiles."""
    from fastconv.kernels.cpu import target

    rows = [("instructions", "lanes of float32", "registers", "tiles MR x NV")]
    for one in (target.AVX512, target.AVX2, target.SSE2, target.NEON):
        menu = ", ".join(f"{MR} x {NV}" for MR, NV in one.outer_tiles)
        rows.append((one.name, str(one.lanes(32)), str(one.registers), menu))
    return table(rows)


def assembly() -> str:
    """Return the innermost loop of the microkernel on the machine that builds the site, and what is in it."""
    from fastconv.kernels.cpu import assembly, target
    from fastconv.kernels.cpu.conv_tiles import pixels_kernel

    machine = target.current()
    MR, NV = machine.outer_tiles[0]
    loop = assembly.inner_loop(assembly.of(pixels_kernel(32, MR, NV, machine.lanes(32), False)))
    count, spills = assembly.multiply_adds(loop), assembly.spills(loop)
    text = (
        f"Built for `{machine.name}`: a tile of {MR} rows of {NV} vectors of {machine.lanes(32)} numbers. The loop has "
        f"{len(loop)} instructions, of which {count} are multiply-adds ({count // (MR * NV)} for each of the {MR * NV} "
        f"accumulators), and {len(spills)} touch the stack."
    )
    return f"{text}\n\n{code(chr(10).join(loop), 'asm')}"


def commands() -> str:
    """Return the help of the command line and of each of its commands."""
    from fastconv.cli.main import parser

    top = parser()
    parts = [code(_help(top))]
    (action,) = (a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in action.choices.items():
        if name == "bench":
            from fastconv.benchmarks.run import parser as bench_parser

            command = bench_parser()
        parts.append(f"## fastconv {name}\n\n{code(_help(command))}")
    return "\n\n".join(parts)


def _help(parser: argparse.ArgumentParser) -> str:
    """Return the help as it stands in a terminal of 90 columns, without colours."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "90"
    try:
        text = parser.format_help()
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def performance() -> str:
    """Return all results in bench/results: the layers of the README first, then a section for each suite."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start, end = (readme.index(mark) for mark in MARKS)
    parts = [readme[start + len(MARKS[0]) : end].strip()]
    parts.append(_picture("headline"))
    for path in sorted(RESULTS.glob("*.json")):
        if path.stem != "headline":
            parts.extend(_suite(path))
    # A number and its unit stay in one line.
    return re.sub(r"(\d) (ms|us|s) \|", "\\1\N{NO-BREAK SPACE}\\2 |", "\n\n".join(parts))


def _suite(path: Path) -> Iterator[str]:
    """Yield the section of one file of results."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if "operations" in found:
        rows, lines = operations.table(found)
    elif "filters" in found:
        rows, lines = filters.table(found)
    elif found.get("suite") == "trunks":
        rows, lines = trunks.table(found)
    elif "savings" in found:
        rows, lines = savings.table(found)
    else:
        rows, lines = report.ratios(found["results"]), [*report.summary(found["results"]), *plot_sizes.lines(found)]
    yield f"## {path.stem}"
    if path.stem in PICTURES:
        yield _picture(path.stem)
    yield "\n".join(f"- {text}" for text in lines)
    yield f"Measured by `{found['command']}` on: {line(found['machine'])}."
    yield f'??? note "Each problem"\n\n{_indented(table(rows))}'


def _picture(name: str) -> str:
    """Return the picture that lies beside a file of results; the build of the site copies it."""
    return f"![{PICTURES[name]}](pictures/{name}.svg)"


def _indented(text: str) -> str:
    return "\n".join(f"    {row}" for row in text.splitlines())
