"""Products of TF32 numbers (float32 with a mantissa of 10 bits) by the tensor cores, summed in float32.

A warp multiplies fragments of 16x8 by 8x8 elements; each lane holds two neighbouring columns of two rows, 8 apart, of
each product. Rows of the panels stand 8 elements modulo 32 apart, so that the lanes of a load, 4 rows times 8 elements,
meet 32 banks.

Source: PTX ISA, mma.m16n8k8 with .tf32; the double-buffered loop around it is CUTLASS's (Thakkar et al.).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastconv.kernels.cuda.runtime import SIMULATED

# The product's rows, columns and taps of one instruction.
M, N, K = 16, 8, 8
_MMA = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"


if SIMULATED:

    def to_tf32(x):
        """The nearest TF32 number, of two the one farther from zero"""
        if not np.isfinite(x):
            return x
        bits = int(np.float32(x).view(np.uint32))
        return np.uint32(bits + 0x1000 & 0xFFFFE000).view(np.float32)

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, I64, U32, address

    F32 = ir.FloatType()

    @intrinsic
    def to_tf32(typing, x):
        """The nearest TF32 number, of two the one farther from zero"""

        def codegen(context, builder, signature, args):
            rounded = ir.InlineAsm(ir.FunctionType(I32, [F32]), "cvt.rna.tf32.f32 $0, $1;", "=r,f")
            return builder.bitcast(builder.call(rounded, args), F32)

        return types.float32(types.float32), codegen


def fragment_updates(tile: Any, steps: tuple[int, int]) -> Any:
    """Return what `rank_updates` returns, of panels in TF32 whose rows stand `steps` apart."""

    def multiply(builder, left, right, sums):
        """Add the product of the panels at two places to a list of sums: row by row of the thread's own."""
        mma = ir.InlineAsm(
            ir.FunctionType(ir.LiteralStructType([F32] * 4), [I32] * 6 + [F32] * 4),
            _MMA,
            "=f,=f,=f,=f" + ",r" * 6 + ",f" * 4,
        )

        def bits(base, offset):
            return builder.load(builder.bitcast(builder.gep(base, [I64(offset)]), I32.as_pointer()))

        for k in range(0, tile.BK, K):
            rows = [
                [bits(left, (k + 4 * (q // 2)) * steps[0] + i + 8 * (q % 2)) for q in range(4)]
                for i in range(0, tile.WM, M)
            ]
            columns = [[bits(right, (k + 4 * q) * steps[1] + j) for q in range(2)] for j in range(0, tile.WN, N)]
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    at = [(2 * i + q // 2) * tile.TN + 2 * j + q % 2 for q in range(4)]
                    result = builder.call(mma, [*row, *column, *(sums[place] for place in at)])
                    for q, place in enumerate(at):
                        sums[place] = builder.extract_value(result, q)

    @intrinsic
    def updates(typing, acc, panels, a, b):
        def codegen(context, builder, signature, args):
            thread = builder.module.declare_intrinsic("llvm.nvvm.read.ptx.sreg.tid.x", (), ir.FunctionType(I32, []))
            lane = builder.and_(builder.call(thread, []), I32(31))
            tap, element = builder.and_(lane, I32(3)), builder.lshr(lane, I32(2))
            # a and b are the thread's first row and column of the product; what it loads of b is another column.
            a = builder.add(args[2], builder.mul(tap, I32(steps[0])))
            b = builder.add(args[3], builder.add(element, builder.mul(tap, I32(steps[1] - 2))))
            left, right = (address(context, builder, signature.args[1], args[1], i) for i in (a, b))
            first = address(context, builder, signature.args[0], args[0])
            places = [builder.gep(first, [I64(i)]) for i in range(tile.TM * tile.TN)]
            sums = [builder.load(place) for place in places]
            multiply(builder, left, right, sums)
            for place, value in zip(places, sums, strict=True):
                builder.store(value, place)
            return context.get_dummy_value()

        return types.void(acc, panels, U32, U32), codegen

    return updates
