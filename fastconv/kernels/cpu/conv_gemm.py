"""Tables and kernels of the matrix-product algorithms: direct, im2col, pointwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu import weight_packers, words
from fastconv.kernels.cpu.conv_lanes import lanes_kernel
from fastconv.kernels.cpu.conv_tiles import pixels_kernel, planes_kernel
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.program import (
    Kernel,
    Packer,
    Program,
    address,
    aligned,
    bits_of,
    blocking_fields,
    problem_fields,
    table,
)

_planes_kernel = cache(planes_kernel)
_lanes_kernel = cache(lanes_kernel)
_pixels_kernel = cache(pixels_kernel)


def build(geometry: Any, activation: str | None, b: Any, columns: bool) -> Program:
    """Return the program of a matrix-product convolution; `columns`: im2col, else strips read by offset tables."""
    if geometry.weight_dtype:
        return _in_words(geometry, b, columns)
    return _program(geometry, activation, b, columns, bits_of(geometry))


def _in_words(geometry: Any, b: Any, columns: bool) -> Program:
    """Return the program of a convolution of bytes, whose input and weight are brought into words of four."""
    inner = _program(geometry.words, None, b, columns, words.product_bits(geometry, not b.LANES))
    (packer,) = inner.packers
    corrections = geometry.OC if geometry.flipped else 0
    weight = replace(packer, words=words.of_weight(geometry), corrections=corrections)
    return replace(inner, packers=(weight,), words=words.of_input(geometry))


def _program(geometry: Any, activation: str | None, b: Any, columns: bool, bits: int) -> Program:
    """Return the program for elements of a type, as ir_builder.py says."""
    first = geometry.layout == "channels_first"
    turned = first and b.LANES
    if not turned:
        geometry = geometry.flat
    values = problem_fields(geometry) | blocking_fields(b) | epilogue_fields(activation, geometry.dtype)
    KD, geometry = geometry.KD, geometry.planar
    tables, panel = _pass_tables(geometry, b, bits // 8, columns)
    values |= {"M": 1, "PASS_TABLE": address(tables[0]), "PANEL": panel, "STEP": b.PLANE}
    values["C_AT"] = aligned(b.strip_elements * (bits // 8))
    if turned:
        tables.append(np.arange(b.VL, dtype=np.int64) * b.T_PITCH)
        values |= {"T_LINES": input_lines(geometry, b), "T_ROWS": address(tables[-1])}
        values["T_AT"] = b.scratch_bytes - b.NV * b.VL * b.T_PITCH * (bits // 8)
        kernel: Kernel = _lanes_kernel(bits, b.MR, b.NV, b.VL)
    else:
        kernel = (_planes_kernel if first else _pixels_kernel)(bits, b.MR, b.NV, b.VL, columns)
    packers = (_packer(geometry, b, bits_of(geometry), panel, KD),)
    return Program(kernel, F.pack(values), b.tasks, b.scratch_bytes, packers, tables)


def _packer(geometry: Any, b: Any, bits: int, panel: int, KD: int) -> Packer:
    G, OCG, ICG, taps = geometry.G, geometry.OCG, geometry.ICG, geometry.KH * geometry.KW
    if b.LANES:
        return weight_packers.lanes(bits, b, OCG, G * b.TILES, ICG * taps, _lane_order(ICG, KD, taps, b.ICP))
    return weight_packers.panels(bits, b, OCG, G, ICG * taps, b.ICP * taps, panel)


def _lane_order(ICG: int, KD: int, taps: int, ICP: int) -> np.ndarray:
    """Return where column k = (ic, kd, tap) of the weight stands among the rows [pass][tap][channel (kd, ic)]."""
    k, tap = np.divmod(np.arange(ICG * taps, dtype=np.int64), taps)
    ic, kd = np.divmod(k, KD)
    channel = kd * (ICG // KD) + ic
    first = channel // ICP * ICP
    channels = np.minimum(ICP, ICG - first)
    return first * taps + tap * channels + channel - first


def _pass_tables(geometry: Any, b: Any, size: int, columns: bool) -> tuple[list[np.ndarray], int]:
    """Return [table of passes, tables that it names] and the elements of one packed weight tile."""
    taps, NR, rows, panel = geometry.KH * geometry.KW, b.NV * b.VL, [], 0
    # Passes of as many channels share their tables; only the last may have fewer.
    tables: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for p in range(b.PASSES):
        channels = min(b.ICP, geometry.ICG - p * b.ICP)
        if channels not in tables:
            tables[channels] = _tables_of(geometry, b, channels, size, columns)
        seg, boff, places = tables[channels]
        step = 0 if not b.LANES else b.PLANE if columns else channels
        rows.append((len(seg) // 2, address(seg), address(boff), panel, step, address(places)))
        panel += channels * taps * NR if b.LANES else len(seg) // 2 * b.MR * 16
    return [table(x for row in rows for x in row), *(t for three in tables.values() for t in three)], panel


def _tables_of(
    geometry: Any, b: Any, channels: int, size: int, columns: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a pass's tables: segments of the broadcast side, offsets of the vectors in bytes, places in the strip."""
    K = channels * geometry.KH * geometry.KW
    k = np.arange(K, dtype=np.int64)
    if not b.LANES:
        pairs = [(i * b.MR * 16, min(16, K - i * 16)) for i in range(-(-K // 16))]
        offsets = k * b.PLANE if columns else _plane_offsets(geometry, b, channels)
    else:
        pairs = [(0, K)] if columns else list(_pixel_segments(geometry, b, channels))
        offsets = k * (b.NV * b.VL)
    turned = b.LANES and geometry.layout == "channels_first"
    places = places_of(geometry, b, channels) if turned else np.empty(0, np.int64)
    return table(x for pair in pairs for x in pair), offsets * size, places


def tap_at(geometry: Any, b: Any, kh: int, kw: int) -> int:
    """Return the strip offset of a tap in a plane [row phase][column phase][ROWS][P]."""
    row, column = kh * geometry.DH // geometry.SH, kw * geometry.DW // geometry.SW
    phase = kh % b.ROW_PHASES * b.COLUMN_PHASES + kw % b.COLUMN_PHASES
    return (phase * b.ROWS + row) * b.P + column


def input_lines(geometry: Any, b: Any) -> int:
    """Return the input rows that a block of output rows reads."""
    return int((b.RB - 1) * geometry.SH + (geometry.KH - 1) * geometry.DH + 1)


def places_of(geometry: Any, b: Any, pitch: int, columns: int = 0) -> np.ndarray:
    """Return where input pixel (h, w) goes in a strip of pixels `pitch` elements apart.

    h is counted from the first input row of a block on, and w from its first column on if it has so many `columns`.
    Pixels in a stride phase that no tap reads go behind the strip.
    """
    nowhere = b.ROW_PHASES * b.COLUMN_PHASES * b.ROWS * b.P + b.SPILL + b.MR
    h, w = np.arange(input_lines(geometry, b)), np.arange(columns) if columns else np.arange(geometry.W) + geometry.PL
    row_phase, row = _phase_and_index(h[:, None], geometry.SH, geometry.DH, b.ROW_PHASES, b.ROWS)
    column_phase, column = _phase_and_index(w, geometry.SW, geometry.DW, b.COLUMN_PHASES, b.P)
    place = ((row_phase * b.COLUMN_PHASES + column_phase) * b.ROWS + row) * b.P + column
    place = np.where((row_phase < 0) | (column_phase < 0), nowhere, place)
    return np.ascontiguousarray(place.ravel() * pitch, np.int64)


def _phase_and_index(
    position: np.ndarray, stride: int, dilation: int, phases: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the stride phase (-1: none that a tap reads) and the index in it of positions in the padded input."""
    phase, index = np.full(position.shape, -1), position // stride
    for i in range(phases):
        phase[position % stride == i * dilation % stride] = i
    return np.where((index >= count) | (index < 0), -1, phase), index


def _plane_offsets(geometry: Any, b: Any, channels: int) -> np.ndarray:
    taps = [tap_at(geometry, b, kh, kw) for kh in range(geometry.KH) for kw in range(geometry.KW)]
    return (np.arange(channels, dtype=np.int64)[:, None] * b.PLANE + np.array(taps, np.int64)).ravel()


def _pixel_segments(geometry: Any, b: Any, channels: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the runs of k = (kh, kw, channel) that lie together in a strip of pixels."""
    together = geometry.DW == geometry.SW == 1
    for kh in range(geometry.KH):
        if together:
            yield tap_at(geometry, b, kh, 0) * channels, geometry.KW * channels
        else:
            for kw in range(geometry.KW):
                yield tap_at(geometry, b, kh, kw) * channels, channels
