"""Correlation and convolution of arrays of a CUDA device, with SciPy's rules; results are arrays of their library."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.images_on_device import correlated, reversed_along_all
from fastconv.api.on_device import begin, wants_device
from fastconv.dispatch import cuda
from fastconv.errors import OptionError, ShapeError, UnsupportedError
from fastconv.signal.modes import Pads, check_mode, must_swap, padding_mode, pads_of


def are_there(*arrays: Any) -> bool:
    """Return whether one of the arrays is on a device."""
    return wants_device("auto", *arrays)


def refuse(name: str, *arrays: Any) -> None:
    """Raise if one of the arrays is on a device, for functions that run on the CPU only."""
    if are_there(*arrays):
        able = "correlate, convolve, correlate2d and convolve2d"
        raise UnsupportedError(
            f"{name}: an array is in device memory; of fastconv.signal this version has {able} there"
        )


def two_d(name: str, in1: Any, in2: Any, mode: Any, boundary: Any, fill_of: Any) -> Any:
    """Return `correlate2d` or `convolve2d`; `fill_of` returns the fill value, or None, for a dtype."""
    call = begin(name, in1=in1, in2=in2)
    shapes = [call.buffers[k].shape for k in ("in1", "in2")]
    if not len(shapes[0]) == len(shapes[1]) == 2:
        raise ShapeError(f"{name} inputs must both be 2-D arrays")
    flips, swapped = name == "convolve2d", must_swap(mode, *shapes)
    check_mode(mode)
    outside = padding_mode(boundary)
    dtype = np.result_type(*(call.buffers[k].dtype for k in ("in1", "in2")))
    if dtype == np.float16:
        raise OptionError("convolve2d not available for this type.")
    fill = fill_of(dtype) if outside == "zeros" else None
    return _sums(call, mode, (swapped, flips, not flips), outside, fill)


def any_d(name: str, in1: Any, in2: Any, mode: Any, method: Any) -> Any:
    """Return `correlate` or `convolve`, by direct sums."""
    call = begin(name, in1=in1, in2=in2)
    shapes = [call.buffers[k].shape for k in ("in1", "in2")]
    if len(shapes[0]) != len(shapes[1]):
        pair = "in1 and in2" if name == "correlate" else "volume and kernel"
        raise ShapeError(f"{pair} should have the same dimensionality")
    check_mode(mode)
    if method not in ("auto", "direct"):
        raise UnsupportedError(f'{name}: method = {method!r} on a CUDA device, expected "auto" or "direct"')
    larger = mode == "full" and np.prod(shapes[1]) > np.prod(shapes[0])
    return _sums(call, mode, (must_swap(mode, *shapes) or larger, name == "convolve", False), "zeros", None)


def _sums(call: Any, mode: str, turns: tuple[bool, bool, bool], outside: str, fill: Any) -> Any:
    """Return the sums of products; `turns`: the inputs are swapped, the kernel flips, an odd pad comes after."""
    swapped, flips, odd_after = turns
    work = call.unify("fdil")
    a, b = call.contiguous("in1"), call.contiguous("in2")
    if swapped:
        # The correlation comes out in reverse order.
        a, b = (b, a) if flips else (reversed_along_all(call, b), reversed_along_all(call, a))
    if flips:
        b = reversed_along_all(call, b)
    pads = pads_of(mode, b.shape, odd_after=odd_after)
    shape = _shape(a.shape, pads, b.shape)
    target = call.empty(shape, work)
    if not a.size or not b.size:
        if outside != "zeros" and target.size:
            raise ShapeError(f"an empty image, shape {a.shape}, has no boundary, expected boundary = 'fill'")
        zeros = call.read("in1", np.zeros(shape, work))
        cuda.kernels("moves:copy")(call.stream, zeros, target)
    else:
        value = 0 if fill is None else np.asarray(fill).astype(work)
        correlated(call, a, b, pads, outside, value, target=target)
    return call.finish(target)


def _shape(n: tuple[int, ...], pads: Pads, k: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(size + sum(pad) - taps + 1 for size, pad, taps in zip(n, pads, k, strict=True))
    if min(shape, default=0) < 0:
        raise ShapeError("negative dimensions are not allowed")
    return shape
