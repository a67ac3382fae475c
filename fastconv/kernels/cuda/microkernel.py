"""The register tile: BK rank-1 updates of TM x TN accumulators from panels in shared memory, as one intrinsic.

One call instead of BK * TM * TN statements keeps Numba's front end under two seconds; the machine code is the same.
Each thread's tile is made of 4x4 squares that stand WM/(TM/4) rows and WN/(TN/4) columns apart, so that the lanes of a
warp read neighbouring vectors of 16 bytes and no two banks collide.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types, uint32

from fastconv.kernels.cuda.memory import device
from fastconv.kernels.cuda.runtime import SIMULATED
from fastconv.kernels.cuda.tensor_cores import fragment_twin, fragment_updates


class Tile(NamedTuple):
    """Outputs of a block (BM channels x BN pixels, BK taps at a time), a warp (WM x WN) and a thread (TM x TN).

    With `cores` tensor cores multiply (tensor_cores.py).
    """

    BM: int
    BN: int
    BK: int
    TM: int
    TN: int
    WM: int
    WN: int
    cores: bool = False

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.BM // self.TM * (self.BN // self.TN)

    @property
    def square(self) -> tuple[int, int]:
        """Neighbouring rows and columns of a thread."""
        return (1, 2) if self.cores else (4, 4)

    @property
    def steps(self) -> tuple[int, int]:
        """Rows and columns from one square to the next."""
        return self.WM // (self.TM // self.square[0]), self.WN // (self.TN // self.square[1])

    @property
    def rows(self) -> list[int]:
        """Rows of a thread, from its first."""
        return [m // self.square[0] * self.steps[0] + m % self.square[0] for m in range(self.TM)]

    @property
    def columns(self) -> list[int]:
        """Columns of a thread, from its first."""
        return [n // self.square[1] * self.steps[1] + n % self.square[1] for n in range(self.TN)]


@cache
def corner(tile: Tile) -> Any:
    """Return ``f(t)``: the first row and column of the tile that thread t has."""
    WM, WN, WARPS, LANES = tile.WM, tile.WN, tile.BN // tile.WN, tile.WN // tile.TN
    SM, SN = tile.square

    @device
    def first(t):
        lane, warp = uint32(t % uint32(32)), uint32(t // uint32(32))
        row, column = uint32(warp // uint32(WARPS)), uint32(warp % uint32(WARPS))
        row, column = uint32(row * uint32(WM)), uint32(column * uint32(WN))
        row = uint32(row + uint32(uint32(lane // uint32(LANES)) * uint32(SM)))
        return row, uint32(column + uint32(uint32(lane % uint32(LANES)) * uint32(SN)))

    return first


@cache
def rank_updates(tile: Tile, skew: int = 0) -> Any:
    """Return ``f(acc, panels, a, b)``: acc += the product of the panels at elements a and b of shared memory.

    Rows of a panel stand `skew` elements apart.
    """
    steps = tile.BM + skew, tile.BN + skew
    if tile.cores:
        return fragment_twin(tile) if SIMULATED else fragment_updates(tile)
    return _twin(tile, steps) if SIMULATED else _intrinsic(tile, steps)


def _twin(tile: Tile, steps: tuple[int, int]) -> Any:
    rows, columns = np.array(tile.rows), np.array(tile.columns)

    def updates(acc, panels, a, b):
        for k in range(tile.BK):
            acc += np.outer(panels[int(a) + k * steps[0] + rows], panels[int(b) + k * steps[1] + columns])

    return updates


def _intrinsic(tile: Tile, steps: tuple[int, int]) -> Any:
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
                row, column = (
                    squares(left, k * steps[0], tile.rows[::4]),
                    squares(right, k * steps[1], tile.columns[::4]),
                )
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
