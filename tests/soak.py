"""Soaks, as commands: a million calls without growth, and many Python threads that call mixed operations at once.

    python -m tests.soak --calls 1000000 [--json FILE]
    python -m tests.soak --threads 16 [--seconds 60] [--json FILE]

The exit status is 0 if memory grew by less than GROWTH, or if all bits were those of one thread.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fastconv as fc
from tests import calls

# Calls after which all kernels are compiled, and all caches and the allocator's pools are as full as they get.
WARM = 10_000
# Bytes by which the process may then grow.
GROWTH = 20 << 20
# Of each problem that is drawn, so many calls are made: the first finds nothing in the caches, the others do. While the
# process gets warm, it is one, so that it meets as many problems as it can.
REPEATS = 10
# Elements of an array, about: a call of the first soak takes some 10 us, one of the second some 100 us to 10 ms.
SMALL, LARGE = 600, 400_000


def resident() -> int:
    """Return the bytes of memory that this process holds, without pages of files, which come and go."""
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) << 10


def drawn_calls(seed: int, warm: int) -> Iterator[calls.Call]:
    """Yield calls without end, each of a new random problem, or the last one again after the first `warm` calls."""
    d = calls.Draws(seed, SMALL)
    for _ in range(warm):
        yield calls.draw(d)
    while True:
        one = calls.draw(d)
        for _ in range(REPEATS):
            yield one


def soak(count: int, seed: int = 0, report: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Make so many calls and return by how much the process has grown since the first WARM ones, and what it did."""
    names: Counter[str] = Counter()
    warm, every = min(WARM, count // 2), max(100, count // 50)
    if count > WARM:
        # What is left to compile takes memory for as long as the process lives, but each kernel once.
        fc.warmup(dtypes=list(dict.fromkeys(calls.DTYPES)), progress=False)
    start, first, points = time.perf_counter(), 0, []
    for i, one in zip(range(1, count + 1), drawn_calls(seed, warm), strict=False):
        one.make()
        names[one.name.partition(" ")[0]] += 1
        if i in (warm, count) or i % every == 0:
            gc.collect()
            points.append((i, resident() >> 10))
            first = points[-1][1] if i == warm else first
            if report is not None:
                report({"calls": i, "resident_kib": points[-1][1], "seconds": round(time.perf_counter() - start, 1)})
    seconds = time.perf_counter() - start
    growth = (points[-1][1] - first) << 10
    largest = max(kib for i, kib in points if i >= warm) - first << 10
    return {
        "calls": count,
        "warm": warm,
        "problems": warm + -(-(count - warm) // REPEATS),
        "seconds": round(seconds, 1),
        "calls_per_second": round(count / seconds),
        "growth_bytes": growth,
        "largest_growth_bytes": largest,
        "resident_kib": points,
        "operations": dict(names.most_common()),
        "good": largest < GROWTH,
    }


# Many threads.


def shared_calls(count: int, elements: int, seed: int = 0) -> list[calls.Call]:
    """Return drawn calls, which all threads make."""
    d = calls.Draws(seed, elements)
    return [calls.draw(d) for _ in range(count)]


def rounds(work: Sequence[calls.Call], expected: Sequence[Any], threads: int, total: int) -> tuple[float, list[str]]:
    """Make all calls `total` times, by so many Python threads at once, and return (seconds, what had wrong bits)."""
    wrong: list[str] = []
    # next() is one step under the GIL: the threads share all rounds, each call of which is made by one of them.
    places = iter(range(total * len(work)))
    ready, start = threading.Barrier(threads + 1), []

    def use() -> None:
        ready.wait()
        for place in places:
            one = work[place % len(work)]
            if calls.bits(one.make()) != expected[place % len(work)]:
                wrong.append(one.name)

    users = [threading.Thread(target=use) for _ in range(threads)]
    for user in users:
        user.start()
    ready.wait()
    start.append(time.perf_counter())
    for user in users:
        user.join()
    return time.perf_counter() - start[0], wrong


def many_threads(threads: int, seconds: float, count: int = 120, elements: int = LARGE) -> dict[str, Any]:
    """Compare the throughput of so many Python threads with that of one that uses all cores, and all their bits."""
    work = shared_calls(count, elements)
    with fc.threads(1):
        expected = [calls.bits(one.make()) for one in work]
    once, wrong = rounds(work, expected, 1, 1)
    once, _ = rounds(work, expected, 1, 1)
    # Interleaved, so that what else the machine does meets both.
    pairs = max(3, round(seconds / (12 * once)))
    alone: list[float] = []
    together: list[float] = []
    for _ in range(pairs):
        for times, n in ((alone, 1), (together, threads)):
            taken, found = rounds(work, expected, n, 6)
            times.append(taken)
            wrong += found
    ratios = sorted(a / b for a, b in zip(alone, together, strict=True))
    return {
        "threads": threads,
        "cores": fc.get_num_threads(),
        "calls": 6 * pairs * len(work),
        "alone_seconds": sum(alone),
        "together_seconds": sum(together),
        "ratio": sum(alone) / sum(together),
        "median_ratio": ratios[len(ratios) // 2],
        "wrong": dict(Counter(wrong)),
        "good": not wrong,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak, print what it found, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls of the soak of memory")
    parser.add_argument("--threads", type=int, default=0, help="Python threads that call at once, instead of that soak")
    parser.add_argument("--seconds", type=float, default=60, help="how long the threads call, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the results")
    given = parser.parse_args(arguments)
    if given.threads:
        found = many_threads(given.threads, given.seconds)
    else:
        found = soak(given.calls, given.seed, lambda point: print(point, file=sys.stderr, flush=True))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "resident_kib"}, indent=1))
    return 0 if found["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
