"""`fastconv bench`: the arguments, the order of things, and what is written where."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
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
    results,
    rivals,
    savings,
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
ALONE: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "savings": lambda o: savings.measure(_progress, o.threads, o.repeats),
    "first-call": lambda o: first_call.measure(_progress),
    "signal": lambda o: filters.measure(_progress, o.threads[0], o.repeats),
    "choice": lambda o: choice.measure(_progress, o.count, o.seed),
    "trunks": lambda o: trunks.run(_progress, o.threads, o.repeats),
    "training": lambda o: training.measure(_progress, o.threads, o.repeats),
    **{
        name: lambda o, name=name: operations.measure(name, _progress, o.threads, o.repeats)  # type: ignore[misc]
        for name in operations.SUITES
    },
}

# Beside whom, by the suite; those that are not installed are left out.
PEERS = ("torch", "onnxruntime", "openvino")
DEFAULT_RIVALS = {
    "image": ("opencv", "scipy"),
    "kernel-size": ("fastconv-direct", "fastconv-depthwise", "fastconv-separable", "fastconv-fft", "opencv"),
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
    pictures = [plot.split(text)[1] for text in options.plot]
    _check_writable(options.json, options.markdown, *pictures)
    if pictures:
        # Missing, it should be missed before the work.
        import matplotlib  # noqa: F401
    if options.source:
        return _finish(options, results.read(options.source))
    command = shlex.join(["fastconv", "bench", *_without_files(given)])
    alone = set(ALONE).intersection(options.suite)
    if alone and "cuda" in options.device:
        raise OptionError(f"suite {min(alone)!r} is of the CPU, got --device {','.join(options.device)}")
    if alone and len(options.suite) > 1:
        raise OptionError(f"suite {min(alone)!r} stands alone, got {','.join(options.suite)}")
    host = machine.describe()
    if alone and not options.problem:
        found = ALONE[options.suite[0]](options)
    elif "cuda" in options.device:
        found = _on_device(options)
    else:
        found = {"results": _measure_all(options), "peak_gflops": _peak(), "read_gbytes": machine.read_rates()}
    return _finish(options, {"command": command, "machine": host, "results": [], **found})


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
    add(
        "--plot",
        action="append",
        default=[],
        metavar="[KIND:]FILE",
        help=f"draw a picture; kinds: {', '.join(plot.KINDS)} (default: what suits the suite)",
    )
    add("--from", dest="source", metavar="FILE", help="show and draw a --json file; nothing is measured")
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


def _on_device(options: argparse.Namespace) -> dict[str, Any]:
    layers = [layer(text) for text in options.problem or ()] or [each for name in options.suite for each in suite(name)]
    with fc.threads(options.threads[0]):
        return device.measure(layers, _progress, options.repeats, "cpu" in options.device)


def _finish(options: argparse.Namespace, found: dict[str, Any]) -> int:
    """Print the tables, write the files that were asked for, and return the exit code."""
    tables, lines = results.shown(found)
    load = found["machine"]["load"] or 0
    if load > BUSY:
        lines.append(f"load average {load:.2f} before the run: if something else was running, measure again")
    print("\n\n".join(report.text(table) for table in tables if table))
    print("", *lines, machine.line(found["machine"]), sep="\n")
    if options.json:
        Path(options.json).write_text(json.dumps({"schema": SCHEMA, **found}, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        text = report.markdown(tables, lines, found["machine"], found["command"])
        Path(options.markdown).write_text(text, encoding="utf-8")
    for picture in options.plot:
        plot.draw(found, picture)
    return 1 if results.wrong(found) else 0
