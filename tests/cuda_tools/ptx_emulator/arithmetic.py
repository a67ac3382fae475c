"""Instructions that compute: integers, floats, bits, comparisons. Roundings are to nearest even, as the kernels use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import FLOATS, Array, PTXError, dtype_of, size_of, widened
from tests.cuda_tools.ptx_emulator.machine import Machine, Mask, Operation
from tests.cuda_tools.ptx_emulator.parser import Instruction

_TINY = np.float32(2.0**-126)


def _flushed(values: Array, i: Instruction) -> Array:
    """Return what ``.ftz`` leaves: subnormal float32 become zeros of their sign."""
    if "ftz" in i.parts and i.kind == "f32":
        values = np.where(np.abs(values) < _TINY, np.copysign(np.float32(0), values), values)
    if "sat" in i.parts and i.kind in FLOATS:
        values = np.fmin(np.fmax(values, values.dtype.type(0)), values.dtype.type(1))
    return values


def _unary(function: Callable[[Array, Instruction], Array]) -> Operation:
    def operation(m: Machine, i: Instruction, mask: Mask) -> None:
        m.assign(i.operands[0], _flushed(function(m.value(i.operands[1], i.kind), i), i), mask)

    return operation


def _binary(function: Callable[[Array, Array, Instruction], Array]) -> Operation:
    def operation(m: Machine, i: Instruction, mask: Mask) -> None:
        x, y = (m.value(operand, i.kind) for operand in i.operands[1:3])
        m.assign(i.operands[0], _flushed(function(x, y, i), i), mask)

    return operation


def _extreme(of_numbers: Callable, propagating: Callable) -> Operation:
    """Max or min: the number if one is NaN, NaN with ``.NaN``; -0 is less than +0."""

    def function(x: Array, y: Array, i: Instruction) -> Array:
        if i.kind not in FLOATS:
            return propagating(x, y)
        result = (propagating if "NaN" in i.parts else of_numbers)(x, y)
        negative = np.signbit(x) & np.signbit(y) if propagating is np.maximum else np.signbit(x) | np.signbit(y)
        zero = result.dtype.type(0)
        return np.where((x == 0) & (y == 0), np.where(negative, -zero, zero), result)

    return _binary(function)


def _quotient(x: Array, y: Array, i: Instruction) -> Array:
    if i.kind in FLOATS:
        return x / y
    y = np.where(y == 0, y.dtype.type(1), y)
    floor = x // y
    # Python rounds down, the device towards zero.
    return floor + ((floor < 0) & (floor * y != x)).astype(floor.dtype)


def _remainder(x: Array, y: Array, i: Instruction) -> Array:
    return np.fmod(x, np.where(y == 0, y.dtype.type(1), y))


def _high(x: Array, y: Array, kind: str) -> Array:
    """Return the upper half of the product."""
    if size_of(kind) < 8:
        wide = dtype_of(widened(kind))
        return (x.astype(wide) * y.astype(wide) >> wide.type(8 * size_of(kind))).astype(dtype_of(kind))
    products = [int(a) * int(b) >> 64 for a, b in np.broadcast(x, y)]
    return np.array([p % 2**64 for p in products], np.uint64).view(dtype_of(kind))


def _product(x: Array, y: Array, i: Instruction) -> Array:
    if "wide" in i.parts:
        wide = dtype_of(widened(i.kind))
        return x.astype(wide) * y.astype(wide)
    return _high(x, y, i.kind) if "hi" in i.parts else x * y


def _mad(m: Machine, i: Instruction, mask: Mask) -> None:
    if i.kind in FLOATS:
        _fma(m, i, mask)
        return
    x, y = (m.value(operand, i.kind) for operand in i.operands[1:3])
    third = m.value(i.operands[3], widened(i.kind) if "wide" in i.parts else i.kind)
    m.assign(i.operands[0], _product(x, y, i) + third, mask)


def _fma(m: Machine, i: Instruction, mask: Mask) -> None:
    if i.kind not in FLOATS:
        raise PTXError(f"instruction is not emulated: {i.text}")
    x, y, z = (m.value(operand, i.kind) for operand in i.operands[1:4])
    fused = {"f16": _fma16, "f32": _fma32, "f64": _fma64}[i.kind]
    if "rm" in i.parts:
        fused = _fma32_down
    m.assign(i.operands[0], _flushed(fused(x, y, z), i), mask)


def _fma16(x: Array, y: Array, z: Array) -> Array:
    # A product of halves is exact in float32, and _fma32 keeps what rounding twice would lose.
    product = x.astype(np.float32) * y.astype(np.float32)
    return _odd_sum(product.astype(np.float64), z.astype(np.float64)).astype(np.float16)


def _fma32_down(x: Array, y: Array, z: Array) -> Array:
    """Return the product and sum of float32, rounded to minus infinity: as in the device's exp."""
    # An odd sum is on the same side of every float32 as the exact one.
    exact = _odd_sum(np.multiply(x, y, dtype=np.float64), np.float64(z))
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _fma32(x: Array, y: Array, z: Array) -> Array:
    """Return the product and sum of float32, rounded once.

    The product is exact in float64; its sum with z is rounded, and rounding that again to float32 is wrong only where
    it lies halfway between two float32: there, and among subnormal results, the sum is made odd first.
    """
    product, third = np.multiply(x, y, dtype=np.float64), np.float64(z)
    total = np.asarray(product + third)
    halfway = total.view(np.int64) & 0x1FFFFFFF == 0x10000000
    doubtful = halfway | (np.abs(total) < _TINY) & (total != 0)
    if doubtful.any():
        total = np.where(doubtful, _odd_sum(product, third), total)
    return total.astype(np.float32)


def _odd_sum(a: Array, b: Array) -> Array:
    """Return a + b rounded to odd: an inexact sum has its last bit set, so that a second rounding is right."""
    total = np.asarray(a + b)
    part = total - a
    error = (a - (total - part)) + (b - part)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, bits + step, bits).view(np.float64)


def _fma64(x: Array, y: Array, z: Array) -> Array:
    """Return a product and sum of float64, rounded once or nearly so: Dekker adds the rounding errors of both back."""
    product = np.asarray(x * y)
    a, b = np.float64(134217729.0) * x, np.float64(134217729.0) * y
    xh, yh = a - (a - x), b - (b - y)
    xl, yl = x - xh, y - yh
    lost = ((xh * yh - product) + xh * yl + xl * yh) + xl * yl
    total = product + z
    part = total - product
    error = (product - (total - part)) + (z - part) + lost
    return np.where(np.isfinite(error), total + error, total)


def _shift_left(x: Array, count: Array, bits: int) -> Array:
    return np.where(count >= bits, x.dtype.type(0), x << np.minimum(count, bits - 1).astype(x.dtype))


def _shift_right(x: Array, count: Array, bits: int) -> Array:
    shifted = x >> np.minimum(count, bits - 1).astype(x.dtype)
    return shifted if x.dtype.kind == "i" else np.where(count >= bits, x.dtype.type(0), shifted)


def _shift(m: Machine, i: Instruction, mask: Mask) -> None:
    function = _shift_left if i.parts[0] == "shl" else _shift_right
    x, count = m.value(i.operands[1], i.kind), m.value(i.operands[2], "u32")
    m.assign(i.operands[0], function(x, count, 8 * size_of(i.kind)), mask)


def _setp(m: Machine, i: Instruction, mask: Mask) -> None:
    """Compare; ``ltu`` and its like hold, and ``lt`` does not, if an operand is NaN."""
    x, y = (m.value(operand, i.kind) for operand in i.operands[1:3])
    result = _compared(i.parts[1], x, y, i.kind in FLOATS)
    if len(i.operands) > 3:
        combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[i.parts[2]]
        result = combine(result, m.predicate(i.operands[3]))
    names = i.operands[0].split("|")
    m.assign(names[0], result, mask)
    if len(names) > 1:
        m.assign(names[1], ~result, mask)


def _compared(how: str, x: Array, y: Array, floats: bool) -> Array:
    functions = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }
    if not floats:
        return functions[{"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(how, how)](x, y)
    unordered = np.isnan(x) | np.isnan(y)
    if how in ("num", "nan"):
        return unordered if how == "nan" else ~unordered
    result = functions[how.removesuffix("u") if len(how) == 3 else how](x, y)
    return result | unordered if len(how) == 3 else result & ~unordered


def _selp(m: Machine, i: Instruction, mask: Mask) -> None:
    x, y = (m.value(operand, i.kind) for operand in i.operands[1:3])
    m.assign(i.operands[0], np.where(m.predicate(i.operands[3]), x, y), mask)


def _logic(function: Callable[[Array, Array], Array]) -> Operation:
    return _binary(lambda x, y, i: function(x, y))


def _inexact(function: Callable[[Array], Array]) -> Operation:
    """What the device approximates is computed in float64."""
    return _unary(lambda x, i: function(x.astype(np.float64)).astype(x.dtype))


OPERATIONS: dict[str, Operation] = {
    "add": _binary(lambda x, y, i: x + y),
    "sub": _binary(lambda x, y, i: x - y),
    "mul": _binary(_product),
    "mad": _mad,
    "fma": _fma,
    # The sign of the first and the magnitude of the second.
    "copysign": _binary(lambda x, y, i: np.copysign(y, x)),
    "div": _binary(_quotient),
    "rem": _binary(_remainder),
    "max": _extreme(np.fmax, np.maximum),
    "min": _extreme(np.fmin, np.minimum),
    "neg": _unary(lambda x, i: -x if i.kind in FLOATS else x.dtype.type(0) - x),
    "abs": _unary(lambda x, i: np.abs(x)),
    "and": _logic(np.bitwise_and),
    "or": _logic(np.bitwise_or),
    "xor": _logic(np.bitwise_xor),
    "not": _unary(lambda x, i: ~x),
    "shl": _shift,
    "shr": _shift,
    "setp": _setp,
    "selp": _selp,
    "sqrt": _inexact(np.sqrt),
    "rsqrt": _inexact(lambda x: 1 / np.sqrt(x)),
    "rcp": _inexact(lambda x: 1 / x),
    "ex2": _inexact(np.exp2),
    "lg2": _inexact(np.log2),
    "sin": _inexact(np.sin),
    "cos": _inexact(np.cos),
    "tanh": _inexact(np.tanh),
}
