"""Instructions on the bits of registers: fields, permutations, three-operand logic, counts."""

from __future__ import annotations

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import Array, dtype_of, size_of
from tests.cuda_tools.ptx_emulator.machine import Machine, Mask, Operation
from tests.cuda_tools.ptx_emulator.parser import Instruction

_ONE, _BYTE = np.uint64(1), np.uint64(0xFF)


def _wide(m: Machine, operand: str, kind: str = "u32") -> Array:
    return m.value(operand, kind).astype(np.uint64)


def _ones(count: Array) -> Array:
    """Return words whose lowest `count` bits are set."""
    some = (_ONE << np.minimum(count, np.uint64(63))) - _ONE
    return np.where(count >= 64, np.uint64(2**64 - 1), some)


def _bfe(m: Machine, i: Instruction, mask: Mask) -> None:
    """Extract a field; a signed one is extended with the highest bit that it has."""
    bits = 8 * size_of(i.kind)
    source = _wide(m, i.operands[1], f"b{bits}")
    first, length = (_wide(m, operand) & _BYTE for operand in i.operands[2:4])
    field = np.where(first >= 64, np.uint64(0), source >> np.minimum(first, np.uint64(63))) & _ones(length)
    if i.kind[0] == "s":
        top = np.minimum(first + length - _ONE, np.uint64(bits - 1))
        negative = (length > 0) & (source >> top & _ONE == 1)
        kept = np.minimum(length, top + _ONE - np.minimum(first, top))
        field = np.where(negative, field | ~_ones(kept), field)
    m.assign(i.operands[0], field.astype(dtype_of(f"b{bits}")), mask)


def _bfi(m: Machine, i: Instruction, mask: Mask) -> None:
    kind = f"b{8 * size_of(i.kind)}"
    field, base = _wide(m, i.operands[1], kind), _wide(m, i.operands[2], kind)
    first, length = (_wide(m, operand) & _BYTE for operand in i.operands[3:5])
    low = np.minimum(first, np.uint64(63))
    where = np.where(first >= 64, np.uint64(0), _ones(length) << low)
    m.assign(i.operands[0], ((base & ~where) | ((field << low) & where)).astype(dtype_of(kind)), mask)


def _lop3(m: Machine, i: Instruction, mask: Mask) -> None:
    x, y, z = (m.value(operand, "b32") for operand in i.operands[1:4])
    table, result = int(i.operands[4], 0), np.uint32(0)
    for n in range(8):
        if table >> n & 1:
            result = result | (x if n & 4 else ~x) & (y if n & 2 else ~y) & (z if n & 1 else ~z)
    m.assign(i.operands[0], result, mask)


def _shf(m: Machine, i: Instruction, mask: Mask) -> None:
    """Shift the pair of two registers and keep the upper (left) or lower (right) half."""
    low, high, count = (_wide(m, operand) for operand in i.operands[1:4])
    count = count & np.uint64(31) if "wrap" in i.parts else np.minimum(count, np.uint64(32))
    pair = high << np.uint64(32) | low
    result = pair >> count if "r" in i.parts else pair << count >> np.uint64(32)
    m.assign(i.operands[0], result.astype(np.uint32), mask)


def _prmt(m: Machine, i: Instruction, mask: Mask) -> None:
    """Pick four bytes out of eight; the highest bit of a selector repeats the sign of its byte."""
    low, high, selector = (_wide(m, operand) for operand in i.operands[1:4])
    pair, result = low | high << np.uint64(32), np.uint64(0)
    for n in range(4):
        choice = selector >> np.uint64(4 * n) & np.uint64(15)
        byte = pair >> (choice & np.uint64(7)) * np.uint64(8) & _BYTE
        sign = np.where(byte & np.uint64(128), _BYTE, np.uint64(0))
        result = result | np.where(choice & np.uint64(8), sign, byte) << np.uint64(8 * n)
    m.assign(i.operands[0], result.astype(np.uint32), mask)


def _popc(m: Machine, i: Instruction, mask: Mask) -> None:
    m.assign(i.operands[0], np.bitwise_count(m.value(i.operands[1], i.kind)).astype(np.uint32), mask)


def _clz(m: Machine, i: Instruction, mask: Mask) -> None:
    bits = 8 * size_of(i.kind)
    value = m.value(i.operands[1], i.kind)
    for shift in (1, 2, 4, 8, 16, 32)[: bits.bit_length() - 1]:
        value = value | value >> value.dtype.type(shift)
    m.assign(i.operands[0], bits - np.bitwise_count(value).astype(np.uint32), mask)


def _brev(m: Machine, i: Instruction, mask: Mask) -> None:
    bits = 8 * size_of(i.kind)
    value = m.value(i.operands[1], i.kind)
    result = value.dtype.type(0)
    for n in range(bits):
        result = result | (value >> value.dtype.type(n) & value.dtype.type(1)) << value.dtype.type(bits - 1 - n)
    m.assign(i.operands[0], result, mask)


OPERATIONS: dict[str, Operation] = {
    "bfe": _bfe,
    "bfi": _bfi,
    "lop3": _lop3,
    "shf": _shf,
    "prmt": _prmt,
    "popc": _popc,
    "clz": _clz,
    "brev": _brev,
}
