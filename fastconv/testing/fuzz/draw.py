"""Draws that all operations share: sizes near the edges of tiles, memory, data, dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from fastconv.testing.fuzz.case import Array, Case

T = TypeVar("T")

# Sizes just below, at and above those of registers and tiles; primes; one.
EDGES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 97, 127, 128, 129)
LAYOUTS = ("channels_first", "channels_last")
HOSTILE = ("fortran", "reversed", "stepped", "sliced", "swapped", "unaligned", "readonly", "broadcast", "list")
WRITABLE = ("fortran", "reversed", "stepped", "sliced", "swapped", "unaligned")
FLOATS = ("float32", "float64", "float16")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
COMPLEX = ("complex64", "complex128")
# A dtype more is drawn from each so many problems on: each is kernels of its own, which compile for seconds.
PACE = 2500


class Draw:
    """A seeded source of arguments; `dtypes` are those that it takes."""

    def __init__(self, seed: Sequence[int], dtypes: Sequence[str]):
        self.rng = np.random.default_rng(seed)
        self.dtypes = tuple(dtypes)

    def chance(self, share: float) -> bool:
        """Return True that often."""
        return bool(self.rng.random() < share)

    def one(self, of: Sequence[T]) -> T:
        """Return one of the values."""
        return of[int(self.rng.integers(len(of)))]

    def integer(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def size(self, most: int) -> int:
        """Return a size of at least 1, mostly near an edge of a tile."""
        return self.one([n for n in EDGES if n <= most]) if self.chance(0.6) else self.integer(1, most)

    def each(self, axes: int, of: Sequence[int]) -> tuple[int, ...]:
        """Return one of the numbers for each axis, half of the time the same one."""
        return (self.one(of),) * axes if self.chance(0.5) else tuple(self.one(of) for _ in range(axes))

    def form(self, numbers: tuple[int, ...]) -> Any:
        """Return one number for all axes, if it is the same one, or as many as there are axes."""
        return numbers[0] if len(set(numbers)) == 1 and self.chance(0.7) else numbers

    def dtype(self, kinds: Sequence[str]) -> str:
        """Return a dtype of these kinds, mostly float32."""
        found = [name for name in self.dtypes if name in kinds]
        return found[0] if len(found) == 1 or (found and self.chance(0.6)) else self.one(found or kinds[:1])

    def other(self, dtype: str, kinds: Sequence[str], share: float = 0.05) -> str:
        """Return another dtype that often, else the same; bfloat16 has no common dtype with some."""
        other = self.dtype(kinds) if self.chance(share) else dtype
        return dtype if "bfloat16" in (dtype, other) else other

    def memory(self) -> str:
        """Return a kind of memory, half of the time plain."""
        return "plain" if self.chance(0.55) else self.one(HOSTILE)

    def array(self, dtype: str, shape: tuple[int, ...], data: str = "integers") -> Array:
        """Return an array in drawn memory."""
        memory = self.memory()
        # A list has no dtype and no size 0 to begin with.
        listed = dtype in ("float64", "int64", "complex128") and 0 not in shape
        if (memory == "list" and not listed) or (memory == "swapped" and dtype == "bfloat16"):
            memory = "plain"
        return Array(dtype, shape, memory, data)

    def data(self, dtype: str) -> str:
        """Return a kind of data for a dtype."""
        if "int" in dtype:
            return self.one(("integers", "integers", "full"))
        if dtype.startswith("complex"):
            return self.one(("integers", "integers", "normal"))
        return self.one(("integers", "integers", "integers", "normal", "normal", "special", "extreme", "ones"))

    def out(self, dtype: str, shape: tuple[int, ...], inputs: dict[str, Array], where: str = "out") -> dict[str, Array]:
        """Return an array for the result in drawn memory, maybe in that of an input, or none."""
        if self.chance(0.6):
            return {}
        hosts = [name for name, a in inputs.items() if a.size and a.memory != "list"]
        memory = self.one(("plain", *WRITABLE))
        if hosts and self.chance(0.35):
            memory = f"over:{self.one(hosts)}"
        elif memory == "swapped" and dtype == "bfloat16":
            memory = "plain"
        return {where: Array(dtype, shape, memory, "poison")}

    def seed(self) -> int:
        """Return a seed for the data of a case."""
        return self.integer(1, 9999)

    def threads(self) -> int:
        """Return a number of threads."""
        return self.one((1, 1, 2, 3, 7))

    def case(self, op: str, arguments: dict[str, Any]) -> Case:
        """Return a case of these arguments, without those that are None."""
        given = {name: value for name, value in arguments.items() if value is not None}
        return Case(op, given, self.seed(), self.threads())


def in_layout(shape: tuple[int, ...], layout: str, batched: bool = True) -> tuple[int, ...]:
    """Return a shape (N, C, *S) in a layout, maybe without N."""
    N, C, *sizes = shape
    given = (C, *sizes) if layout == "channels_first" else (*sizes, C)
    return (N, *given) if batched else given


def layout_option(layout: str) -> dict[str, str]:
    """Return the keyword for a layout, none for the default."""
    return {} if layout == "channels_first" else {"layout": layout}


def known_dtypes(seed: int, index: int) -> tuple[str, ...]:
    """Return the dtypes of the problem with a number: float32 and another one, and more in long runs."""
    others = [*FLOATS[1:], *INTEGERS, *COMPLEX, *_bfloat16()]
    order = np.random.default_rng([seed, 7]).permutation(len(others))
    return ("float32", *(others[int(i)] for i in order[: 1 + index // PACE]))


def _bfloat16() -> tuple[str, ...]:
    try:
        import ml_dtypes  # noqa: F401
    except ImportError:
        return ()
    return ("bfloat16",)
