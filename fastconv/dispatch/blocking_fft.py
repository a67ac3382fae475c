"""Cutting a convolution in blocks for Fourier transforms: the cheapest of a menu by a model of the time.

A block of `block` padded inputs along each axis gives ``(block - extent) // stride + 1`` outputs, `extent` being what
the dilated kernel spans. So a large block wastes less of a transform, and a small one stays in cache. The model counts
transforms, products and what Python takes, fitted to measurements of scipy.fft (bench/).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import ceil_div, element_bits
from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.padding import effective_kernel

# Cycles of a real transform forth and back for each element: the first axis, each further one, each doubling of size.
FIRST_AXIS, NEXT_AXIS, DOUBLING = 9.0, 5.0, 0.5
# Of float64, in relation.
DOUBLE = 1.45
# Cycles to load an element of a block, to multiply one by the spectrum of a kernel, to finish an output.
LOAD, PRODUCT, FINISH = 1.2, 2.0, 3.0
# A vector's multiply-adds of a sum over channels, with their loads and shuffles.
SUM = 1.7
# Transforms along one axis are computed several at a time, where there are so many; one by one they take longer.
LINES, ALONE = 4, 2.0
# A spectrum that no cache holds is read anew for each group of blocks.
SPECTRUM_BYTES_PER_CYCLE = 4.0
# Python's cycles for one group of blocks, for a call of a transform, and in it for each block.
GROUP_CYCLES, CALL_CYCLES, BLOCK_CYCLES = 1e5, 1e5, 1.5e4
# Elements that a call transforms, as in kernels/cpu/conv_fft.py.
BATCH = 1 << 17
# Elements of the largest block, of a group of blocks that stays in cache, and of one that shares a large spectrum.
LARGEST, NEAR, FAR = 1 << 17, 1 << 16, 1 << 20
# Cycles to transform a kernel, for each element of its spectrum, and which share of them counts in the choice of
# blocks: a call spends them all, a plan none.
TRANSFORM_PACK_CYCLES, PACK_SHARE = 11.0, 0.2
# Rows of outputs of a block of which only rows are transformed; a vector's multiply-adds of a sum over them.
ROW_LINES = (32, 64, 128, 256, 512)
LINE_SUM = 1.4
# Bytes of the largest kernel spectrum.
SPECTRUM_BYTES = 1 << 28
# Blocks are these many times what the kernel spans.
TIMES = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0)
# Register tiles (MO, MT): output channels x blocks, with 32 registers and with 16.
SUM_TILES = {32: ((3, 4), (4, 1)), 16: ((2, 2), (4, 1))}


class FftBlocking(NamedTuple):
    """Sizes along depth, height and width, the outputs of one block (`valid`) and how many blocks that makes.

    A task takes T blocks, of C channels where a channel is its own group, else of a group with OCB output channels at a
    time. `cycles` is the model's time on one thread. With ROWS only rows are transformed; along the columns spectra are
    convolved.
    """

    block: tuple[int, int, int]
    valid: tuple[int, int, int]
    counts: tuple[int, int, int]
    T: int
    C: int
    OCB: int
    MO: int
    MT: int
    VL: int
    FREQUENCIES: int
    ROWS: int
    packed_elements: int
    scratch_bytes: int
    tasks: int
    cycles: float


def extents(g: ConvGeometry) -> tuple[int, int, int]:
    """Return what the dilated kernel spans along each axis."""
    return effective_kernel(g.KD, g.DD), effective_kernel(g.KH, g.DH), effective_kernel(g.KW, g.DW)


@lru_cache(maxsize=512)
def fft_blocking(g: ConvGeometry, target: Any) -> FftBlocking:
    """Return the cheapest blocking of convolution by FFT."""
    blockings = [_blocking(g, target, block, near) for block, near in _choices(g)]
    if g.ICG == 1 and g.KD == 1 and min(g.KH, g.KW) > 1:
        blockings += _row_blockings(g, target)
    return min(blockings, key=lambda b: b.cycles + PACK_SHARE * TRANSFORM_PACK_CYCLES * b.packed_elements)


def _choices(g: ConvGeometry) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield sizes of blocks and how many elements a task holds."""
    outputs, strides = (g.OD, g.OH, g.OW), (g.SD, g.SH, g.SW)
    # Three axes have many combinations.
    times = TIMES if 1 in extents(g) else TIMES[::2]
    per_axis = [block_sizes((n - 1) * s + k, k, times) for n, s, k in zip(outputs, strides, extents(g), strict=True)]
    smallest = tuple(sizes[0] for sizes in per_axis)
    for block in itertools.product(*per_axis):
        size = math.prod(block)
        too_large = size > LARGEST or spectrum_elements(block) * g.OC * g.ICG * element_bits(g) // 8 > SPECTRUM_BYTES
        if block == smallest or not too_large:
            yield from ((block, near) for near in ((NEAR,) if g.ICG == 1 else (NEAR, 4 * NEAR, FAR)))


def _row_blockings(g: ConvGeometry, target: Any) -> Iterator[FftBlocking]:
    """Yield the blockings in which only rows are transformed: a kernel of few rows costs less than a transform."""
    _, tall, wide = extents(g)
    bits, VL, MT = element_bits(g), target.lanes(element_bits(g)), 8 if target.registers == 32 else 4
    for width, lines in itertools.product(block_sizes((g.OW - 1) * g.SW + wide, wide), ROW_LINES):
        VH, VW = min(g.OH, lines), min(g.OW, (width - wide) // g.SW + 1)
        height, counts = (VH - 1) * g.SH + tall, (g.OD, ceil_div(g.OH, VH), ceil_div(g.OW, VW))
        F, blocks = width + 2, g.N * math.prod(counts)
        if height * width > LARGEST and lines != ROW_LINES[0]:
            continue
        T = max(1, min(blocks, NEAR // (height * width)))
        C = max(1, min(g.G, NEAR // (height * width * T * g.OCG)))
        tasks = ceil_div(g.G, C) * ceil_div(blocks, T)
        loaded, kept = g.IC * height * width, g.OC * VH * width
        each = transform_cycles((1, 1, width), bits) / width / 2
        lined = g.OC * ceil_div(VH, MT) * MT * g.KH * ceil_div(F, VL) * LINE_SUM * (1 if target.fma else 2)
        python = tasks * (GROUP_CYCLES + 2 * CALL_CYCLES) + blocks * ceil_div(g.G, C) * BLOCK_CYCLES
        finish = g.N * g.OC * g.OD * g.OH * g.OW * FINISH
        sizes = (1, height, width), (1, VH, VW), counts
        yield FftBlocking(
            *(*sizes, T, C, 1, 1, MT, VL, F // 2, 1, g.OC * g.KH * F),
            scratch_bytes=C * T * (2 * height + 2 * g.OCG * VH) * F * bits // 8,
            tasks=tasks,
            cycles=python + finish + blocks * (loaded * (LOAD + each) + kept * each + lined),
        )


def block_sizes(padded: int, extent: int, times: Sequence[float] = TIMES) -> list[int]:
    """Return sizes of blocks along an axis of `padded` elements; 1 where there is nothing to transform."""
    if extent == 1:
        return [1]
    whole = fast_length(max(padded, 16))
    return sorted({whole, *(min(whole, fast_length(max(16, math.ceil(extent * m)))) for m in times)})


@lru_cache(maxsize=1)
def _fast_lengths() -> Sequence[int]:
    """Return the even products of 2, 3 and 5 up to 2**26."""
    powers = ([base**i for i in range(27)] for base in (2, 3, 5))
    return sorted({n for a, b, c in itertools.product(*powers) if (n := 2 * a * b * c) <= 1 << 26})


def fast_length(n: int) -> int:
    """Return the next size whose transform is fast."""
    lengths = _fast_lengths()
    i = bisect_left(lengths, n)
    return lengths[i] if i < len(lengths) else n


def spectrum_elements(block: Sequence[int]) -> int:
    """Return the real numbers in the spectrum of a real block: only half of the last axis that is transformed."""
    last = max((i for i, n in enumerate(block) if n > 1), default=0)
    return 2 * math.prod(n // 2 + 1 if i == last else n for i, n in enumerate(block))


def transform_cycles(block: Sequence[int], bits: int) -> float:
    """Return the cycles of one real transform of a block and back."""
    size, axes = math.prod(block), sum(n > 1 for n in block)
    each = FIRST_AXIS + NEXT_AXIS * (axes - 1) + DOUBLING * math.log2(size)
    return size * each * (DOUBLE if bits == 64 else 1.0)


def _blocking(g: ConvGeometry, target: Any, block: Sequence[int], near: int) -> FftBlocking:
    outputs, strides = (g.OD, g.OH, g.OW), (g.SD, g.SH, g.SW)
    fits = [(b - k) // s + 1 if b > 1 else 1 for b, k, s in zip(block, extents(g), strides, strict=True)]
    valid = [min(v, n) for v, n in zip(fits, outputs, strict=True)]
    counts = [ceil_div(n, v) for n, v in zip(outputs, valid, strict=True)]
    size, bits, blocks = math.prod(block), element_bits(g), g.N * math.prod(counts)
    F, VL = spectrum_elements(block), target.lanes(bits)
    single = g.ICG == 1
    T = max(1, min(blocks, near // (size * (1 if single else g.ICG))))
    C = max(1, min(g.G, NEAR // (size * T * g.OCG))) if single else 1
    OCB = max(1, min(g.OCG, near // (size * T)))
    MO, MT = SUM_TILES[32 if target.registers == 32 else 16][0 if T > 1 else 1]
    tasks = ceil_div(g.G, C) * ceil_div(blocks, T)
    vectors = ceil_div(F, VL)
    packed = g.OC * F if single else vectors * VL * g.OC * g.ICG
    held = (C * (1 + 2 * g.OCG) if single else 2 * g.ICG + 2 * OCB) * T * F
    return FftBlocking(
        *(tuple(block), tuple(valid), tuple(counts), T, C, OCB, MO, MT, VL, F // 2, 0, packed),  # type: ignore[arg-type]
        scratch_bytes=held * bits // 8,
        tasks=tasks,
        cycles=_cycles(g, target, block, blocks, (T, C, OCB, MO, MT), vectors, tasks),
    )


def _cycles(
    g: ConvGeometry, target: Any, block: Sequence[int], blocks: int, tile: tuple[int, ...], vectors: int, tasks: int
) -> float:
    T, C, OCB, MO, MT = tile
    size, bits = math.prod(block), element_bits(g)
    batch = 1 if g.ICG == 1 else ceil_div(g.ICG, max(1, BATCH // (T * size)))
    batch += 1 if g.ICG == 1 else ceil_div(g.OCG, max(1, BATCH // (T * size)))
    calls = tasks * (batch + ceil_div(g.OCG, OCB))
    python = tasks * GROUP_CYCLES + calls * (CALL_CYCLES + T * BLOCK_CYCLES)
    moved = blocks * size * g.IC * LOAD + g.N * g.OC * g.OD * g.OH * g.OW * FINISH
    alone = ALONE if sum(n > 1 for n in block) == 1 and T * max(C, g.ICG) < LINES else 1.0
    transforms = blocks * (g.IC + g.OC) / 2 * transform_cycles(block, bits) * alone
    if g.ICG == 1:
        return python + moved + transforms + blocks * g.OC * size * PRODUCT
    groups = ceil_div(blocks, T)
    fma = 1 if target.fma else 2
    products = g.G * groups * ceil_div(g.OCG, MO) * MO * ceil_div(T, MT) * MT * g.ICG * vectors
    spectrum = vectors * target.vector_bytes * g.OC * g.ICG
    reading = groups * spectrum / SPECTRUM_BYTES_PER_CYCLE if spectrum > target.l2_bytes / 2 else 0.0
    return python + moved + transforms + products * fma * SUM + reading
