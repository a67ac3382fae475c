"""The memories of an emulated device: bounds and alignment are checked at every access."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import DTYPES, Array, FaultError, PTXError, size_of
from tests.cuda_tools.ptx_emulator.parser import Kernel
from tests.cuda_tools.ptx_emulator.races import Clock, Shadow
from tests.cuda_tools.ptx_emulator.traffic import Traffic, sectors, wavefronts

# Where generic addresses of each space start.
GLOBAL, LOCAL, SHARED = 0x7000_0000_0000, 0x2000_0000_0000, 0x1000_0000_0000
POISON = 0xFF
_GUARD = 4096
_ALIGNMENT = 256


class GlobalMemory:
    """Arrays at addresses, with memory that belongs to nobody between them."""

    def __init__(self) -> None:
        self.placed: list[tuple[int, Array]] = []
        self.top = _GUARD
        self.bytes = self.valid = self.constant = np.zeros(0, np.uint8)

    def place(self, array: Array) -> int:
        """Give an array an address, aligned as an allocation of CUDA."""
        offset = -(-self.top // _ALIGNMENT) * _ALIGNMENT
        self.placed.append((offset, array))
        self.top = offset + array.nbytes + _GUARD
        return GLOBAL + offset

    def copy_in(self) -> None:
        """Copy the arrays into the memory."""
        self.bytes = np.zeros(-(-self.top // 64) * 64, np.uint8)
        self.valid, self.constant = (np.zeros(len(self.bytes), np.bool_) for _ in range(2))
        for offset, array in self.placed:
            self.bytes[offset : offset + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.valid[offset : offset + array.nbytes] = True
            self.constant[offset : offset + array.nbytes] = not array.flags.writeable

    def copy_out(self) -> None:
        """Copy the memory back into the arrays that may be written."""
        for offset, array in self.placed:
            if array.flags.writeable:
                array[...] = self.bytes[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)

    def outside(self, offsets: Array, size: int) -> Array:
        """Return which accesses leave the arrays."""
        bad = (offsets < 0) | (offsets + size > len(self.bytes))
        inside = np.where(bad, 0, offsets)
        return bad | ~(self.valid[inside] & self.valid[inside + size - 1])


class Memory:
    """Global, shared and local memory of the blocks that run at once.

    Parameters
    ----------
    memory : GlobalMemory
    kernel : Kernel
    clock : Clock
        Numbers the lanes: one for each thread.
    dynamic : int
        Bytes of dynamic shared memory of a block.
    shadow : Shadow, optional
        Of global memory, kept from one batch of blocks to the next. None: races are not looked for.
    findings : Counter
        What the checks of shared memory find.
    traffic : dict, optional
        Cost by instruction; None: not counted.
    """

    def __init__(
        self,
        memory: GlobalMemory,
        kernel: Kernel,
        clock: Clock,
        dynamic: int,
        shadow: Shadow | None,
        findings: Counter[str],
        traffic: dict[str, Traffic] | None,
    ) -> None:
        self.clock, self.traffic, self.memory = clock, traffic, memory
        lanes, blocks = len(clock.block), len(clock.blocks)
        # Without dynamic memory, exactly what the kernel declares: the next byte is out of bounds.
        self.shared_bytes = kernel.shared_bytes + dynamic
        self.shared_pitch = -(-self.shared_bytes // 16) * 16
        self.local_bytes, self.local_pitch = kernel.local_bytes, -(-kernel.local_bytes // 16) * 16
        self.shared = np.full(blocks * self.shared_pitch + 16, POISON, np.uint8)
        self.local = np.full(lanes * self.local_pitch + 16, POISON, np.uint8)
        self.global_shadow, self.shared_shadow = shadow, None
        if shadow is not None:
            granule = kernel.granule("shared")
            self.shared_shadow = Shadow(len(self.shared) // granule, granule, findings, grid_wide=False)

    @staticmethod
    def space_of(addresses: Array) -> str:
        """Return the space of generic addresses; an instruction has one."""
        first = int(addresses[0])
        return "global" if first >= GLOBAL else "local" if first >= LOCAL else "shared"

    def load(self, space: str, addresses: Array, kind: str, count: int, lanes: Array, what: str) -> list[Array]:
        """Return `count` elements from each address."""
        memory, index = self._access(space, addresses, size_of(kind) * count, lanes, "ld", what)
        elements = _as(memory, kind)
        return [elements[index // size_of(kind) + n] for n in range(count)]

    def store(self, space: str, addresses: Array, kind: str, values: list[Array], lanes: Array, what: str) -> None:
        """Write the values of each lane at its address."""
        memory, index = self._access(space, addresses, size_of(kind) * len(values), lanes, "st", what)
        elements = _as(memory, kind)
        for n, value in enumerate(values):
            elements[index // size_of(kind) + n] = value

    def atomic(self, space: str, addresses: Array, kind: str, lanes: Array, what: str) -> tuple[Array, Array]:
        """Return the elements of a memory and the index of each lane's; atomics are no race."""
        memory, index = self._access(space, addresses, size_of(kind), lanes, "atom", what)
        return _as(memory, kind), index // size_of(kind)

    def start_copy(self, addresses: Array, size: int, lanes: Array, what: str) -> None:
        """Check the shared target of an asynchronous copy at its issue."""
        index = self._shared_index(addresses, size, lanes, what)
        if self.shared_shadow is not None:
            self.shared_shadow.start_copy(self.clock, lanes, index, size, what)

    def end_copy(self, addresses: Array, values: list[Array], lanes: Array, what: str) -> None:
        """Write what an asynchronous copy brought."""
        if self.shared_shadow is not None:
            size = 4 * len(values)
            self.shared_shadow.end_copy(self._shared_index(addresses, size, lanes, what), size)
        self.store("shared", addresses, "b32", values, lanes, what)

    def _access(
        self, space: str, addresses: Array, size: int, lanes: Array, way: str, what: str
    ) -> tuple[Array, Array]:
        odd = addresses % np.uint64(size) != 0
        if odd.any():
            raise FaultError(f"misaligned access of {size} bytes, {self._who(lanes, odd, addresses)}: {what}")
        if space == "global":
            index = self._global_index(addresses, size, lanes, what)
            if way != "ld" and (fixed := self.memory.constant[index]).any():
                raise FaultError(f"write to a read-only array, {self._who(lanes, fixed, addresses)}: {what}")
            self._check(self.global_shadow, lanes, index, size, way, what)
            self._count(f"{way}.global {what}", lambda: sectors(self.clock.warp[lanes].astype(np.int64), index, size))
            return self.memory.bytes, index
        if space == "shared":
            index = self._shared_index(addresses, size, lanes, what)
            self._check(self.shared_shadow, lanes, index, size, way, what)
            offsets = index - self.clock.block[lanes] * self.shared_pitch
            in_warp = lanes % self.clock.threads % 32
            self._count(
                f"{way}.shared {what}",
                lambda: wavefronts(self.clock.warp[lanes].astype(np.int64), in_warp, offsets, size),
            )
            return self.shared, index
        if space != "local":
            raise PTXError(f"state space {space} is not emulated: {what}")
        offsets = addresses.astype(np.int64) % LOCAL
        bad = offsets + size > self.local_bytes
        if bad.any():
            raise FaultError(f"out of bounds of local memory, {self._who(lanes, bad, addresses)}: {what}")
        return self.local, offsets + lanes * self.local_pitch

    def _check(self, shadow: Shadow | None, lanes: Array, index: Array, size: int, way: str, what: str) -> None:
        if shadow is None:
            return
        check = {"ld": shadow.read, "st": shadow.write}.get(way)
        if check:
            check(self.clock, lanes, index, size, what)
        else:
            shadow.initialise(self.clock, lanes, index, size)

    def _count(self, key: str, cost) -> None:
        if self.traffic is not None:
            self.traffic.setdefault(key, Traffic()).add(cost())

    def _global_index(self, addresses: Array, size: int, lanes: Array, what: str) -> Array:
        index = addresses.astype(np.int64) - GLOBAL
        bad = self.memory.outside(index, size)
        if bad.any():
            raise FaultError(f"out of bounds of global memory, {self._who(lanes, bad, addresses)}: {what}")
        return index

    def _shared_index(self, addresses: Array, size: int, lanes: Array, what: str) -> Array:
        offsets = addresses.astype(np.int64)
        offsets = np.where(offsets >= SHARED, offsets - SHARED, offsets)
        bad = (offsets < 0) | (offsets + size > self.shared_bytes)
        if bad.any():
            raise FaultError(f"out of bounds of shared memory, {self._who(lanes, bad, addresses)}: {what}")
        return offsets + self.clock.block[lanes] * self.shared_pitch

    def _who(self, lanes: Array, bad: Array, addresses: Array) -> str:
        thread = int(self.clock.thread[lanes[bad][0]])
        block, lane = divmod(thread, self.clock.threads)
        return f"{int(bad.sum())} threads, first block {block} thread {lane} at {int(addresses[bad][0]):#x}"


def _as(memory: Array, kind: str) -> Array:
    size = size_of(kind)
    return memory[: len(memory) // size * size].view(DTYPES[kind])
