"""Winograd's transforms of a tile, S X S^T for each matrix S, as intrinsics made from those of `fastconv.winograd`.

Each is straight-line code on registers: a loop over the elements of a tile, which the compiler would not unroll, would
keep them in local memory. The sums are those that the kernels of the CPU compute.

Source: Lavin and Gray 2016, arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any

from numba import types

from fastconv.kernels.cuda.runtime import SIMULATED
from fastconv.winograd import Scheme

# Of a tile that is read: (first element, steps along H and W, first row and column, rows and columns of the image,
# first element of the result, step of the result).
SOURCE = 9
# Of a tile that is written: (first element, step from point to point, first element of the result, steps along H and W,
# rows and columns that are inside, whether there is a residual).
TARGET = 8


def _apply(scheme: Scheme, inputs: Sequence[Any], add: Callable[..., Any]) -> list[Any]:
    """Return the sums of a scheme; `add` is (sum or None, value, coefficient) -> sum."""
    values = list(inputs)
    for step in scheme.steps:
        total = None
        for j, c in step:
            total = add(total, values[j], c)
        values.append(total)
    return [values[i] for i in scheme.outputs]


def _both_sides(scheme: Scheme, square: Sequence[Sequence[Any]], add: Callable[..., Any]) -> list[list[Any]]:
    columns = [_apply(scheme, column, add) for column in zip(*square, strict=True)]
    return [_apply(scheme, row, add) for row in zip(*columns, strict=True)]


@cache
def transform_in(scheme: Scheme) -> Any:
    """Return ``f(source, target, place)``: a tile, zero outside its image, transformed."""
    return (_twin_in if SIMULATED else _intrinsic_in)(scheme)


@cache
def transform_out(scheme: Scheme) -> Any:
    """Return ``f(source, residual, target, place, bias, clamp)``: a tile of sums transformed, with its epilogue."""
    return (_twin_out if SIMULATED else _intrinsic_out)(scheme)


def _plus(total: Any, value: Any, c: float) -> Any:
    term = value * type(value)(c)
    return term if total is None else total + term


def _twin_in(scheme: Scheme) -> Any:
    def transform(source, target, place):
        first, XH, XW, h0, w0, H, W, to, step = map(int, place)
        zero = target.dtype.type(0)

        def value(i, j):
            inside = (h0 + i) % 2**32 < H and (w0 + j) % 2**32 < W
            return source[(first + i * XH + j * XW) % 2**32] if inside else zero

        square = [[value(i, j) for j in range(scheme.inputs)] for i in range(scheme.inputs)]
        for k, x in enumerate(chain.from_iterable(_both_sides(scheme, square, _plus))):
            target[to + k * step] = x

    return transform


def _twin_out(scheme: Scheme) -> Any:
    def transform(source, residual, target, place, bias, clamp):
        first, step, to, YH, YW, rows, columns, added = map(int, place)
        N, (slope, low, high) = scheme.inputs, clamp
        square = [[source[first + (i * N + j) * step] for j in range(N)] for i in range(N)]
        for i, row in enumerate(_both_sides(scheme, square, _plus)):
            for j, x in enumerate(row):
                if i < rows and j < columns:
                    at = to + i * YH + j * YW
                    y = x + bias + residual[at] if added else x + bias
                    y = y * slope if y < 0 else y
                    y = low if y < low else y
                    target[at] = high if y > high else y

    return transform


def _adder(builder: Any, real: Any) -> Callable[..., Any]:
    from llvmlite import ir

    fma = builder.module.declare_intrinsic("llvm.fma", [real], ir.FunctionType(real, [real] * 3))

    def add(total, value, c):
        if total is None:
            return value if c == 1 else builder.fmul(value, real(c))
        if abs(c) == 1:
            return (builder.fadd if c == 1 else builder.fsub)(total, value)
        return builder.call(fma, [value, real(c), total])

    return add


def _intrinsic_in(scheme: Scheme) -> Any:
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, I64, read_only

    @intrinsic
    def transform(typing, source, target, place):
        def codegen(context, builder, signature, args):
            first, XH, XW, h0, w0, H, W, to, step = (builder.extract_value(args[2], k) for k in range(SOURCE))
            real, N = args[0].type.pointee, scheme.inputs
            rows, columns = (
                [builder.icmp_unsigned("<", builder.add(start, I32(k)), size) for k in range(N)]
                for start, size in ((h0, H), (w0, W))
            )

            def value(i, j):
                before = builder.block
                with builder.if_then(builder.and_(rows[i], columns[j])):
                    steps = builder.add(builder.mul(XH, I32(i)), builder.mul(XW, I32(j)))
                    at = builder.zext(builder.add(first, steps), I64)
                    found, within = read_only(builder, builder.gep(args[0], [at])), builder.block
                either = builder.phi(real)
                either.add_incoming(real(0.0), before)
                either.add_incoming(found, within)
                return either

            square = [[value(i, j) for j in range(N)] for i in range(N)]
            points = chain.from_iterable(_both_sides(scheme, square, _adder(builder, real)))
            for k, x in enumerate(points):
                at = builder.zext(builder.add(to, builder.mul(step, I32(k))), I64)
                builder.store(x, builder.gep(args[1], [at]))
            return context.get_dummy_value()

        return types.void(source, target, types.UniTuple(types.uint32, SOURCE)), codegen

    return transform


def _intrinsic_out(scheme: Scheme) -> Any:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, I64, read_only

    @intrinsic
    def transform(typing, source, residual, target, place, bias, clamp):
        def codegen(context, builder, signature, args):
            first, step, to, YH, YW, rows, columns, added = (builder.extract_value(args[3], k) for k in range(TARGET))
            slope, low, high = (builder.extract_value(args[5], k) for k in range(3))
            real, N = args[0].type.pointee, scheme.inputs
            zero = ir.Constant(real, 0.0)

            def value(i, j):
                at = builder.add(first, builder.mul(step, I32(i * N + j)))
                return read_only(builder, builder.gep(args[0], [builder.zext(at, I64)]))

            square = [[value(i, j) for j in range(N)] for i in range(N)]
            for i, row in enumerate(_both_sides(scheme, square, _adder(builder, real))):
                for j, x in enumerate(row):
                    inside = (builder.icmp_unsigned("<", I32(k), n) for k, n in ((i, rows), (j, columns)))
                    with builder.if_then(builder.and_(*inside)):
                        steps = builder.add(builder.mul(YH, I32(i)), builder.mul(YW, I32(j)))
                        at = builder.zext(builder.add(to, steps), I64)
                        before, plain = builder.block, builder.fadd(x, args[4])
                        with builder.if_then(builder.icmp_unsigned("!=", added, I32(0))):
                            # The residual may be the result.
                            more, within = builder.fadd(plain, builder.load(builder.gep(args[1], [at]))), builder.block
                        y = builder.phi(real)
                        y.add_incoming(plain, before)
                        y.add_incoming(more, within)
                        # Comparisons are false for NaN, which stays.
                        y = builder.select(builder.fcmp_ordered("<", y, zero), builder.fmul(y, slope), y)
                        y = builder.select(builder.fcmp_ordered("<", y, low), low, y)
                        y = builder.select(builder.fcmp_ordered(">", y, high), high, y)
                        builder.store(y, builder.gep(args[2], [at]))
            return context.get_dummy_value()

        kinds = source, residual, target, types.UniTuple(types.uint32, TARGET), bias, clamp
        return types.void(*kinds), codegen

    return transform
