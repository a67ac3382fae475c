"""Single elements and runs of bytes at integer addresses, for kernels that move data and compute little.

`BITS` is an element type as in ir_builder.py; 9 stands for int8. Data that is only moved is taken as integers of its
size, so four element types serve all dtypes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I64, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements
from fastconv.kernels.cpu.row_ops import each_vector

N = types.intp
_NUMBA = {32: types.float32, 64: types.float64, 9: types.int8, 17: types.int16, 33: types.int32, 65: types.int64}


@intrinsic(prefer_literal=True)
def _load_at(typing, BITS, address, i):
    """Return the element address[i]."""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        return v.load_scalar(v.at(v.pointer(args[1]), args[2]))

    return _NUMBA[value[0]](BITS, N, N), codegen


def load_at_twin(BITS, address, i):
    """Python twin of `load_at`."""
    return elements(BITS, address + BITS // 8 * i, 1)[0]


@intrinsic(prefer_literal=True)
def _store_at(typing, BITS, address, i, element):
    """address[i] = element"""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        v.store_scalar(args[3], v.at(v.pointer(args[1]), args[2]))
        return context.get_dummy_value()

    return types.void(BITS, N, N, _NUMBA[value[0]]), codegen


def store_at_twin(BITS, address, i, element):
    """Python twin of `store_at`."""
    elements(BITS, address + BITS // 8 * i, 1)[0] = element


@intrinsic(prefer_literal=True)
def _splat_at(typing, BITS, address, i, element):
    """address[i:i + VL] = element"""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        v.store(v.broadcast(args[3]), v.at(v.pointer(args[1]), args[2]))
        return context.get_dummy_value()

    return types.void(BITS, N, N, _NUMBA[value[0]]), codegen


def splat_at_twin(BITS, address, i, element):
    """Python twin of `splat_at`."""
    elements(BITS, address + BITS // 8 * i, targets.current().lanes(BITS))[:] = element


@intrinsic(prefer_literal=True)
def _copy_vector(typing, BITS, dst, src):
    """dst[0:VL] = src[0:VL]"""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        v.store(v.load(v.pointer(args[2])), v.pointer(args[1]))
        return context.get_dummy_value()

    return types.void(BITS, N, N), codegen


def copy_vector_twin(BITS, dst, src):
    """Python twin of `copy_vector`."""
    lanes = targets.current().lanes(BITS)
    elements(BITS, dst, lanes)[:] = elements(BITS, src, lanes)


@intrinsic(prefer_literal=True)
def _double_row(typing, BITS, dst, src, n):
    """dst[2 * i] = dst[2 * i + 1] = src[i], i < n"""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, b, signature, args):
        v = Lanes(b, *value)
        dst, src, n = v.pointer(args[1]), v.pointer(args[2]), args[3]
        whole = b.sdiv(n, const(v.VL))
        with counted(b, whole) as (i, _, _):
            i = b.mul(i, const(v.VL))
            x, target = v.load(v.at(src, i)), v.at(dst, b.mul(i, const(2)))
            for half in (0, 1):
                lanes = [(half * v.VL + j) // 2 for j in range(v.VL)]
                mask = ir.Constant(ir.VectorType(ir.IntType(32), v.VL), lanes)
                v.store(b.shuffle_vector(x, x, mask), v.at(target, half * v.VL))
        done = b.mul(whole, const(v.VL))
        with counted(b, b.sub(n, done)) as (i, _, _):
            i = b.add(i, done)
            x, target = v.load_scalar(v.at(src, i)), v.at(dst, b.mul(i, const(2)))
            v.store_scalar(x, target)
            v.store_scalar(x, v.at(target, 1))
        return context.get_dummy_value()

    return types.void(BITS, N, N, N), codegen


def double_row_twin(BITS, dst, src, n):
    """Python twin of `double_row`."""
    elements(BITS, dst, 2 * n).reshape(n, 2)[...] = elements(BITS, src, n)[:, None]


@intrinsic(prefer_literal=True)
def _add_row(typing, BITS, dst, src, n):
    """dst[0:n] += src[0:n]"""
    value = literals(BITS)
    if value is None:
        return None

    def emit(builder, args):
        v = Lanes(builder, *value)
        dst, src = v.pointer(args[0]), v.pointer(args[1])

        def add(i, row):
            target = v.at(dst, i)
            row.store(v.add(row.load(target), row.load(v.at(src, i))), target)

        each_vector(v, args[2], add, repeatable=False)

    def codegen(context, builder, signature, args):
        outlined(builder, f"add_row_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, N, N, N), codegen


@np.errstate(all="ignore")
def add_row_twin(BITS, dst, src, n):
    """Python twin of `add_row`."""
    elements(BITS, dst, n)[:] += elements(BITS, src, n)


def _memory_call(builder: Any, name: str, dst: Any, second: Any, n: Any) -> None:
    """Call memcpy or memset, as LLVM's intrinsics."""
    pointer, flag = ir.PointerType(), ir.Constant(ir.IntType(1), 0)
    kind = ir.FunctionType(ir.VoidType(), [pointer, second.type, I64, flag.type])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [builder.inttoptr(dst, pointer), second, n, flag])


@intrinsic
def _copy_bytes(typing, dst, src, n):
    """Copy n bytes that do not overlap."""

    def codegen(context, builder, signature, args):
        source = builder.inttoptr(args[1], ir.PointerType())
        _memory_call(builder, "llvm.memcpy.p0.p0.i64", args[0], source, args[2])
        return context.get_dummy_value()

    return types.void(N, N, N), codegen


def copy_bytes_twin(dst, src, n):
    """Python twin of `copy_bytes`."""
    ctypes.memmove(int(dst), int(src), int(n))


@intrinsic
def _zero_bytes(typing, dst, n):
    """Fill n bytes with zeros."""

    def codegen(context, builder, signature, args):
        _memory_call(builder, "llvm.memset.p0.i64", args[0], ir.Constant(ir.IntType(8), 0), args[1])
        return context.get_dummy_value()

    return types.void(N, N), codegen


def zero_bytes_twin(dst, n):
    """Python twin of `zero_bytes`."""
    ctypes.memset(int(dst), 0, int(n))


if config.DISABLE_JIT:
    load_at, store_at, splat_at, copy_vector = load_at_twin, store_at_twin, splat_at_twin, copy_vector_twin
    double_row, add_row, copy_bytes, zero_bytes = double_row_twin, add_row_twin, copy_bytes_twin, zero_bytes_twin
else:
    load_at, store_at, splat_at, copy_vector = _load_at, _store_at, _splat_at, _copy_vector
    double_row, add_row, copy_bytes, zero_bytes = _double_row, _add_row, _copy_bytes, _zero_bytes
