"""Choosing the row of the table: the cheapest that can, or the one that the user asks for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch import load
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.conv_table import ROWS, TABLE
from fastconv.dispatch.cost import CALL_CYCLES, HERTZ, Cost, pack_seconds
from fastconv.errors import UnsupportedError
from fastconv.geometry.conv import ConvGeometry


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


def judge(g: ConvGeometry, row: Algorithm, precision: str = "default", bias: bool = False) -> Candidate:
    """Return what one row says to a problem."""
    refused = refusal(g, row, precision)
    if refused is not None:
        return Candidate(row, refused, None, None)
    blocking = row.blocking(g, load.target())
    seconds = (blocking.cycles + CALL_CYCLES) / HERTZ + pack_seconds(blocking.packed_elements, row.pack_cycles)
    return Candidate(row, None, blocking, Cost(row.ops(g, bias), blocking.scratch_bytes, seconds))


@lru_cache(maxsize=512)
def choose(function: str, g: ConvGeometry, algorithm: str, precision: str) -> Candidate:
    """Return the row to use; `algorithm` is "auto" or a name, which is never replaced by another.

    Raises
    ------
    UnsupportedError
        If the named algorithm cannot; the message says why, and which can.
    """
    if algorithm == "auto":
        judged = [judge(g, row, precision) for row in TABLE if not row.automatic]
        return min((c for c in judged if c.cost), key=lambda c: c.cost.seconds if c.cost else 0.0)
    row = ROWS.get(algorithm)
    candidate = judge(g, row, precision) if row else None
    if candidate and candidate.refused is None:
        return candidate
    refused = candidate.refused if candidate else "this version does not have it"
    able = ", ".join(row.name for row in TABLE if judge(g, row, precision).refused is None)
    raise UnsupportedError(f'{function}: algorithm "{algorithm}" refused: {refused}; {able} can')
