"""The register tile: BK rank-1 updates of TM x TN accumulators from panels in shared memory, as one intrinsic.

One call instead of BK * TM * TN statements keeps Numba's front end under two seconds; the machine code is the same.
Each thread's tile is made of 4x4 squares that stand WM/(TM/4) rows and WN/(TN/4) columns apart, so that the lanes of a
warp read neighbouring vectors of 16 bytes and no two banks collide.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastconv.kernels.cuda.runtime import SIMULATED


class Tile(NamedTuple):
    """Outputs of a block (BM channels x BN pixels, BK taps at a time), a warp (WM x WN) and a thread (TM x TN)."""

    BM: int
    BN: int
    BK: int
    TM: int
    TN: int
    WM: int
    WN: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.BM // self.TM * (self.BN // self.TN)

    @property
    def steps(self) -> tuple[int, int]:
        """Rows and columns from one square of 4x4 to the next."""
        return self.WM // (self.TM // 4), self.WN // (self.TN // 4)


@cache
def rank_updates(tile: Tile, skew: int = 0) -> Any:
    """Return ``f(acc, panels, a, b)``: acc += the product of the panels at elements a and b of shared memory.

    Rows of a panel stand `skew` elements apart.
    """
    rows = [(m // 4) * tile.steps[0] + m % 4 for m in range(0, tile.TM, 4)]
    columns = [(n // 4) * tile.steps[1] + n % 4 for n in range(0, tile.TN, 4)]
    steps = tile.BM + skew, tile.BN + skew
    return (_twin if SIMULATED else _intrinsic)(tile, rows, columns, steps)


def _twin(tile: Tile, rows: list[int], columns: list[int], steps: tuple[int, int]) -> Any:
    def updates(acc, panels, a, b):
        for k in range(tile.BK):
            left, right = int(a) + k * steps[0], int(b) + k * steps[1]
            row = np.concatenate([panels[left + m : left + m + 4] for m in rows])
            column = np.concatenate([panels[right + n : right + n + 4] for n in columns])
            acc += np.outer(row, column)

    return updates


def _intrinsic(tile: Tile, rows: list[int], columns: list[int], steps: tuple[int, int]) -> Any:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I64, U32, address, lanes_of

    def shared_vector(builder, place, lanes):
        vector = ir.VectorType(place.type.pointee, lanes)
        return builder.load(builder.bitcast(place, vector.as_pointer()), align=16)

    @intrinsic
    def updates(typing, acc, panels, a, b):
        def codegen(context, builder, signature, args):
            first = address(context, builder, signature.args[0], args[0])
            left, right = (address(context, builder, signature.args[1], args[1], i) for i in args[2:])
            real = first.type.pointee
            fma = None
            if isinstance(acc.dtype, types.Float):
                fma = builder.module.declare_intrinsic("llvm.fma", [real], ir.FunctionType(real, [real] * 3))
            places = [builder.gep(first, [I64(i)]) for i in range(tile.TM * tile.TN)]
            sums = [builder.load(place) for place in places]

            def squares(base, offset, starts):
                at = [builder.gep(base, [I64(offset + start)]) for start in starts]
                return [value for place in at for value in lanes_of(builder, shared_vector, place)]

            for k in range(tile.BK):
                row, column = squares(left, k * steps[0], rows), squares(right, k * steps[1], columns)
                for i, (m, n) in enumerate((m, n) for m in row for n in column):
                    if fma is None:
                        sums[i] = builder.add(builder.mul(m, n), sums[i])
                    else:
                        sums[i] = builder.call(fma, [m, n, sums[i]])
            for place, value in zip(places, sums, strict=True):
                builder.store(value, place)
            return context.get_dummy_value()

        return types.void(acc, panels, U32, U32), codegen

    return updates
