"""Objects of other kinds that hold an array: by every protocol, sharing its memory where the kind can."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

# An exporter, and an ndarray of the memory that it shows.
Exported = tuple[Any, np.ndarray]


class Interface:
    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


class Struct:
    def __init__(self, values):
        self.values = values
        self.__array_struct__ = values.__array_struct__


class Convertible:
    """An object with the protocol of NumPy 2."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype, copy=copy)


class Older:
    """An object with the protocol of NumPy 1."""

    def __init__(self, values):
        self.values = values

    def __array__(self):
        return self.values


class Dlpack:
    """An object with DLPack and nothing else."""

    def __init__(self, values, device=(1, 0)):
        self.values, self.device = values, device

    def __dlpack__(self, **keywords):
        return self.values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.device


class OlderDlpack(Dlpack):
    """An object with the first version of the protocol."""

    def __dlpack__(self, stream=None):
        return self.values.__dlpack__()


class Quantity(np.ndarray):
    """A subclass that has its own idea of every function of NumPy."""

    def __array_finalize__(self, other):
        self.unit = getattr(other, "unit", "m")

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        raise AssertionError(f"{ufunc} of a quantity")

    def __array_function__(self, function, types, args, keywords):
        raise AssertionError(f"{function} of a quantity")


def in_memory_map(values: np.ndarray) -> Exported:
    memory = mmap.mmap(-1, values.nbytes)
    view = np.frombuffer(memory, values.dtype).reshape(values.shape)
    view[...] = values
    return memoryview(memory).cast("B").cast(values.dtype.char, values.shape), view


def in_array_array(values: np.ndarray) -> Exported:
    memory = array.array(values.dtype.char, values.tobytes())
    view = np.frombuffer(memory, values.dtype).reshape(values.shape)
    return memoryview(memory).cast("B").cast(values.dtype.char, values.shape), view


def in_ctypes(values: np.ndarray) -> Exported:
    kind = ctypes.c_float
    for n in reversed(values.shape):
        kind = kind * n
    values = values.copy()
    return kind.from_buffer(values), values


def in_file(values: np.ndarray) -> Exported:
    import tempfile

    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, values.dtype, "w+", shape=values.shape)
        mapped[...] = values
        return mapped, np.asarray(mapped)


def sharing(make: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Exported]:
    return lambda values: (make(values), values)


def torch_tensor(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").from_numpy(values)


def wants_gradient(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").nn.Parameter(torch_tensor(values))


def in_jax(values: np.ndarray) -> Exported:
    exported = pytest.importorskip("jax").numpy.array(values)
    size = exported.nbytes
    memory = (ctypes.c_char * size).from_address(exported.unsafe_buffer_pointer()) if size else b""
    return exported, np.frombuffer(memory, values.dtype).reshape(values.shape)


SHARED: dict[str, Callable[[np.ndarray], Exported]] = {
    "memoryview": sharing(memoryview),
    "array.array": in_array_array,
    "ctypes": in_ctypes,
    "mmap": in_memory_map,
    "memmap": in_file,
    "__array_interface__": sharing(Interface),
    "__array_struct__": sharing(Struct),
    "__array__": sharing(Convertible),
    "__array__ of NumPy 1": sharing(Older),
    "DLPack": sharing(Dlpack),
    "older DLPack": sharing(OlderDlpack),
    "subclass": sharing(lambda values: values.view(Quantity)),
    "masked array without masked elements": sharing(lambda values: np.ma.MaskedArray(values, values < 0)),
    "torch": sharing(torch_tensor),
    "torch with a gradient": sharing(wants_gradient),
    "jax": in_jax,
}


# Kinds that are refused.


class Sparse:
    """What sparse arrays of SciPy and others have."""

    nnz = 3

    def todense(self):
        raise AssertionError("made dense")

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("made dense")


class Lazy:
    """What dask's collections have."""

    def __dask_graph__(self):
        return {}

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("computed")


class WithMask(Interface):
    def __init__(self, values):
        super().__init__(values)
        self.__array_interface__ = values.__array_interface__ | {"mask": Interface(values > 3)}


class Masking:
    """An object whose `__array__` returns an array with a mask."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.ma.MaskedArray(self.values, self.values > 3)


class InDeviceMemory:
    @property
    def __cuda_array_interface__(self):
        raise AttributeError("not of CUDA")

    def __dlpack_device__(self):
        return (8, 0)

    def __dlpack__(self, **keywords):
        raise AssertionError("exported")


REFUSED: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "masked": (lambda values: np.ma.MaskedArray(values, values > 3), "has masked elements, expected an array without"),
    "list of masked": (lambda values: [np.ma.MaskedArray(a, True) for a in values], "has masked elements"),
    "__array__ with a mask": (Masking, "has masked elements"),
    "interface with a mask": (WithMask, "of type WithMask has a mask"),
    "sparse": (lambda values: Sparse(), "of type Sparse is sparse, expected a dense array"),
    "dask": (lambda values: Lazy(), "of type Lazy is a dask collection, .*fastconv.integrations.dask"),
    "device": (lambda values: InDeviceMemory(), "of type InDeviceMemory is in device memory"),
}
