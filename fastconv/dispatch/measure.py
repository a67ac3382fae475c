"""algorithm="measure": time the candidates once on the user's problem, and remember the fastest, on disk too.

All that the model puts within a factor of its best are timed once, then the fastest of them in turns. On one thread,
as in the model, so that the number of threads does not decide.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from fastconv.dispatch import wisdom
from fastconv.dispatch.choose import candidates
from fastconv.dispatch.plan import Prepared, prepare
from fastconv.geometry.conv import ConvGeometry
from fastconv.threads import get_num_threads, threads

REPEATS = 3

# Of a model that is wrong by up to this factor the best is still found.
_WORTH = 6.0
# The last round: so many candidates, each so many times, but not longer than this in all.
_FINALISTS, _ROUNDS, _SECONDS = 3, 9, 2.0
# Noise must not displace what the model chooses.
_BETTER = 0.97
_LIMIT = 512

_fastest: dict[str, str] = {}
_tuning: ContextVar[bool] = ContextVar("fastconv.autotune", default=False)
_lock = threading.Lock()


@contextmanager
def tuned() -> Iterator[None]:
    """Let "auto" mean "measure" in this thread or task, inside a `with` block."""
    token = _tuning.set(True)
    try:
        yield
    finally:
        _tuning.reset(token)


def is_tuned() -> bool:
    """Return whether "auto" means "measure" here."""
    return _tuning.get()


def measured_seconds(prepared: Any, x: np.ndarray, weights: Any, repeats: int = REPEATS) -> float:
    """Return the median time of a call, after one that may compile: with packing, unless a plan has done it."""
    return median_seconds(_call(prepared, x, weights), repeats)


def median_seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the median time of what is called, after one call that may compile; of slow calls of fewer."""
    call()
    times = [_seconds(call)]
    while len(times) < repeats and sum(times) < _SECONDS:
        times.append(_seconds(call))
    return float(np.median(times))


def alone_and_together(call: Callable[[], Any]) -> tuple[float, float]:
    """Return the median time of what is called on one thread, and on all threads."""
    with threads(1):
        alone = median_seconds(call)
    return alone, alone if get_num_threads() == 1 else median_seconds(call)


def fastest(
    function: str,
    g: ConvGeometry,
    activation: str | None,
    precision: str,
    entry: str,
    arrays: tuple[np.ndarray, np.ndarray],
) -> Prepared:
    """Return the prepared problem of the algorithm that was fastest when this problem was first measured."""

    def prepared(name: str) -> Prepared:
        return prepare(function, g, activation, name, precision, entry)

    found = {c.row.name: c.cost.seconds for c in candidates(g, precision, entry) if c.cost}
    if not found:
        # Raises, and says why.
        return prepared("auto")
    return prepared(fastest_name(wisdom.problem("conv", g, precision, entry), found, prepared, arrays))


def fastest_name(
    problem: str,
    predicted: Mapping[str, float],
    prepared: Callable[[str], Any],
    arrays: tuple[np.ndarray, np.ndarray],
) -> str:
    """Return the algorithm that was fastest when this problem was first met, of those with a predicted time.

    `problem` is a text of `wisdom.problem`; `arrays` are the input and the weight to measure with.
    """
    name = _fastest.get(problem)
    if name is None:
        # Two measurements at once would disturb each other.
        with _lock:
            name = _fastest.get(problem) or wisdom.known(problem, predicted)
            if name is None:
                name = _measured(predicted, prepared, arrays)
                wisdom.remember(problem, name)
            if len(_fastest) >= _LIMIT:
                _fastest.clear()
            _fastest[problem] = name
    return name


def _measured(
    predicted: Mapping[str, float], prepared: Callable[[str], Any], arrays: tuple[np.ndarray, np.ndarray]
) -> str:
    best = min(predicted, key=lambda name: predicted[name])
    names = [name for name, seconds in predicted.items() if seconds <= _WORTH * predicted[best]]
    if len(names) == 1:
        return best
    calls, times = {}, {}
    with threads(1):
        for name in names:
            one = prepared(name)
            x, w = (np.ascontiguousarray(a.real, one.geometry.dtype) for a in arrays)
            calls[name] = _call(one, x, (w,))
            calls[name]()
            times[name] = min(_seconds(calls[name]) for _ in range(2))
        finalists = sorted(names, key=lambda name: times[name])[:_FINALISTS]
        finalists += [best] if best not in finalists else []
        found = _in_turns({name: calls[name] for name in finalists}, sum(times[name] for name in finalists))
    winner = min(found, key=lambda name: found[name])
    return winner if found[winner] < _BETTER * found[best] else best


def _in_turns(calls: Mapping[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Return the median time of each call; one round of all takes about `seconds`."""
    rounds = max(1, min(_ROUNDS, int(_SECONDS / seconds)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call))
    return {name: float(np.median(samples)) for name, samples in times.items()}


def call_of(prepared: Any, x: np.ndarray, weights: Any) -> Callable[[], None]:
    """Return what a user's call makes the kernels do, to be timed."""
    return _call(prepared, x, weights)


def _call(prepared: Any, x: np.ndarray, weights: Any) -> Callable[[], None]:
    """Return what a user's call makes the kernels do."""
    out = np.empty(prepared.out_shape, prepared.dtype)
    if prepared.entry == "plan":
        packed = prepared.pack(weights)
        return lambda: prepared.run(x, packed, None, None, out)
    return lambda: prepared.run_once(x, weights, None, None, out)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A forked child may have inherited the lock from a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
