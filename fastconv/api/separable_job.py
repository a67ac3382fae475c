"""What `separable_conv2d` does once its arguments are arrays: one fused problem, or two convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.convolve import Options, convolve, cropped, is_simple, problem_of
from fastconv.dispatch import workspace
from fastconv.dispatch.separable import Half, Separable
from fastconv.dispatch.separable import separable as prepare
from fastconv.errors import ShapeError
from fastconv.geometry.arrays import (
    check_out,
    element_dtype,
    kind_of,
    summed_dtype,
    usable_in_place,
    working_dtype,
)
from fastconv.geometry.conv import output_shape
from fastconv.system import cast, empty

# Problems by the arguments as they were given: what is found here was validated before.
_seen: dict[Any, tuple[Separable, tuple[int, ...]]] = {}
_SEEN_LIMIT = 512
workspace.on_change(_seen.clear)


def separable(
    name: str,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
    rest: dict[str, np.ndarray | None],
    options: tuple[Options, Options],
    dtypes: tuple[np.dtype, np.dtype],
    out: np.ndarray | None,
) -> np.ndarray:
    """Return the depthwise, then pointwise convolution of (input, depthwise weight, pointwise weight).

    `rest` are the biases and the residual, `dtypes` those of all arrays together and of the result.
    """
    (x, dw, pw), (first, second), (dtype, result) = arrays, options, dtypes
    work = working_dtype(name, dtype, result)
    if kind_of(work) != "f" or "measure" in (first.algorithm, second.algorithm) or first.algorithm == "separable":
        # Rounded, or wrapped, once, at the end.
        wide = summed_dtype(work)
        middle = convolve(name, x, dw, rest["depthwise_bias"], first, None, wide)
        return convolve(name, middle, pw, rest["bias"], second, out, result, rest["residual"])
    if first.padding_mode != "zeros":
        x, first = cropped(name, x, dw.shape, first)
    element = element_dtype(work)
    prepared, batched = _found(name, (x.shape, dw.shape, pw.shape), element, (first, second))
    shape = batched if x.ndim == 4 else batched[1:]
    residual = rest["residual"]
    if residual is not None and residual.shape != shape:
        raise ShapeError(f"{name}: residual has shape {residual.shape}, expected {shape}, the shape of the output")
    if out is not None:
        check_out(name, out, shape, result)
    given = (x, dw, pw, rest["depthwise_bias"], rest["bias"], residual)
    direct = out is not None and out.dtype == element and usable_in_place(out, *given)
    target = out if out is not None and direct else empty(shape, element)
    x, dw, pw = (cast(a, element) for a in (x, dw, pw))
    *biases, added = (None if a is None else a.astype(element, copy=False) for a in given[3:])
    prepared.run_once(x, (dw, pw), biases, added, target)
    if direct:
        return target
    with np.errstate(all="ignore"):
        if out is None:
            return target.astype(result, copy=False)
        out[...] = target
    return out


def _found(
    name: str, shapes: tuple[tuple[int, ...], ...], element: np.dtype, options: tuple[Options, Options]
) -> tuple[Separable, tuple[int, ...]]:
    """Return the prepared problem and the shape of its batched result, validated unless they were before."""
    first, second = options
    key = (name, shapes, element, options)
    # True == 1 == 1.0, so only arguments of the plainest types may be looked up.
    simple = is_simple(first.stride) and is_simple(first.dilation) and is_simple(first.padding)
    if simple:
        try:
            return _seen[key]
        except (KeyError, TypeError):
            pass
    x_shape, dw_shape, pw_shape = shapes
    g, activation = problem_of(name, x_shape, dw_shape, element, first)
    whole, last = problem_of(name, output_shape(g), pw_shape, element, second)
    halves = (
        Half(g, activation, first.algorithm, first.precision),
        Half(whole, last, second.algorithm, second.precision),
    )
    found = prepare(*halves), output_shape(whole)
    if simple:
        if len(_seen) >= _SEEN_LIMIT:
            _seen.clear()
        _seen[key] = found
    return found
