"""Run the calls of guarded_families.py inside a fence: ``python -m tests.guarded MODE COUNT FAMILY...``.

* fence: compiled kernels, arrays and scratch beside closed pages, at their ends and at their starts;
* checked: kernels compiled anew with a check before each access (checked_build.py);
* twins: with NUMBA_DISABLE_JIT=1, the Python twins, whose every access is checked.

Prints one line of JSON for each family: its calls, and the kernels, or twins, that ran. The last call on stderr is the
one that failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tests.fence import Fence, leave

MODES = ("fence", "checked", "twins")
SIDES = ("end", "start")


def main(mode: str, count: int, families: list[str], seeded: Callable[[], None] | None = None) -> None:
    """Run families; `seeded` makes a mistake before the last one. The process ends here."""
    fence = Fence()
    if mode == "checked":
        os.environ["FASTCONV_DISABLE_CACHE"] = "1"
        checks = import_module("tests.checked_build").Checks(fence)
        checks.install()
    with fence.of_numpy():
        ran = _recorded(fence, mode)
        known = import_module("tests.guarded_families").FAMILIES
        fence.scratch()
    names = families or list(known)
    for name in names:
        if seeded is not None and name == names[-1]:
            seeded()
        before, start = ran(), time.perf_counter()
        with fence.of_numpy():
            number = run_family(fence, known[name], count, mode == "twins")
        found = {"family": name, "calls": number, "seconds": round(time.perf_counter() - start, 1)}
        if mode == "checked":
            found["checks"] = checks.count
        print(json.dumps(found | {"ran": sorted(ran() - before)}), flush=True)
    leave()


def run_family(fence: Fence, family: Callable[..., Any], count: int, small: bool) -> int:
    """Run each call with all arrays at the ends of pages, and at their starts, and compare the bits of the results."""
    number, rng = 0, np.random.default_rng(number_of(family.__name__))
    for call in family(rng, count, small):
        print(call.text, file=sys.stderr, flush=True)
        found = []
        # Twins are checked at both ends of an array at a time.
        for side in SIDES[: 1 if small else 2]:
            with fence.of_numpy(side):
                arrays = [np.array(a) for a in call.arrays]
                found.append(_bits(call.run(*arrays)))
                assert _bits(arrays) == _bits(call.arrays), "an input was modified"
                del arrays
        assert found[0] == found[-1], "the result depends on where arrays stand"
        number += 1
    return number


def number_of(name: str) -> int:
    """Return a seed that is the same in every process."""
    return sum(map(ord, name))


def _bits(result: Any) -> Any:
    if isinstance(result, (list, tuple)):
        return [_bits(one) for one in result]
    return result.tobytes() if isinstance(result, np.ndarray) else result


def _recorded(fence: Fence, mode: str) -> Callable[[], set[str]]:
    """Import the package so that what runs is noted; return what tells it."""
    if mode == "twins":
        return import_module("tests.checked_twins").install(fence)
    jit, made = import_module("fastconv._jit"), []
    njit = jit.njit

    def noting(**options: Any) -> Any:
        decorate = njit(**options)

        def noted(function: Any) -> Any:
            made.append((f"{function.__module__.rpartition('.')[2]}:{function.__name__}", decorate(function)))
            return made[-1][1]

        return noted

    jit.njit = noting
    # What is compiled, or loaded, in this process runs in it: warm-up is not among the calls.
    return lambda: {name for name, dispatcher in made if dispatcher.overloads}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
