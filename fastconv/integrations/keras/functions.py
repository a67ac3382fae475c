"""What Keras's NumPy backend does by JAX, by fastconv: the same arguments and results, NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

import fastconv
from fastconv.errors import OptionError, ShapeError

_Size: TypeAlias = int | Sequence[int]


def conv(
    inputs: Any,
    kernel: Any,
    strides: _Size = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: _Size = 1,
) -> np.ndarray:
    """Return what `keras.ops.conv` returns.

    Parameters
    ----------
    inputs : array_like of shape (N, *S, IC), or (N, IC, *S) with data_format "channels_first"
    kernel : array_like of shape (*K, IC/groups, OC)
        The number of groups follows from the channels.
    strides, dilation_rate : int or tuple of int
    padding : {"valid", "same"}
        In either case.
    data_format : {"channels_last", "channels_first"}, optional
        By default that of Keras's configuration.

    Returns
    -------
    ndarray of shape (N, *OS, OC) or (N, OC, *OS)

    Raises
    ------
    fastconv.FastconvError
        Sizes, values or types that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.integrations.keras import conv
    >>> conv(np.ones((1, 4, 1)), np.ones((2, 1, 1))).ravel()
    array([2., 2., 2.])
    """
    x, w, layout = _operands("conv", inputs, kernel, data_format)
    channels, given = x.shape[_channel_axis(layout)], w.shape[-2]
    if not given or channels % given:
        raise ShapeError(
            f"conv: inputs have {channels} channels, expected a multiple of the kernel's {given}; "
            f"inputs.shape = {x.shape}, kernel.shape = {w.shape}"
        )
    weight = np.moveaxis(w, (-1, -2), (0, 1))
    return _convolve(x, weight, strides, padding, layout, dilation_rate, max(channels // given, 1))


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: _Size = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: _Size = 1,
) -> np.ndarray:
    """Return what `keras.ops.depthwise_conv` returns: each channel by M kernels of its own.

    Parameters
    ----------
    inputs, strides, padding, data_format, dilation_rate
        As in `conv`.
    kernel : array_like of shape (*K, IC, M)

    Returns
    -------
    ndarray of shape (N, *OS, IC*M) or (N, IC*M, *OS)

    Raises
    ------
    fastconv.FastconvError
        As `conv`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.integrations.keras import depthwise_conv
    >>> depthwise_conv(np.ones((1, 2, 2)), [[[1.0], [2.0]]])
    array([[[1., 2.],
            [1., 2.]]])
    """
    x, w, layout = _operands("depthwise_conv", inputs, kernel, data_format)
    weight = _depthwise("depthwise_conv", x, w, layout)
    return _convolve(x, weight, strides, padding, layout, dilation_rate, w.shape[-2])


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: _Size = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: _Size = 1,
) -> np.ndarray:
    """Return what `keras.ops.separable_conv` returns: a depthwise convolution, then one of single pixels.

    Parameters
    ----------
    inputs, strides, padding, data_format, dilation_rate
        As in `conv`.
    depthwise_kernel : array_like of shape (*K, IC, M)
    pointwise_kernel : array_like of shape (*ones, IC*M, OC)

    Returns
    -------
    ndarray of shape (N, *OS, OC) or (N, OC, *OS)

    Raises
    ------
    fastconv.FastconvError
        As `conv`.

    Notes
    -----
    Images take one pass, without a full intermediate.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.integrations.keras import separable_conv
    >>> separable_conv(np.ones((1, 2, 2)), [[[1.0], [2.0]]], [[[3.0], [1.0]]]).ravel()
    array([5., 5.])
    """
    x, w, layout = _operands("separable_conv", inputs, depthwise_kernel, data_format)
    weight, pointwise = _depthwise("separable_conv", x, w, layout), _array(pointwise_kernel)
    if x.ndim != 4 or pointwise.ndim != 4 or pointwise.shape[:2] != (1, 1):
        middle = _convolve(x, weight, strides, padding, layout, dilation_rate, w.shape[-2])
        return conv(middle, pointwise, 1, "valid", layout, dilation_rate)
    options = (None, _given(strides), _padding(padding), _given(dilation_rate))
    return fastconv.separable_conv2d(x, weight, pointwise[0, 0].T, *options, layout=layout)


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: _Size = 1,
    padding: str = "valid",
    output_padding: _Size | None = None,
    data_format: str | None = None,
    dilation_rate: _Size = 1,
) -> np.ndarray:
    """Return what `keras.ops.conv_transpose` returns.

    Parameters
    ----------
    inputs, strides, data_format, dilation_rate
        As in `conv`.
    kernel : array_like of shape (*K, OC, IC)
    padding : {"valid", "same"}
    output_padding : int or tuple of int, optional
        Without it the result has ``n*stride`` elements along an axis if padded "same", and with "valid"
        ``(n-1)*stride + max(k, stride)``, k the taps' span; with it ``(n-1)*stride + k%2 + output_padding`` and
        ``(n-1)*stride + k + output_padding``.

    Returns
    -------
    ndarray of shape (N, *OS, OC) or (N, OC, *OS)

    Raises
    ------
    fastconv.FastconvError
        As `conv`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.integrations.keras import conv_transpose
    >>> conv_transpose(np.ones((1, 2, 1)), np.ones((3, 1, 1)), strides=2).ravel()
    array([1., 1., 2., 1., 1.])
    """
    x, w, layout = _operands("conv_transpose", inputs, kernel, data_format)
    axes = x.ndim - 2
    steps, rates = _per_axis("strides", strides, axes), _per_axis("dilation_rate", dilation_rate, axes)
    extras = (None,) * axes if output_padding is None else _per_axis("output_padding", output_padding, axes)
    spans = [rate * (taps - 1) + 1 for taps, rate in zip(w.shape, rates, strict=False)]
    crops = tuple(_crop(*axis, _padding(padding)) for axis in zip(spans, steps, extras, strict=True))
    weight = np.moveaxis(w, (-1, -2), (0, 1))
    function = getattr(fastconv, f"conv_transpose{axes}d")
    result: np.ndarray = function(x, weight, None, steps, crops, 0, 1, rates, layout=layout)
    return result


def _crop(span: int, stride: int, extra: int | None, padding: Any) -> tuple[int, int]:
    """Return how much of ``(n-1)*stride + span`` outputs Keras crops at the start and at the end (negative: adds)."""
    if padding == "valid":
        return 0, -(max(span, stride) - span if extra is None else extra)
    if padding != "same":
        raise OptionError(f'conv_transpose: padding = {padding!r}, expected "valid" or "same"')
    total = stride + span - 2 if extra is None else span + span % 2 - 2 + extra
    before = min(total // 2 + total % 2, span - 1)
    return span - 1 - before, span - 1 - (total - before)


def max_pool(
    inputs: Any,
    pool_size: _Size,
    strides: _Size | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> np.ndarray:
    """Return what `keras.ops.max_pool` returns.

    Parameters
    ----------
    inputs : array_like of shape (N, *S, C), or (N, C, *S) with data_format "channels_first"
    pool_size, strides : int or tuple of int
        Strides are by default the pool's size.
    padding : {"valid", "same"}
    data_format : {"channels_last", "channels_first"}, optional

    Returns
    -------
    ndarray of shape (N, *OS, C) or (N, C, *OS)

    Raises
    ------
    fastconv.FastconvError
        Sizes, values or types that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.integrations.keras import max_pool
    >>> max_pool(np.arange(5.0).reshape(1, 5, 1), 2, padding="same").ravel()
    array([1., 3., 4.])
    """
    return _pool("max_pool", inputs, pool_size, strides, padding, data_format)


def average_pool(
    inputs: Any,
    pool_size: _Size,
    strides: _Size | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> np.ndarray:
    """Return what `keras.ops.average_pool` returns; what is padded does not count.

    Parameters
    ----------
    inputs, pool_size, strides, padding, data_format
        As in `max_pool`; integers are averaged in Keras's floatx.

    Returns
    -------
    ndarray of shape (N, *OS, C) or (N, C, *OS)

    Raises
    ------
    fastconv.FastconvError
        As `max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.integrations.keras import average_pool
    >>> average_pool(np.arange(5.0).reshape(1, 5, 1), 2, padding="same").ravel()
    array([0.5, 2.5, 4. ])
    """
    x = _array(inputs)
    x = x.astype(keras.config.floatx()) if x.dtype.kind in "iub" else x
    return _pool("average_pool", x, pool_size, strides, padding, data_format, count_include_pad=False)


def _pool(
    name: str, inputs: Any, pool_size: Any, strides: Any, padding: Any, data_format: str | None, **options: Any
) -> np.ndarray:
    x = _array(inputs)
    axes = _axes(name, x)
    function = getattr(fastconv, f"{'max' if name == 'max_pool' else 'avg'}_pool{axes}d")
    step = None if strides is None else _given(strides)
    layout = _layout(data_format)
    result: np.ndarray = function(x, _given(pool_size), step, _padding(padding), layout=layout, **options)
    return result


def _convolve(
    x: np.ndarray, weight: np.ndarray, strides: Any, padding: Any, layout: str, dilation: Any, groups: int
) -> np.ndarray:
    function = getattr(fastconv, f"conv{x.ndim - 2}d")
    options = (None, _given(strides), _padding(padding), _given(dilation), groups)
    result: np.ndarray = function(x, weight, *options, layout=layout)
    return result


def _depthwise(name: str, x: np.ndarray, w: np.ndarray, layout: str) -> np.ndarray:
    """Return a kernel (*K, IC, M) as a weight (IC*M, 1, *K)."""
    channels = x.shape[_channel_axis(layout)]
    if w.shape[-2] != channels:
        raise ShapeError(
            f"{name}: kernel is of {w.shape[-2]} channels, expected {channels}; "
            f"inputs.shape = {x.shape}, kernel.shape = {w.shape}"
        )
    return np.moveaxis(w, (-2, -1), (0, 1)).reshape(-1, 1, *w.shape[:-2])


def _operands(name: str, inputs: Any, kernel: Any, data_format: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Return inputs and kernel as arrays of as many axes, and the layout."""
    x, w = _array(inputs), _array(kernel)
    axes = _axes(name, x)
    if w.ndim != x.ndim:
        raise ShapeError(f"{name}: kernel has {w.ndim} dimensions, expected {axes + 2}; inputs.shape = {x.shape}")
    return x, w, _layout(data_format)


def _array(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else np.asarray(value)


def _axes(name: str, x: np.ndarray) -> int:
    if x.ndim not in (3, 4, 5):
        raise ShapeError(f"{name}: inputs have {x.ndim} dimensions, expected 3 to 5; inputs.shape = {x.shape}")
    return x.ndim - 2


def _layout(data_format: str | None) -> str:
    layout: str = keras.config.image_data_format() if data_format is None else data_format
    return layout


def _channel_axis(layout: str) -> int:
    if layout not in ("channels_last", "channels_first"):
        raise OptionError(f'data_format = {layout!r}, expected "channels_last" or "channels_first"')
    return 1 if layout == "channels_first" else -1


def _padding(padding: Any) -> Any:
    return padding.lower() if isinstance(padding, str) else padding


def _given(size: Any) -> Any:
    return tuple(size) if isinstance(size, list) else size


def _per_axis(name: str, value: Any, axes: int) -> tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(numbers) == axes and all(isinstance(n, (int, np.integer)) and n >= 0 for n in numbers):
        return tuple(map(int, numbers))
    raise OptionError(f"conv_transpose: {name} = {value!r}, expected an int or {axes} ints of at least 0")
