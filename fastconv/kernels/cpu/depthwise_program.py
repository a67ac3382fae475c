"""Tables and packers that depthwise and separable convolution share."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels.cpu import weight_packers
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.program import Packer, address, aligned, bits_of, blocking_fields, problem_fields


def row_offsets(geometry: Any, b: Any, count: int, pitch: int, planes: int) -> np.ndarray:
    """Return where tap row (kd, kh < count) starts, in elements: [kd][row phase][planes][ROWS] rows of `pitch`."""
    kh = np.arange(count, dtype=np.int64)
    rows = kh % b.ROW_PHASES * planes * b.ROWS + kh * geometry.DH // geometry.SH
    kd = np.arange(geometry.KD, dtype=np.int64) * b.ROW_PHASES * planes * b.ROWS
    return (kd[:, None] + rows).ravel() * pitch


def column_offsets(geometry: Any, b: Any, lanes: int) -> np.ndarray:
    """Return where tap column kw starts in a row of the strip, in elements."""
    kw = np.arange(geometry.KW, dtype=np.int64)
    return (kw % b.COLUMN_PHASES * b.ROWS * b.P + kw * geometry.DW // geometry.SW) * lanes


def fields(geometry: Any, activation: str | None, b: Any, tables: list[np.ndarray]) -> dict[str, int]:
    """Return the named fields of `g`; `tables` are the row and column offsets in bytes."""
    size = bits_of(geometry) // 8
    values = problem_fields(geometry) | blocking_fields(b) | epilogue_fields(activation, geometry.dtype)
    values |= {"G": b.TILES, "M": geometry.OC // max(geometry.IC, 1), "PARTS": 1}
    values["PLANE"] = b.ROW_PHASES * b.COLUMN_PHASES * b.ROWS * b.P
    # The strip, a separable kernel's buffer, the C tile.
    values |= {"MIDDLE_AT": aligned(b.strip_elements * size), "C_AT": b.scratch_bytes - aligned(b.c_elements * size)}
    values |= {"ROW_OFFSETS": address(tables[0]), "COLUMN_OFFSETS": address(tables[1])}
    return values


def tap_packer(geometry: Any, b: Any, taps: int) -> Packer:
    """Return the packer of a weight (OC, taps) to [channel tile][tap][NR]."""
    order = np.arange(taps, dtype=np.int64)
    return weight_packers.lanes(bits_of(geometry), b, geometry.OC, b.TILES, taps, order)
