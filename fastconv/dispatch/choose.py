"""Choosing the row of the table: the fastest when it was measured, else by the model, or the one asked for."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch import load, wisdom, workspace
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.conv_table import ROWS, TABLE
from fastconv.dispatch.cost import Cost, call_seconds, pack_seconds, roofline, seconds
from fastconv.errors import UnsupportedError
from fastconv.geometry.conv import ConvGeometry

# What an algorithm must save that rounds more than direct summation does.
SAVED_SECONDS, SAVED_SHARE = 5e-5, 0.1
# To convert an element of an array of integers.
CONVERT_CYCLES = 0.6


class Candidate(NamedTuple):
    """A row judged on one problem: refused with a reason, or with its blocking and cost."""

    row: Algorithm
    refused: str | None
    blocking: Any
    cost: Cost | None


def refusal(g: ConvGeometry, row: Algorithm, precision: str) -> str | None:
    """Return why a row cannot do a problem, or None."""
    refused = row.unsupported(g)
    if refused is None and precision == "strict" and not row.exact:
        refused = 'its rounding error grows past that of direct summation, which precision="strict" forbids'
    return refused


def judge(
    g: ConvGeometry, row: Algorithm, precision: str = "default", bias: bool = False, entry: str = "call"
) -> Candidate:
    """Return what one row says to a problem; a "call" brings its weight into order each time, a "plan" has done so."""
    refused = refusal(g, row, precision)
    if refused is not None:
        return Candidate(row, refused, None, None)
    blocking = ((row.rough if precision == "bf16" else None) or row.blocking)(g, load.target())
    # What repairs a result is part of the algorithm that was chosen.
    refused = workspace.refusal(blocking.scratch_bytes) if entry != "repair" else None
    if refused is not None:
        return Candidate(row, refused, None, None)
    ops = row.ops(g, bias)
    time = roofline(blocking.cycles, ops) + call_seconds()
    if entry == "call":
        time += pack_seconds(blocking.packed_elements, row.pack_cycles)
    if g.weight_dtype:
        # Input and weight in words are two more passes.
        time += call_seconds()
    return Candidate(row, None, blocking, Cost(ops, blocking.scratch_bytes, time))


def candidates(g: ConvGeometry, precision: str, entry: str) -> list[Candidate]:
    """Return what the rows that "auto" may choose say to a problem; of rows that do the same, the first."""
    judged = [judge(g, row, precision, entry=entry) for row in TABLE if not row.automatic]
    different = {(c.row.kernel, c.blocking): c for c in reversed(judged) if c.refused is None}
    return list(reversed(different.values()))


def _seconds(candidate: Candidate) -> float:
    return candidate.cost.seconds if candidate.cost else math.inf


def _cheapest(found: list[Candidate]) -> Candidate:
    """Return the cheapest; one that rounds more than direct summation only where that clearly pays."""
    best, exact = (min(some, key=_seconds) for some in (found, [c for c in found if c.row.exact] or found))
    return best if pays(_seconds(best), _seconds(exact)) else exact


def pays(rounded: float, exact: float) -> bool:
    """Return whether what rounds more than direct summation saves enough seconds."""
    return exact - rounded > max(SAVED_SECONDS, SAVED_SHARE * exact)


@lru_cache(maxsize=512)
def choose(function: str, g: ConvGeometry, algorithm: str, precision: str, entry: str = "call") -> Candidate:
    """Return the row to use; `algorithm` is "auto" or a name, which is never replaced by another.

    `entry` is who asks: a "call", a "plan", or a "repair" of a result, which keeps no limit of scratch.

    Raises
    ------
    UnsupportedError
        If the named algorithm cannot; the message says why, and which can.
    """
    if algorithm == "auto":
        found = {c.row.name: c for c in candidates(g, precision, entry)}
        if not found:
            raise UnsupportedError(
                f"{function}: no algorithm keeps the limit: direct: {judge(g, ROWS['direct']).refused}"
            )
        advised = wisdom.advice(wisdom.problem("conv", g, precision, entry), found)
        if advised is not None:
            return found[advised]
        return _cheapest(list(found.values()))
    row = ROWS.get(algorithm)
    candidate = judge(g, row, precision, entry=entry) if row else None
    if candidate and candidate.refused is None:
        return candidate
    refused = candidate.refused if candidate else "this version does not have it"
    able = ", ".join(row.name for row in TABLE if judge(g, row, precision).refused is None)
    raise UnsupportedError(f'{function}: algorithm "{algorithm}" refused: {refused}; {able} can')


@lru_cache(maxsize=512)
def in_bytes(
    function: str, g: ConvGeometry, dtypes: tuple[str, str], algorithm: str, precision: str, entry: str
) -> ConvGeometry:
    """Return a problem of integers, whose input and weight have these dtypes of bytes, as it is computed fastest.

    Sums modulo 2**32 must do. It is the problem on dot products of bytes where the CPU has them and that is faster,
    else the problem as it is; the result is the same.
    """
    if not load.target().dots or g.ICG < 2:
        return g
    small = g._replace(dtype=dtypes[0], weight_dtype=dtypes[1])
    inputs, outputs = g.N * g.IC * g.D * g.H * g.W, g.N * g.OC * g.OD * g.OH * g.OW
    # Else the input is brought to the dtype of the sums; these, to a result of fewer bits.
    converted = {g: inputs, small: outputs if g.dtype == "int16" else 0}
    found = {}
    for one, elements in converted.items():
        with suppress(UnsupportedError):
            kernel = _seconds(choose(function, one, algorithm, precision, entry))
            found[one] = kernel + seconds(elements * CONVERT_CYCLES)
    return min(found, key=lambda one: found[one]) if found else g


workspace.on_change(in_bytes.cache_clear)
workspace.on_change(choose.cache_clear)
