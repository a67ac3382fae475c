"""What memory accesses cost: sectors of global memory per request, wavefronts of shared memory.

A request is one warp's instruction. Global memory is moved in sectors of 32 bytes. Shared memory has 32 banks of 4
bytes: a warp's access of 4 bytes is one phase, of 8 bytes two, of 16 bytes four, and a phase takes as many wavefronts
as the fullest bank has different words of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import Array

SECTOR, BANKS, WORD = 32, 32, 4


@dataclass
class Traffic:
    """Sums over the requests of one or several instructions; `minimum` is what they would cost at best."""

    requests: int = 0
    cost: int = 0
    minimum: int = 0
    bytes: int = 0

    @property
    def per_request(self) -> float:
        """Sectors per request, of global memory."""
        return self.cost / max(self.requests, 1)

    @property
    def ratio(self) -> float:
        """Cost over the least possible cost: 1.0 is coalesced, or free of bank conflicts."""
        return self.cost / max(self.minimum, 1)

    def add(self, other: Traffic) -> None:
        """Add another sum to this one."""
        self.requests += other.requests
        self.cost += other.cost
        self.minimum += other.minimum
        self.bytes += other.bytes


def sectors(warps: Array, addresses: Array, size: int) -> Traffic:
    """Return the sectors that one instruction moves; `size` bytes at each address."""
    steps = range(0, size, SECTOR) if size > SECTOR else (0,)
    touched = np.unique(np.concatenate([warps << 44 | (addresses + step) // SECTOR for step in steps]))
    # What the warp needs, counted once, in full sectors.
    distinct = np.unique(warps << 44 | addresses // size)
    per_warp = np.unique(distinct >> 44, return_counts=True)[1]
    return Traffic(
        requests=len(per_warp),
        cost=len(touched),
        minimum=int((-(-per_warp * size // SECTOR)).sum()),
        bytes=len(addresses) * size,
    )


def wavefronts(warps: Array, lane_in_warp: Array, offsets: Array, size: int) -> Traffic:
    """Return the wavefronts of one shared access; `warps` numbers the warps of all blocks."""
    words = max(size // WORD, 1)
    phase = warps * words + lane_in_warp * words // 32
    touched = np.unique(np.concatenate([phase << 32 | (offsets // WORD + n) for n in range(words)]))
    bank = (touched >> 32) * BANKS + touched % BANKS
    banks, count = np.unique(bank, return_counts=True)
    phases, first = np.unique(banks // BANKS, return_index=True)
    return Traffic(
        requests=len(np.unique(warps)),
        cost=int(np.maximum.reduceat(count, first).sum()),
        minimum=len(phases),
        bytes=len(offsets) * size,
    )
