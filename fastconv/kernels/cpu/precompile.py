"""Compiling a kernel before it is needed."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import config

# kernel(g, io, scratch, lo, hi), as program.py says, from what `threads.run` passes.
_SIGNATURE = (types.Array(types.int64, 1, "C"), types.Array(types.int64, 1, "C"), types.int64, types.int64, types.int64)


def is_compiled(kernel: Any) -> bool:
    """Return whether a kernel is one that Numba compiles, with the JIT off one that it would."""
    return hasattr(kernel, "compile") or bool(config.DISABLE_JIT)


def precompile(kernel: Any) -> None:
    """Compile a kernel, or load it from the cache folder; nothing with the JIT off."""
    if not config.DISABLE_JIT:
        kernel.compile(_SIGNATURE)


def compilations() -> int:
    """Return how many kernels this process has compiled, that is, did not find on disk."""
    from fastconv._jit import compilations

    return compilations()
