"""What the public convolutions share: arrays in, one prepared problem, arrays out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.api.factors import rank_one_factors
from fastconv.dispatch.conv_table import NAMES
from fastconv.dispatch.measure import fastest
from fastconv.dispatch.plan import Prepared, prepare
from fastconv.epilogue import canonical
from fastconv.errors import UnsupportedError
from fastconv.geometry.arrays import as_input, check_out, common_dtype, dtype_name, usable_in_place
from fastconv.geometry.conv import ConvGeometry, bias_shape_check, check_keyword, conv2d_geometry, residual_shape_check

PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
PRECISIONS = ("default", "strict", "bf16", "tf32")
DEVICES = ("auto", "cpu", "cuda")

# Problems by the arguments as they were given: what is found here was validated before.
_seen: dict[Any, Prepared] = {}
_SEEN_LIMIT = 1024


class Options(NamedTuple):
    """The arguments of a convolution that are not arrays, as the user gave them."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: Any = 1
    padding_mode: str = "zeros"
    layout: str = "channels_first"
    activation: str | None = None
    algorithm: str = "auto"
    precision: str = "default"
    device: str = "auto"


def convolve(
    function: str,
    x: Any,
    weight: Any,
    bias: Any,
    options: Options,
    out: Any = None,
    out_dtype: Any = None,
    residual: Any = None,
    factors: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Run one 2-D convolution; `factors` are the (column, row) of a weight that is known to be separable."""
    x, w = as_input(function, "input", x), as_input(function, "weight", weight)
    b = None if bias is None else as_input(function, "bias", bias)
    r = None if residual is None else as_input(function, "residual", residual)
    dtype = common_dtype(function, x, w, b, r)
    result = dtype if out_dtype is None else np.dtype(dtype_name(function, out_dtype))
    compute = dtype if result is dtype else np.promote_types(dtype, result)
    x, w = x.astype(compute, copy=False), w.astype(compute, copy=False)
    b, r = (None if a is None else a.astype(compute, copy=False) for a in (b, r))
    prepared = find(function, x.shape, w.shape, compute, options, (x, w) if options.algorithm == "measure" else None)
    if b is not None and b.shape != (prepared.geometry.OC,):
        bias_shape_check(function, b.shape, prepared.geometry)
    shape = prepared.out_shape if x.ndim == 4 else prepared.out_shape[1:]
    if r is not None and r.shape != shape:
        residual_shape_check(function, r.shape if r.ndim == 4 else (1, *r.shape), prepared.geometry)
    if out is not None:
        check_out(function, out, shape, result)
    weights = weights_of(function, prepared, w, factors)
    direct = out is not None and result is compute and usable_in_place(out, x, b, r, *weights)
    target = out if direct else np.empty(shape, compute)
    prepared.run_once(x, weights, b, r, target)
    if direct or (out is None and result is compute):
        return target
    if out is None:
        return target.astype(result)
    out[...] = target
    return out


def weights_of(
    function: str, prepared: Prepared, w: np.ndarray, factors: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, ...]:
    """Return the weight arrays that the algorithm takes: the weight, or for `separable` its (column, row)."""
    if prepared.candidate.row.name != "separable":
        return (w,)
    if factors is None:
        return rank_one_factors(function, w)
    column, row = (np.ascontiguousarray(f, prepared.dtype) for f in factors)
    return column, row


def find(
    function: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: np.dtype,
    options: Options,
    arrays: tuple[np.ndarray, np.ndarray] | None = None,
) -> Prepared:
    """Return the prepared problem; the arguments are validated unless the same ones were before.

    `arrays` are the input and weight to measure with, for algorithm="measure".
    """
    key = (function, x_shape, w_shape, dtype, options)
    # True == 1 == 1.0, so only arguments of the plainest types may be looked up.
    simple = _is_simple(options.stride) and _is_simple(options.dilation) and _is_simple(options.padding)
    simple = simple and type(options.groups) is int and arrays is None
    if simple:
        try:
            return _seen[key]
        except (KeyError, TypeError):
            pass
    g, activation = problem_of(function, x_shape, w_shape, dtype, options)
    if arrays is not None:
        return fastest(function, g, activation, options.precision, *arrays)
    prepared = prepare(function, g, activation, options.algorithm, options.precision)
    if simple:
        if len(_seen) >= _SEEN_LIMIT:
            _seen.clear()
        _seen[key] = prepared
    return prepared


def _is_simple(value: Any) -> bool:
    kind = type(value)
    return kind is int or kind is str or (kind is tuple and all(map(_is_simple, value)))


def problem_of(
    function: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: np.dtype, options: Options
) -> tuple[ConvGeometry, str | None]:
    """Return the geometry and the activation's canonical name, or raise what is wrong with the arguments."""
    check_keyword(function, "padding_mode", options.padding_mode, PADDING_MODES)
    check_keyword(function, "algorithm", options.algorithm, NAMES)
    check_keyword(function, "precision", options.precision, PRECISIONS)
    check_keyword(function, "device", options.device, DEVICES)
    activation = canonical(options.activation, function)
    _check_supported(function, options)
    g = conv2d_geometry(
        function,
        x_shape,
        w_shape,
        stride=options.stride,
        padding=options.padding,
        dilation=options.dilation,
        groups=options.groups,
        layout=options.layout,
        dtype=dtype,
    )
    return g, activation


def _check_supported(function: str, options: Options) -> None:
    """Raise for what the contract has and this version has not."""
    if options.padding_mode != "zeros":
        raise UnsupportedError(f"{function}: padding_mode = {options.padding_mode!r}; this version supports 'zeros'")
    if options.device == "cuda":
        raise UnsupportedError(f'{function}: device = "cuda"; this version runs on the CPU only')
    if options.precision == "tf32":
        raise UnsupportedError(f'{function}: precision = "tf32" is for CUDA; this version runs on the CPU only')
