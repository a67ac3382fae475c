"""Judge machine code: registers, spills, the innermost loop, what must not be in a kernel, and its predicted speed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.cuda_tools import compile as toolchain

_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][A-Z0-9_.a-z]*)\s*(.*?)\s*;")
_TARGET = re.compile(r"0x([0-9a-f]+)")
_CONSTRAINED = ("DFMA", "DADD", "DMUL", "DSETP", "DMNMX")
# Warp schedulers of a multiprocessor, and the float32 lanes of each: 16 up to sm_80, 32 later.
SCHEDULERS, WARP = 4, 32
# Clocks in which the load/store unit of a multiprocessor takes one warp's 128-bit shared load, at best and at worst.
SHARED_LOAD_CLOCKS = (2, 4)


class Instruction(NamedTuple):
    """One machine instruction."""

    address: int
    predicate: str | None
    opcode: str
    operands: str

    @property
    def root(self) -> str:
        """The opcode without its suffixes."""
        return self.opcode.split(".")[0]


class Prediction(NamedTuple):
    """Clocks of one multiprocessor for one turn of the loop by one warp of each scheduler, by what limits it."""

    fma: float
    issue: float
    shared: tuple[float, float]

    @property
    def peak(self) -> float:
        """Highest possible share of the float32 peak: FMA over the slower of FMA and issue."""
        return self.fma / max(self.fma, self.issue)

    @property
    def peak_with_shared(self) -> float:
        """The same if every shared load takes its longest."""
        return self.fma / max(self.fma, self.issue, self.shared[1])


class MachineCode:
    """The machine code of one kernel.

    Parameters
    ----------
    assembled : Assembled
        What `compile.to_cubin` returns.
    capability : tuple of int
        The architecture that it is for.
    """

    def __init__(self, assembled: toolchain.Assembled, capability: toolchain.Capability) -> None:
        self.assembled, self.capability = assembled, capability
        self.instructions = parse(toolchain.to_sass(assembled.cubin))
        self.roots = Counter(i.root for i in self.instructions)

    def loops(self) -> list[list[Instruction]]:
        """Return the bodies of the loops that contain no other loop: what a jump backwards closes."""
        spans = {(target, i.address) for i in self.instructions if (target := _back(i)) is not None}
        inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
        return [[i for i in self.instructions if first <= i.address <= last] for first, last in sorted(inner)]

    def main_loop(self) -> list[Instruction]:
        """Return the innermost loop with the most instructions."""
        loops = self.loops()
        assert loops, "the kernel has no loop"
        return max(loops, key=len)

    def share(self, root: str = "FFMA") -> float:
        """Return the share of the main loop's instructions that are `root`."""
        body = self.main_loop()
        return sum(i.root == root for i in body) / len(body)

    def predict(self) -> Prediction:
        """Return the issue model's prediction for the main loop."""
        body = self.main_loop()
        count = Counter(i.root for i in body)
        lanes = 16 if self.capability <= (8, 0) else 32
        low, high = (SCHEDULERS * count["LDS"] * clocks for clocks in SHARED_LOAD_CLOCKS)
        return Prediction(count["FFMA"] * WARP / lanes, float(len(body)), (low, high))


def machine_code(
    kernel: Callable, signature: tuple, capability: toolchain.Capability = (8, 0), **options: object
) -> MachineCode:
    """Compile and assemble a kernel and read its machine code."""
    ptx = toolchain.to_ptx(kernel, signature, capability, **options)
    return MachineCode(toolchain.to_cubin(ptx, capability), capability)


def parse(listing: str) -> list[Instruction]:
    """Return the instructions of a listing of cuobjdump."""
    found = (_INSTRUCTION.match(line) for line in listing.splitlines())
    return [Instruction(int(m[1], 16), m[2], m[3], m[4]) for m in found if m]


def _back(i: Instruction) -> int | None:
    """Return where a jump backwards goes; None: it is none, or the endless loop behind the last instruction."""
    targets = _TARGET.findall(i.operands)
    if i.root != "BRA" or not targets:
        return None
    target = int(targets[-1], 16)
    return target if target < i.address else None


def assert_registers(code: MachineCode, most: int) -> None:
    """Hold that a thread needs at most so many registers."""
    assert code.assembled.registers <= most, f"{code.assembled.registers} registers, at most {most}"


def assert_no_local_memory(code: MachineCode) -> None:
    """Hold that nothing is spilled and that no array of a thread is in memory."""
    a = code.assembled
    local = code.roots["LDL"] + code.roots["STL"]
    total = a.stack + a.spill_stores + a.spill_loads + local
    assert not total, (
        f"stack {a.stack} B, spills {a.spill_stores} B stored and {a.spill_loads} B loaded, {local} local accesses"
    )


def assert_share(code: MachineCode, least: float, root: str = "FFMA") -> None:
    """Hold that at least such a share of the main loop's instructions are `root`."""
    share = code.share(root)
    assert share >= least, f"{share:.1%} of the loop is {root}, at least {least:.1%}"


def assert_wide_shared_loads(code: MachineCode) -> None:
    """Hold that the main loop loads from shared memory 128 bits at a time."""
    loads = Counter(i.opcode for i in code.main_loop() if i.root == "LDS")
    narrow = {opcode: count for opcode, count in loads.items() if not opcode.startswith("LDS.128")}
    assert loads, "the loop does not load from shared memory"
    assert not narrow, f"shared loads of less than 128 bits: {narrow}"


def assert_no_float64(code: MachineCode) -> None:
    """Hold that nothing is computed in, or converted to or from, float64."""
    found = {root: code.roots[root] for root in _CONSTRAINED if code.roots[root]}
    found |= {i.opcode: 1 for i in code.instructions if i.root in ("F2F", "I2F", "F2I", "MUFU") and "64" in i.opcode}
    assert not found, f"float64 instructions: {found}"


def assert_no_division64(code: MachineCode, ptx: str) -> None:
    """Hold that no 64-bit integer is divided: on a device that is a call of a hundred instructions."""
    divisions = re.findall(r"\b(?:div|rem)\.[us]64\b", ptx)
    assert not divisions, f"64-bit divisions: {divisions}"
    if re.search(r"\b(?:div|rcp|sqrt)\.rn\.f(?:32|64)\b", ptx):
        # They call a subroutine too, for subnormal numbers.
        return
    # ptxas leaves loops by a predicated CALL.REL.NOINC of the next line; a subroutine is entered without a predicate.
    calls = [i for i in code.instructions if i.root == "CALL" and i.predicate is None]
    assert not calls, f"{len(calls)} calls of subroutines"
