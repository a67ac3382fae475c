"""The threads of some blocks, one NumPy lane each, run in step: the lowest program counter first, so they rejoin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import FLOATS, UNSIGNED, Array, PTXError, dtype_of, reinterpret
from tests.cuda_tools.ptx_emulator.memory import Memory
from tests.cuda_tools.ptx_emulator.parser import Instruction, Kernel
from tests.cuda_tools.ptx_emulator.races import Clock

WARP = 32
Size = tuple[int, int, int]
# None: all lanes.
Mask = Array | None
Operation = Callable[["Machine", Instruction, Mask], None]
_BARRIER = {"bar", "barrier", "cta", "sync", "aligned", "red", "popc", "and", "or", "u32", "pred"}
# Element types on which NumPy cannot compute, and where an instruction may have them all the same.
_OPAQUE, _READS_OPAQUE = ("bf16", "f16x2", "bf16x2", "tf32"), ("cvt", "ld", "st", "mov")
_ADDRESS = re.compile(r"^\[\s*([%$\w.]+)\s*(?:\+\s*(-?\w+))?\s*\]$")


class Machine:
    """The registers and the program counters of the lanes.

    Parameters
    ----------
    kernel : Kernel
    operations : mapping
        What an instruction does, by the first part of its opcode.
    memory : Memory
    clock : Clock
        The same that the memory has.
    values : dict
        Parameters, special registers and addresses of variables by name: scalars or one value per lane.
    findings : Counter
        What was wrong, by its description.
    """

    def __init__(
        self,
        kernel: Kernel,
        operations: Mapping[str, Operation],
        memory: Memory,
        clock: Clock,
        values: dict[str, Array],
        findings: Counter[str],
    ) -> None:
        self.kernel, self.operations, self.memory, self.clock = kernel, operations, memory, clock
        self.values, self.findings = values, findings
        self.executed: Counter[str] = Counter()
        self.registers: dict[str, Array] = {}
        self.count = len(clock.block)
        self.lanes = np.arange(self.count)
        self.in_warp = self.lanes % clock.threads % WARP
        self.pc = np.zeros(self.count, np.int64)
        self.live, self.waiting = np.ones(self.count, np.bool_), np.zeros(self.count, np.bool_)
        # Asynchronous copies that have been issued and not been waited for: see transfer.py.
        self.copies: list[Any] = []
        self.groups = np.zeros(self.count, np.int64)

    def run(self) -> None:
        """Run until every lane has ended."""
        while self.live.any():
            ready = self.live & ~self.waiting
            if ready.any():
                self._run_block(ready)
            else:
                self._release()
        if self.copies:
            self.findings["cp.async is never waited for"] += len(self.copies)

    def _run_block(self, ready: Array) -> None:
        """Run the lanes with the lowest program counter to the end of their basic block."""
        pc = int(self.pc[ready].min())
        mask = ready & (self.pc == pc)
        lanes: Mask = None if mask.all() else mask
        active = int(mask.sum())
        while pc < len(self.kernel.code):
            instruction = self.kernel.code[pc]
            self.executed[instruction.parts[0]] += active
            guarded = self._guarded(instruction, lanes)
            if self._jumps(instruction, mask, guarded, pc):
                return
            if guarded is None or guarded.any():
                self.execute(instruction, guarded)
            pc += 1
            if pc in self.kernel.leaders:
                self.pc[mask] = pc
                return
        self.live[mask] = False

    def execute(self, instruction: Instruction, mask: Mask) -> None:
        """Do what an instruction does in the lanes of `mask`."""
        operation = self.operations.get(instruction.parts[0])
        if operation is None:
            raise PTXError(f"instruction is not emulated: {instruction.text}")
        _check_suffixes(instruction)
        with np.errstate(all="ignore"):
            operation(self, instruction, mask)

    def _guarded(self, instruction: Instruction, lanes: Mask) -> Mask:
        if instruction.predicate is None:
            return lanes
        chosen = self.predicate(("!" if instruction.negated else "") + instruction.predicate)
        return chosen if lanes is None else chosen & lanes

    def _jumps(self, instruction: Instruction, mask: Array, guarded: Mask, pc: int) -> bool:
        """Do what ends a basic block; False: the instruction is none of these."""
        taken = mask if guarded is None else guarded
        root = instruction.parts[0]
        if root == "bra":
            self.pc[mask] = pc + 1
            self.pc[taken] = self.kernel.labels[instruction.operands[-1]]
        elif root in ("ret", "exit"):
            self.pc[mask] = pc + 1
            self.live[taken] = False
        elif root in ("bar", "barrier") and "warp" not in instruction.parts:
            self._check_barrier(instruction)
            self.pc[mask] = pc + 1
            self.waiting[taken] = True
        else:
            return False
        return True

    def _check_barrier(self, instruction: Instruction) -> None:
        numbers = instruction.operands
        if "red" in instruction.parts:
            numbers = instruction.operands[1:-1]
        everyone = not numbers or (numbers[0] == "0" and numbers[1:] in ((), (str(self.clock.threads),)))
        if not everyone or not _BARRIER.issuperset(instruction.parts):
            raise PTXError(f"only barrier 0 of all threads is emulated: {instruction.text}")

    def _release(self) -> None:
        """Open the barrier of every block: all its lanes that have not ended wait."""
        shape = (-1, self.clock.threads)
        live, pc = self.live.reshape(shape), self.pc.reshape(shape)
        some = live.any(1)
        low = np.where(live, pc, np.iinfo(np.int64).max).min(1)
        high = np.where(live, pc, -1).max(1)
        if (divergent := some & (low != high)).any():
            self.findings["divergent barrier: threads of a block wait at different ones"] += int(divergent.sum())
        if (ended := some & ~live.all(1)).any():
            self.findings["divergent barrier: threads of a block have ended before it"] += int(ended.sum())
        for pc_after in np.unique(self.pc[self.live]):
            self._reduce(self.kernel.code[pc_after - 1], self.live & (self.pc == pc_after))
        self.waiting[:] = False
        self.clock.blocks[some] += 1

    def _reduce(self, instruction: Instruction, mask: Array) -> None:
        """Give the lanes the result of ``barrier.red``: a count, or whether any or all predicates hold."""
        if "red" not in instruction.parts:
            return
        chosen = (self.predicate(instruction.operands[-1]) & mask).reshape(-1, self.clock.threads)
        absent = ~mask.reshape(chosen.shape)
        how = next(part for part in instruction.parts if part in ("popc", "and", "or"))
        result = {"popc": chosen.sum(1), "and": (chosen | absent).all(1), "or": chosen.any(1)}[how]
        self.assign(instruction.operands[0], np.repeat(result, self.clock.threads), mask)

    def active(self, mask: Mask) -> Array:
        """Return the numbers of the lanes of a mask."""
        return self.lanes if mask is None else np.flatnonzero(mask)

    def predicate(self, operand: str) -> Array:
        """Return a predicate register, inverted after ``!``."""
        return self.value(operand.removeprefix("!"), "pred") ^ operand.startswith("!")

    def value(self, operand: str, kind: str) -> Array:
        """Return an operand as one value per lane, or a constant as a scalar, of element type `kind`."""
        dtype = dtype_of(kind)
        if operand in self.registers:
            return reinterpret(self.registers[operand], dtype)
        if operand in self.values:
            return reinterpret(self.values[operand], dtype)
        if operand in self.kernel.registers:
            self.findings[f"register is read before it is written: {operand}"] += 1
            return np.zeros(self.count, dtype)
        return _constant(operand, dtype)

    def full(self, operand: str, kind: str) -> Array:
        """Return an operand as one value per lane."""
        return np.broadcast_to(self.value(operand, kind), (self.count,))

    def assign(self, name: str, values: Array, mask: Mask) -> None:
        """Write a register in the lanes of `mask`."""
        if name == "_":
            return
        if name not in self.kernel.registers:
            raise PTXError(f"register is not declared: {name}")
        dtype = dtype_of(self.kernel.registers[name])
        values = np.asarray(values)
        if values.dtype != dtype:
            same = values.dtype.itemsize == dtype.itemsize and np.bool_ not in (values.dtype, dtype)
            values = values.view(dtype) if same else values.astype(dtype)
        if mask is not None:
            values = np.where(mask, values, self.registers.get(name, dtype.type(0)))
        self.registers[name] = np.broadcast_to(values, (self.count,))

    def address(self, operand: str) -> Array:
        """Return the address of each lane for ``[register + offset]`` or ``[variable + offset]``."""
        match = _ADDRESS.match(operand)
        if not match:
            raise PTXError(f"cannot read the address {operand}")
        offset = np.uint64(int(match[2] or "0", 0) % 2**64)
        base = self.full(match[1], "u64")
        with np.errstate(over="ignore"):
            return base + offset


def _check_suffixes(i: Instruction) -> None:
    """Refuse what would be computed wrongly without a word: packed floats, directed rounding, saturated integers."""
    opaque = i.kind in _OPAQUE and i.parts[0] not in _READS_OPAQUE
    directed = {"rz", "rm", "rp"} & set(i.parts) and (i.kind in FLOATS or i.parts[0] == "cvt")
    directed = directed and i.text.split()[0] != "fma.rm.f32"
    saturated = "sat" in i.parts and i.kind not in FLOATS and i.parts[0] != "cvt"
    if opaque or directed or saturated:
        raise PTXError(f"instruction is not emulated: {i.text}")


@cache
def _constant(text: str, dtype: Any) -> Array:
    """Return a literal: ``0f3F800000`` and ``0d...`` are the bits of floats, the rest are integers."""
    try:
        if text.startswith(("0f", "0F")):
            return np.uint32(int(text[2:], 16)).view(np.float32).astype(dtype)
        if text.startswith(("0d", "0D")):
            return np.uint64(int(text[2:], 16)).view(np.float64).astype(dtype)
        number = int(text.removesuffix("U"), 0)
    except ValueError:
        raise PTXError(f"unknown operand {text}") from None
    if dtype == np.bool_:
        return np.bool_(number)
    if dtype.kind == "f" and dtype.itemsize > 2:
        return dtype.type(number)
    unsigned = UNSIGNED[dtype.itemsize]
    return unsigned.type(number % 2 ** (8 * dtype.itemsize)).view(dtype)


def specials(grid: Size, block: Size, blocks: Array, threads: int) -> dict[str, Array]:
    """Return the special registers of the lanes of `blocks`."""
    lanes = np.arange(len(blocks) * threads)
    thread, cta = lanes % threads, blocks[lanes // threads]
    found: dict[str, Array] = {
        "%laneid": thread % WARP,
        "%warpid": thread // WARP,
        "WARP_SZ": np.full(len(lanes), WARP),
    }
    for axis, stride_t, stride_c in zip("xyz", _strides(block), _strides(grid), strict=True):
        n = "xyz".index(axis)
        found[f"%tid.{axis}"] = thread // stride_t % block[n]
        found[f"%ctaid.{axis}"] = cta // stride_c % grid[n]
        found[f"%ntid.{axis}"] = np.full(len(lanes), block[n])
        found[f"%nctaid.{axis}"] = np.full(len(lanes), grid[n])
    return {name: values.astype(np.uint32) for name, values in found.items()}


def _strides(size: Size) -> Size:
    return 1, size[0], size[0] * size[1]
