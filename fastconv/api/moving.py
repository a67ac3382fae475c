"""What unpooling, resizing and folding share: where results go, and elements taken as what kernels move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fastconv.api.convolve import DEVICES
from fastconv.api.on_device import begin, wants_device
from fastconv.geometry.arguments import check_keyword
from fastconv.geometry.arrays import address, as_input, check_out, usable_in_place
from fastconv.system import empty
from fastconv.threads import run

_Plan = TypeVar("_Plan")
_PLAIN = (int, float, str, bool, type(None))
_SEEN_LIMIT = 256


def remembered(plan: Callable[..., _Plan]) -> Callable[..., _Plan]:
    """Return a function of a shape, a dtype and arguments as the user gave them that remembers its results."""
    seen: dict[Any, _Plan] = {}

    def look_up(shape: tuple[int, ...], dtype: np.dtype, *arguments: Any) -> _Plan:
        typed = tuple(map(_typed, arguments))
        if None in typed:
            return plan(shape, dtype, *arguments)
        key = (shape, dtype, typed)
        found = seen.get(key)
        if found is None:
            found = plan(shape, dtype, *arguments)
            if len(seen) >= _SEEN_LIMIT:
                seen.clear()
            seen[key] = found
        return found

    return look_up


def _typed(value: Any) -> Any:
    """Return a key for an argument of the plainest types, else None: True == 1 == 1.0."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is not tuple:
        return None
    key = (kind, *map(_typed, value))
    return None if None in key else key


def array_input(function: str, value: Any, device: str) -> Any:
    """Return the input, C-contiguous, once the device is checked; on the device the call that has it."""
    check_keyword(function, "device", device, DEVICES)
    return begin(function, input=value) if wants_device(device, value) else as_input(function, "input", value)


def form_of(x: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and dtype of what `array_input` returns."""
    array = x if type(x) is np.ndarray else x.buffers["input"]
    return array.shape, array.dtype


def filled(
    function: str,
    out: np.ndarray | None,
    shape: tuple[int, ...],
    dtype: np.dtype,
    inputs: tuple[np.ndarray, ...],
    fill: Callable[[np.ndarray], None],
) -> np.ndarray:
    """Return the result that `fill` writes, C-contiguous and apart from the inputs, in `out` or in new memory."""
    if out is not None:
        check_out(function, out, shape, dtype)
    direct = out is not None and usable_in_place(out, *inputs)
    target = out if direct and out is not None else empty(shape, dtype)
    if target.size:
        fill(target)
    if out is None or direct:
        return target
    out[...] = target
    return out


def moved_as(dtype: np.dtype, lanes: int) -> tuple[int, int]:
    """Return the element type of the kernels that move numbers of a dtype, and how many stand where `lanes` did."""
    return (65, 2 * lanes) if dtype.itemsize == 16 else (8 * dtype.itemsize + 1, lanes)


def execute(program: Any, seconds: float, *arrays: np.ndarray) -> None:
    """Run a program whose io are the addresses of arrays."""
    # A bfloat16 array has no buffer, its bits have one.
    bits = [array.view(np.int16) if array.dtype.kind == "V" else array for array in arrays]
    io = np.array([address(array) for array in bits], np.int64)
    run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, seconds)


def rounded(values: np.ndarray, out: np.ndarray) -> None:
    """Copy floats to an array of any dtype; integers are rounded to the nearest, halves to even, and clipped."""
    with np.errstate(all="ignore"):
        if out.dtype.kind in "iu":
            limits = np.iinfo(out.dtype)
            # The largest float that an int64 holds is less than its largest value.
            high = min(float(limits.max), np.nextafter(2.0**63, 0))
            values = np.clip(np.rint(values), limits.min, high)
        # Float16 overflows to infinity, as its own arithmetic does.
        out[...] = values
