"""What the public convolutions share: arrays in, one prepared problem, arrays out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastconv.api.job import Job, Product
from fastconv.api.on_device import begin, check_target, volume, wants_device
from fastconv.dispatch import cuda, workspace
from fastconv.dispatch.choose import in_bytes
from fastconv.dispatch.conv_table import NAMES
from fastconv.dispatch.measure import fastest, is_tuned
from fastconv.dispatch.plan import Prepared, prepare
from fastconv.epilogue import canonical
from fastconv.errors import DtypeError, ShapeError, UnsupportedError
from fastconv.geometry.arrays import (
    SUPPORTED,
    as_input,
    byte_dtypes,
    check_out,
    common_dtype,
    dtype_of,
    element_dtype,
    kind_of,
    usable_in_place,
    working_dtype,
)
from fastconv.geometry.conv import (
    PADDING_MODES,
    ConvGeometry,
    bias_shape_check,
    check_keyword,
    conv_geometry,
    output_shape,
    residual_shape_check,
)
from fastconv.geometry.padding import resolve
from fastconv.system import empty

PRECISIONS = ("default", "strict", "bf16", "tf32")
DEVICES = ("auto", "cpu", "cuda")

_FLOAT32, _FLOAT64 = (SUPPORTED[np.dtype(name)] for name in ("float32", "float64"))

# Problems by the arguments as they were given: what is found here was validated before.
_seen: dict[Any, Prepared] = {}
_SEEN_LIMIT = 1024
workspace.on_change(_seen.clear)


class Options(NamedTuple):
    """The arguments of a convolution that are not arrays, as the user gave them; its spatial axes; who asks."""

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
    axes: int = 2
    # "call", which packs its weight each time, or "plan".
    entry: str = "call"


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
    """Run one convolution; `factors` are the (column, row) of a weight that is known to be separable."""
    if wants_device(options.device, x):
        return convolve_on_device(function, x, weight, bias, options, out, out_dtype, residual)
    x, w = as_input(function, "input", x), as_input(function, "weight", weight)
    b = None if bias is None else as_input(function, "bias", bias)
    r = None if residual is None else as_input(function, "residual", residual)
    dtype = common_dtype(function, x, w, b, r)
    result = dtype if out_dtype is None else dtype_of(function, "out_dtype", out_dtype)
    if options.padding_mode != "zeros":
        x, options = cropped(function, x, w.shape, options)
    job = job_of(function, x, w, dtype, result, options)
    prepared = job.prepared
    if b is not None and b.shape != (prepared.geometry.OC,):
        bias_shape_check(function, b.shape, prepared.geometry)
    shape = prepared.out_shape if x.ndim == options.axes + 2 else prepared.out_shape[1:]
    if r is not None and r.shape != shape:
        batched = r.shape if r.ndim == options.axes + 2 else (1, *r.shape)
        residual_shape_check(function, batched, prepared.geometry)
    weights = job.weights(function, w, factors)
    return run_job(function, job, (x, b, r), weights, shape, result, out)


def convolve_on_device(
    function: str, x: Any, weight: Any, bias: Any, options: Options, out: Any, out_dtype: Any, residual: Any
) -> Any:
    """Run one convolution on the device; results are arrays of the library of the input."""
    call = begin(function, input=x, weight=weight, bias=bias, residual=residual)
    return convolved(call, options, out, out_dtype)


def convolved(call: Any, options: Options, out: Any = None, out_dtype: Any = None) -> Any:
    """Return the convolution of the input, weight, bias and residual of a call on the device."""
    function = call.function
    if out_dtype is not None:
        out_dtype = dtype_of(function, "out_dtype", out_dtype)
        given = [buffer.dtype for buffer in call.buffers.values() if buffer is not None]
        working_dtype(function, np.result_type(*given), out_dtype)
    dtype = call.unify("fdeil", out_dtype=out_dtype, wrapping=True)
    clamp = None
    if dtype.kind == "i":
        options, clamp = without_activation(function, dtype, options)
    x, w, b, r = (call.buffers[name] for name in ("input", "weight", "bias", "residual"))
    g, activation = problem_on_device(function, x.shape, w.shape, dtype, options)
    shape = checked_shapes(function, g, x.shape, b, r)
    check_target(call, out, shape, call.dtype)
    program = cuda.convolution(function, g, activation, options.algorithm, options.precision)
    target = call.target(out, shape, dtype)
    if math.prod(shape):
        packed = program.pack(call.stream, call.contiguous("weight"))
        r = volume(call.contiguous("residual"), options.axes, options.layout)
        x, result = (volume(a, options.axes, options.layout) for a in (x, target))
        program.run(call.stream, x, packed, call.contiguous("bias"), r, result)
        if clamp is not None:
            target = cuda.kernels("casts:cast")(call.stream, target, call.dtype)
            cuda.kernels("activations:run")(call.stream, clamp, target, target)
    return call.finish(target, out)


def checked_shapes(function: str, g: ConvGeometry, x_shape: tuple[int, ...], bias: Any, residual: Any) -> Any:
    """Return the shape of the result of an input, or raise unless bias and residual fit it; None is not given."""
    if bias is not None and bias.shape != (g.OC,):
        bias_shape_check(function, bias.shape, g)
    batched = len(x_shape) == g.axes + 2
    shape = output_shape(g) if batched else output_shape(g)[1:]
    if residual is not None and residual.shape != shape:
        found = residual.shape
        residual_shape_check(function, found if len(found) == g.axes + 2 else (1, *found), g)
    return shape


def run_job(
    function: str,
    job: Job,
    arrays: tuple[np.ndarray, np.ndarray | None, np.ndarray | None],
    weights: list[Product],
    shape: tuple[int, ...],
    result: np.dtype,
    out: Any,
) -> np.ndarray:
    """Return what a job makes of input, bias and residual, in `out` or a new array of `shape` and dtype `result`."""
    x, b, r = arrays
    if out is not None:
        check_out(function, out, shape, result)
    direct = out is not None and usable_in_place(out, x, b, r, *(a for product in weights for a in product))
    target = out if direct else empty(shape, result)
    job.run(job.prepared.run_once, x, weights, b, r, target)
    if out is None or direct:
        return target
    out[...] = target
    return out


def cropped(function: str, x: np.ndarray, w_shape: tuple[int, ...], options: Options) -> tuple[np.ndarray, Options]:
    """Return the input without what negative padding crops, and the options with what padding is left."""
    first = x.ndim - options.axes - (options.layout == "channels_last")
    sizes = x.shape[first : first + options.axes]
    kernel = w_shape[2:]
    if first not in (0, 1, 2) or len(kernel) != options.axes or isinstance(options.padding, str):
        return x, options
    pairs = resolve(function, options.padding, sizes, kernel, (1,) * options.axes, (1,) * options.axes)
    if all(number >= 0 for pair in pairs for number in pair):
        return x, options
    if any(n + min(a, 0) + min(b, 0) < 1 for n, (a, b) in zip(sizes, pairs, strict=True)):
        raise ShapeError(f"{function}: padding = {options.padding} crops all of the input, shape {x.shape}")
    kept = [slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(sizes, pairs, strict=True)]
    left = tuple((max(0, a), max(0, b)) for a, b in pairs)
    return np.ascontiguousarray(x[(slice(None),) * first + tuple(kept)]), options._replace(padding=left)


def job_of(
    function: str,
    x: np.ndarray,
    w: np.ndarray,
    dtype: np.dtype,
    result: np.dtype,
    options: Any,
    prepared_by: Callable[..., Any] | None = None,
) -> Job:
    """Return how to run a problem whose arrays have the common dtype `dtype`, for a result of dtype `result`.

    `prepared_by` is `find`, or what takes its place for `options` of another operation.
    """
    work = dtype if result is dtype else working_dtype(function, dtype, result)
    # The kernels' own floats need no look at their kind.
    element, kind, activation = work, "f", None
    if work is not _FLOAT32 and work is not _FLOAT64:
        element, kind = element_dtype(work), kind_of(work)
    if kind != "f" and options.activation is not None:
        options, activation = without_activation(function, work, options)
    if options.algorithm == "auto" and is_tuned():
        options = options._replace(algorithm="measure")
    finder = prepared_by or find
    if kind == "i" and prepared_by is None:
        finder = partial(find, narrow=byte_dtypes(x.dtype, w.dtype, work, math.prod(w.shape[1:])))
    prepared = finder(function, x.shape, w.shape, element, options, (x, w))
    strict = options.precision == "strict"
    in_bytes = prepared_by is None and prepared.geometry.weight_dtype != ""
    return Job(prepared, element, x.dtype.kind == "c", w.dtype.kind == "c", strict, activation, in_bytes)


def without_activation(function: str, work: np.dtype, options: Any) -> tuple[Any, str | None]:
    """Return the options without the activation, which comes after the sums, and its name; `work` is no float."""
    activation = canonical(options.activation, function)
    if activation is not None and (kind_of(work) == "c" or activation not in ("relu", "relu6")):
        raise DtypeError(f"{function}: activation = {activation!r} with arrays of dtype {work}, expected floats")
    return options._replace(activation=None), activation


def find(
    function: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: np.dtype,
    options: Options,
    arrays: tuple[np.ndarray, np.ndarray] | None = None,
    narrow: tuple[str, str] | None = None,
) -> Prepared:
    """Return the prepared problem; the arguments are validated unless the same ones were before.

    `arrays` are the input and weight, with which algorithm="measure" measures; `narrow` are their dtypes, where they
    are bytes whose sums may be taken modulo 2**32.
    """
    key = (function, x_shape, w_shape, dtype, options, narrow)
    # True == 1 == 1.0, so only arguments of the plainest types may be looked up.
    simple = is_simple(options.stride) and is_simple(options.dilation) and is_simple(options.padding)
    simple = simple and type(options.groups) is int
    if simple:
        try:
            return _seen[key]
        except (KeyError, TypeError):
            pass
    g, activation = problem_of(function, x_shape, w_shape, dtype, options)
    if narrow:
        name = "auto" if options.algorithm == "measure" else options.algorithm
        g = in_bytes(function, g, narrow, name, options.precision, options.entry)
    if options.algorithm == "measure" and arrays is not None:
        prepared = fastest(function, g, activation, options.precision, options.entry, arrays)
    else:
        prepared = prepare(function, g, activation, options.algorithm, options.precision, options.entry)
    if simple:
        if len(_seen) >= _SEEN_LIMIT:
            _seen.clear()
        _seen[key] = prepared
    return prepared


def is_simple(value: Any) -> bool:
    """Return whether a value and all in it are of types whose equal values mean the same."""
    kind = type(value)
    return kind is int or kind is str or value is None or (kind is tuple and all(map(is_simple, value)))


def problem_of(
    function: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: np.dtype, options: Options
) -> tuple[ConvGeometry, str | None]:
    """Return the geometry and the activation's canonical name, or raise what is wrong with the arguments."""
    check_keyword(function, "padding_mode", options.padding_mode, PADDING_MODES)
    activation = checked_activation(function, options)
    g = conv_geometry(
        function,
        options.axes,
        x_shape,
        w_shape,
        stride=options.stride,
        padding=options.padding,
        dilation=options.dilation,
        groups=options.groups,
        layout=options.layout,
        dtype=dtype.name,
        padding_mode=options.padding_mode,
    )
    return g, activation


def problem_on_device(
    function: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: np.dtype, options: Options
) -> tuple[ConvGeometry, str | None]:
    """Return what `problem_of` does, for the device, which has one more precision."""
    if options.precision == "tf32":
        options = options._replace(precision="default")
    return problem_of(function, x_shape, w_shape, dtype, options._replace(device="auto"))


def checked_activation(function: str, options: Any) -> str | None:
    """Return the activation's canonical name; raise if it or another keyword has no such value here."""
    check_keyword(function, "algorithm", options.algorithm, NAMES)
    check_keyword(function, "precision", options.precision, PRECISIONS)
    check_keyword(function, "device", options.device, DEVICES)
    activation = canonical(options.activation, function)
    if options.device == "cuda":
        raise UnsupportedError(f'{function}: device = "cuda"; this version runs on the CPU only')
    if options.precision == "tf32":
        raise UnsupportedError(f'{function}: precision = "tf32" is for convolutions on CUDA devices only')
    return activation
