"""Public transposed convolutions."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.api.convolve import checked_activation, is_simple, job_of, run_job
from fastconv.api.on_device import begin, check_target, volume, wants_device
from fastconv.dispatch import cuda, workspace
from fastconv.dispatch.conv_transpose import PreparedTranspose, fastest_transpose, prepare_transpose
from fastconv.errors import ShapeError
from fastconv.geometry.arrays import as_input, common_dtype, dtype_of
from fastconv.geometry.conv_transpose import TransposeGeometry, conv_transpose_geometry


class TransposeOptions(NamedTuple):
    """The arguments of a transposed convolution that are not arrays, as the user gave them, and its spatial axes."""

    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    groups: Any = 1
    dilation: Any = 1
    layout: str = "channels_first"
    activation: str | None = None
    algorithm: str = "auto"
    precision: str = "default"
    device: str = "auto"
    axes: int = 2


def conv_transpose1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
    *,
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    out: np.ndarray | None = None,
    out_dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Upsample series with filters, as `torch.nn.functional.conv_transpose1d`: the adjoint of `conv1d`.

    ``out[n, oc, w*SW + kw*DW - PL] += input[n, ic, w] * weight[ic, oc, kw]``, plus bias and so on.

    Parameters
    ----------
    input : array_like of shape (N, IC, W) or (IC, W)
    weight : array_like of shape (IC, OC/groups, KW)
    bias : array_like of shape (OC,), optional
    stride, output_padding, dilation : int or (int,)
    padding : int, (int,), ((before, after),) or str
    groups, layout, activation, algorithm, precision, device, out, out_dtype
        All as in `fastconv.conv_transpose2d`.

    Returns
    -------
    ndarray of shape (N, OC, OW)
        ``OW = (W - 1)*SW - PL - PR + DW*(KW - 1) + output_padding + 1``

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.conv_transpose2d`.

    Notes
    -----
    Cost: ``2 * N * IC * W * OC/groups * KW`` FLOP. With a stride the whole result, or some MB of a batch, is in a
    temporary buffer before it is interleaved.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv_transpose1d([[1.0, 2.0]], [[[1.0, 10.0, 100.0]]], stride=2)
    array([[  1.,  10., 102.,  20., 200.]])
    """
    options = TransposeOptions(
        stride, padding, output_padding, groups, dilation, layout, activation, algorithm, precision, device, 1
    )
    return transpose("conv_transpose1d", input, weight, bias, options, out, out_dtype)


def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
    *,
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    out: np.ndarray | None = None,
    out_dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Upsample images with filters, as `torch.nn.functional.conv_transpose2d`: the adjoint of `conv2d`.

    ``out[n, oc, h*SH + kh*DH - PT, w*SW + kw*DW - PL] += input[n, ic, h, w] * weight[ic, oc, kh, kw]``, summed over ic
    of the group, h, w, kh, kw; plus bias, then the activation.

    Parameters
    ----------
    input : array_like of shape (N, IC, H, W) or (IC, H, W)
        Dtypes and layouts as in `fastconv.conv2d`.
    weight : array_like of shape (IC, OC/groups, KH, KW)
        In both layouts.
    bias : array_like of shape (OC,), optional
    stride, dilation : int or (int, int)
    padding : int, (int, int), ((before, after), (before, after)) or str
        How much of the result is cropped: it is the padding of the convolution that leads back. A negative number,
        allowed in pairs, adds outputs, which are the bias where no tap comes. "valid": none; "same": OH = H * SH, as
        in TensorFlow, of an odd number the smaller half at the start; "same_lower": the larger one.
    output_padding : int or (int, int)
        Outputs added at the end; below the stride or the dilation of the axis.
    groups : int
        Input and output channels are cut in so many groups that do not see each other.
    layout : {"channels_first", "channels_last"}
        Where channels stand in `input` and the result.
    activation, precision, device
        As in `fastconv.conv2d`.
    algorithm : {"auto", "direct", "im2col", "pointwise", "depthwise", "measure"}
        How the convolution of each stride phase is computed. A named one is used or refused, never replaced. With
        stride 1, which is one convolution, also "winograd", "fft" and "bf16x3", which "auto" takes, too.
    out : ndarray, optional
        Written in place and returned. It may overlap an input.
    out_dtype : dtype, optional
        As in `fastconv.conv2d`.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW), or without N if the input has none
        ``OH = (H - 1)*SH - PT - PB + DH*(KH - 1) + output_padding + 1``, and the same along W.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError
        The message names the argument, its value and what is allowed.
    UnsupportedError
        The algorithm cannot do this problem, or this version does not have it.

    Notes
    -----
    Cost: ``2 * N * IC * H * W * OC/groups * KH * KW`` FLOP; no zeros are stuffed and none multiplied but at the border.
    The outputs of one residue by the stride are a small convolution of stride 1 with the taps that meet them
    [1]_. Scratch with a stride above 1: the regrouped weight, and the part of the result that is 1/SH of one image's
    rows, or 4 MB of a batch. Rounding and determinism are those of `fastconv.conv2d`. An output near the border
    multiplies zeros, so an infinite weight spoils more of them than in PyTorch.

    References
    ----------
    .. [1] W. Shi et al., Is the deconvolution layer the same as a convolutional layer?, 2016, arXiv:1609.07009

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv_transpose2d([[[1.0, 2.0]]], np.ones((1, 1, 2, 2)), stride=2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """
    options = TransposeOptions(
        stride, padding, output_padding, groups, dilation, layout, activation, algorithm, precision, device, 2
    )
    return transpose("conv_transpose2d", input, weight, bias, options, out, out_dtype)


def conv_transpose3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
    *,
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    out: np.ndarray | None = None,
    out_dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Upsample volumes with filters, as `torch.nn.functional.conv_transpose3d`: the adjoint of `conv3d`.

    ``out[n, oc, d*SD + kd*DD - PF, h*SH + kh*DH - PT, w*SW + kw*DW - PL] += input[n, ic, d, h, w] *``
    ``weight[ic, oc, kd, kh, kw]``, plus bias and so on.

    Parameters
    ----------
    input : array_like of shape (N, IC, D, H, W) or (IC, D, H, W)
    weight : array_like of shape (IC, OC/groups, KD, KH, KW)
    bias : array_like of shape (OC,), optional
    stride, output_padding, dilation : int or (int, int, int)
        Depth, height, width.
    padding : int, (int, int, int), ((before, after), …) or str
    groups, layout, activation, algorithm, precision, device, out, out_dtype
        All as in `fastconv.conv_transpose2d`.

    Returns
    -------
    ndarray of shape (N, OC, OD, OH, OW)
        ``OD = (D - 1)*SD - PF - PK + DD*(KD - 1) + output_padding + 1``, and the same along H and W.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.conv_transpose2d`.

    Notes
    -----
    Cost: ``2 * N * IC * D * H * W * OC/groups * KD * KH * KW`` FLOP. Scratch: the part of the result that is 1/(SD*SH)
    of one volume, or some MB of a batch.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv_transpose3d(np.ones((1, 1, 1, 2)), np.ones((1, 2, 1, 1, 3)), stride=(1, 1, 2))[1]
    array([[[1., 1., 2., 1., 1.]]])
    """
    options = TransposeOptions(
        stride, padding, output_padding, groups, dilation, layout, activation, algorithm, precision, device, 3
    )
    return transpose("conv_transpose3d", input, weight, bias, options, out, out_dtype)


def transpose(
    function: str, x: Any, weight: Any, bias: Any, options: TransposeOptions, out: Any, out_dtype: Any
) -> np.ndarray:
    """Run one transposed convolution."""
    if wants_device(options.device, x):
        return transpose_on_device(function, x, weight, bias, options, out, out_dtype)
    x, w = as_input(function, "input", x), as_input(function, "weight", weight)
    b = None if bias is None else as_input(function, "bias", bias)
    dtype = common_dtype(function, x, w, b)
    result = dtype if out_dtype is None else dtype_of(function, "out_dtype", out_dtype)
    job = job_of(function, x, w, dtype, result, options, find_transpose)
    g = job.prepared.geometry
    if b is not None and b.shape != (g.OC,):
        raise bias_error(function, b.shape, g, x.shape, w.shape)
    shape = job.prepared.out_shape if x.ndim == w.ndim else job.prepared.out_shape[1:]
    return run_job(function, job, (x, b, None), job.weights(function, w), shape, result, out)


def transpose_on_device(
    function: str, x: Any, weight: Any, bias: Any, options: TransposeOptions, out: Any, out_dtype: Any
) -> Any:
    """Run one transposed convolution on the device; results are arrays of the library of the input."""
    call = begin(function, input=x, weight=weight, bias=bias)
    dtype = call.unify("fde", out_dtype=out_dtype)
    x, w, b = (call.buffers[name] for name in ("input", "weight", "bias"))
    g, activation = transpose_problem(function, x.shape, w.shape, dtype, options._replace(device="auto"))
    if b is not None and b.shape != (g.OC,):
        raise bias_error(function, b.shape, g, x.shape, w.shape)
    shape = g.output_shape if len(x.shape) == len(w.shape) else g.output_shape[1:]
    check_target(call, out, shape, call.dtype)
    program = cuda.transposed(function, g, activation, options.algorithm)
    target = call.target(out, shape, dtype)
    if math.prod(shape):
        x, result = (volume(a, options.axes, options.layout) for a in (x, target))
        program.run(call.stream, x, call.contiguous("weight"), call.contiguous("bias"), result)
    return call.finish(target, out)


def bias_error(
    function: str, shape: tuple[int, ...], g: TransposeGeometry, x: tuple[int, ...], w: tuple[int, ...]
) -> ShapeError:
    """Return the error of a bias that does not fit."""
    shapes = f"input.shape = {x}, weight.shape = {w}"
    return ShapeError(f"{function}: bias has shape {shape}, expected {(g.OC,)} (OC = {g.OC}); {shapes}")


def find_transpose(
    function: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: np.dtype,
    options: TransposeOptions,
    arrays: tuple[np.ndarray, np.ndarray] | None = None,
) -> PreparedTranspose:
    """Return the prepared problem; the arguments are validated unless the same ones were before.

    `arrays` are the input and weight, with which algorithm="measure" measures.
    """
    measuring = options.algorithm == "measure" and arrays is not None
    if not measuring and all(value is None or is_simple(value) for value in options):
        return _seen(function, x_shape, w_shape, dtype, options)
    g, activation = transpose_problem(function, x_shape, w_shape, dtype, options)
    if measuring and arrays is not None:
        return fastest_transpose(function, g, activation, options.precision, arrays)
    return prepare_transpose(function, g, activation, options.algorithm, options.precision)


@lru_cache(maxsize=1024)
def _seen(
    function: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: np.dtype, options: TransposeOptions
) -> PreparedTranspose:
    g, activation = transpose_problem(function, x_shape, w_shape, dtype, options)
    return prepare_transpose(function, g, activation, options.algorithm, options.precision)


workspace.on_change(_seen.cache_clear)


def transpose_problem(
    function: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: np.dtype, options: TransposeOptions
) -> tuple[TransposeGeometry, str | None]:
    """Return the geometry and the activation's canonical name, or raise what is wrong with the arguments."""
    activation = checked_activation(function, options)
    g = conv_transpose_geometry(
        function,
        options.axes,
        x_shape,
        w_shape,
        stride=options.stride,
        padding=options.padding,
        output_padding=options.output_padding,
        groups=options.groups,
        dilation=options.dilation,
        layout=options.layout,
        dtype=dtype.name,
    )
    return g, activation
