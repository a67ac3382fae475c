"""Running many cases, here or in a process of their own that may crash or hang."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import fastconv as fc
from fastconv.errors import OptionError
from fastconv.testing.fuzz.case import DROP, Case, parse
from fastconv.testing.fuzz.check import OPS, MismatchError, check
from fastconv.testing.fuzz.draw import Draw, known_dtypes
from fastconv.testing.fuzz.flaws import spoil
from fastconv.testing.fuzz.report import Found, Report
from fastconv.testing.fuzz.shrink import shrink

# A problem that takes longer hangs; most take milliseconds, but the first ones of a kernel compile it.
HANG_SECONDS = 60.0
# After so many failures a run ends; of each operation and kind only the first few are made small.
MOST_FAILURES, MOST_ALIKE = 20, 3
_FLAWED = 0.04
# For making a case small that ends the process: each trial starts one.
_CRASH_SECONDS = 90.0


def chosen(ops: Sequence[str] | str | None) -> tuple[str, ...]:
    """Return the operations that a user names, by name or by the beginning of one; None: all.

    Raises
    ------
    OptionError
        If there is no such operation.
    """
    if ops is None:
        return tuple(OPS)
    wanted = ops.split(",") if isinstance(ops, str) else list(ops)
    for name in wanted:
        if not any(op.startswith(name) for op in OPS):
            raise OptionError(f"run: ops = {name!r}, expected one of {', '.join(OPS)}, or the beginning of some")
    return tuple(op for op in OPS if any(op == name or (name not in OPS and op.startswith(name)) for name in wanted))


@lru_cache(maxsize=4)
def _weighted(ops: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(op for op in ops for _ in range(OPS[op].weight))


def drawn(seed: int, index: int, ops: Sequence[str], device: str = "cpu") -> Case:
    """Return the case with a number: the same one for the same seed, operations and device."""
    d = Draw([seed, index], known_dtypes(seed, index))
    op = d.one(_weighted(tuple(ops)))
    family = OPS[op]
    case = family.draw(d, op)
    if device != "cpu" and not family.scipy and not op.startswith("activations"):
        return case.replaced(out=DROP, device=device)
    return spoil(d, case) if not family.scipy and d.chance(_FLAWED) else case


def trial(case: Case) -> tuple[str, str, str]:
    """Return the outcome of a case, the kind of its failure ("" if it holds), and a text about it."""
    try:
        return check(case), "", ""
    except MismatchError as error:
        return "failed", error.kind, str(error)
    except Exception as error:
        kind = f"the fuzzer raised {type(error).__name__}"
        return "failed", kind, f"{kind}: {error}"


@contextlib.contextmanager
def unlearning() -> Generator[None, None, None]:
    """Keep what "measure" measures from deciding later choices, and from the disk."""
    from fastconv.dispatch import wisdom

    before, wisdom.LIMIT = wisdom.LIMIT, 0
    try:
        yield
    finally:
        wisdom.LIMIT = before


def events(
    seed: int, first: int, ops: Sequence[str], device: str, end: float, most: int | None
) -> Generator[Any, None, None]:
    """Yield for each case its number before it is run, and (case, outcome, found) after it."""
    alike: Counter[tuple[str, str]] = Counter()
    index = first
    with unlearning():
        while time.monotonic() < end and (most is None or index < most):
            yield index
            case = drawn(seed, index, ops, device)
            outcome, kind, text = trial(case)
            found = None
            if kind:
                alike[case.op, kind] += 1
                small = case
                if alike[case.op, kind] <= MOST_ALIKE:
                    small = shrink(case, lambda smaller, kind=kind: trial(smaller)[1] == kind)  # type: ignore[misc]
                found = Found(trial(small)[2] or f"not again: {text}", str(small), str(case))
            yield case, outcome, found
            index += 1


def run(
    seconds: float = 60.0,
    problems: int | None = None,
    seed: int = 0,
    ops: Sequence[str] | str | None = None,
    device: str = "cpu",
    *,
    isolated: bool = True,
    hang: float = HANG_SECONDS,
    progress: bool = False,
) -> Report:
    """Draw calls, run them, and compare results, errors and memory with the definitions.

    Parameters
    ----------
    seconds : float
        How long, at most.
    problems : int, optional
        How many, at most; by default as many as there is time for.
    seed : int
        Other problems for each seed, the same ones for the same seed.
    ops : str or sequence of str, optional
        Operations, by name or the beginning of a name, such as "conv2d" or "ndimage."; by default all.
    device : {"cpu", "cuda"}
        Where operations that have the choice compute.
    isolated : bool
        In a process of its own, so that a crash or a hang is reported, too.
    hang : float
        A problem that takes more seconds is reported as one that hangs. Keep room for compiling kernels.
    progress : bool
        Show a bar, if tqdm is installed.

    Returns
    -------
    Report
        Counts, and the failures with what reproduces them.

    Raises
    ------
    OptionError
        Unknown operations, or a device that is not there.

    Examples
    --------
    >>> from fastconv.testing import fuzz
    >>> report = fuzz.run(problems=5, ops="nearest_unpool", isolated=False)
    >>> report.problems, report.failures
    (5, [])
    """
    if device != "cpu" and not fc.devices().get(device):
        raise OptionError(f"run: device = {device!r}, expected one that fastconv.devices() lists, or 'cpu'")
    names, report, start = chosen(ops), Report(seed=seed), time.monotonic()
    end = start + seconds
    if isolated:
        source = _isolated(seed, names, device, end, problems, hang)
    else:
        source = events(seed, 0, names, device, end, problems)
    # Ctrl-C ends a run early: what was found until then is the report.
    with contextlib.suppress(KeyboardInterrupt), _bar(progress, problems) as advance:
        for event in source:
            if isinstance(event, int):
                continue
            case, outcome, found = event
            report.count(case, outcome)
            if found:
                report.failures.append(found)
                advance(report, str(found))
            advance(report, "")
            if len(report.failures) >= MOST_FAILURES:
                break
    source.close()
    report.seconds = time.monotonic() - start
    return report


@contextlib.contextmanager
def _bar(progress: bool, problems: int | None) -> Generator[Callable[[Report, str], None], None, None]:
    """Yield what to call after each problem, or with the text of a failure as soon as there is one."""
    bars: Any = None
    if progress and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            bars = import_module("tqdm")

    def say(report: Report, text: str) -> None:
        if progress and text:
            print(text, file=sys.stderr, flush=True)

    if bars is None:
        yield say
        return
    with bars.tqdm(total=problems, unit=" problems", mininterval=0.5) as bar:

        def advance(report: Report, text: str) -> None:
            if text:
                bar.write(text, file=sys.stderr)
            else:
                bar.set_postfix(failures=len(report.failures), refresh=False)
                bar.update()

        yield advance


# A process of its own: it prints a line of JSON before each problem, and one after it.


def work(seed: int, first: int, ops: Sequence[str], device: str, seconds: float, most: int | None) -> None:
    """Run cases from a number on, and print what happens."""
    for event in events(seed, first, ops, device, time.monotonic() + seconds, most):
        if isinstance(event, int):
            line: list[Any] = [event]
        else:
            case, outcome, found = event
            line = [str(case), outcome, vars(found) if found else None]
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _isolated(
    seed: int, ops: Sequence[str], device: str, end: float, most: int | None, hang: float
) -> Generator[Any, None, None]:
    """Yield the events of processes, one after the other, and of problems that end or stop one."""
    first = 0
    while time.monotonic() < end and (most is None or first < most):
        options = ["--work", str(first), "--seed", str(seed), "--op", ",".join(ops), "--device", device]
        options += ["--seconds", str(end - time.monotonic())] + (["--problems", str(most)] if most is not None else [])
        at, why = yield from _follow(options, hang)
        if at is None:
            return
        case = drawn(seed, at, ops, device)
        small = shrink(case, lambda smaller, why=why: _ends(smaller, hang) == why, _CRASH_SECONDS)  # type: ignore[misc]
        yield case, "failed", Found(why, str(small), str(case))
        first = at + 1


def _follow(options: list[str], hang: float) -> Any:
    """Yield what a process reports; return the number of the problem that it did not survive, or None, and why."""
    child = _start(options)
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in child.stdout:  # type: ignore[union-attr]
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    at, why = None, ""
    try:
        while not why:
            try:
                line = lines.get(timeout=hang if at is not None else 10 * HANG_SECONDS)
            except queue.Empty:
                why = f"hang: no result after {hang:.0f} s"
                break
            if line is None:
                status = child.wait()
                why = f"crash: the process ended with status {status}" if status or at is not None else "done"
            elif line.startswith("["):
                event = json.loads(line)
                at = event[0] if len(event) == 1 else None
                yield event[0] if len(event) == 1 else (parse(event[0]), event[1], event[2] and Found(**event[2]))
    finally:
        child.kill()
        reader.join()
        child.communicate()
    if at is None and why.startswith("crash"):
        raise RuntimeError(f"run: {why} before its first problem: {' '.join(options)}")
    return (None if why == "done" else at), why


def _start(options: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "fastconv.testing.fuzz", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _ends(case: Case, hang: float) -> str:
    """Return why a process of its own does not survive a case, "" if it does."""
    child = _start(["--replay", str(case), "--here"])
    try:
        child.communicate(timeout=hang)
    except subprocess.TimeoutExpired:
        return f"hang: no result after {hang:.0f} s"
    finally:
        child.kill()
        child.communicate()
    return f"crash: the process ended with status {child.returncode}" if child.returncode not in (0, 1, 2) else ""


def replay(text: str, isolated: bool = True, hang: float = HANG_SECONDS) -> str:
    """Run the case of one line, and return a text about its failure; "" if all holds.

    Raises
    ------
    OptionError
        If the line is none that the fuzzer prints.
    """
    case = parse(text)
    chosen([case.op])
    if isolated and (why := _ends(case, hang)):
        return why
    with unlearning():
        return trial(case)[2]
