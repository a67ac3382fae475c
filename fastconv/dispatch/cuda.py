"""The device's side of dispatch: which row of the table runs there, and the door to the launch layer."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

from fastconv.dispatch import workspace
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.choose import refusal
from fastconv.dispatch.conv_table import TABLE
from fastconv.dispatch.load import load
from fastconv.errors import UnsupportedError
from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.conv_transpose import Phase, TransposeGeometry, has_gaps, phase_convolution, phases

# Rows whose kernel on the device is another one's: the implicit GEMM reads a 1x1 kernel's columns where they lie.
_KERNELS = {"pointwise": "conv_direct:program"}
# Rows that move more memory than direct does, which only a measurement on a device could justify: by name only. They
# keep the limit of scratch.
_BY_NAME = ("im2col", "winograd")


def begin(function: str, **arrays: Any) -> Any:
    """Return the call of an operation on the device, with its arrays there, or raise what is missing."""
    return load("call:Call", "cuda")(function, arrays)


def convolution(function: str, g: ConvGeometry, activation: str | None, algorithm: str, precision: str) -> Any:
    """Return the program of a convolution on the device, of the row that `chosen` returns."""
    row = chosen(function, g, algorithm, precision)
    program = load("conv_tf32:program" if precision == "tf32" else _KERNELS.get(row.name, row.kernel), "cuda")
    return program(function, g, activation, *([workspace.limit()] if row.name in _BY_NAME else []))


def chosen(function: str, g: ConvGeometry, algorithm: str, precision: str) -> Algorithm:
    """Return the row that runs on the device: the one that was asked for, else the first that can."""
    if precision == "tf32" and g.dtype != "float32":
        raise UnsupportedError(f'{function}: precision = "tf32" with arrays of dtype {g.dtype}, expected float32')
    rows = [row for row in TABLE if "cuda" in row.backends]
    judged: dict[Algorithm, str | None] = {row: refusal(g, row, precision) or _lacks(g, row) for row in rows}
    if precision == "tf32":
        judged = {row: None if row.name == "direct" else 'precision="tf32" is that of direct' for row in rows}
    able = [row for row, refused in judged.items() if refused is None]
    if algorithm in ("auto", "measure"):
        return next(row for row in able if row.name not in _BY_NAME)
    named = [row for row in able if row.name == algorithm]
    if not named:
        reasons = [refused for row, refused in judged.items() if row.name == algorithm]
        reason = reasons[0] if reasons else "this version does not have it on CUDA"
        names = ", ".join(row.name for row in able)
        raise UnsupportedError(f'{function}: algorithm "{algorithm}" refused: {reason}; {names} can')
    return named[0]


def _lacks(g: ConvGeometry, row: Algorithm) -> str | None:
    """Return why a row cannot do on the device what it can on the CPU, or None."""
    kernel = (g.KD, g.KH, g.KW)[-g.axes :]
    if row.name == "winograd" and kernel != (3, 3):
        return f"on CUDA the kernel must be 3x3, got {'x'.join(map(str, kernel))}"
    return None


@lru_cache(maxsize=512)
def transposed(function: str, g: TransposeGeometry, activation: str | None, algorithm: str = "auto") -> Any:
    """Return the program of a transposed convolution on the device."""
    if algorithm not in ("auto", "measure", "direct"):
        reason = "this version does not have it for transposed convolutions on CUDA"
        raise UnsupportedError(f'{function}: algorithm "{algorithm}" refused: {reason}; direct can')
    along = itertools.product(*(phases(g, axis, False) for axis in range(3)))
    pieces = [
        (phase_convolution(g, g.N, each), [_taps(phase) for phase in each], tuple(phase.starts[0] for phase in each))
        for each in along
    ]
    # Where no tap comes stands what no input gives.
    constant = _constant(g) if has_gaps(g) else None
    return load("conv_transpose:Program", "cuda")(function, g, activation, pieces, constant)


def _taps(phase: Phase) -> list[int]:
    """Return the taps of a phase in the order in which they meet the input."""
    return [phase.first[0] - j * phase.step for j in range(phase.taps)]


def _constant(g: TransposeGeometry) -> ConvGeometry:
    """Return a convolution without input channels."""
    ones = (1,) * 9
    return ConvGeometry(
        g.N, g.G, 0, g.OC, *g.outputs, *g.outputs, *ones[:6], *(0,) * 6, *ones[:3], g.layout, g.dtype, "zeros", g.axes
    )


def kernels(name: str) -> Any:
    """Return an object ``module:attribute`` of the kernels for CUDA."""
    return load(name, "cuda")


def missing() -> str | None:
    """Return what CUDA lacks on this machine, in words, or None."""
    reason: str | None = kernels("runtime:current")().missing()
    return reason
