"""Products of TF32 numbers (float32 with a mantissa of 10 bits) by the tensor cores, summed in float32.

A warp multiplies fragments of 16x8 by 8x8 elements; each lane holds two neighbouring columns of two rows, 8 apart, of
each product. Sums have any order, so the taps that a lane multiplies in two instructions are four neighbours: the right
panel holds 16 taps for each column, and a lane loads its own as one vector. Vector v of column c stands at
v ^ (c/2 % 4), so that those of 8 lanes, in loads of two columns and in stores of 8, meet all banks. The left panel,
which is packed so, holds the vector of each lane for 16 rows and 8 taps: its first tap of two rows, then its second.

Source: PTX ISA, mma.m16n8k8 with .tf32; the double-buffered loop around it is CUTLASS's (Thakkar et al.).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types, uint32

from fastconv.kernels.cuda.runtime import SIMULATED

# The product's rows and columns of one instruction; taps of two.
M, N, SLAB = 16, 8, 16
_MMA = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"


if SIMULATED:

    def to_tf32(x):
        """The nearest TF32 number, of two the one farther from zero"""
        if not np.isfinite(x):
            return x
        bits = int(np.float32(x).view(np.uint32))
        return np.uint32(bits + 0x1000 & 0xFFFFE000).view(np.float32)

    def lane_starts(t, row, column):
        """Where the first row and column of a thread begin in their panels"""
        return uint32(row * SLAB), uint32(column * SLAB)

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, I64, U32, address, device

    F32 = ir.FloatType()

    @intrinsic
    def to_tf32(typing, x):
        """The nearest TF32 number, of two the one farther from zero"""

        def codegen(context, builder, signature, args):
            rounded = ir.InlineAsm(ir.FunctionType(I32, [F32]), "cvt.rna.tf32.f32 $0, $1;", "=r,f")
            return builder.bitcast(builder.call(rounded, args), F32)

        return types.float32(types.float32), codegen

    @device
    def lane_starts(t, row, column):
        """Where what a lane loads for its first row and column begins in their panels"""
        lane = uint32(t % uint32(32))
        tap, element = uint32(lane % uint32(4)), uint32(lane // uint32(4))
        vector = uint32(uint32(tap ^ uint32(uint32(element // uint32(2)) % uint32(4))) * uint32(4))
        row = uint32(uint32(uint32(row - element) * uint32(SLAB)) + uint32(lane * uint32(4)))
        # What it loads of the right panel is another column than its first of the product.
        column = uint32(uint32(column + element) - uint32(tap * uint32(2)))
        return row, uint32(uint32(column * uint32(SLAB)) + vector)


def fragment_twin(tile: Any) -> Any:
    """Return what `fragment_updates` returns, for the simulator."""
    rows, columns = np.array(tile.rows), np.array(tile.columns)

    def updates(acc, panels, a, b):
        left, right = int(a) // SLAB + rows, int(b) // SLAB + columns
        lane, half = left % 8 * 4, left // 8 % 2
        for k in range(SLAB):
            left_at = left // M * M * SLAB + k // 2 % 2 * 128 + (lane + k // 4) * 4 + half + k % 2 * 2
            right_at = right * SLAB + (k // 4 ^ right // 2 % 4) * 4 + k % 4
            acc += np.outer(panels[left_at], panels[right_at])

    return updates


def fragment_updates(tile: Any) -> Any:
    """Return what `rank_updates` returns, of panels in TF32, from where `lane_starts` says."""
    vector = ir.VectorType(I32, 4)

    def multiply(builder, left, right, sums):
        """Add the product of the panels at two places to a list of sums: row by row of the thread's own."""
        mma = ir.InlineAsm(
            ir.FunctionType(ir.LiteralStructType([F32] * 4), [I32] * 6 + [F32] * 4),
            _MMA,
            "=f,=f,=f,=f" + ",r" * 6 + ",f" * 4,
        )

        def four(base, offset):
            place = builder.bitcast(builder.gep(base, [I64(offset)]), vector.as_pointer())
            loaded = builder.load(place, align=16)
            return [builder.extract_element(loaded, I32(k)) for k in range(4)]

        columns = [four(right, j * SLAB) for j in range(0, tile.WN, N)]
        for i in range(0, tile.WM, M):
            for k in (0, 2):
                fragment = four(left, i * SLAB + k * 64)
                for j, column in enumerate(columns):
                    at = [(2 * (i // M) + q // 2) * tile.TN + 2 * j + q % 2 for q in range(4)]
                    result = builder.call(mma, [*fragment, *column[k : k + 2], *(sums[place] for place in at)])
                    for q, place in enumerate(at):
                        sums[place] = builder.extract_value(result, q)

    @intrinsic
    def updates(typing, acc, panels, a, b):
        def codegen(context, builder, signature, args):
            left, right = (address(context, builder, signature.args[1], args[1], i) for i in args[2:])
            first = address(context, builder, signature.args[0], args[0])
            places = [builder.gep(first, [I64(i)]) for i in range(tile.TM * tile.TN)]
            sums = [builder.load(place) for place in places]
            multiply(builder, left, right, sums)
            for place, value in zip(places, sums, strict=True):
                builder.store(value, place)
            return context.get_dummy_value()

        return types.void(acc, panels, U32, U32), codegen

    return updates
