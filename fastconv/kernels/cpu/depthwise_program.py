"""Tables and packers that depthwise and separable convolution share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.kernels.cpu import packing
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.program import Packer, address, blocking_fields, problem_fields, table

_lane_packer = lru_cache(maxsize=None)(packing.lane_packer)


def bits_of(geometry: Any) -> int:
    """Return the bits of one element."""
    return 8 * np.dtype(geometry.dtype).itemsize


def row_offsets(geometry: Any, b: Any, count: int, pitch: int, planes: int) -> np.ndarray:
    """Return where tap row kh < count starts, in elements: [row phase][planes][ROWS] rows of `pitch` elements."""
    kh = np.arange(count, dtype=np.int64)
    return (kh % b.ROW_PHASES * planes * b.ROWS + kh * geometry.DH // geometry.SH) * pitch


def column_offsets(geometry: Any, b: Any, lanes: int) -> np.ndarray:
    """Return where tap column kw starts in a row of the strip, in elements."""
    kw = np.arange(geometry.KW, dtype=np.int64)
    return (kw % b.COLUMN_PHASES * b.ROWS * b.P + kw * geometry.DW // geometry.SW) * lanes


def fields(geometry: Any, activation: str | None, b: Any, tables: list[np.ndarray]) -> dict[str, int]:
    """Return the named fields of `g`; `tables` are the row and column offsets in bytes."""
    first, size = geometry.layout == "channels_first", bits_of(geometry) // 8
    values = problem_fields(geometry) | blocking_fields(b) | epilogue_fields(activation, geometry.dtype)
    values |= {"G": b.TILES, "M": geometry.OC // max(geometry.IC, 1), "PARTS": 1, "STEP": 1 if first else b.NV * b.VL}
    values |= {"C_AT": -(-b.strip_elements * size // 64) * 64, "PLANE": b.MIDDLE}
    values |= {"ROW_OFFSETS": address(tables[0]), "COLUMN_OFFSETS": address(tables[1])}
    return values


def lane_packer(geometry: Any, b: Any, taps: int) -> Packer:
    """Return the packer of a weight (OC, taps) to [channel tile][tap][NR]."""
    NR = b.NV * b.VL
    to = np.arange(taps, dtype=np.int64) * NR
    values = {"OCG": geometry.OC, "K": taps, "TILES": b.TILES, "KP": taps, "PANEL": taps * NR, "TO": address(to)}
    p = table(values[name] for name in packing.PACK_FIELDS)
    return Packer(_lane_packer(bits_of(geometry), NR, b.VL), p, b.TILES, b.TILES * taps * NR, (to,))
