"""Bytes brought into words of four, whose dot products the microkernel sums.

Byte j of word q is channel 4q + j of a group. Bytes may be flipped: ``x ^ 0x80`` is x + 128 of the other sign where x
was signed, and x - 128 where it was unsigned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels.cpu.ir_builder import I32, UNSIGNED_SIGNED, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import array_at, elements
from fastconv.kernels.cpu.row_ops import Row, each_vector

N = types.intp
_I8 = ir.IntType(8)
ONES = 0x01010101


def _bytes(row: Row, pointer: Any) -> Any:
    """Load a byte for each lane of a row of words, as int32 from 0 to 255."""
    v = row.v
    kind = ir.VectorType(_I8, v.VL)
    if row.mask is None:
        loaded = v.b.load(pointer, align=1, typ=kind)
    else:
        args = [pointer, ir.Constant(I32, 1), row.mask, ir.Constant(kind, [0] * v.VL)]
        load = ir.FunctionType(kind, [a.type for a in args])
        name = f"llvm.masked.load.v{v.VL}i8.p0"
        loaded = v.b.call(cgutils.get_or_insert_function(v.b.module, load, name), args)
    return v.b.zext(loaded, v.vector)


@intrinsic
def _quads(typing, dst, src, plane, channels, n, flip, count):
    """dst[i] = word of the bytes src[i + j * plane], j < channels <= 4, zeros above them, ^ flip, i < n.

    So for `count` quads of planes; their words follow each other.
    """

    def emit(b, args):
        v = Lanes(b, 33)
        dst, src, plane, channels, n, flip, count = args
        to, flip = v.pointer(dst), v.broadcast(b.trunc(flip, I32))
        planes, masks = [], []
        for j in range(4):
            there = b.icmp_signed(">", channels, const(j))
            # What is not there is read from the first plane, and masked.
            planes.append(v.pointer(b.add(src, b.select(there, b.mul(plane, const(j)), const(0)))))
            masks.append(v.broadcast(b.select(there, ir.Constant(I32, 0xFF << 8 * j), ir.Constant(I32, 0))))

        with counted(b, count) as (q, _, _):
            at, words = b.mul(q, b.mul(plane, const(4))), v.at(to, b.mul(q, n))

            def one(i, row):
                word = flip
                for j in range(4):
                    byte = _bytes(row, v.at_bytes(planes[j], b.add(at, i)))
                    word = b.xor(word, b.and_(b.shl(byte, v.splat(8 * j)), masks[j]))
                row.store(word, v.at(words, i))

            each_vector(v, n, one)

    def codegen(context, builder, signature, args):
        outlined(builder, "quads", args, emit)
        return context.get_dummy_value()

    return types.void(*[N] * 7), codegen


def quads_twin(dst, src, plane, channels, n, flip, count):
    """Python twin of `quads`."""
    for q in range(count):
        words = np.zeros((n, 4), np.uint8)
        for j in range(channels):
            words[:, j] = array_at(np.uint8, src + (4 * q + j) * plane, n)
        array_at(np.uint32, dst + 4 * q * n, n)[:] = words.view(np.uint32)[:, 0] ^ np.uint32(flip)


@intrinsic
def _flip_row(typing, dst, src, n, flip):
    """dst[i] = src[i] ^ flip, i < n words; without a source (0), dst[i] = flip."""

    def emit(b, args):
        v = Lanes(b, 33)
        dst, src, n = v.pointer(args[0]), v.pointer(args[1]), args[2]
        flip = v.broadcast(b.trunc(args[3], I32))
        with b.if_else(b.icmp_signed("==", args[1], const(0))) as (nothing, words):
            with nothing:
                each_vector(v, n, lambda i, row: row.store(flip, v.at(dst, i)))
            with words:
                each_vector(v, n, lambda i, row: row.store(b.xor(row.load(v.at(src, i)), flip), v.at(dst, i)))

    def codegen(context, builder, signature, args):
        outlined(builder, "flip_row", args, emit)
        return context.get_dummy_value()

    return types.void(*[N] * 4), codegen


def flip_row_twin(dst, src, n, flip):
    """Python twin of `flip_row`."""
    array_at(np.uint32, dst, n)[:] = (array_at(np.uint32, src, n) if src else np.uint32(0)) ^ np.uint32(flip)


@intrinsic
def _strided_words(typing, dst, pitch, src, step, mask, n, flip):
    """dst[i * pitch] = (the word at src + i * step bytes & mask) ^ flip, i < n."""

    def codegen(context, builder, signature, args):
        v = Lanes(builder, 33)
        dst, pitch, src, step, mask, n, flip = args
        to, source = v.pointer(dst), v.pointer(src)
        mask, flip = builder.trunc(mask, I32), builder.trunc(flip, I32)
        with counted(builder, n) as (i, _, _):
            word = builder.load(v.at_bytes(source, builder.mul(i, step)), align=1, typ=I32)
            v.store_scalar(builder.xor(builder.and_(word, mask), flip), v.at(to, builder.mul(i, pitch)))
        return context.get_dummy_value()

    return types.void(*[N] * 7), codegen


def strided_words_twin(dst, pitch, src, step, mask, n, flip):
    """Python twin of `strided_words`."""
    for i in range(n):
        word = array_at(np.uint32, src + i * step, 1)[0]
        array_at(np.uint32, dst + 4 * i * pitch, 1)[0] = (word & np.uint32(mask)) ^ np.uint32(flip)


@intrinsic(prefer_literal=True)
def _correction(typing, BITS, dst, src, n):
    """dst[0] = what undoes the flip of an input in its products with n words of a weight: 128 times their sum.

    BITS names the signs of (ones, weight). A signed weight needs flipped bytes unsigned: they are 128 too large. An
    unsigned one needs them signed: they are 128 too small.
    """
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, b, signature, args):
        v = Lanes(b, *value)
        _, dst, src, n = args
        source = v.pointer(src)
        total = cgutils.alloca_once_value(b, v.zero)
        ones = v.splat(ONES)

        def one(i, row):
            b.store(v.fma(ones, row.load(v.at(source, i)), b.load(total)), total)

        each_vector(v, n, one, repeatable=False)
        reduce = ir.FunctionType(I32, [v.vector])
        add = cgutils.get_or_insert_function(b.module, reduce, f"llvm.vector.reduce.add.{v.suffix}")
        factor = ir.Constant(I32, factor_of(*value))
        v.store_scalar(b.mul(b.call(add, [b.load(total)]), factor), v.pointer(dst))
        return context.get_dummy_value()

    return types.void(BITS, N, N, N), codegen


def factor_of(BITS: int) -> int:
    """Return by what the sum of a weight is multiplied."""
    return -128 if BITS == UNSIGNED_SIGNED else 128


def correction_twin(BITS, dst, src, n):
    """Python twin of `correction`."""
    kind = np.int8 if BITS == UNSIGNED_SIGNED else np.uint8
    total = array_at(kind, src, 4 * n).sum(dtype=np.int64) * factor_of(BITS)
    elements(33, dst, 1)[0] = np.int64(total).astype(np.int32)


if config.DISABLE_JIT:
    quads, flip_row, strided_words, correction = quads_twin, flip_row_twin, strided_words_twin, correction_twin
else:
    quads, flip_row, strided_words, correction = _quads, _flip_row, _strided_words, _correction
