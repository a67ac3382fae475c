"""Run the Python source of a kernel in numba-cuda's simulator, in the same process that compiles the kernel for a GPU.

Every CUDA thread is a thread of Python, so problems are tiny: blocks of at most 64 threads, some thousand operations.
Shared memory starts as NaN in every block. `alignment=` and the warp's shuffles and votes, which the simulator lacks,
are added; a shuffle needs all threads of its block.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from tests.cuda_tools import turns
from tests.cuda_tools.arguments import three
from tests.cuda_tools.rebuild import with_values

WARP = 32


def run(
    kernel: Callable,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    arguments: Sequence[Any],
    *,
    shared_bytes: int = 0,
    twins: Mapping[Any, Callable] | None = None,
) -> None:
    """Run a kernel; arrays are changed in place.

    Parameters
    ----------
    kernel : callable
        The Python function, or the decorated one.
    grid, block : int or sequence of int
        Blocks, and threads of a block.
    arguments : sequence
        NumPy arrays and scalars. For a kernel that takes pointers, arrays are flat.
    shared_bytes : int
        Dynamic shared memory.
    twins : mapping, optional
        Python functions that take the place of intrinsics in the kernel's globals and closure.

    Raises
    ------
    IndexError
        An index is out of bounds; a negative one is not noticed.
    """
    from numba.cuda.simulator.kernel import FakeCUDAKernel

    replacements = {id(intrinsic): twin for intrinsic, twin in (twins or {}).items()}
    function = with_values(getattr(kernel, "py_func", kernel), replacements)
    with _additions(), turns.taken():
        FakeCUDAKernel(function, device=False)[three(grid), three(block), 0, shared_bytes](*arguments)


@contextmanager
def _additions() -> Iterator[None]:
    """Add for one launch what the simulator lacks."""
    from numba.cuda.simulator import kernelapi

    warp_functions = {
        "shfl_sync": lambda self, mask, value, lane: _shuffled(value, lambda own: own // WARP * WARP + lane % WARP),
        "shfl_xor_sync": lambda self, mask, value, by: _shuffled(value, lambda own: own ^ by),
        "shfl_up_sync": lambda self, mask, value, by: _shuffled(value, lambda own: own - by),
        "shfl_down_sync": lambda self, mask, value, by: _shuffled(value, lambda own: own + by),
        "ballot_sync": lambda self, mask, value: sum(1 << n for n, yes in enumerate(_of_warp(value)) if yes),
        "any_sync": lambda self, mask, value: any(_of_warp(value)),
        "all_sync": lambda self, mask, value: all(_of_warp(value)),
        "syncwarp": lambda self, mask=0xFFFFFFFF: turns.current().syncthreads(),
    }
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.object(kernelapi.FakeCUDAShared, "array", _shared_array))
        enter(mock.patch.object(kernelapi.FakeCUDALocal, "array", _local_array))
        for name, function in warp_functions.items():
            enter(mock.patch.object(kernelapi.FakeCUDAModule, name, function, create=True))
        yield


def _dtype(kind: Any) -> Any:
    from numba.cuda.np import numpy_support

    return np.dtype(numpy_support.as_dtype(kind) if hasattr(kind, "bitwidth") else kind)


def _poisoned(shape: Any, kind: Any) -> Any:
    dtype = _dtype(kind)
    return np.full(shape, np.nan if dtype.kind == "f" else np.array(-1).astype(dtype), dtype)


def _local_array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> Any:
    return _poisoned(shape, dtype)


def _shared_array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> Any:
    """Return the array of a block: one for each place in the source that asks for one."""
    if shape == 0:
        count = self._dynshared_size // _dtype(dtype).itemsize
        return np.frombuffer(self._dynshared.data, _dtype(dtype), count=count)
    caller = sys._getframe(1)
    block = tuple(turns.current().blockIdx)
    key = (block, caller.f_code.co_filename, caller.f_lineno, caller.f_lasti)
    # One step, since all threads of a block ask at once.
    return self._allocations.setdefault(key, _poisoned(shape, dtype))


def _exchanged(value: Any) -> tuple[int, dict[int, Any]]:
    """Return this thread's number and what every thread of its block gives."""
    thread = turns.current()
    values = thread._manager.__dict__.setdefault("exchanged", {})
    values[thread.thread_id] = value
    thread.syncthreads()
    copy = dict(values)
    thread.syncthreads()
    return thread.thread_id, copy


def _shuffled(value: Any, source: Callable[[int], int]) -> Any:
    """Return the value of another lane of the warp, or the own one if there is none."""
    own, values = _exchanged(value)
    other = source(own)
    return values.get(other, value) if other // WARP == own // WARP else value


def _of_warp(value: Any) -> list[bool]:
    own, values = _exchanged(value)
    first = own // WARP * WARP
    return [bool(values.get(first + n, False)) for n in range(min(WARP, len(values) - first))]
