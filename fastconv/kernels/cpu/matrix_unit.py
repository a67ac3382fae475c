"""Matrix units: 32 x 32 blocks of float32 sums of bfloat16 products, by Intel AMX.

    c[i, j] += sum over k of a[i, k] * b[k, j]

One of a and b is the weight, packed; the other is the input, read in place from a strip by a table of offsets: the
same division of work as in microkernel.py. A float32 is split in two bfloat16, ``x = high + low`` with an error of
2**-17 of x, and three products are summed, ``high*high + high*low + low*high``; what is left out is below 2**-16 of
each product. With `terms` = 1 only the high parts are multiplied.

A tile register holds 16 rows of 64 bytes: 16 x 32 elements of a, 16 pairs (k, k + 1) x 16 of b, 16 x 16 sums. Four hold
the sums, two each the operands: 8 loads feed 12 products of 16 cycles each. The registers are a state of the thread:
`configure` before, `release` after use. Denormals count as zeros, and the unit rounds to nearest even.
Source: Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter 20; G. Henry, P. Tang, A. Heinecke,
Leveraging the bfloat16 Artificial Intelligence Datatype for Higher-Precision Computations, 2019, arXiv:1904.06376.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels.cpu.ir_builder import I64, const, counted, literals
from fastconv.kernels.cpu.memory import array_at, elements, ints

# Rows, columns and k of one block; bytes of a packed weight block: both halves of the high parts, then of the low ones.
BLOCK, DEPTH, TILE_BYTES = 32, 32, 1024
WEIGHT_BYTES = 4 * TILE_BYTES
# What the weight is: the rows of the block (output channels x pixels), or its columns (pixels x output channels).
WEIGHT_ROWS, WEIGHT_COLUMNS = range(2)

N = types.intp
_I8 = ir.IntType(8)
_POINTER = ir.PointerType()


def _palette() -> np.ndarray:
    """Return the configuration: palette 1, eight registers of 16 rows and 64 bytes."""
    palette = np.zeros(64, np.uint8)
    palette[0] = 1
    palette[16:32:2] = 64
    palette[48:56] = 16
    return palette


PALETTE = _palette()


class _Unit:
    """Instructions of the unit, emitted through one IRBuilder."""

    def __init__(self, builder: ir.IRBuilder):
        self.b = builder

    def _call(self, name: str, *args: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
        self.b.call(cgutils.get_or_insert_function(self.b.module, kind, f"llvm.x86.{name}"), args)

    def _pointer(self, address: Any) -> Any:
        return self.b.inttoptr(address, _POINTER)

    def configure(self, address: Any) -> None:
        self._call("ldtilecfg", self._pointer(address))

    def release(self) -> None:
        self._call("tilerelease")

    def zero(self, tile: int) -> None:
        self._call("tilezero", ir.Constant(_I8, tile))

    def load(self, tile: int, address: Any, stride: Any) -> None:
        self._call("tileloadd64", ir.Constant(_I8, tile), self._pointer(address), stride)

    def store(self, tile: int, address: Any, stride: Any) -> None:
        self._call("tilestored64", ir.Constant(_I8, tile), self._pointer(address), stride)

    def multiply(self, c: int, a: int, b: int) -> None:
        self._call("tdpbf16ps", *(ir.Constant(_I8, tile) for tile in (c, a, b)))


@intrinsic
def _configure(typing, address):
    """Load the configuration at `address` into this thread's unit."""

    def codegen(context, builder, signature, args):
        _Unit(builder).configure(args[0])
        return context.get_dummy_value()

    return types.void(N), codegen


@intrinsic
def _release(typing):
    """Leave the unit as it was found: its state costs time at every switch of threads."""

    def codegen(context, builder, signature, args):
        _Unit(builder).release()
        return context.get_dummy_value()

    return types.void(), codegen


# Tile registers: sums (row half, column half), the weight's halves, the input's halves.
_SUMS = ((0, 1), (2, 3))
_WEIGHT, _INPUT = (4, 5), (6, 7)


@intrinsic(prefer_literal=True)
def _multiply(typing, ROLE, terms, c, add, w, x, offsets, stride, half, low, blocks):
    """Compute one block of sums at c, [32][32] float32; `add` = 0 starts from zeros.

    Block k of the weight stands at w + k * 4096. Of the input, the high parts stand at x + offsets[k], rows `stride`
    bytes apart; the second half `half` bytes behind, the low parts `low` bytes behind.
    """
    values = literals(ROLE)
    if values is None:
        return None

    def codegen(context, builder, signature, args):
        terms, c, add, w, x, offsets, stride, half, low, blocks = args[1:]
        b, unit = builder, _Unit(builder)
        sums = [(_SUMS[i][j], b.add(c, const(i * 16 * 128 + j * 64))) for i in range(2) for j in range(2)]
        with b.if_else(b.icmp_signed("!=", add, const(0))) as (more, first):
            with more:
                for tile, address in sums:
                    unit.load(tile, address, const(128))
            with first:
                for tile, _ in sums:
                    unit.zero(tile)
        operands = (w, x, b.inttoptr(offsets, _POINTER), stride, half, low, blocks)
        with b.if_else(b.icmp_signed("==", terms, const(1))) as (one, three):
            with one:
                _sum_products(unit, values[0], 1, *operands)
            with three:
                _sum_products(unit, values[0], 3, *operands)
        for tile, address in sums:
            unit.store(tile, address, const(128))
        return context.get_dummy_value()

    return types.void(ROLE, *[N] * 10), codegen


def _sum_products(unit, role, terms, w, x, offsets, stride, half, low, blocks):
    """Emit the loop over the blocks of k."""
    b = unit.b
    with counted(b, blocks) as (k, _, _):
        weight = b.add(w, b.mul(k, const(WEIGHT_BYTES)))
        source = b.add(x, b.load(b.gep(offsets, [k], source_etype=I64), align=8, typ=I64))

        def load_input(base):
            unit.load(_INPUT[0], base, stride)
            unit.load(_INPUT[1], b.add(base, half), stride)

        def load_weight(part):
            for i, tile in enumerate(_WEIGHT):
                unit.load(tile, b.add(weight, const((2 * part + i) * TILE_BYTES)), const(64))

        def multiply():
            for i in range(2):
                for j in range(2):
                    pair = (_WEIGHT[i], _INPUT[j]) if role == WEIGHT_ROWS else (_INPUT[i], _WEIGHT[j])
                    unit.multiply(_SUMS[i][j], *pair)

        load_weight(0)
        if terms == 3:
            load_input(b.add(source, low))
            multiply()
        load_input(source)
        multiply()
        if terms == 3:
            load_weight(1)
            multiply()


def floats_of(bits: np.ndarray) -> np.ndarray:
    """Return bfloat16 numbers, given as uint16, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _tile(address: int, stride: int, paired: bool) -> np.ndarray:
    """Return the 16 x 32 operand of a tile; `paired`: the 32 x 16 one, whose pairs (k, k + 1) stand together."""
    rows = np.stack([array_at(np.uint16, address + i * stride, 32) for i in range(16)])
    rows = floats_of(rows)
    return rows.reshape(16, 16, 2).transpose(0, 2, 1).reshape(32, 16) if paired else rows


@np.errstate(all="ignore")
def multiply_twin(ROLE, terms, c, add, w, x, offsets, stride, half, low, blocks):
    """Python twin of `multiply`."""
    sums = elements(32, c, BLOCK * BLOCK).reshape(BLOCK, BLOCK)
    if not add:
        sums[...] = 0
    for k in range(blocks):
        weight, source = w + k * WEIGHT_BYTES, x + int(ints(offsets + 8 * k, 1)[0])
        rows = ROLE == WEIGHT_ROWS
        weights = [[_tile(weight + (2 * p + i) * TILE_BYTES, 64, not rows) for i in range(2)] for p in range(2)]
        inputs = [[_tile(source + p * low + i * half, stride, rows) for i in range(2)] for p in range(2)]
        for p, q in ((0, 1), (0, 0), (1, 0)) if terms == 3 else ((0, 0),):
            a, b = (weights[p], inputs[q]) if rows else (inputs[q], weights[p])
            sums += np.concatenate(a, 0) @ np.concatenate(b, 1)


def _nothing(*_: Any) -> None:
    """Python twin of `configure` and `release`."""


if config.DISABLE_JIT:
    configure, release, multiply = _nothing, _nothing, multiply_twin
else:
    configure, release, multiply = _configure, _release, _multiply
