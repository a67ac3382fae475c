"""Execute a kernel from its PTX on NumPy arrays: `run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.cuda_tools.arguments import flattened, three
from tests.cuda_tools.ptx_emulator import arithmetic, bits, conversion, transfer, warp
from tests.cuda_tools.ptx_emulator.elements import Array, dtype_of
from tests.cuda_tools.ptx_emulator.machine import Machine, Operation, specials
from tests.cuda_tools.ptx_emulator.memory import GlobalMemory, Memory
from tests.cuda_tools.ptx_emulator.parser import Kernel
from tests.cuda_tools.ptx_emulator.races import Clock, Shadow
from tests.cuda_tools.ptx_emulator.traffic import Traffic

OPERATIONS: dict[str, Operation] = {
    **arithmetic.OPERATIONS,
    **bits.OPERATIONS,
    **conversion.OPERATIONS,
    **transfer.OPERATIONS,
    **warp.OPERATIONS,
}
# Threads that run at once; more only cost memory.
LANES = 1 << 15


@dataclass
class Report:
    """What a launch did.

    Attributes
    ----------
    findings : Counter
        Races, divergent barriers, reads of memory or registers that nobody has written, by their description.
    executed : Counter
        Executed instructions of all threads by the first part of their opcode.
    traffic : dict
        Cost of the memory accesses by instruction: see `memory`.
    """

    findings: Counter[str] = field(default_factory=Counter)
    executed: Counter[str] = field(default_factory=Counter)
    traffic: dict[str, Traffic] = field(default_factory=dict)

    def memory(self, what: str) -> Traffic:
        """Return the sum over the accesses whose name starts with ``ld.global``, ``st.shared`` and the like."""
        total = Traffic()
        for name, cost in self.traffic.items():
            if name.startswith(what):
                total.add(cost)
        return total

    def assert_clean(self) -> None:
        """Raise AssertionError with all findings."""
        found = "\n".join(f"{text} ({count} times)" for text, count in sorted(self.findings.items()))
        assert not self.findings, f"the kernel is not clean:\n{found}"


def run(
    ptx: str | Kernel,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    arguments: Sequence[Any],
    *,
    shared_bytes: int = 0,
    checks: bool = True,
    statistics: bool = True,
) -> Report:
    """Execute a kernel; arrays that are not read-only are changed in place.

    Parameters
    ----------
    ptx : str or Kernel
        What `compile.to_ptx` returns, or the same parsed, to be used several times.
    grid, block : int or sequence of int
        Blocks, and threads of a block.
    arguments : sequence
        NumPy arrays and scalars. An array is one pointer if the kernel takes pointers, and the fields of Numba's
        array structure if it takes arrays; it is contiguous in the emulated memory.
    shared_bytes : int
        Dynamic shared memory.
    checks : bool
        Look for races and uninitialised reads. Bounds, alignment and barriers are always checked.
    statistics : bool
        Count sectors and wavefronts.

    Returns
    -------
    Report

    Raises
    ------
    FaultError
        An access out of bounds or misaligned.
    PTXError
        PTX that the emulator does not know.
    """
    kernel = ptx if isinstance(ptx, Kernel) else Kernel(ptx)
    grid, block = three(grid), three(block)
    memory, report = GlobalMemory(), Report()
    values = _values(kernel, memory, arguments)
    memory.copy_in()
    threads, blocks = int(np.prod(block)), int(np.prod(grid))
    granule = kernel.granule("global")
    shadow = Shadow(len(memory.bytes) // granule, granule, report.findings, grid_wide=True) if checks else None
    at_once = max(1, LANES // threads)
    for first in range(0, blocks, at_once):
        some = np.arange(first, min(blocks, first + at_once))
        clock = Clock(len(some), threads, first * threads)
        traffic = report.traffic if statistics else None
        space = Memory(memory, kernel, clock, shared_bytes, shadow, report.findings, traffic)
        names = values | specials(grid, block, some, threads)
        machine = Machine(kernel, OPERATIONS, space, clock, names, report.findings)
        machine.run()
        report.executed += machine.executed
    memory.copy_out()
    return report


def _values(kernel: Kernel, memory: GlobalMemory, arguments: Sequence[Any]) -> dict[str, Array]:
    """Return the values of the parameters and the addresses of the variables."""
    values: dict[str, Array] = {name: np.asarray(at, np.uint64) for name, at in (kernel.shared | kernel.local).items()}
    for name, first in kernel.data.items():
        values[name] = np.asarray(memory.place(first), np.uint64)
    flat = flattened(arguments, len(kernel.parameters), memory.place)
    for parameter, argument in zip(kernel.parameters, flat, strict=True):
        values[parameter.name] = np.asarray(argument).astype(dtype_of(parameter.kind))
    return values
