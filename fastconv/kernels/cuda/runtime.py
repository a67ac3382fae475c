"""Where kernels run: numba-cuda on a device, or Numba's simulator of one with NUMBA_ENABLE_CUDASIM=1.

Everything that CUDA does for this library goes through the methods of a `Runtime`, so that tests can put another
one in its place, which executes the same kernels from their machine code on the host.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from fastconv.errors import UnsupportedError

SIMULATED = bool(config.ENABLE_CUDASIM)
INSTALL = 'pip install "fastconv[cuda]"'


class Kernel(NamedTuple):
    """A kernel for one tile and dtype: a Python function, the types of its arguments, the threads of a block."""

    function: Callable[..., None]
    types: tuple[Any, ...]
    threads: int
    # How many blocks a multiprocessor shall hold, which bounds the registers.
    blocks: int = 1


class Runtime:
    """numba-cuda on the current device."""

    def missing(self) -> str | None:
        """Return what CUDA lacks on this machine, in words, or None."""
        return _missing()

    def device_number(self) -> int:
        """Return the number of the device on which kernels run."""
        from numba import cuda

        return int(cuda.get_current_device().id)

    def compute_capability(self) -> tuple[int, int]:
        """Return the compute capability of the device on which kernels run."""
        from numba import cuda

        major, minor = cuda.get_current_device().compute_capability
        return int(major), int(minor)

    def to_device(self, flat: np.ndarray, stream: Any) -> Any:
        """Return a copy of a one-dimensional array on the device."""
        from numba import cuda

        return cuda.to_device(flat, stream=stream)

    def device_array(self, shape: tuple[int, ...], dtype: np.dtype, stream: Any) -> Any:
        """Return an uninitialised array on the device."""
        from numba import cuda

        return cuda.device_array(shape, dtype, stream=stream)

    def address(self, array: Any) -> Any:
        """Return what a kernel gets for an array: its address."""
        return int(array.__cuda_array_interface__["data"][0])

    def run(
        self, build: Callable[..., Kernel], literals: Sequence[Any], grid: Any, arguments: list, stream: Any
    ) -> None:
        """Launch ``build(*literals)``; arguments are what `address` returns, None, and tuples of scalars."""
        from fastconv.kernels.cuda.compiled import compiled

        ready, kernel = compiled(build, *literals)
        ready[grid, kernel.threads, stream](*[0 if a is None else a for a in arguments])

    def seconds(self, call: Callable[[], Any], loops: int) -> float:
        """Return the mean time of calls on the device, by events on the default stream."""
        from numba import cuda

        first, last = cuda.event(), cuda.event()
        first.record()
        for _ in range(loops):
            call()
        last.record()
        last.synchronize()
        return float(cuda.event_elapsed_time(first, last)) / 1e3 / loops


class Simulator(Runtime):
    """Numba's simulator: an array of the device is its own address."""

    def missing(self) -> str | None:
        """Return None: it is there."""
        return None

    def device_number(self) -> int:
        """Return 0: there is one."""
        return 0

    def compute_capability(self) -> tuple[int, int]:
        """Return the oldest that has all that kernels use."""
        return 8, 0

    def device_array(self, shape: tuple[int, ...], dtype: np.dtype, stream: Any) -> Any:
        """Return an array of NaN, so that what a kernel leaves out shows."""
        from numba import cuda

        return cuda.to_device(np.full(shape, np.nan if dtype.kind == "f" else 0x55, dtype))

    def address(self, array: Any) -> Any:
        """Return the array itself, flat."""
        return array.reshape(-1)

    def run(
        self, build: Callable[..., Kernel], literals: Sequence[Any], grid: Any, arguments: list, stream: Any
    ) -> None:
        """Run a kernel, a Python thread for each of its own."""
        ready, kernel = _simulated(build, *literals)
        with warnings.catch_warnings():
            # Unsigned numbers wrap on purpose, and floats overflow as they do on the device.
            warnings.simplefilter("ignore", RuntimeWarning)
            ready[grid, kernel.threads](*[_NOTHING if a is None else a for a in arguments])


def devices() -> list[dict[str, Any]]:
    """Return what numba-cuda says of each device; none without one."""
    if SIMULATED or _missing() is not None:
        return []
    from numba import cuda

    return [_described(device.id, device) for device in cuda.gpus.lst]


def _described(number: int, device: Any) -> dict[str, Any]:
    """Return a device in types that JSON has; `peak_gflops` is that of float32 multiply-adds, counted as two."""
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    capability = tuple(device.compute_capability)
    lanes = _LANES.get(capability, 128)
    gflops = 2 * lanes * device.MULTIPROCESSOR_COUNT * device.CLOCK_RATE / 1e6
    # Twice the clock: memory moves data on both of its edges.
    gbytes = 2 * device.MEMORY_CLOCK_RATE * device.GLOBAL_MEMORY_BUS_WIDTH / 8 / 1e6
    return {
        "number": number,
        "name": name,
        "capability": f"{capability[0]}.{capability[1]}",
        "multiprocessors": device.MULTIPROCESSOR_COUNT,
        "clock_mhz": device.CLOCK_RATE / 1e3,
        "l2_bytes": device.L2_CACHE_SIZE,
        "peak_gflops": gflops,
        "peak_gbytes": gbytes,
    }


# float32 lanes of a multiprocessor by compute capability; 128 in all others since 6.1.
_LANES = {(7, 0): 64, (7, 5): 64, (8, 0): 64}
_NOTHING = np.zeros(1, np.float32)
_current: list[Runtime] = [Simulator() if SIMULATED else Runtime()]


def current() -> Runtime:
    """Return where kernels run."""
    return _current[0]


def replace(runtime: Runtime) -> Runtime:
    """Put another runtime in place of the current one, which is returned."""
    _current[0], former = runtime, _current[0]
    return former


def require(function: str) -> None:
    """Raise `UnsupportedError`, which says what is missing, unless kernels can run."""
    reason = current().missing()
    if reason is not None:
        raise UnsupportedError(f'{function}: device = "cuda" is not there: {reason}; {INSTALL} installs what it needs')


def launch(stream: Any, build: Callable[..., Kernel], literals: Sequence[Any], grid: Any, arguments: Any) -> None:
    """Run ``build(*literals)`` on a grid of blocks; arguments are buffers, None, and tuples of scalars."""
    given = [getattr(a, "pointer", a) for a in arguments]
    current().run(build, literals, grid, given, stream)


def blocks_of(elements: int, threads: int) -> int:
    """Return how many blocks give every element a thread."""
    return -(-elements // threads)


@cache
def built(build: Callable[..., Kernel], *literals: Any) -> Kernel:
    """Return the record of a kernel, the same for the same literals."""
    return build(*literals)


@cache
def _simulated(build: Callable[..., Kernel], *literals: Any) -> tuple[Any, Kernel]:
    from numba import cuda

    kernel = built(build, *literals)
    return cuda.jit(kernel.function), kernel


@cache
def _missing() -> str | None:
    if importlib.util.find_spec("numba_cuda") is None:
        return "the package numba-cuda is not installed"
    try:
        from numba import cuda

        if cuda.is_available():
            return None
        error = cuda.cuda_error()
    except Exception as raised:
        error = raised
    return " ".join(str(error or "there is no CUDA device").split())[:160]
