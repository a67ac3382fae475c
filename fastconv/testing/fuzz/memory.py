"""Arrays in the memory that users bring: strided, reversed, byte-swapped, unaligned, overlapping, amid other data."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv.errors import OptionError
from fastconv.testing.fuzz.case import Array, Case

# The powers of ten from the least denormal to the largest number.
_POWERS = {"float16": (-7.0, 4.0), "bfloat16": (-36.0, 37.0), "float32": (-44.0, 38.0), "float64": (-320.0, 307.0)}
# Bytes around each array; whoever reads them as floats gets NaN.
_EDGE, _POISON, _INTEGER_POISON = 64, 0xFF, 0xA5


class Placed(NamedTuple):
    """An array, the bytes in which it lies, and what these were when all was in place."""

    array: np.ndarray
    memory: np.ndarray
    before: np.ndarray


def dtype_of(name: str) -> np.dtype:
    """Return a dtype by its name, that of ml_dtypes too."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def arguments(case: Case) -> tuple[dict[str, Any], dict[str, Placed]]:
    """Return the arguments with their arrays made, and where these lie."""
    placed: dict[str, Placed] = {}
    hosts = {name: array.memory.partition(":")[2] for name, array in case.arrays.items() if ":" in array.memory}
    over = {host: name for name, host in hosts.items() if host in case.arrays}
    for name, array in case.arrays.items():
        if hosts.get(name) in case.arrays:
            continue
        values = content(array, np.random.default_rng([case.seed, zlib.crc32(name.encode())]), case)
        room = case.arrays[over[name]] if name in over else None
        placed[name] = _place(values, "plain" if room else array.memory, _bytes(room))
        if room:
            placed[over[name]] = _over(room, placed[name], case.seed)
    made = dict(case.arguments)
    for name, array in case.arrays.items():
        made[name] = placed[name].array.tolist() if array.memory == "list" else placed[name].array
    return made, placed


def touched(placed: dict[str, Placed], out: str) -> str:
    """Return the name of an argument in whose memory something changed, but the elements of `out`; "" if none did."""
    for name, (array, memory, before) in placed.items():
        now = memory.copy()
        if out in placed and np.may_share_memory(memory, placed[out].memory):
            array = placed[out].array
            start = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
            views = (np.ndarray(array.shape, array.dtype, b, start, array.strides) for b in (now, before))
            if array.size:
                current, old = views
                current[...] = old
        if not np.array_equal(now, before):
            return name
    return ""


def _bytes(array: Array | None) -> int:
    return array.size * dtype_of(array.dtype).itemsize if array else 0


def _place(values: np.ndarray, memory: str, room: int = 0) -> Placed:
    """Return a copy of an array in memory of a kind, with `room` more bytes behind it."""
    full, dtype = values.shape, values.dtype
    if dtype.hasobject:
        return Placed(values, np.zeros(0, np.uint8), np.zeros(0, np.uint8))
    values = values[..., :1] if memory == "broadcast" and full else values
    shape = values.shape
    slices = tuple(slice(None) for _ in shape)
    if memory == "stepped":
        shape, slices = tuple(2 * n + 1 for n in shape), tuple(slice(1, 2 * n + 1, 2) for n in shape)
    elif memory == "sliced":
        shape, slices = tuple(n + 3 for n in shape), tuple(slice(1, n + 1) for n in shape)
    elif memory == "reversed":
        slices = tuple(slice(None, None, -1) for _ in shape)
    elif memory == "swapped":
        dtype = dtype.newbyteorder()
    size = math.prod(shape) * dtype.itemsize
    buffer = np.full(size + room + 2 * _EDGE, _INTEGER_POISON if dtype.kind in "biu" else _POISON, np.uint8)
    order: Any = "F" if memory == "fortran" else "C"
    view = np.ndarray(shape, dtype, buffer, _EDGE + (memory == "unaligned"), order=order)
    view = view[slices] if slices else view
    view[...] = values
    if memory == "broadcast":
        view = np.broadcast_to(view, full)
    elif memory == "readonly":
        view.flags.writeable = False
    return Placed(view, buffer, buffer.copy())


def _over(room: Array, host: Placed, seed: int) -> Placed:
    """Return an array that overlaps another one's memory, from one of its elements on."""
    dtype = dtype_of(room.dtype)
    steps = max(host.array.nbytes // dtype.itemsize, 1)
    start = _EDGE + seed % steps * dtype.itemsize
    view = np.ndarray(room.shape, dtype, host.memory, start)
    return Placed(view, host.memory, host.before)


def content(array: Array, rng: np.random.Generator, case: Case) -> np.ndarray:
    """Return the elements of an array."""
    dtype, shape = dtype_of(array.dtype), array.shape
    if dtype.kind not in "biufcV":
        return np.zeros(shape, dtype)
    if dtype.kind == "c":
        part = Array("float32" if dtype.itemsize == 8 else "float64", shape, "plain", array.data)
        both = np.empty(shape, dtype)
        both.real, both.imag = content(part, rng, case), content(part, rng, case)
        return both
    name, _, number = array.data.partition(":")
    if name in ("below", "order"):
        return _places(rng, shape, int(number), name == "order").astype(dtype)
    if name not in _FILL:
        raise OptionError(f"content: data = {array.data!r}, expected one of {', '.join(_FILL)}")
    with np.errstate(all="ignore"):
        return np.asarray(_FILL[name](rng, shape, dtype)).astype(dtype).reshape(shape)


def _places(rng: np.random.Generator, shape: tuple[int, ...], places: int, once: bool) -> np.ndarray:
    """Return indices below a number; in every plane of (N, C, *S) each at most `once`, if so."""
    if not once:
        return rng.integers(0, places, shape)
    planes = [rng.permutation(places)[: math.prod(shape[2:])] for _ in range(math.prod(shape[:2]))]
    return np.array(planes, np.int64).reshape(shape)


Shape = tuple[int, ...]


def _integers(rng: np.random.Generator, shape: Shape, dtype: np.dtype) -> np.ndarray:
    return rng.integers(0 if dtype.kind in "bu" else -4, 2 if dtype.kind == "b" else 5, shape)


def _full(rng: np.random.Generator, shape: Shape, dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in "iu":
        return _integers(rng, shape, dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)  # type: ignore[call-overload]


def _normal(rng: np.random.Generator, shape: Shape, dtype: np.dtype) -> np.ndarray:
    return rng.standard_normal(shape) if dtype.kind in "fV" else _integers(rng, shape, dtype)


def _positive(rng: np.random.Generator, shape: Shape, dtype: np.dtype) -> np.ndarray:
    return rng.uniform(0.5, 2, shape) if dtype.kind in "fV" else rng.integers(1, 2 if dtype.kind == "b" else 6, shape)


def _special(rng: np.random.Generator, shape: Shape, dtype: np.dtype) -> np.ndarray:
    x = _integers(rng, shape, dtype)
    if dtype.kind not in "fV":
        return x
    x = x.astype(np.float64)
    share, tiny = rng.choice([0.02, 0.1, 0.5]), 10.0 ** (_POWERS[dtype.name][0] + 0.3)
    for value in (np.nan, np.inf, -np.inf, -0.0, tiny):
        x[rng.random(shape) < share * rng.random()] = value
    return x


def _extreme(rng: np.random.Generator, shape: Shape, dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in "fV":
        return _full(rng, shape, dtype)
    low, high = np.sort(rng.uniform(*_POWERS[dtype.name], 2))
    return 10.0 ** rng.uniform(low, high, shape) * rng.choice([-1, 1], shape)


def _rank1(rng: np.random.Generator, shape: Shape, dtype: np.dtype) -> np.ndarray:
    """Return outer products, along the last two axes, of small powers of two: their factors are exact."""
    *lead, KH, KW = shape
    powers = [1.0, 2.0, 4.0] if dtype.kind in "bu" else [-2.0, -1.0, 1.0, 2.0]
    return rng.choice(powers, (*lead, KH, 1)) * rng.choice(powers, (*lead, 1, KW))


_FILL: dict[str, Callable[[np.random.Generator, Shape, np.dtype], np.ndarray]] = {
    "integers": _integers,
    "ones": lambda rng, shape, dtype: np.ones(shape),
    "full": _full,
    "normal": _normal,
    "positive": _positive,
    "special": _special,
    "extreme": _extreme,
    "unique": lambda rng, shape, dtype: rng.permutation(math.prod(shape)).reshape(shape),
    "poison": lambda rng, shape, dtype: np.full(shape, 77 if dtype.kind in "biu" else np.nan),
    "rank1": _rank1,
}
