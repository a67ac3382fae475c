"""The element types of PTX as NumPy's, and the two errors that the emulator raises."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

DTYPES: dict[str, Any] = {
    **{
        f"{letter}{bits}": np.dtype(f"{kind}{bits // 8}")
        for letter, kind in (("u", "u"), ("s", "i"), ("b", "u"))
        for bits in (8, 16, 32, 64)
    },
    **{f"f{bits}": np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)},
    # NumPy has no type for these: the bits travel, `cvt` and `mma` know what they mean.
    "bf16": np.dtype("u2"),
    "f16x2": np.dtype("u4"),
    "bf16x2": np.dtype("u4"),
    "tf32": np.dtype("u4"),
    "pred": np.dtype("?"),
}
FLOATS = ("f16", "f32", "f64")
UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


class PTXError(Exception):
    """PTX that cannot be read, or an instruction that the emulator does not know."""


class FaultError(PTXError):
    """What would end the kernel on a device, or read and write memory that is not its own."""


def size_of(kind: str) -> int:
    """Return the bytes of an element."""
    return int(DTYPES[kind].itemsize)


def dtype_of(kind: str) -> Any:
    """Return NumPy's type of a PTX element type, or name the one that is unknown."""
    if kind not in DTYPES:
        raise PTXError(f"element type .{kind} is not emulated")
    return DTYPES[kind]


def reinterpret(values: Array, dtype: Any) -> Array:
    """Return the bits of `values` as `dtype`: cut, or filled with zeros, where the sizes differ."""
    if values.dtype == dtype:
        return values
    if dtype == np.bool_ or values.dtype == np.bool_:
        return values.astype(dtype)
    if values.dtype.itemsize == dtype.itemsize:
        return values.view(dtype)
    bits = values.view(UNSIGNED[values.dtype.itemsize])
    return bits.astype(UNSIGNED[dtype.itemsize]).view(dtype)


def widened(kind: str) -> str:
    """Return the type of twice the size, for ``mul.wide``."""
    return kind[0].replace("b", "u") + str(16 * size_of(kind))
