"""The CPU that kernels are generated for: vector width, registers, fused multiply-add, caches.

Read from the features that Numba compiles for (the host's, or NUMBA_CPU_NAME / NUMBA_CPU_FEATURES), so a kernel never
uses an instruction that Numba's code generator would not.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from typing import NamedTuple

import llvmlite.binding as llvm
from numba.core import config


class Target(NamedTuple):
    """One instruction set, in the terms of the microkernel generator and of the planner."""

    name: str
    vector_bytes: int
    registers: int
    fma: bool
    l1_bytes: int
    l2_bytes: int
    # Register tiles (MR, NV) of the outer-product microkernel: MR * NV accumulators, the shorter side of the tile and
    # one element of the longer one must fit in the registers. Few, because each one that is used is a compilation.
    outer_tiles: tuple[tuple[int, int], ...]
    # Tiles (R, NV, TAPS) of depthwise convolution: R output rows of NV vectors, for kernels of any height (TAPS = 0) or
    # of TAPS rows, whose weights stay in registers.
    row_tiles: tuple[tuple[int, int, int], ...]
    # Tiles (MR, NV) of weight gradients: MR rows of the weight, each with an address of its own, of NV vectors.
    gradient_tiles: tuple[tuple[int, int], ...]
    # Whether there is a matrix unit for bfloat16 (Intel AMX) that this process may use.
    matrix_unit: bool = False

    @property
    def winograd_tile(self) -> tuple[int, int]:
        """The register tile of Winograd's products: one, for each kernel size is a compilation already."""
        return self.outer_tiles[0]

    def lanes(self, bits: int) -> int:
        """Elements of `bits` bits in one vector register."""
        return self.vector_bytes // (bits // 8)


# Cache sizes are those of common CPUs with the instruction set, not this machine's, so that results have the same bits
# on all of them.
_WIDE_OUTER = ((14, 2), (8, 3), (6, 4), (4, 6), (1, 8))
_WIDE_ROWS = ((4, 4, 3), (4, 2, 3), (4, 5, 0), (4, 2, 0), (1, 8, 0))
_NARROW_OUTER = ((4, 3), (6, 2), (3, 4), (1, 8))
_NARROW_ROWS = ((4, 2, 3), (4, 3, 0), (4, 2, 0), (1, 8, 0))
_WIDE_GRADIENT, _NARROW_GRADIENT = ((9, 2), (9, 1)), ((6, 2), (9, 1))
AVX512 = Target("avx512", 64, 32, True, 32 << 10, 1 << 20, _WIDE_OUTER, _WIDE_ROWS, _WIDE_GRADIENT)
AVX2 = Target("avx2", 32, 16, True, 32 << 10, 512 << 10, _NARROW_OUTER, _NARROW_ROWS, _NARROW_GRADIENT)
# Without FMA a product needs a register of its own.
_SSE2_OUTER = ((6, 2), (4, 2), (2, 5), (1, 8))
_SSE2_ROWS = ((3, 2, 3), (4, 2, 0), (1, 8, 0))
SSE2 = Target("sse2", 16, 16, False, 32 << 10, 256 << 10, _SSE2_OUTER, _SSE2_ROWS, _NARROW_GRADIENT)
NEON = Target("neon", 16, 32, True, 64 << 10, 512 << 10, _WIDE_OUTER, _WIDE_ROWS, _WIDE_GRADIENT)


def _features() -> set[str]:
    """Names of the features that Numba compiles for."""
    if config.CPU_FEATURES is not None:
        return {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    if config.CPU_NAME == "generic":
        return set()
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


def _may_use_tiles() -> bool:
    """Ask the system for the tile registers, which Linux saves only for processes that asked; children inherit that."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0)
    except (OSError, AttributeError):
        return False


# Of all that LLVM knows, what convolutions run faster with.
_VECTORS = ("sse2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512bw", "avx512dq", "neon")
_UNITS = ("amx-tile", "amx-bf16", "avx512bf16")


def features() -> list[str]:
    """Return the instructions that kernels on this machine may use, by LLVM's names."""
    found = _features()
    return [name for name in _VECTORS + (_UNITS if current().matrix_unit else ()) if name in found]


@lru_cache(maxsize=1)
def current() -> Target:
    """Return the target of this process."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return NEON
    features = _features()
    if "avx512f" in features and "avx512vl" in features and config.ENABLE_AVX:
        return AVX512._replace(matrix_unit=features.issuperset(_UNITS) and not config.DISABLE_JIT and _may_use_tiles())
    if "avx2" in features and "fma" in features and config.ENABLE_AVX:
        return AVX2
    return SSE2
