"""Kernels compiled by numba-cuda, once per dtype and tile, and kept on disk like those of the CPU.

Numba's own cache hashes the intrinsics that a kernel closes over by a number that is new in every process; here a file
is named by the builder, its literals, and all sources.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

from numba import types

from fastconv._jit import KernelCache, source_tag
from fastconv.kernels.cuda.runtime import Kernel, built


@cache
def compiled(build: Callable[..., Kernel], *literals: Any) -> tuple[Any, Kernel]:
    """Return a kernel, ready to launch on the current device, and its record."""
    import numba_cuda
    from numba import cuda

    kernel = built(build, *literals)
    dispatcher = cuda.jit(launch_bounds=(kernel.threads, kernel.blocks))(kernel.function)
    tag = source_tag("cuda", numba_cuda.__version__, build.__module__, build.__qualname__, literals)
    dispatcher._cache = CudaKernelCache(kernel.function.__name__, tag)
    dispatcher.compile(types.void(*kernel.types))
    # There is one signature: arguments need not be typed at each launch.
    dispatcher._specialized = True
    return dispatcher, kernel


class CudaKernelCache(KernelCache):
    """Cubins on disk, one file per kernel and compute capability."""

    def is_whole(self, result: Any) -> bool:
        """Return True: kernels here see no arrays but their arguments."""
        return True

    def reduce(self, result: Any) -> bytes:
        """Return a kernel with its cubin as bytes."""
        return pickle.dumps(result._reduce_states())

    def rebuild(self, target_context: Any, payload: bytes) -> Any:
        """Return the kernel of these bytes; it is loaded on the device when it is first launched."""
        from numba.cuda.dispatcher import _Kernel

        return _Kernel._rebuild(**pickle.loads(payload))
