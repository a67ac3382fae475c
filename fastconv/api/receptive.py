"""What part of the input an output of a chain of layers sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arguments import per_axis, shown
from fastconv.geometry.padding import Pair, output_size, resolve

_Window: TypeAlias = tuple[int, int, int, Pair]

# The names that PyTorch, Keras and their users give to what a layer does; a tuple has the first four in this order.
_KEYS = {
    "kernel_size": ("kernel_size", "kernel", "pool_size"),
    "stride": ("stride", "strides"),
    "padding": ("padding",),
    "dilation": ("dilation", "dilation_rate"),
    "ceil_mode": ("ceil_mode",),
}
_NAMES = tuple(name for names in _KEYS.values() for name in names)
_DEFAULTS: dict[str, Any] = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False}
_TUPLE = "(kernel_size, stride, padding, dilation)"
# Parts of the names of classes: those with a kernel but other windows, and those that work element by element.
_OTHER_WINDOWS = ("Transpose", "Unpool", "Fold", "Unfold", "Fractional", "LSTM")
_ELEMENTWISE = (
    *("Activation", "LU", "Mish", "swish", "igmoid", "anh", "shrink", "Soft", "Threshold"),
    *("BatchNorm", "Dropout", "Identity", "InputLayer"),
)


class ReceptiveField(NamedTuple):
    """Output i of a layer sees the inputs from ``i*stride + offset`` to ``i*stride + offset + size - 1``.

    Attributes
    ----------
    size : int or tuple of int
        From the first input to the last, gaps included.
    stride, offset : int or tuple of int
        An offset below 0 lies in the padding.
    """

    size: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    offset: int | tuple[int, ...]


def receptive_field(layers: Iterable[Any], *, input_size: int | tuple[int, ...] | None = None) -> list[ReceptiveField]:
    """Return the receptive field after each layer of a chain: its size, its step and where it starts.

    Output i sees the inputs from ``i*stride + offset`` to ``i*stride + offset + size - 1``, or fewer where padding
    comes in. A layer with kernel k, stride s, dilation d and padding p before the image turns (size, stride, offset)
    into ``(size + d*(k - 1)*stride, stride*s, offset - p*stride)``.

    Parameters
    ----------
    layers : iterable of layers, or a model with the attribute ``layers``
        A layer is one of

        * a tuple ``(kernel_size, stride, padding, dilation)``, which may end early: ``(3, 2)`` is stride 2, not 3x2;
        * a mapping with some of the keys ``kernel_size`` (also ``kernel``, ``pool_size``), ``stride`` (``strides``),
          ``padding``, ``dilation`` (``dilation_rate``), ``ceil_mode``; the defaults are 1, 1, 0, 1, False;
        * an object with such attributes: convolutions and pools of PyTorch or Keras. Their activations, dropouts and
          batch normalisations change nothing.

        Numbers are ints, or tuples with one per axis; stride None is the kernel's size; `padding` is as in `conv2d`.
    input_size : int or tuple of int, optional
        Needed only where "same" or "same_lower" with a stride above 1 pads differently for different sizes.

    Returns
    -------
    list of ReceptiveField
        One per layer; of ints if all axes agree in all layers, else of tuples with one number per axis.

    Raises
    ------
    ShapeError
        A negative padding, or a kernel that is larger than its padded input, of which `input_size` was given.
    OptionError, ArgumentTypeError
        The message names the layer, the argument and what is allowed.
    UnsupportedError
        Any other layer: transposed or dense ones, upsampling, global pools, blocks of several layers.

    References
    ----------
    A. Araujo, W. Norris, J. Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill, 2019,
    doi:10.23915/distill.00021

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.receptive_field([(7, 2, 3), (3, 2, 1), {"kernel_size": 3, "padding": "same"}])[-1]
    ReceptiveField(size=19, stride=4, offset=-9)

    Two convolutions of 2 taps, a pool of 3 and one more convolution make 7, 6, 2 and 1 of 8 inputs, and the last output
    sees them all:

    >>> [field.size for field in fc.receptive_field([(2, 1), (2, 1), (3, 3), (2, 1)])]
    [2, 3, 5, 8]
    """
    layers = getattr(layers, "layers", layers)
    if isinstance(layers, (str, Mapping)) or not isinstance(layers, Iterable):
        text = f"{shown(layers)} is a {type(layers).__name__}"
        raise ArgumentTypeError(f"receptive_field: layers = {text}, expected a list of layers")
    found = [(where := f"receptive_field: layers[{i}]", _arguments(where, layer)) for i, layer in enumerate(layers)]
    values = [input_size, *(value for _, a in found for value in a.values())]
    axes = max(len(value) if isinstance(value, (tuple, list)) else 1 for value in values)
    sizes = None if input_size is None else per_axis("receptive_field", "input_size", input_size, axes)
    now, fields = [(1, 1, 0)] * axes, []
    for where, a in found:
        windows = _windows(where, a, axes, sizes)
        now = [_after(*field, window) for field, window in zip(now, windows, strict=True)]
        fields.append(now)
        if sizes is not None:
            sizes = tuple(_output_size(where, a["ceil_mode"], *axis) for axis in zip(sizes, windows, strict=True))
    alike = all(field == now[0] for now in fields for field in now)
    return [ReceptiveField(*(now[0] if alike else zip(*now, strict=True))) for now in fields]


def _arguments(where: str, layer: Any) -> dict[str, Any]:
    """Return what a layer says of itself, under the names of `_DEFAULTS`."""
    if isinstance(layer, (tuple, list)):
        if not 1 <= len(layer) <= 4:
            raise OptionError(f"{where} = {shown(layer)} has length {len(layer)}, expected 1 to 4 of {_TUPLE}")
        given = dict(zip(_KEYS, layer, strict=False))
    elif isinstance(layer, Mapping):
        given = dict(layer)
        if unknown := [key for key in given if key not in _NAMES]:
            raise OptionError(f"{where} has the key {shown(unknown[0])}, expected some of {', '.join(_NAMES)}")
    else:
        given = {name: getattr(layer, name) for name in _NAMES if hasattr(layer, name)}
        if not _has_windows(where, layer, given):
            return _DEFAULTS
    found = {key: [given[name] for name in names if name in given] for key, names in _KEYS.items()}
    for key, values in found.items():
        if len(values) > 1:
            raise OptionError(f"{where} has {key} = {shown(values[0])} and = {shown(values[1])}, expected one of them")
    result = _DEFAULTS | {key: values[0] for key, values in found.items() if values}
    return result if result["stride"] is not None else result | {"stride": result["kernel_size"]}


def _has_windows(where: str, layer: Any, given: Mapping[str, Any]) -> bool:
    """Return True for an object that is a convolution or a pool, False for one that works element by element."""
    kind = type(layer).__name__
    if layer is None or isinstance(layer, (str, bytes, int, float, type)):
        raise ArgumentTypeError(
            f"{where} = {shown(layer)} is a {kind}, expected a tuple {_TUPLE}, a mapping or a layer"
        )
    names = " ".join(base.__name__ for base in type(layer).__mro__)
    windows = any(name in given for name in _KEYS["kernel_size"])
    # PyTorch keeps the parametrization of a weight as a child.
    block = not hasattr(layer, "parametrizations") and any(True for _ in getattr(layer, "children", tuple)())
    if block or any(part in names for part in _OTHER_WINDOWS) or not (windows or any(p in names for p in _ELEMENTWISE)):
        raise UnsupportedError(f"{where} is a {kind}, expected convolutions, pools and elementwise layers, one by one")
    return windows


def _windows(where: str, a: Mapping[str, Any], axes: int, sizes: tuple[int, ...] | None) -> list[_Window]:
    """Return (kernel, stride, dilation, pad) for each axis; `sizes` are those of its input, if known."""
    kernel, stride, dilation = (per_axis(where, key, a[key], axes) for key in ("kernel_size", "stride", "dilation"))
    # "same" pads most at size 1, least at the stride's.
    extremes = ((1,) * axes, stride) if sizes is None else (sizes,)
    pads = [resolve(where, a["padding"], size, kernel, stride, dilation) for size in extremes]
    if any(p[0] != q[0] for p, q in zip(pads[0], pads[-1], strict=True)):
        chosen = f"padding = {a['padding']!r} with stride = {shown(a['stride'])}"
        raise OptionError(f"{where}: {chosen} depends on the input's size, expected input_size=, or padding in numbers")
    return list(zip(kernel, stride, dilation, pads[0], strict=True))


def _after(size: int, step: int, offset: int, window: _Window) -> tuple[int, int, int]:
    """Return (size, stride, offset) after one more layer."""
    k, s, d, pad = window
    return size + d * (k - 1) * step, step * s, offset - pad[0] * step


def _output_size(where: str, ceil_mode: bool, n: int, window: _Window) -> int:
    """Return the size of a layer's output."""
    k, s, d, pad = window
    size = output_size(n, (pad[0], pad[1] + (s - 1 if ceil_mode else 0)), k, s, d)
    # PyTorch's rule: no window starts in the padding at the end.
    size -= bool(ceil_mode) and (size - 1) * s >= n + pad[0]
    if size < 1:
        raise ShapeError(f"{where}: kernel_size = {k}, dilation = {d} exceed the padded input, size {n}, padding {pad}")
    return size
