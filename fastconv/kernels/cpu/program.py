"""What a plan holds once an algorithm is chosen: the compiled kernel, its int64 array of fields, the packers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastconv.kernels.cpu import fields as F

# kernel(g, io, scratch, lo, hi)
Kernel = Callable[[np.ndarray, np.ndarray, int, int, int], None]


@dataclass(frozen=True)
class Packer:
    """How a weight is copied into the order that the microkernel reads, once per plan or per call."""

    kernel: Kernel
    p: np.ndarray
    tasks: int
    elements: int
    tables: tuple[np.ndarray, ...] = ()
    scratch_bytes: int = 0
    # A weight of bytes: what brings it into words first. So many corrections of the bias stand behind the elements.
    words: Any = None
    corrections: int = 0


class Region(NamedTuple):
    """A part of the output: some rows and columns of image n * OD + od, all channels."""

    image: int
    row: int
    rows: int
    column: int
    columns: int


@dataclass(frozen=True)
class Program:
    """A convolution ready to run: `kernel(g, io, scratch, lo, hi)` over ranges of `tasks` independent tasks."""

    kernel: Kernel
    g: np.ndarray
    tasks: int
    scratch_bytes: int
    # One for each weight array that the kernel wants packed; none: arrays as they are.
    packers: tuple[Packer, ...]
    # Arrays whose addresses stand in g.
    tables: list[np.ndarray] = field(default_factory=list)
    # How many blocks a kernel tells apart that rounds in another way than direct summation: it sets the byte
    # io[FLAGS] + block where a sum is not finite, and the block's regions of `geometry` are computed anew.
    flags: int = 0
    regions: Callable[[int], Sequence[Region]] | None = None
    geometry: Any = None
    # An input of bytes that is not in words yet: what brings it into words.
    words: Any = None


def address(array: np.ndarray) -> int:
    """Return where the array's first element lies."""
    return int(array.ctypes.data)


def aligned(size: int) -> int:
    """Round bytes up to whole cache lines."""
    return -(-size // 64) * 64


def bits_of(geometry: Any) -> int:
    """Return the element type, as ir_builder.py says."""
    dtype = np.dtype(geometry.dtype)
    return 8 * dtype.itemsize + (dtype.kind == "i")


_SAME = (
    *("G", "IC", "OC", "OCG", "D", "H", "W", "OD", "OH", "OW", "KD", "KH", "KW"),
    *("SD", "SH", "SW", "PF", "PT", "PL", "DD", "DH", "DW"),
)


def problem_fields(geometry: Any) -> dict[str, int]:
    """Return the fields of `g` that state the problem."""
    values = {name: getattr(geometry, name) for name in _SAME}
    values |= {"N": geometry.N * geometry.OD, "ICT": geometry.ICG, "ICG": geometry.ICG * geometry.KD}
    values["OUT_PLANE"] = geometry.OD * geometry.OH * geometry.OW
    return values | {"MODE": F.MODES.index(geometry.padding_mode)}


def blocking_fields(blocking: Any) -> dict[str, int]:
    """Return the fields of `g` that a blocking fills."""
    return {name: getattr(blocking, name) for name in F.NAMES if name in blocking._fields}


def table(values: Iterable[int]) -> np.ndarray:
    """Return an int64 table."""
    return np.fromiter(values, np.int64)
