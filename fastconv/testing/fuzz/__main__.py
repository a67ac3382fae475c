"""The command line: ``python -m fastconv.testing.fuzz``. Exit codes: 0 all holds, 1 something does not, 2 usage.

Ctrl-C ends a run early, with the report of what was run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fastconv.errors import FastconvError, OptionError
from fastconv.testing.fuzz.running import HANG_SECONDS, chosen, replay, run, work


def main(argv: Sequence[str] | None = None) -> int:
    """Run the fuzzer, or replay a failure, and return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m fastconv.testing.fuzz", description="Compare drawn calls with the definitions."
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, at most (60)")
    parser.add_argument("--problems", type=int, help="how many, at most")
    parser.add_argument("--seed", type=int, default=0, help="other problems for each (0)")
    parser.add_argument("--op", metavar="NAME,...", help="operations, or beginnings of their names; all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", metavar="F", type=Path, help="write the report to a file")
    parser.add_argument("--hang", type=float, default=HANG_SECONDS, help="a problem that takes more seconds hangs (60)")
    parser.add_argument("--replay", metavar="CASE", help="run the problem of one line that the fuzzer printed")
    parser.add_argument("--here", action="store_true", help="in this process: a crash ends it")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    try:
        if given.replay is not None:
            text = replay(given.replay, not given.here, given.hang)
            print(text or "it holds")
            return int(bool(text))
        if given.work is not None:
            work(given.seed, given.work, chosen(given.op), given.device, given.seconds, given.problems)
            return 0
        limits = (given.seconds, given.problems, given.seed, given.op, given.device)
        report = run(*limits, isolated=not given.here, hang=given.hang, progress=True)
    except KeyboardInterrupt:
        return 130
    except FastconvError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    print(report)
    if given.json:
        given.json.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    return int(bool(report.failures))


if __name__ == "__main__":
    sys.exit(main())
