"""A finished register tile, element by element, as one intrinsic: the compiler does not unroll such long loops.

What stays a loop indexes the accumulators by a variable, which moves them to local memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from fastconv.kernels.cuda.microkernel import Tile
from fastconv.kernels.cuda.runtime import SIMULATED

# Where an element stands: (first pixel, first channel, pixels of an image, of a plane and a row, YN, YD, YH, YW, YC,
# pixels left, channels left).
PLACE = 12


@cache
def tile_ops(tile: Tile, apart: bool = False) -> tuple[Any, Any]:
    """Return ``add(acc, array, place)`` and ``store(acc, array, place, clamp)`` of one tile's elements inside.

    The pixels of an image stand YW apart, unless rows and planes are `apart`, which takes two more divisions a pixel.
    """
    return (_twins if SIMULATED else _intrinsics)(tile.rows, tile.columns, apart)


def _twins(rows: list[int], columns: list[int], apart: bool) -> tuple[Any, Any]:
    def each(place):
        p, oc, ODHW, OHW, OW, YN, YD, YH, YW, YC, pixels, channels = map(int, place)
        for j, column in enumerate(columns):
            n, rest = divmod(p + column, ODHW)
            base = n * YN
            if apart:
                od, rest = divmod(rest, OHW)
                oh, rest = divmod(rest, OW)
                base += od * YD + oh * YH
            for i, row in enumerate(rows):
                if column < pixels and row < channels:
                    yield i, j, base + rest * YW + (oc + row) * YC

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


def _intrinsics(rows: list[int], columns: list[int], apart: bool) -> tuple[Any, Any]:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, I64, address

    def each(context, builder, signature, args):
        """Yield the pointer to each accumulator and the one to its element, in a block that runs if it is inside."""
        acc = address(context, builder, signature.args[0], args[0])
        place = [builder.extract_value(args[2], k) for k in range(PLACE)]
        p, oc, ODHW, OHW, OW, YN, YD, YH, YW, YC, pixels, channels = place
        steps = [(ODHW, YN), (OHW, YD), (OW, YH)] if apart else [(ODHW, YN)]
        for j, column in enumerate(columns):
            with builder.if_then(builder.icmp_unsigned("<", I32(column), pixels)):
                rest, base = builder.add(p, I32(column)), I32(0)
                for size, step in steps:
                    quotient = builder.udiv(rest, size)
                    rest = builder.sub(rest, builder.mul(quotient, size))
                    base = builder.add(base, builder.mul(quotient, step))
                base = builder.add(base, builder.mul(rest, YW))
                for i, row in enumerate(rows):
                    with builder.if_then(builder.icmp_unsigned("<", I32(row), channels)):
                        at = builder.add(base, builder.mul(builder.add(oc, I32(row)), YC))
                        element = builder.gep(args[1], [builder.zext(at, I64)])
                        yield builder.gep(acc, [I64(i * len(columns) + j)]), element

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
