"""Instructions that move data: loads, stores, register moves, atomics, asynchronous copies.

An asynchronous copy is carried out at the `cp.async.wait` that covers it, not at its issue: a kernel that forgets to
wait reads what was there before, and whoever touches the target in between is reported.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import DTYPES, Array, PTXError, dtype_of, size_of
from tests.cuda_tools.ptx_emulator.machine import Machine, Mask, Operation
from tests.cuda_tools.ptx_emulator.memory import LOCAL, SHARED
from tests.cuda_tools.ptx_emulator.parser import Instruction, vector

_REDUCTIONS = {
    "add": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


class Copy(NamedTuple):
    """An asynchronous copy in flight; `group` is each lane's commit group."""

    lanes: Array
    addresses: Array
    values: list[Array]
    group: Array
    what: str


def _space(i: Instruction, addresses: Array, m: Machine) -> str:
    if "const" in i.parts:
        return "global"
    named = next((part for part in i.parts if part in ("global", "shared", "local")), None)
    return named or m.memory.space_of(addresses)


def _spread(m: Machine, lanes: Array, values: Array) -> Array:
    """Return one value per lane from those of the active ones."""
    if len(lanes) == m.count:
        return values
    full = np.zeros(m.count, values.dtype)
    full[lanes] = values
    return full


def _ld(m: Machine, i: Instruction, mask: Mask) -> None:
    if "param" in i.parts:
        m.assign(i.operands[0], _parameter(m, i), mask)
        return
    targets, lanes = vector(i.operands[0]), m.active(mask)
    addresses = m.address(i.operands[1])[lanes]
    space = _space(i, addresses, m)
    loaded = m.memory.load(space, addresses, i.kind, len(targets), lanes, i.text)
    for name, values in zip(targets, loaded, strict=True):
        register = m.kernel.registers.get(name, i.kind)
        if size_of(register) > size_of(i.kind):
            values = values.astype(DTYPES[f"{'s' if i.kind[0] == 's' else 'u'}{8 * size_of(register)}"])
        m.assign(name, _spread(m, lanes, values), mask)


def _parameter(m: Machine, i: Instruction) -> Array:
    name = i.operands[1].strip("[] ")
    if name not in m.values:
        raise PTXError(f"parameter is not emulated: {i.text}")
    return m.value(name, i.kind)


def _st(m: Machine, i: Instruction, mask: Mask) -> None:
    lanes = m.active(mask)
    addresses = m.address(i.operands[0])[lanes]
    values = [m.full(name, i.kind)[lanes] for name in vector(i.operands[1])]
    m.memory.store(_space(i, addresses, m), addresses, i.kind, values, lanes, i.text)


def _mov(m: Machine, i: Instruction, mask: Mask) -> None:
    """Move, pack ``{a, b}`` into one register, or unpack."""
    target, source = i.operands
    if not {target[0], source[0]} & {"{"}:
        m.assign(target, m.value(source, i.kind), mask)
        return
    names = vector(source if source[0] == "{" else target)
    bits = 8 * size_of(i.kind) // len(names)
    part, whole = f"b{bits}", dtype_of(f"b{8 * size_of(i.kind)}")
    if source[0] == "{":
        result = whole.type(0)
        for n, name in enumerate(names):
            result = result | m.value(name, part).astype(whole) << whole.type(bits * n)
        m.assign(target, result, mask)
        return
    value = m.value(source, f"b{8 * size_of(i.kind)}")
    for n, name in enumerate(names):
        m.assign(name, (value >> whole.type(bits * n)).astype(dtype_of(part)), mask)


def _cvta(m: Machine, i: Instruction, mask: Mask) -> None:
    """Convert between the address in a space and the generic one."""
    base = SHARED if "shared" in i.parts else LOCAL if "local" in i.parts else 0
    value = m.value(i.operands[1], "u64")
    offset = np.uint64(base)
    m.assign(i.operands[0], value - offset if "to" in i.parts else value + offset, mask)


def _atom(m: Machine, i: Instruction, mask: Mask) -> None:
    """Read, change, write; `red` is without the old value. Lanes take their turn in order."""
    returns = i.parts[0] == "atom"
    operands = i.operands[returns:]
    lanes = m.active(mask)
    addresses = m.address(operands[0])[lanes]
    how = next((p for p in i.parts if p in _REDUCTIONS or p in ("exch", "cas", "inc", "dec")), None)
    if how is None or how in ("inc", "dec") or i.kind not in DTYPES:
        raise PTXError(f"instruction is not emulated: {i.text}")
    memory, index = m.memory.atomic(_space(i, addresses, m), addresses, i.kind, lanes, i.text)
    values = [m.full(operand, i.kind)[lanes] for operand in operands[1:]]
    if not returns:
        _REDUCTIONS[how].at(memory, index, values[0])
        return
    old = np.zeros(len(lanes), memory.dtype)
    for n, at in enumerate(index):
        old[n] = memory[at]
        if how == "exch":
            memory[at] = values[0][n]
        elif how == "cas":
            memory[at] = values[1][n] if old[n] == values[0][n] else old[n]
        else:
            memory[at] = _REDUCTIONS[how](old[n], values[0][n])
    m.assign(i.operands[0], _spread(m, lanes, old), mask)


def _cp(m: Machine, i: Instruction, mask: Mask) -> None:
    if i.parts[1] != "async" or "bulk" in i.parts or "mbarrier" in i.parts:
        raise PTXError(f"instruction is not emulated: {i.text}")
    if "commit_group" in i.parts:
        m.groups[m.active(mask)] += 1
    elif "wait_group" in i.parts or "wait_all" in i.parts:
        _finish(m, mask, None if "wait_all" in i.parts else int(i.operands[0], 0))
    else:
        _issue(m, i, mask)


def _issue(m: Machine, i: Instruction, mask: Mask) -> None:
    """Read the source of a copy; what ``src-size`` does not cover is zeros, and not read."""
    lanes, size = m.active(mask), int(i.operands[2], 0)
    target, source = (m.address(operand)[lanes] for operand in i.operands[:2])
    taken = np.full(len(lanes), size) if len(i.operands) < 4 else m.full(i.operands[3], "u32")[lanes].astype(np.int64)
    if (taken > size).any() or (taken % 4).any():
        raise PTXError(f"source size is not emulated: {i.text}")
    values = [np.zeros(len(lanes), np.uint32) for _ in range(size // 4)]
    for count in np.unique(taken[taken > 0]):
        some = taken == count
        # The source is aligned to the whole size, however much of it is read.
        if (source[some] % np.uint64(size)).any():
            count = size
        loaded = _words(m, source[some], int(count), lanes[some], i)
        for n, words in enumerate(loaded):
            values[n][some] = words
    m.memory.start_copy(target, size, lanes, i.text)
    m.copies.append(Copy(lanes, target, values, m.groups[lanes].copy(), i.text))


def _words(m: Machine, source: Array, count: int, lanes: Array, i: Instruction) -> list[Array]:
    if count == 12:
        first = m.memory.load("global", source, "b32", 2, lanes, i.text)
        return first + m.memory.load("global", source + np.uint64(8), "b32", 1, lanes, i.text)
    return m.memory.load("global", source, "b32", count // 4, lanes, i.text)


def _finish(m: Machine, mask: Mask, pending: int | None) -> None:
    """Carry out the copies of the active lanes that are not in their `pending` newest groups."""
    waits = np.zeros(m.count, np.bool_)
    waits[m.active(mask)] = True
    left = []
    for copy in m.copies:
        done = waits[copy.lanes]
        if pending is not None:
            done = done & (copy.group < m.groups[copy.lanes] - pending)
        if done.any():
            values = [words[done] for words in copy.values]
            m.memory.end_copy(copy.addresses[done], values, copy.lanes[done], copy.what)
        if not done.all():
            kept = [words[~done] for words in copy.values]
            left.append(Copy(copy.lanes[~done], copy.addresses[~done], kept, copy.group[~done], copy.what))
    m.copies = left


def _nothing(m: Machine, i: Instruction, mask: Mask) -> None:
    """Fences and hints: the emulator's memory is in order."""


OPERATIONS: dict[str, Operation] = {
    "ld": _ld,
    "ldu": _ld,
    "st": _st,
    "mov": _mov,
    "cvta": _cvta,
    "atom": _atom,
    "red": _atom,
    "cp": _cp,
    "membar": _nothing,
    "fence": _nothing,
    "prefetch": _nothing,
}
