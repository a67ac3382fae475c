"""Transposition of ragged squares, VL x VL at most, in registers."""

from __future__ import annotations

from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import Lanes, const, literals
from fastconv.kernels.cpu.memory import elements
from fastconv.kernels.cpu.row_ops import Row, first_lanes, transposed

N = types.intp


@intrinsic(prefer_literal=True)
def _turn(typing, BITS, dst, ldd, src, lds, rows, columns):
    """dst[k * ldd + i] = src[i * lds + k], k < columns, i < rows; VL columns of VL are written, whatever is in the rest.

    Nothing outside of the rows and columns is read. Vectors behind the last row repeat it.
    """
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v, b = Lanes(builder, *value), builder
        dst, ldd, src, lds, rows, columns = args[1:]
        dst, pointers = v.pointer(dst), [v.pointer(src)]
        for i in range(1, v.VL):
            step = b.select(b.icmp_signed("<", const(i), rows), lds, const(0))
            pointers.append(v.at(pointers[-1], step))
        with b.if_else(b.icmp_signed(">=", columns, const(v.VL))) as (whole, ragged):
            with whole:
                full = [v.load(p) for p in pointers]
                one = b.block
            with ragged:
                row = Row(v, first_lanes(v, columns))
                some = [row.load(p) for p in pointers]
                two = b.block
        loaded = []
        for x, y in zip(full, some, strict=True):
            phi = b.phi(v.vector)
            phi.add_incoming(x, one)
            phi.add_incoming(y, two)
            loaded.append(phi)
        for k, x in enumerate(transposed(b, loaded)):
            v.store(x, v.at(dst, b.mul(ldd, const(k))))
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 6), codegen


def turn_twin(BITS, dst, ldd, src, lds, rows, columns):
    """Python twin of `turn`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for i in range(lanes):
        row = elements(BITS, src + size * min(i, rows - 1) * lds, min(columns, lanes))
        for k in range(lanes):
            elements(BITS, dst + size * (k * ldd + i), 1)[0] = row[k] if k < columns else 0


turn = turn_twin if config.DISABLE_JIT else _turn
