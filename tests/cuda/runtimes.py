"""Devices that are none: the kernels that the library launches, executed from what they compile to, on the host.

`installed(Emulated())` puts one in the place of the device; the public API then runs with ``device="cuda"``, and with
arrays that `to_device` makes, which have ``__cuda_array_interface__``. Memory of the device is memory of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np

from fastconv.benchmarks.timing import sample
from tests.cuda_tools import compile as toolchain
from tests.cuda_tools.native import NativeKernel
from tests.cuda_tools.ptx_emulator.launch import run as emulate
from tests.cuda_tools.ptx_emulator.parser import Kernel as Parsed


class DeviceArray:
    """An array of a device that is none: flat memory of the host, which only its interface hands out."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = dict(self.values.__array_interface__)
        return {"version": 3, "stream": None, **{k: interface[k] for k in ("shape", "typestr", "data", "strides")}}

    def copy_to_host(self, stream: Any = 0) -> np.ndarray:
        """Return a copy, as an array of Numba has it."""
        return self.values.copy()


class _HostRuntime:
    """What both have in common: memory of NumPy, and a record of the launches.

    Attributes
    ----------
    launched : dict
        By (build, literals) of each kernel that ran, how often.
    """

    capability: toolchain.Capability = (8, 0)
    # Of all of them: the library keeps small tables on the device.
    memory: ClassVar[WeakValueDictionary[int, DeviceArray]] = WeakValueDictionary()

    def __init__(self) -> None:
        self.launched: dict[tuple[Any, tuple], int] = {}

    def missing(self) -> str | None:
        """Return None: all is there."""
        return None

    def device_number(self) -> int:
        """Return 0: there is one."""
        return 0

    def compute_capability(self) -> toolchain.Capability:
        """Return that of the code that runs."""
        return self.capability

    def to_device(self, array: np.ndarray, stream: Any = 0) -> DeviceArray:
        """Return a copy, with its strides."""
        return self._kept(array.copy(order="K"))

    def device_array(self, shape: tuple[int, ...], dtype: np.dtype, stream: Any = 0) -> DeviceArray:
        """Return an array of NaN or of odd integers, so that what a kernel leaves out shows."""
        # Memory of no bytes has an address all the same, of its own.
        raw = np.full(max(int(np.prod(shape)) * dtype.itemsize, 1), 0xFF if dtype.kind in "fV" else 0x55, np.uint8)
        return self._kept(raw[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape))

    def _kept(self, values: np.ndarray) -> DeviceArray:
        array = DeviceArray(values)
        self.memory[values.__array_interface__["data"][0]] = array
        return array

    def address(self, array: DeviceArray) -> int:
        """Return the address of an array."""
        return array.values.__array_interface__["data"][0]

    def seconds(self, call: Any, loops: int) -> float:
        """Return the mean time of calls, on the clock of the host."""
        return sample(call, loops)

    def run(self, build: Any, literals: tuple, grid: Any, arguments: list, stream: Any) -> None:
        """Execute a kernel."""
        key = build, tuple(literals)
        self.launched[key] = self.launched.get(key, 0) + 1
        kernel = kernel_of(*key)
        flat: list[Any] = []
        for kind, argument in zip(kernel.types, arguments, strict=True):
            values = argument if isinstance(argument, tuple) else [0 if argument is None else argument]
            assert len(values) == (len(kind) if isinstance(argument, tuple) else 1), (key, kind, argument)
            flat += values
        self.execute(kernel, grid, flat)

    def execute(self, kernel: Any, grid: Any, arguments: list) -> None:
        """Execute a kernel with flat arguments: addresses are Python integers."""
        raise NotImplementedError


class Emulated(_HostRuntime):
    """The PTX of the kernels in the emulator, which must find nothing wrong with them."""

    def __init__(self, capability: toolchain.Capability = (8, 0), statistics: bool = False) -> None:
        super().__init__()
        self.capability, self.statistics = capability, statistics
        self.reports: list[tuple[str, Any]] = []

    def execute(self, kernel: Any, grid: Any, arguments: list) -> None:
        """Run a kernel, and hold that it is clean."""
        given = [self._array(a) if type(a) is int and a else np.uint64(0) if type(a) is int else a for a in arguments]
        ptx = parsed(kernel, self.capability)
        report = emulate(ptx, grid, kernel.threads, given, statistics=self.statistics)
        report.assert_clean()
        self.reports.append((kernel.function.__name__, report))

    def _array(self, address: int) -> np.ndarray:
        """Return the memory that starts at an address, flat."""
        if address in self.memory:
            return flat_memory(self.memory[address].values)
        for first, array in list(self.memory.items()):
            offset = address - first
            if 0 <= offset < array.values.nbytes:
                return flat_memory(array.values).view(np.uint8)[offset:]
        raise AssertionError(f"no array of the device is at {address:#x}")


class Native(_HostRuntime):
    """The LLVM IR of the kernels, compiled for the host."""

    def execute(self, kernel: Any, grid: Any, arguments: list) -> None:
        """Run a kernel."""
        native(kernel)(grid, kernel.threads, arguments)


def flat_memory(values: np.ndarray) -> np.ndarray:
    """Return all elements of an array that lies whole in its memory, in the order of their addresses."""
    order = sorted(range(values.ndim), key=lambda axis: -values.strides[axis])
    return values.transpose(order).reshape(-1)


def kernel_name(build: Any, literals: Any) -> str:
    """Return the name of a kernel, the same in every process."""
    return f"{build.__module__.rpartition('.')[2]}.{build.__qualname__}{tuple(literals)}"


# Of the functions that builders returned, to tell them from mutants.
_names: dict[Any, str] = {}


def kernel_of(build: Any, literals: Any) -> Any:
    """Return what a builder makes."""
    from fastconv.kernels.cuda.runtime import built

    kernel = built(build, *literals)
    _names[kernel.function] = kernel_name(build, literals)
    return kernel


def signature(kernel: Any) -> Any:
    """Return the types of a kernel, as the compilers take them."""
    from numba import types

    return types.void(*kernel.types)


@cache
def parsed(kernel: Any, capability: toolchain.Capability) -> Parsed:
    """Return the PTX of a kernel for the emulator."""
    return Parsed(ptx_of(kernel, capability))


def ptx_of(kernel: Any, capability: toolchain.Capability) -> str:
    """Return the PTX of a kernel, compiled as a launch compiles it; a file may have that of one by `kernel_of`."""
    bounds = (kernel.threads, kernel.blocks)
    compiled = partial(toolchain.to_ptx, kernel.function, signature(kernel), capability, launch_bounds=bounds)
    name = _names.get(kernel.function)
    if name is None:
        return compiled()
    # It imports numba-cuda, which may be missing where the simulator runs.
    from tests.cuda import kept

    return kept.ptx(name, capability, compiled)


@cache
def native(kernel: Any) -> NativeKernel:
    """Return a kernel for the host."""
    return NativeKernel(toolchain.to_llvm(kernel.function, signature(kernel)))


@contextmanager
def installed(runtime: Any) -> Iterator[Any]:
    """Run the library's kernels there."""
    from fastconv.kernels.cuda import runtime as place

    former = place.replace(runtime)
    try:
        yield runtime
    finally:
        place.replace(former)


def to_device(array: np.ndarray) -> Any:
    """Return a copy of an array on what is the device now."""
    from fastconv.kernels.cuda.runtime import SIMULATED, current

    # The simulator takes contiguous arrays only, but gives views of them.
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    if SIMULATED and array.size:
        copied = current().to_device(np.ascontiguousarray(array.transpose(order)), 0)
        return copied.transpose(tuple(np.argsort(order)))
    return current().to_device(array, 0)
