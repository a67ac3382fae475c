"""One case: the call, and everything that must hold of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.errors import FastconvError, OptionError, UnsupportedError
from fastconv.testing.fuzz import activations, convolutions, gradients, images, moving, pools, signals, transposed
from fastconv.testing.fuzz.case import Case
from fastconv.testing.fuzz.memory import arguments, touched
from fastconv.testing.fuzz.wanted import Family, Wanted, difference

_MODULES = (convolutions, transposed, pools, moving, gradients, activations, signals, images)
FAMILIES = tuple(module.FAMILY for module in _MODULES)
OPS: dict[str, Family] = {op: family for family in FAMILIES for op in family.ops}
# What every convolution of the contract can be done by: these never refuse.
_ALWAYS = ("auto", "direct", "im2col")


class MismatchError(AssertionError):
    """What does not hold of a case; `kind` stays the same while a case is made smaller."""

    def __init__(self, kind: str, text: str):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def check(case: Case, device: str = "cpu") -> str:
    """Run a case, and return "equal", "refused", or "raised" if the error is the one that must come.

    Raises
    ------
    MismatchError
        If the result, an error, or the memory around the arrays is not as it must be.
    OptionError
        If there is no such operation.
    """
    family = OPS.get(case.op)
    if family is None:
        raise OptionError(f"check: op = {case.op!r}, expected one of {', '.join(OPS)}")
    made, placed = arguments(case)
    plain = {name: _as_given(value) if family.scipy else _plain(value) for name, value in made.items()}
    want: list[Wanted] | Exception = FastconvError(case.flaw)
    if not case.flaw:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            want = family.expect(case.op, plain)
    where = "output" if isinstance(made.get("output"), np.ndarray) else "out"
    out = made.get(where)
    got = _run(family, case.op, made, case.threads)
    _outcome(case, family, got, want)
    result = _first(got)
    if isinstance(out, np.ndarray) and isinstance(result, np.ndarray) and result is not out:
        raise MismatchError("out", f"the result is not {where}")
    if isinstance(result, np.ndarray) and out is not result:
        for name, lies in placed.items():
            if np.may_share_memory(result, lies.memory):
                raise MismatchError("shared", f"the result lies in the memory of {name}")
    failed = isinstance(got, Exception)
    if isinstance(want, list) and not failed:
        _compare(got, want)
    bits = None if failed else [np.array(v) for v in _listed(got) if v is not None]
    if name := touched(placed, "" if failed else where):
        raise MismatchError("memory", f"memory of or around {name} is changed")
    if case.threads > 1 and bits is not None:
        _same_bits(case, family, bits)
    return "raised" if case.flaw or (failed and isinstance(want, Exception)) else "refused" if failed else "equal"


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return np.asarray(value) if isinstance(value, list) else value
    return np.array(value, value.dtype.newbyteorder("="), order="C")


def _as_given(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _run(family: Family, op: str, made: dict[str, Any], count: int) -> Any:
    """Return the result, or the error."""
    with warnings.catch_warnings(), fc.threads(count), _split(count):
        warnings.simplefilter("ignore" if family.scipy else "error")
        try:
            return family.call(op, made)
        except Exception as error:
            return error


@contextmanager
def _split(count: int) -> Iterator[None]:
    """Let the shortest work be split over threads, if there is more than one."""
    # As an attribute of the package it is the function of that name.
    threads: Any = import_module("fastconv.threads")
    before = threads.PARALLEL_SECONDS, threads.CHUNK_SECONDS
    if count > 1:
        threads.PARALLEL_SECONDS, threads.CHUNK_SECONDS = 1e-12, (1e-12, before[1][1])
    try:
        yield
    finally:
        threads.PARALLEL_SECONDS, threads.CHUNK_SECONDS = before


def _outcome(case: Case, family: Family, got: Any, want: list[Wanted] | Exception) -> None:
    """Raise unless the call returned where it must, and raised where it must, in the right way."""
    text = f"{type(got).__name__}: {got}" if isinstance(got, Exception) else ""
    if case.flaw and not family.scipy:
        if not isinstance(got, Exception):
            raise MismatchError("accepted", f"{case.flaw} = {case.arguments[case.flaw]!s:.80} is not refused")
        if not isinstance(got, FastconvError) or len(str(got).splitlines()) != 1 or not str(got):
            raise MismatchError(f"raised {type(got).__name__}", f"{text!r} instead of an error of fastconv of one line")
    elif isinstance(want, Exception):
        if not isinstance(got, type(want)) or str(got) != str(want):
            raise MismatchError("error", f"got {text or type(got).__name__}, expected {type(want).__name__}: {want}")
    elif isinstance(got, Exception) and not _may_refuse(case, got):
        raise MismatchError(f"raised {type(got).__name__}", text)


def _may_refuse(case: Case, error: Exception) -> bool:
    if case.arguments.get("device", "cpu") != "cpu":
        return isinstance(error, UnsupportedError)
    named = case.arguments.get("algorithm", "auto")
    return isinstance(error, UnsupportedError) and named not in _ALWAYS and "refused: " in str(error)


def _listed(got: Any) -> list[Any]:
    return list(got) if isinstance(got, tuple) else [got]


def _first(got: Any) -> Any:
    return _listed(got)[0]


def _compare(got: Any, want: list[Wanted]) -> None:
    results = _listed(got)
    if len(results) != len(want):
        raise MismatchError("result", f"{len(results)} results, expected {len(want)}")
    for i, (one, wanted) in enumerate(zip(results, want, strict=True)):
        if text := difference(one, wanted):
            raise MismatchError("result", text if len(want) == 1 else f"result {i}: {text}")


def _same_bits(case: Case, family: Family, bits: list[np.ndarray]) -> None:
    """Raise unless one thread makes the same bits."""
    made, _ = arguments(case)
    again = _run(family, case.op, made, 1)
    if isinstance(again, Exception):
        raise MismatchError("threads", f"one thread raises {type(again).__name__}: {again}")
    for one, other in zip(bits, [np.array(v) for v in _listed(again) if v is not None], strict=True):
        if one.tobytes() != other.tobytes():
            raise MismatchError("threads", f"{case.threads} threads make other bits than one")
