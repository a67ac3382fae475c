"""`cvt`: between integers and floats of all sizes, bfloat16 and TF32."""

from __future__ import annotations

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import FLOATS, Array, PTXError, dtype_of, size_of
from tests.cuda_tools.ptx_emulator.machine import Machine, Mask, Operation
from tests.cuda_tools.ptx_emulator.parser import Instruction

_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_INTEGERS = "usb"


def _cvt(m: Machine, i: Instruction, mask: Mask) -> None:
    target, source = i.parts[-2:]
    if target in ("f16x2", "bf16x2"):
        _pack(m, i, mask)
        return
    values = m.value(i.operands[1], source)
    if target == "tf32":
        # rna: to nearest, halfway away from zero.
        bits = values.view(np.uint32).astype(np.uint64) + np.uint64(0x1000)
        result = (bits & np.uint64(0xFFFFE000)).astype(np.uint32)
    else:
        if source == "bf16":
            values, source = from_bf16(values), "f32"
        result = _converted(values, source, target, i)
    m.assign(i.operands[0], _extended(result, target, m.kernel.registers.get(i.operands[0], target)), mask)


def _converted(values: Array, source: str, target: str, i: Instruction) -> Array:
    if target == "bf16":
        return to_bf16(values)
    if source in FLOATS and target in FLOATS:
        return _float_to_float(values, target, i)
    if source in FLOATS:
        return _float_to_integer(values, target, i)
    if source[0] not in _INTEGERS:
        raise PTXError(f"instruction is not emulated: {i.text}")
    if "sat" in i.parts and target[0] in _INTEGERS:
        return _saturated(values, target)
    if target == "f16":
        # Through float64, where every integer that is not infinite in float16 is exact.
        return values.astype(np.float64).astype(np.float16)
    return values.astype(dtype_of(target))


def _float_to_float(values: Array, target: str, i: Instruction) -> Array:
    for name, function in _TO_INTEGER.items():
        if name in i.parts:
            values = function(values)
    result = values.astype(dtype_of(target))
    if "sat" in i.parts:
        result = np.fmin(np.fmax(result, result.dtype.type(0)), result.dtype.type(1))
    return result


def _float_to_integer(values: Array, target: str, i: Instruction) -> Array:
    """Round and clamp to the range of the integer; NaN becomes 0."""
    how = next((function for name, function in _TO_INTEGER.items() if name in i.parts), np.trunc)
    dtype = dtype_of(target)
    limits = np.iinfo(dtype)
    rounded = how(values.astype(np.float64))
    # The largest 64-bit integers are no floats: their neighbour above is.
    high, low = rounded >= float(limits.max), rounded <= float(limits.min)
    inside = np.where(high | low | np.isnan(rounded), 0.0, rounded).astype(dtype)
    return np.where(high, dtype.type(limits.max), np.where(low, dtype.type(limits.min), inside))


def _saturated(values: Array, target: str) -> Array:
    limits, own = np.iinfo(dtype_of(target)), np.iinfo(values.dtype)
    return np.clip(values, max(limits.min, own.min), min(limits.max, own.max)).astype(dtype_of(target))


def _extended(values: Array, kind: str, register: str) -> Array:
    """Return a result in the size of a larger register: its sign goes with it."""
    if size_of(register) <= size_of(kind) or kind in FLOATS:
        return values
    return values.astype(dtype_of(f"{'s' if kind[0] == 's' else 'u'}{8 * size_of(register)}"))


def _pack(m: Machine, i: Instruction, mask: Mask) -> None:
    """Convert two float32 and pack them, the first one in the upper half."""
    high, low = (m.value(operand, "f32") for operand in i.operands[1:3])
    one = to_bf16 if i.parts[-2] == "bf16x2" else lambda values: values.astype(np.float16).view(np.uint16)
    result = one(high).astype(np.uint32) << np.uint32(16) | one(low).astype(np.uint32)
    m.assign(i.operands[0], result, mask)


def to_bf16(values: Array) -> Array:
    """Return the bits of bfloat16, rounded to nearest even; NaN as the device writes it."""
    values = values.astype(np.float32)
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = bits + np.uint64(0x7FFF) + (bits >> np.uint64(16) & np.uint64(1))
    result = (rounded >> np.uint64(16)).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), result)


def from_bf16(bits: Array) -> Array:
    """Return bfloat16 as float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


OPERATIONS: dict[str, Operation] = {"cvt": _cvt}
