"""Arrays in: from whatever holds numbers on the CPU to the one kind that kernels take.

That kind is a base-class ndarray, C-contiguous, aligned and native. Each other kind would be one more compiled
signature of every kernel, and Numba reads unaligned data as if it were aligned.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

import numpy as np

from fastconv.errors import ArgumentTypeError, DtypeError, FastconvError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arguments import shown

_NAMES: Final = (
    *("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"),
    *("complex64", "complex128"),
)
SUPPORTED: Final = {np.dtype(name): np.dtype(name) for name in _NAMES}
# As messages list them.
DTYPES: Final = ", ".join(_NAMES) + " or ml_dtypes.bfloat16"

# DLPack devices whose memory the CPU reads: CPU, pinned CUDA, pinned ROCm.
_HOST_DEVICES = (1, 3, 11)
# CUDA, and CUDA's managed memory.
_CUDA_DEVICES = (2, 13)

_from_buffer = ctypes.c_char.from_buffer
_addressof = ctypes.addressof


def as_input(function: str, name: str, value: object) -> np.ndarray:
    """Return `value` as a C-contiguous, aligned, native ndarray; a copy is made only where it must be.

    Parameters
    ----------
    function, name : str
        Public function and its argument, for the messages.
    value : array_like
        ndarray of any strides, byte order, alignment and subclass; nested lists; objects with the buffer protocol,
        ``__array_interface__``, ``__array__`` or ``__dlpack__`` on the CPU, such as torch tensors and JAX arrays.

    Raises
    ------
    DtypeError
        None, bool, object, string, time and structured dtypes, numbers too wide for the kernels (uint64, longdouble),
        masked elements, and what NumPy cannot convert.
    ShapeError
        A scalar or a ragged list.
    UnsupportedError
        Memory that only a device can read.
    """
    if type(value) is np.ndarray and value.dtype in SUPPORTED:
        flags = value.flags
        if flags.c_contiguous and flags.aligned and value.ndim:
            return value
    array = as_ndarray(function, name, value)
    dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
    if dtype not in SUPPORTED and not is_bfloat16(dtype):
        expected = f"expected an array of numbers ({DTYPES})"
        if value is None or dtype.kind == "O":
            raise DtypeError(f"{function}: {name} = {shown(value)} is of type {type(value).__name__}, {expected}")
        raise DtypeError(f"{function}: {name} has dtype {array.dtype}, {expected}")
    if array.ndim == 0:
        raise ShapeError(f"{function}: {name} = {shown(value)} is a scalar, expected an array")
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()


def as_ndarray(function: str, name: str, value: object) -> np.ndarray:
    """Return `value` as an ndarray of the base class, of any dtype, strides and byte order; its memory is shared.

    Raises
    ------
    DtypeError
        What NumPy cannot convert, and what it would convert to something else than the user means: masked elements,
        sparse and quantized arrays, dask collections.
    ShapeError
        A ragged list.
    UnsupportedError
        Memory that only a device can read.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise DtypeError(f"{function}: {name} has masked elements, expected an array without (fill them first)")
        return np.asarray(value)
    try:
        if _is_tensor(value):
            array = _from_torch(function, name, value)
        else:
            array = _from_protocol(function, name, value)
    except (MemoryError, FastconvError):
        raise
    except Exception as error:
        kind: type[FastconvError] = ShapeError if isinstance(value, (list, tuple)) else DtypeError
        reason = " ".join(str(error).split())
        message = f"{function}: {name} of type {type(value).__name__} cannot be read as an array: {reason}"
        raise kind(message) from error
    # What `__array__` returns may have a mask.
    return array if type(array) is np.ndarray else as_ndarray(function, name, array)


def _from_protocol(function: str, name: str, value: Any) -> np.ndarray:
    """Return what is in a list, or in an object of any library."""
    # Asked for once: Pillow copies an image each time.
    interface = None if isinstance(value, np.generic) else getattr(value, "__array_interface__", None)
    problem = _problem(value, interface)
    if problem is not None:
        raise DtypeError(f"{function}: {name} {problem}")
    _check_device(function, name, value)
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__") and interface is None:
        return np.from_dlpack(value)
    return np.asanyarray(value if interface is None else _Interface(interface, value))


class _Interface:
    """An object's interface, which keeps its memory alive."""

    def __init__(self, interface: Any, owner: object):
        self.__array_interface__, self.owner = interface, owner


def _problem(value: Any, interface: Any) -> str | None:
    """Return why NumPy's idea of `value` is not what the user means, or None."""
    if isinstance(value, (list, tuple)):
        return "has masked elements, expected arrays without (fill them first)" if _holds_masked(value) else None
    kind = type(value).__name__
    if hasattr(value, "__dask_graph__") and _is_lazy(value):
        use = "compute it first, or see fastconv.integrations.dask"
        return f"of type {kind} is a dask collection, expected an array in memory ({use})"
    if hasattr(value, "todense") and (hasattr(value, "nnz") or hasattr(value, "nse")):
        return f"of type {kind} is sparse, expected a dense array (see its method todense)"
    if isinstance(interface, dict) and interface.get("mask") is not None:
        return f"of type {kind} has a mask, expected an array without"
    return None


def _is_lazy(value: Any) -> bool:
    """Return whether dask would have to compute; a labelled array of xarray has a graph even for lazy labels."""
    return value.__dask_graph__() is not None and getattr(value, "chunks", ()) is not None


def _holds_masked(value: object, depth: int = 0) -> bool:
    """Return whether there are masked elements in a nested list; lists of plain numbers are not searched."""
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.is_masked(value))
    if not isinstance(value, (list, tuple)) or depth > _MOST_AXES:
        return False
    return bool(value) and type(value[0]) not in (float, int) and any(_holds_masked(v, depth + 1) for v in value)


# Of NumPy's arrays.
_MOST_AXES: Final = 64


def _is_tensor(value: object) -> bool:
    """Return whether `value` is a tensor of PyTorch, which is not imported for this."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def _from_torch(function: str, name: str, tensor: Any) -> np.ndarray:
    """Return the elements of a tensor on the CPU; a gradient that it wants is not followed."""
    torch = sys.modules["torch"]
    if on_device(tensor):
        raise UnsupportedError(_IN_DEVICE_MEMORY.format(function, name, type(tensor).__name__))
    if tensor.device.type != "cpu":
        raise UnsupportedError(f"{function}: {name} is on the device {tensor.device}, expected an array on the CPU")
    if tensor.layout is not torch.strided:
        raise DtypeError(f"{function}: {name} has the layout {tensor.layout}, expected a dense one (see to_dense)")
    if tensor.is_quantized:
        raise DtypeError(f"{function}: {name} is quantized ({tensor.dtype}), expected numbers (see dequantize)")
    # NumPy takes no tensor with a gradient, and none whose conjugate or sign is still to be taken.
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()  # type: ignore[no-any-return]
    import ml_dtypes

    # PyTorch exports no bfloat16 to NumPy, but its bits.
    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)  # type: ignore[no-any-return]


def on_device(value: Any) -> bool:
    """Return whether the memory of `value` is a CUDA device's; an object of the host with ``__dlpack__`` is not."""
    if isinstance(value, np.ndarray):
        return False
    try:
        # The properties below raise for some kinds of tensors, and warn for others.
        if _is_tensor(value):
            return bool(value.is_cuda)
        # The arrays of Numba's simulator of a device have no interface.
        if hasattr(value, "__cuda_array_interface__") or type(value).__name__ == "FakeCUDAArray":
            return True
        device = getattr(value, "__dlpack_device__", None)
        return device is not None and device()[0] in _CUDA_DEVICES
    except Exception:
        return False


_IN_DEVICE_MEMORY: Final = "{}: {} of type {} is in device memory, expected an array on the CPU"


def _check_device(function: str, name: str, value: object) -> None:
    """Raise `UnsupportedError` if the memory of `value` is not the CPU's."""
    device = getattr(value, "__dlpack_device__", None)
    try:
        on_host = device is None or device()[0] in _HOST_DEVICES
    except Exception:
        # The exporter cannot say; the conversion that follows reports what is wrong.
        on_host = True
    if not on_host or on_device(value):
        raise UnsupportedError(_IN_DEVICE_MEMORY.format(function, name, type(value).__name__))


def is_bfloat16(dtype: np.dtype) -> bool:
    """Return whether this is the bfloat16 of ml_dtypes."""
    return dtype.name == "bfloat16"


def common_dtype(function: str, *arrays: np.ndarray | None) -> np.dtype:
    """Return the dtype of the result by NumPy's promotion; None among the arrays is skipped.

    Raises
    ------
    DtypeError
        If NumPy has no common dtype.
    """
    dtypes = [array.dtype for array in arrays if array is not None]
    try:
        dtype = dtypes[0] if dtypes.count(dtypes[0]) == len(dtypes) else np.result_type(*dtypes)
    except TypeError as error:
        names = ", ".join(str(item) for item in dtypes)
        raise DtypeError(f"{function}: the arrays have dtypes {names}, which have no common dtype") from error
    return SUPPORTED.get(dtype, dtype)


def dtype_of(function: str, name: str, dtype: object) -> np.dtype:
    """Return a supported dtype from a dtype or its name; `name` is the argument's, for the message."""
    try:
        if dtype is None:
            raise TypeError("None is not a dtype")
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError as error:
        raise DtypeError(f"{function}: {name} = {shown(dtype)}, expected {DTYPES}") from error
    if found not in SUPPORTED and not is_bfloat16(found):
        raise DtypeError(f"{function}: {name} = {found}, expected {DTYPES}")
    return SUPPORTED.get(found, found)


def kind_of(dtype: np.dtype) -> str:
    """Return "i" for integers, "f" for floating point, bfloat16 included, "c" for complex."""
    return {"u": "i", "V": "f"}.get(dtype.kind, dtype.kind)


def working_dtype(function: str, dtype: np.dtype, result: np.dtype) -> np.dtype:
    """Return the dtype in which sums for a result of dtype `result` are taken, of arrays of common dtype `dtype`.

    Raises
    ------
    DtypeError
        If the conversion would drop fractions or imaginary parts.
    """
    if result == dtype:
        return dtype
    kinds = kind_of(dtype), kind_of(result)
    if "ifc".index(kinds[0]) > "ifc".index(kinds[1]):
        raise DtypeError(f"{function}: out_dtype = {result} cannot hold results of arrays of dtype {dtype}")
    # Sums modulo 2**n are exact in every integer type of at least n bits.
    return result if kinds == ("i", "i") else np.promote_types(summed_dtype(dtype), summed_dtype(result))


def byte_dtypes(x: np.dtype, weight: np.dtype, work: np.dtype, terms: int) -> tuple[str, str] | None:
    """Return the names of both dtypes where sums of so many products of bytes may be taken modulo 2**32, else None.

    So they may where the result, of dtype `work`, has no more bits, or where the sums have not.
    """
    names = x.name, weight.name
    if names[0] not in _LARGEST or names[1] not in _LARGEST or kind_of(work) != "i":
        return None
    fits = terms * _LARGEST[names[0]] * _LARGEST[names[1]] < 2**31
    return names if work.itemsize <= 4 or fits else None


# The largest absolute values of bytes.
_LARGEST: Final = {"int8": 128, "uint8": 255}


def summed_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that holds sums of `dtype` on their way: float32 for half precision, else the same."""
    return _ELEMENTS["float32"] if kind_of(dtype) == "f" and dtype.itemsize == 2 else dtype


def element_dtype(dtype: np.dtype) -> np.dtype:
    """Return the element type of the kernels that compute in `dtype`.

    Half precision is summed in float32, complex numbers in their real type, integers modulo 2**16, 2**32 or 2**64.
    """
    kind, size = kind_of(dtype), dtype.itemsize
    if kind == "i":
        return _ELEMENTS[f"int{max(8 * size, 16)}"]
    return _ELEMENTS["float64" if size // (2 if kind == "c" else 1) == 8 else "float32"]


_ELEMENTS: Final = {name: np.dtype(name) for name in ("float32", "float64", "int16", "int32", "int64")}


def check_out(function: str, out: object, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise unless `out` can take a result of this shape and dtype; any strides and byte order will do.

    Raises
    ------
    ShapeError
        Wrong shape.
    OptionError
        Wrong dtype, read-only or masked.
    ArgumentTypeError
        Not an ndarray.
    """
    if not isinstance(out, np.ndarray):
        raise ArgumentTypeError(f"{function}: out = {shown(out)} is a {type(out).__name__}, expected an ndarray")
    if out.shape != shape:
        raise ShapeError(f"{function}: out has shape {out.shape}, expected {shape}")
    if out.dtype != dtype and out.dtype.newbyteorder("=") != dtype:
        raise OptionError(f"{function}: out has dtype {out.dtype}, expected {dtype}")
    if not out.flags.writeable:
        raise OptionError(f"{function}: out is read-only, expected a writable array")
    if type(out) is not np.ndarray and isinstance(out, np.ma.MaskedArray):
        raise OptionError(f"{function}: out is a MaskedArray, expected an ndarray without a mask")


def usable_in_place(out: np.ndarray, *inputs: np.ndarray | None) -> bool:
    """Return whether a kernel may write `out` directly: contiguous, aligned, native, apart from every input.

    Memory is compared by its bounds, so interleaved arrays count as overlapping and no overlap is missed.
    """
    if not (out.flags.carray and out.dtype.isnative):
        return False
    return not any(array is not None and np.may_share_memory(out, array) for array in inputs)


def address(array: np.ndarray) -> int:
    """Return the address of the first element; the caller keeps the array alive."""
    # The ctypes object that ndarray.ctypes makes costs 4 times as much, __array_interface__ 8 times.
    if array.flags.carray and array.size:
        return _addressof(_from_buffer(array))  # type: ignore[arg-type]
    return int(array.ctypes.data)
