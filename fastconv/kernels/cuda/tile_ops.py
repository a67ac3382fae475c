"""A finished register tile, element by element, as one intrinsic: the compiler does not unroll such long loops.

What stays a loop indexes the accumulators by a variable, which moves them to local memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from numba import types

from fastconv.kernels.cuda.microkernel import Tile
from fastconv.kernels.cuda.runtime import SIMULATED

# Where an element stands: (first pixel, first channel, pixels of an image, of a plane and a row, YN, YD, YH, YW, YC,
# pixels left, channels left).
PLACE = 12
# Rows of a strip: a thread's neighbouring columns.
STRIP = 4


@cache
def tile_ops(tile: Tile, apart: bool = False) -> tuple[Any, Any]:
    """Return ``add(acc, array, place)`` and ``store(acc, array, place, clamp)`` of one tile's elements inside.

    The pixels of an image stand YW apart, unless rows and planes are `apart`, which takes two more divisions a pixel.
    """
    if SIMULATED:
        return _twins(tile.rows, partial(_pixel_twins, tile.columns, apart))
    return _intrinsics(tile.rows, len(tile.columns), partial(_pixels, tile.columns, apart))


@cache
def strip_ops(tile: Tile) -> tuple[Any, Any]:
    """Return what `tile_ops` does for columns that are strips of pixels below each other, SPACING rows apart.

    A strip is 4 columns. A place is (first column, first channel, strips of an image, SPACING, OW, YN, OH, YH, YW, YC,
    columns left, channels left); of strips that begin in SPACING neighbouring rows each holds what the others leave.
    """
    if SIMULATED:
        return _twins(tile.rows, partial(_strip_twins, tile.columns))
    return _intrinsics(tile.rows, len(tile.columns), partial(_strips, tile.columns))


def _pixel_twins(columns: list[int], apart: bool, place: list[int]) -> Iterator[tuple[int, int]]:
    p, _, ODHW, OHW, OW, YN, YD, YH, YW, _, pixels, _ = place
    for j, column in enumerate(columns):
        n, rest = divmod(p + column, ODHW)
        base = n * YN
        if apart:
            od, rest = divmod(rest, OHW)
            oh, rest = divmod(rest, OW)
            base += od * YD + oh * YH
        if column < pixels:
            yield j, base + rest * YW


def _strip_twins(columns: list[int], place: list[int]) -> Iterator[tuple[int, int]]:
    p, _, STRIPS, SPACING, OW, YN, OH, YH, YW, _, left, _ = place
    for j, column in enumerate(columns):
        n, rest = divmod((p + column) // STRIP, STRIPS)
        strip, ow = divmod(rest, OW)
        oh = strip + (strip // SPACING * (STRIP - 1) + column % STRIP) * SPACING
        if column < left and oh < OH:
            yield j, n * YN + oh * YH + ow * YW


def _twins(rows: list[int], spots: Any) -> tuple[Any, Any]:
    def each(place):
        place = [int(part) for part in place]
        for j, base in spots(place):
            for i, row in enumerate(rows):
                if row < place[11]:
                    yield i, j, base + (place[1] + row) * place[9]

    def add(acc, array, place):
        for i, j, at in each(place):
            acc[i, j] += array[at]

    def store(acc, array, place, clamp):
        slope, low, high = clamp
        for i, j, at in each(place):
            if acc.dtype.kind == "i":
                array[at] = acc[i, j]
                continue
            value = acc[i, j] * slope if acc[i, j] < 0 else acc[i, j]
            value = low if value < low else value
            array[at] = high if value > high else value

    return add, store


def _pixels(columns: list[int], apart: bool, builder: Any, place: Any) -> Iterator[tuple[int, Any]]:
    """Yield the number of each column and where its pixel stands, in a block that runs if it is inside."""
    from fastconv.kernels.cuda.memory import I32

    p, _, ODHW, OHW, OW, YN, YD, YH, YW, _, pixels, _ = place
    steps = [(ODHW, YN), (OHW, YD), (OW, YH)] if apart else [(ODHW, YN)]
    for j, column in enumerate(columns):
        with builder.if_then(builder.icmp_unsigned("<", I32(column), pixels)):
            rest, base = builder.add(p, I32(column)), I32(0)
            for size, step in steps:
                quotient, rest = _divided(builder, rest, size)
                base = builder.add(base, builder.mul(quotient, step))
            yield j, builder.add(base, builder.mul(rest, YW))


def _strips(columns: list[int], builder: Any, place: Any) -> Iterator[tuple[int, Any]]:
    """Yield what `_pixels` does."""
    from fastconv.kernels.cuda.memory import I32

    p, _, STRIPS, SPACING, OW, YN, OH, YH, YW, _, left, _ = place
    for j, column in enumerate(columns[::STRIP]):
        with builder.if_then(builder.icmp_unsigned("<", I32(column), left)):
            n, rest = _divided(builder, builder.lshr(builder.add(p, I32(column)), I32(STRIP.bit_length() - 1)), STRIPS)
            strip, ow = _divided(builder, rest, OW)
            before = builder.mul(builder.udiv(strip, SPACING), I32(STRIP - 1))
            oh = builder.add(strip, builder.mul(before, SPACING))
            base = builder.add(builder.mul(n, YN), builder.add(builder.mul(oh, YH), builder.mul(ow, YW)))
            down = builder.mul(SPACING, YH)
            for r in range(STRIP):
                with builder.if_then(builder.icmp_unsigned("<", oh, OH)):
                    yield j * STRIP + r, base
                oh, base = builder.add(oh, SPACING), builder.add(base, down)


def _divided(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    quotient = builder.udiv(a, b)
    return quotient, builder.sub(a, builder.mul(quotient, b))


def _intrinsics(rows: list[int], columns: int, spots: Any) -> tuple[Any, Any]:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, I64, address

    def each(context, builder, signature, args):
        """Yield the pointer to each accumulator and the one to its element, in a block that runs if it is inside."""
        acc = address(context, builder, signature.args[0], args[0])
        place = [builder.extract_value(args[2], k) for k in range(PLACE)]
        oc, YC, channels = place[1], place[9], place[11]
        for j, base in spots(builder, place):
            for i, row in enumerate(rows):
                with builder.if_then(builder.icmp_unsigned("<", I32(row), channels)):
                    at = builder.add(base, builder.mul(builder.add(oc, I32(row)), YC))
                    element = builder.gep(args[1], [builder.zext(at, I64)])
                    yield builder.gep(acc, [I64(i * columns + j)]), element

    @intrinsic
    def add(typing, acc, array, place):
        def codegen(context, builder, signature, args):
            for sums, element in each(context, builder, signature, args):
                value = context.cast(builder, builder.load(element), array.dtype, acc.dtype)
                plus = builder.fadd if isinstance(acc.dtype, types.Float) else builder.add
                builder.store(plus(builder.load(sums), value), sums)
            return context.get_dummy_value()

        return types.void(acc, array, types.UniTuple(types.uint32, PLACE)), codegen

    @intrinsic
    def store(typing, acc, array, place, clamp):
        def codegen(context, builder, signature, args):
            if isinstance(acc.dtype, types.Integer):
                # Their activations come after they have wrapped to the result's dtype.
                for sums, element in each(context, builder, signature, args):
                    builder.store(context.cast(builder, builder.load(sums), acc.dtype, array.dtype), element)
                return context.get_dummy_value()
            slope, low, high = (builder.extract_value(args[3], k) for k in range(3))
            zero = ir.Constant(slope.type, 0.0)
            for sums, element in each(context, builder, signature, args):
                value = builder.load(sums)
                # Comparisons are false for NaN, which stays.
                value = builder.select(builder.fcmp_ordered("<", value, zero), builder.fmul(value, slope), value)
                value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
                value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
                builder.store(context.cast(builder, value, acc.dtype, array.dtype), element)
            return context.get_dummy_value()

        return types.void(acc, array, types.UniTuple(types.uint32, PLACE), clamp), codegen

    return add, store
