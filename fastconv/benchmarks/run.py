"""`fastconv bench`: the arguments, the order of things, and what is written where."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import fastconv as fc
from fastconv.benchmarks import (
    choice,
    compare,
    device,
    filters,
    first_call,
    machine,
    operations,
    plot,
    report,
    rivals,
    training,
    trunks,
)
from fastconv.benchmarks.measure import Record, measure
from fastconv.benchmarks.problems import SUITES, Layer, layer, suite
from fastconv.errors import OptionError

__all__ = ["main"]

SCHEMA = 1

# Options that name a file to write.
FILES = ("--json", "--markdown", "--plot")

# Load average from which the result says so.
BUSY = 0.5

# Suites that are no lists of layers, and stand alone.
FIRST_CALL, SIGNAL, CHOICE, NETWORKS, TRAINING = "first-call", "signal", "choice", "trunks", "training"
ALONE = (FIRST_CALL, SIGNAL, CHOICE, NETWORKS, TRAINING, *operations.SUITES)

# Beside whom, by the suite; those that are not installed are left out.
PEERS = ("torch", "onnxruntime", "openvino")
DEFAULT_RIVALS = {
    "image": ("opencv", "scipy"),
    "gaussian": ("fastconv-direct", "fastconv-depthwise", "fastconv-separable", "opencv", "opencv-separable"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the arguments ask for, and return the exit code: 1 if a result was wrong or slower.

    Parameters
    ----------
    argv : sequence of str, optional
        By default the arguments of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(given)
    if options.compare:
        return compare.compare(*options.compare)
    _check_writable(options.json, options.markdown, options.plot)
    command = shlex.join(["fastconv", "bench", *_without_files(given)])
    if "cuda" in options.device and (alone := set(ALONE).intersection(options.suite)):
        raise OptionError(f"suite {min(alone)!r} is of the CPU, got --device {','.join(options.device)}")
    if len(options.suite) == 1 and options.suite[0] in ALONE and not options.problem:
        return _alone(options, command)
    if alone := set(ALONE).intersection(options.suite):
        raise OptionError(f"suite {min(alone)!r} stands alone, got {','.join(options.suite)}")
    host = machine.describe()
    if "cuda" in options.device:
        return _on_device(options, command, host)
    records = _measure_all(options)
    tables, lines = [report.ratios(records), report.scaling(records)], report.summary(records)
    if (host["load"] or 0) > BUSY:
        lines.append(f"load average {host['load']:.2f} before the run: if something else was running, measure again")
    found = {"command": command, "machine": host, "peak_gflops": _peak(), "results": records}
    _finish(options, tables, lines, found)
    if options.plot:
        plot.draw(found, options.plot)
    return 1 if any(record["gate"] != "green" for record in records) else 0


def _peak() -> float:
    """Return the multiply-add peak of one core."""
    # Imports a compiler.
    from fastconv.benchmarks import peak

    return max(peak.gflops() for _ in range(20))


def parser() -> argparse.ArgumentParser:
    """Return the parser of `fastconv bench`."""
    top = argparse.ArgumentParser(
        prog="fastconv bench",
        description="Measure fastconv beside other libraries. Each result is checked before it is timed; ratio = "
        "time of the rival / time of fastconv.",
    )
    add = top.add_argument
    names = ", ".join((*SUITES, *ALONE))
    add("--suite", type=_words, default=["headline"], metavar="NAME,...", help=f"{names} (default: headline)")
    add("--problem", action="append", metavar="TEXT", help="a layer in place of a suite: a name, or its sizes")
    add("--threads", type=_counts, metavar="N,...", help="numbers of threads in turn (default: 1)", default=[1])
    add("--repeats", type=_positive, metavar="N", default=15, help="samples of each call (default: %(default)s)")
    add("--count", type=_positive, metavar="N", default=choice.COUNT, help="problems of choice (default: %(default)s)")
    add("--seed", type=int, metavar="N", default=0, help="of the problems of choice (default: %(default)s)")
    add("--rivals", type=_words, metavar="NAME,...", help=f"beside whom: {', '.join(rivals.RIVALS)}, or none")
    add(
        "--device", type=_devices, default=["cpu"], metavar="cpu,cuda", help="cuda: the device, beside the CPU or alone"
    )
    add("--plan", action=argparse.BooleanOptionalAction, default=True, help="measure the call of a plan too")
    add("--json", metavar="FILE", help="write all samples and the machine")
    add("--markdown", metavar="FILE", help="write the tables")
    add("--plot", metavar="FILE", help="draw the times of layers against the floor of their arithmetic")
    add("--compare", nargs=2, metavar=("BEFORE", "AFTER"), help="compare two --json files; exit code 1 if slower")
    return top


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_positive(word) for word in _words(text)] or [_positive(text)]


def _devices(text: str) -> list[str]:
    found = _words(text)
    if not found or set(found) - {"cpu", "cuda"}:
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cpu,cuda, got {text!r}")
    return found


def _without_files(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the names of result files, which say nothing about the measurement."""
    kept: list[str] = []
    value = False
    for argument in arguments:
        name = argument.partition("=")[0]
        if not value and name not in FILES:
            kept.append(argument)
        value = not value and argument in FILES
    return kept


def _check_writable(*paths: str | None) -> None:
    """Fail on a missing folder before the work, not after it."""
    for path in paths:
        if path and not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(2, "no such folder", str(Path(path).absolute().parent))


def _measure_all(options: argparse.Namespace) -> list[Record]:
    """Measure every layer on one number of threads, then on the next: rivals keep pools of threads."""
    if options.problem:
        chosen = [(layer(text), _rivals(options, "")) for text in options.problem]
    else:
        chosen = [(each, _rivals(options, name)) for name in options.suite for each in suite(name)]
    work: list[tuple[int, Layer, list[rivals.Rival]]] = [(n, *each) for n in options.threads for each in chosen]
    return [measure(each, peers, n, options.repeats, options.plan) for n, each, peers in _progress(work)]


def _rivals(options: argparse.Namespace, name: str) -> list[rivals.Rival]:
    if options.rivals is not None:
        return [] if options.rivals == ["none"] else [rivals.find(rival) for rival in options.rivals]
    peers = [rivals.RIVALS[rival] for rival in DEFAULT_RIVALS.get(name, PEERS)]
    return [rival for rival in peers if rival.available()]


def _progress(items: list[Any]) -> Iterable[Any]:
    """Return the items under a progress bar on stderr, if that is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    shown: Iterable[Any] = tqdm(items, unit="layer", disable=None, leave=False, file=sys.stderr)
    return shown


def _on_device(options: argparse.Namespace, command: str, host: dict[str, Any]) -> int:
    layers = [layer(text) for text in options.problem or ()] or [each for name in options.suite for each in suite(name)]
    with fc.threads(options.threads[0]):
        found = device.measure(layers, _progress, options.repeats, "cpu" in options.device)
    rows, lines = device.table(found)
    _finish(options, [rows], lines, {"command": command, "machine": host, "results": [], **found})
    return 1 if any(record["gate"] != "green" for record in found["cuda"]) else 0


def _alone(options: argparse.Namespace, command: str) -> int:
    host = machine.describe()
    if options.suite == [FIRST_CALL]:
        found = first_call.measure(_progress)
        table, lines = first_call.table(found)
    elif options.suite == [CHOICE]:
        found = choice.measure(_progress, options.count, options.seed)
        table, lines = choice.table(found)
    elif options.suite == [NETWORKS]:
        found = trunks.run(_progress, options.threads, options.repeats)
        table, lines = trunks.table(found)
    elif options.suite == [TRAINING]:
        found = training.measure(_progress, options.threads, options.repeats)
        table, lines = training.table(found)
    elif options.suite[0] in operations.SUITES:
        found = operations.measure(options.suite[0], _progress, options.threads, options.repeats)
        table, lines = operations.table(found)
    else:
        found = filters.measure(_progress, options.threads[0], options.repeats)
        table, lines = filters.table(found)
    _finish(options, [table], lines, {"command": command, "machine": host, "results": [], **found})
    return 1 if any("wrong" in record for record in found.get("choices", ())) else 0


def _finish(options: argparse.Namespace, tables: list[report.Table], lines: list[str], found: dict[str, Any]) -> None:
    """Print the tables, and write the files that were asked for."""
    print("\n\n".join(report.text(table) for table in tables if table))
    print("", *lines, machine.line(found["machine"]), sep="\n")
    if options.json:
        Path(options.json).write_text(json.dumps({"schema": SCHEMA, **found}, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        text = report.markdown(tables, lines, found["machine"], found["command"])
        Path(options.markdown).write_text(text, encoding="utf-8")
