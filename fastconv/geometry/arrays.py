"""Arrays in: from whatever holds numbers on the CPU to the one kind that kernels take.

That kind is a base-class ndarray, C-contiguous, aligned and native. Each other kind would be one more compiled
signature of every kernel, and Numba reads unaligned data as if it were aligned.
"""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np

from fastconv.errors import ArgumentTypeError, DtypeError, FastconvError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arguments import shown

SUPPORTED: Final = {np.dtype(name): np.dtype(name) for name in ("float32", "float64")}

# Kinds of dtype that hold numbers: floating point, integers, complex.
_NUMBERS = "fiuc"

# DLPack devices whose memory the CPU reads: CPU, pinned CUDA, pinned ROCm.
_HOST_DEVICES = (1, 3, 11)

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
        None, bool, object, string, time and structured dtypes, masked elements, and what NumPy cannot convert.
    ShapeError
        A scalar or a ragged list.
    UnsupportedError
        Memory that only a device can read.
    """
    if type(value) is np.ndarray and value.dtype in SUPPORTED:
        flags = value.flags
        if flags.c_contiguous and flags.aligned and value.ndim:
            return value
    array = _as_ndarray(function, name, value)
    if array.dtype.kind not in _NUMBERS and array.dtype.name != "bfloat16":
        expected = "expected an array of numbers (float32 or float64)"
        if value is None or array.dtype == object:
            raise DtypeError(f"{function}: {name} = {shown(value)} is of type {type(value).__name__}, {expected}")
        raise DtypeError(f"{function}: {name} has dtype {array.dtype}, {expected}")
    if array.ndim == 0:
        raise ShapeError(f"{function}: {name} = {shown(value)} is a scalar, expected an array")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return array if array.flags.aligned else array.copy()


def _as_ndarray(function: str, name: str, value: object) -> np.ndarray:
    """Return `value` as an ndarray of the base class, any dtype and strides."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise DtypeError(f"{function}: {name} has masked elements, expected an array without (fill them first)")
        return np.asarray(value)
    _check_device(function, name, value)
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        raise UnsupportedError(f"{function}: {name} has dtype bfloat16; this version supports float32 and float64")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)  # type: ignore[arg-type]
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        kind: type[FastconvError] = ShapeError if isinstance(value, (list, tuple)) else DtypeError
        reason = " ".join(str(error).split())
        message = f"{function}: {name} of type {type(value).__name__} cannot be read as an array: {reason}"
        raise kind(message) from error


def _check_device(function: str, name: str, value: object) -> None:
    """Raise `UnsupportedError` if the memory of `value` is not the CPU's."""
    device = getattr(value, "__dlpack_device__", None)
    try:
        on_host = device is None or device()[0] in _HOST_DEVICES
    except Exception:
        # The exporter cannot say; the conversion that follows reports what is wrong.
        on_host = True
    if not on_host or hasattr(value, "__cuda_array_interface__"):
        kind = type(value).__name__
        raise UnsupportedError(f"{function}: {name} of type {kind} is in device memory, expected an array on the CPU")


def common_dtype(function: str, *arrays: np.ndarray | None) -> np.dtype:
    """Return the dtype of the computation by NumPy's promotion; None among the arrays is skipped.

    Raises
    ------
    UnsupportedError
        Unless the result is float32 or float64.
    DtypeError
        If NumPy has no common dtype.
    """
    dtypes = [array.dtype for array in arrays if array is not None]
    try:
        dtype = dtypes[0] if dtypes.count(dtypes[0]) == len(dtypes) else np.result_type(*dtypes)
    except TypeError as error:
        names = ", ".join(str(item) for item in dtypes)
        raise DtypeError(f"{function}: the arrays have dtypes {names}, which have no common dtype") from error
    if dtype in SUPPORTED:
        return SUPPORTED[dtype]
    got = ", ".join(dict.fromkeys(str(item) for item in dtypes))
    raise UnsupportedError(
        f"{function}: the arrays have dtype {got}, result dtype {dtype}; this version supports float32 and float64",
    )


def dtype_name(function: str, dtype: object) -> str:
    """Return "float32" or "float64" from a dtype or its name."""
    if dtype == "float32" or dtype == "float64":
        return str(dtype)
    try:
        if dtype is None:
            raise TypeError("None is not a dtype")
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError as error:
        raise DtypeError(f"{function}: dtype = {shown(dtype)}, expected float32 or float64") from error
    if found not in SUPPORTED:
        raise UnsupportedError(f"{function}: dtype = {found}; this version supports float32 and float64")
    return str(found.name)


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
