"""Row functions of the activations that are not a clamp, as vectors: `row[0:n] = activation(row[0:n])`.

A kernel calls one by its address on each finished row, so it is fused while the row is in cache, and kernels do not
grow with the number of activations. exp is 2**k * (1 + p(r)), r = x - k*ln 2, p a Taylor polynomial of exp - 1 on
|r| <= ln 2 / 2; keeping p apart from 1 gives expm1, and so tanh, without cancellation (Tang 1989,
doi:10.1145/63522.214389). Error: at most 4e-7 (float32) and 1e-15 (float64), relative to max(|activation|, smallest
normal number); for gelu_tanh times the size of its exponent, which is rounded too. The tests hold it. No fastmath: a
reordered product could overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv._jit import njit
from fastconv.epilogue import ACTIVATIONS, LEAKY_SLOPE
from fastconv.kernels.cpu.ir_builder import Lanes, counted, literals
from fastconv.kernels.cpu.memory import elements
from fastconv.kernels.cpu.row_ops import PYTHON_ROWS, each_vector

N = types.intp
NAMES = tuple(name for name in ACTIVATIONS if name not in (None, "relu", "relu6", "swish"))

# float bits: terms of the polynomial, bits of the mantissa, exponent bias, ln 2 in two parts, least and largest x:
# exp underflows to 0 below and overflows above.
_EXP = {
    32: (7, 23, 127, 0.693359375, -2.12194440e-4, -104.0, 90.0),
    64: (13, 52, 1023, 6.93145751953125e-1, 1.42860682030941723212e-6, -746.0, 711.0),
}


def exp_parts(v: Lanes, x: Any) -> tuple[Any, Any, Any]:
    """Return (s, t, p): exp(x) = s * t * (1 + p), powers of two s and t. NaN gives NaN in p.

    2**k in two factors, since the results from overflow to the smallest denormal need more exponents than one has.
    """
    terms, mantissa, bias, high, low, least, largest = _EXP[v.bits]
    b, integer = v.b, ir.VectorType(ir.IntType(v.bits), v.VL)

    def whole(value: int) -> ir.Constant:
        return ir.Constant(integer, [value] * v.VL)

    def power(exponent: Any) -> Any:
        return b.bitcast(b.shl(b.add(exponent, whole(bias)), whole(mantissa)), v.vector)

    x = v.clamp(x, v.splat(least), v.splat(largest))
    # Adding 1.5 * 2**mantissa rounds to an integer and leaves it in the low bits.
    magic = v.splat(1.5 * 2.0**mantissa)
    shifted = b.fadd(b.fmul(x, v.splat(1 / math.log(2))), magic)
    k = b.fsub(shifted, magic)
    r = v.fma(k, v.splat(-low), v.fma(k, v.splat(-high), x))
    p = v.splat(1 / math.factorial(terms))
    for i in range(terms - 1, 0, -1):
        p = v.fma(p, r, v.splat(1 / math.factorial(i)))
    exponent = b.sub(b.bitcast(shifted, integer), b.bitcast(magic, integer))
    half = b.ashr(exponent, whole(1))
    return power(half), power(b.sub(exponent, half)), b.fmul(p, r)


def _gated(v: Lanes, factor: Any, z: Any) -> Any:
    """Return factor * sigmoid(z), which is NaN where z is -inf and factor infinite."""
    # exp of -|z| cannot overflow. The factor comes in before the last power of two, so that a product that is a normal
    # number does not lose the bits of a denormal sigmoid.
    b, one, least = v.b, v.splat(1.0), v.splat(_EXP[v.bits][-2])
    s, t, p = exp_parts(v, b.fmul(v.call("fabs", [z]), v.splat(-1.0)))
    mantissa = v.fma(s, p, s)
    tail = b.fmul(b.fmul(factor, mantissa), t)
    tail = b.select(b.fcmp_ordered("<", z, least), b.fmul(factor, v.zero), tail)
    numerator = b.select(b.fcmp_ordered("<", z, v.zero), tail, factor)
    return b.fdiv(numerator, b.fadd(one, b.fmul(mantissa, t)))


def _sigmoid(v: Lanes, x: Any) -> Any:
    return _gated(v, v.splat(1.0), x)


def _tanh(v: Lanes, x: Any) -> Any:
    b = v.b
    # Beyond 20 tanh is 1 in both types, and exp(2 * 20) far from overflow.
    s, t, p = exp_parts(v, b.fmul(v.clamp(x, v.splat(-20.0), v.splat(20.0)), v.splat(2.0)))
    scale = b.fmul(s, t)
    expm1 = v.fma(scale, p, b.fsub(scale, v.splat(1.0)))
    return v.call("copysign", [b.fdiv(expm1, b.fadd(expm1, v.splat(2.0))), x])


def _silu(v: Lanes, x: Any) -> Any:
    return _gated(v, x, x)


def _gelu_tanh(v: Lanes, x: Any) -> Any:
    b = v.b
    cube = b.fmul(b.fmul(x, x), x)
    inner = b.fmul(v.splat(2 * math.sqrt(2 / math.pi)), v.fma(v.splat(0.044715), cube, x))
    return _gated(v, x, inner)


def _leaky_relu(v: Lanes, x: Any) -> Any:
    return v.b.select(v.b.fcmp_ordered(">", x, v.zero), x, v.b.fmul(x, v.splat(LEAKY_SLOPE)))


def _hardswish(v: Lanes, x: Any) -> Any:
    b = v.b
    gate = b.fdiv(v.clamp(b.fadd(x, v.splat(3.0)), v.zero, v.splat(6.0)), v.splat(6.0))
    return b.fmul(x, gate)


_FORMULAS: dict[str, Callable[[Lanes, Any], Any]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "silu": _silu,
    "gelu_tanh": _gelu_tanh,
    "leaky_relu": _leaky_relu,
    "hardswish": _hardswish,
}


@intrinsic(prefer_literal=True)
def _vector_row(typing, BITS, INDEX, row, n):
    """row[0:n] = formula INDEX of row[0:n]"""
    value = literals(BITS, INDEX)
    if value is None:
        return None
    bits, index = value
    formula = _FORMULAS[NAMES[index]]

    def codegen(context, builder, signature, args):
        v = Lanes(builder, bits)
        row = v.pointer(args[2])

        def emit(i, access):
            access.store(formula(v, access.load(v.at(row, i))), v.at(row, i))

        each_vector(v, args[3], emit, repeatable=False)
        return context.get_dummy_value()

    return types.void(BITS, INDEX, N, N), codegen


@intrinsic(prefer_literal=True)
def _gelu_row(typing, BITS, row, n):
    """row[0:n] = x * erfc(-x / sqrt(2)) / 2, one element after the other by the C library's erfc in double."""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v, double = Lanes(builder, *value), ir.DoubleType()
        row = v.pointer(args[1])
        erfc = context.get_function(math.erfc, types.float64(types.float64))
        with counted(builder, args[2]) as (i, _, _):
            x = v.load_scalar(v.at(row, i))
            wide = x if v.bits == 64 else builder.fpext(x, double)
            tail = erfc(builder, [builder.fmul(wide, ir.Constant(double, -math.sqrt(0.5)))])
            y = builder.fmul(wide, builder.fmul(tail, ir.Constant(double, 0.5)))
            v.store_scalar(y if v.bits == 64 else builder.fptrunc(y, v.scalar), v.at(row, i))
        return context.get_dummy_value()

    return types.void(BITS, N, N), codegen


def _row_kernel(BITS: int, INDEX: int) -> Any:
    if NAMES[INDEX] == "gelu":

        @njit(fastmath=False)
        def activate(row, n):
            _gelu_row(BITS, row, n)

    else:

        @njit(fastmath=False)
        def activate(row, n):
            _vector_row(BITS, INDEX, row, n)

    return activate


@cache
def row_function(bits: int, name: str) -> int:
    """Return the address of the row function of an activation, compiled or loaded now, alive as long as the process."""
    index = NAMES.index(name)
    if config.DISABLE_JIT:
        number = 1 + index + len(NAMES) * (bits == 64)
        PYTHON_ROWS[number] = _python_row(bits, name)
        return number
    kernel = _row_kernel(bits, index)
    kernel.compile((N, N))
    result = kernel.overloads[(N, N)]
    _ALIVE.append(kernel)
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


_ALIVE: list[Any] = []


def _python_row(bits: int, name: str) -> Callable[[int, int], None]:
    def activate(row: int, n: int) -> None:
        values = elements(bits, row, n)
        with np.errstate(over="ignore"):
            values[:] = ACTIVATIONS[name](values.copy())

    return activate
