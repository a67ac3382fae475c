"""Public unpooling without indices: each element repeated, or alone among zeros."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.api import resizing_on_device
from fastconv.api.moving import array_input, execute, filled, form_of, moved_as, remembered
from fastconv.dispatch.resampling import moving_seconds, nails, repeats
from fastconv.errors import OptionError
from fastconv.geometry.arguments import integer, per_axis, shown
from fastconv.geometry.planes import planes, three

_Size = int | tuple[int, ...]


def nearest_unpool1d(
    input: Any,
    scale_factor: _Size,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Repeat the elements of series: each becomes a run of equal ones.

    Parameters
    ----------
    input : array_like of shape (N, C, W) or (C, W)
    scale_factor, layout, device, out
        As in `fastconv.nearest_unpool2d`, along W.

    Returns
    -------
    ndarray of shape (N, C, W*SW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.nearest_unpool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.nearest_unpool1d([[1, 2]], 3)
    array([[1, 1, 1, 2, 2, 2]])
    """
    return _repeated("nearest_unpool1d", 1, input, scale_factor, layout, device, out)


def nearest_unpool2d(
    input: Any,
    scale_factor: _Size,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Repeat the pixels of images: each becomes a block of equal ones, nearest-neighbour upsampling.

    ``out[n, c, oh, ow] = input[n, c, oh // SH, ow // SW]``, with (SH, SW) the `scale_factor`.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        Any dtype; channels last (N, H, W, C) or (H, W, C).
    scale_factor : int or (int, int)
        At least 1; `fastconv.interpolate` takes fractions.
    layout : {"channels_first", "channels_last"}
    device : {"auto", "cpu", "cuda"}
    out : ndarray of the shape and dtype of the result, optional
        Written in place and returned; it may overlap `input`.

    Returns
    -------
    ndarray of shape (N, C, H*SH, W*SW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        Bad sizes; bad keyword values; wrong types; a device that is not there.

    Notes
    -----
    At the speed of memory: a row is spread once for all rows that show it.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.nearest_unpool2d([[[1, 2]]], 2)
    array([[[1, 1, 2, 2],
            [1, 1, 2, 2]]])
    """
    return _repeated("nearest_unpool2d", 2, input, scale_factor, layout, device, out)


def nearest_unpool3d(
    input: Any,
    scale_factor: _Size,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Repeat the elements of volumes: each becomes a block of equal ones.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    scale_factor, layout, device, out
        As in `fastconv.nearest_unpool2d`, along D, H, W.

    Returns
    -------
    ndarray of shape (N, C, D*SD, H*SH, W*SW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.nearest_unpool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.nearest_unpool3d([[[[7]]]], (1, 2, 3))
    array([[[[7, 7, 7],
             [7, 7, 7]]]])
    """
    return _repeated("nearest_unpool3d", 3, input, scale_factor, layout, device, out)


def bed_of_nails_unpool1d(
    input: Any,
    scale_factor: _Size,
    *,
    position: int = 0,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Stand the elements of series on a bed of zeros, `scale_factor` apart.

    Parameters
    ----------
    input : array_like of shape (N, C, W) or (C, W)
    scale_factor, position, layout, device, out
        As in `fastconv.bed_of_nails_unpool2d`, along W.

    Returns
    -------
    ndarray of shape (N, C, W*SW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.bed_of_nails_unpool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.bed_of_nails_unpool1d([[1, 2]], 3, position=1)
    array([[0, 1, 0, 0, 2, 0]])
    """
    return _nailed("bed_of_nails_unpool1d", 1, input, scale_factor, position, layout, device, out)


def bed_of_nails_unpool2d(
    input: Any,
    scale_factor: _Size,
    *,
    position: int = 0,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Stand the pixels of images on a bed of zeros, `scale_factor` apart.

    ``out[n, c, h*SH + PH, w*SW + PW] = input[n, c, h, w]``, with (SH, SW) the `scale_factor` and ``position = PH*SW +
    PW``; all others are 0.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        Any dtype; channels last (N, H, W, C) or (H, W, C).
    scale_factor : int or (int, int)
        At least 1.
    position : int
        Where in its block of zeros an element stands: 0 is the top left, ``SH*SW - 1`` the bottom right.
    layout : {"channels_first", "channels_last"}
    device : {"auto", "cpu", "cuda"}
    out : ndarray of the shape and dtype of the result, optional
        Written in place and returned; it may overlap `input`.

    Returns
    -------
    ndarray of shape (N, C, H*SH, W*SW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        Bad sizes; bad keyword values; wrong types; a device that is not there.

    Notes
    -----
    At the speed of memory. It is what a transposed convolution of stride `scale_factor` does before it convolves.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.bed_of_nails_unpool2d([[[1, 2]]], 2)
    array([[[1, 0, 2, 0],
            [0, 0, 0, 0]]])
    """
    return _nailed("bed_of_nails_unpool2d", 2, input, scale_factor, position, layout, device, out)


def bed_of_nails_unpool3d(
    input: Any,
    scale_factor: _Size,
    *,
    position: int = 0,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Stand the elements of volumes on a bed of zeros, `scale_factor` apart.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    scale_factor, position, layout, device, out
        As in `fastconv.bed_of_nails_unpool2d`, along D, H, W.

    Returns
    -------
    ndarray of shape (N, C, D*SD, H*SH, W*SW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.bed_of_nails_unpool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.bed_of_nails_unpool3d([[[[7]]]], (1, 2, 3), position=4)
    array([[[[0, 0, 0],
             [0, 7, 0]]]])
    """
    return _nailed("bed_of_nails_unpool3d", 3, input, scale_factor, position, layout, device, out)


class Upsampling(NamedTuple):
    """The shape of a result, and the arguments of `repeats` or `nails`."""

    shape: tuple[int, ...]
    problem: tuple[Any, ...]


def _repeated(
    function: str, axes: int, input: Any, scale_factor: Any, layout: str, device: str, out: np.ndarray | None
) -> np.ndarray:
    """Return the array with every element repeated."""
    x = array_input(function, input, device)
    plan = upsampling_plan(*form_of(x), function, axes, scale_factor, None, layout)
    if type(x) is not np.ndarray:
        return resizing_on_device.repeated(x, out, plan.shape, plan.problem[4][-axes:], layout)
    return filled(function, out, plan.shape, x.dtype, (x,), lambda target: _run(repeats(*plan.problem), x, target))


def _nailed(
    function: str,
    axes: int,
    input: Any,
    scale_factor: Any,
    position: Any,
    layout: str,
    device: str,
    out: np.ndarray | None,
) -> np.ndarray:
    """Return the array with zeros between the elements."""
    x = array_input(function, input, device)
    position = integer(function, "position", position)
    plan = upsampling_plan(*form_of(x), function, axes, scale_factor, position, layout)
    if type(x) is not np.ndarray:
        steps, firsts = (each[-axes:] for each in plan.problem[4:])
        return resizing_on_device.nailed(x, out, plan.shape, steps, firsts, layout)
    return filled(function, out, plan.shape, x.dtype, (x,), lambda target: _run(nails(*plan.problem), x, target))


@remembered
def upsampling_plan(
    shape: tuple[int, ...],
    dtype: np.dtype,
    function: str,
    axes: int,
    scale_factor: Any,
    position: int | None,
    layout: str,
) -> Upsampling:
    """Return what to do with an array, or raise what is wrong with the arguments."""
    p = planes(function, shape, layout, axes)
    factors = per_axis(function, "scale_factor", scale_factor, axes)
    out_shape = p.resized(function, tuple(n * step for n, step in zip(p.sizes, factors, strict=True)))
    bits, lanes = moved_as(dtype, p.lanes)
    steps = D, H, W = three(factors)
    firsts: tuple[Any, ...] = ()
    if position is not None:
        if not 0 <= position < D * H * W:
            block = " x ".join(map(str, factors))
            raise OptionError(
                f"{function}: position = {shown(position)}, expected an int from 0 to {D * H * W - 1}, a place in a "
                f"block of {block}"
            )
        firsts = ((position // (H * W), position // W % H, position % W),)
    return Upsampling(out_shape, (bits, p.total, three(p.sizes), lanes, steps, *firsts))


def _run(program: Any, x: np.ndarray, out: np.ndarray) -> None:
    execute(program, moving_seconds(out.size, out.itemsize), x, out)
