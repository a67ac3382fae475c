"""What part of the input an output of a chain of layers sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arguments import per_axis, shown
from fastconv.geometry.padding import Pair, effective_kernel, output_size, resolve

Numbers: TypeAlias = tuple[int, ...]

# Under these names PyTorch, Keras and their users have what a layer does; a tuple has it in this order.
_KEYS = {
    "kernel_size": ("kernel_size", "kernel", "pool_size"),
    "stride": ("stride", "strides"),
    "padding": ("padding",),
    "dilation": ("dilation", "dilation_rate"),
    "ceil_mode": ("ceil_mode",),
}
_DEFAULTS = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False}
_NAMES = tuple(name for names in _KEYS.values() for name in names)

# Parts of the names of classes whose outputs do not see a window of fixed size and step, or that shift windows
# by attributes of their own.
_OTHER = (
    *("Transpose", "Unpool", "Upsampl", "UpSampl", "Shuffle", "Pad", "Cropping", "Unfold", "Fold"),
    *("Global", "Adaptive", "Linear", "Dense"),
)


class ReceptiveField(NamedTuple):
    """Output i of a layer sees the inputs from ``i*stride + offset`` to ``i*stride + offset + size - 1``.

    Attributes
    ----------
    size : int or tuple of int
        From the first input to the last, gaps of dilation included.
    stride : int or tuple of int
    offset : int or tuple of int
        The first input that output 0 sees; below 0 it lies in the padding.
    """

    size: int | Numbers
    stride: int | Numbers
    offset: int | Numbers


class _Layer(NamedTuple):
    """What `receptive_field` reads of a layer, one number, or pair, per axis."""

    kernel: Numbers
    stride: Numbers
    dilation: Numbers
    pads: tuple[Pair, ...]
    ceil_mode: bool


def receptive_field(
    layers: Iterable[Any], *, input_size: int | tuple[int, ...] | None = None
) -> list[ReceptiveField]:
    """Return the receptive field after each layer of a chain: its size, its step and where it starts.

    Output i of a layer sees the inputs from ``i*stride + offset`` to ``i*stride + offset + size - 1``, and its centre
    is ``i*stride + offset + (size - 1)/2``. A layer with kernel k, stride s, dilation d and padding p before the image
    turns (size, stride, offset) into ``(size + d*(k - 1)*stride, stride*s, offset - p*stride)``.

    Parameters
    ----------
    layers : iterable of layers, or a model with the attribute ``layers``
        A layer is one of

        * a mapping with some of the keys ``kernel_size`` (also ``kernel``, ``pool_size``), ``stride`` (``strides``),
          ``padding``, ``dilation`` (``dilation_rate``), ``ceil_mode``; the defaults are 1, 1, 0, 1, False;
        * a tuple ``(kernel_size, stride, padding, dilation)``, which may end early: ``(3, 2)`` is stride 2, not 3x2;
        * an object with such attributes: convolutions and pools of PyTorch or Keras, whose stride None is the kernel's
          size. One without, such as an activation, changes nothing.

        Numbers are ints, or tuples with one per axis. `padding` is as in `conv2d`.
    input_size : int or tuple of int, optional
        Needed only where "same" or "same_lower" with a stride above 1 pads differently for different sizes.

    Returns
    -------
    list of ReceptiveField
        One per layer; of ints where all axes agree, else of tuples with one number per axis.

    Raises
    ------
    ShapeError
        A kernel is larger than its padded input, of which `input_size` was given.
    OptionError, ArgumentTypeError
        The message names the layer, the argument and what is allowed.
    UnsupportedError
        A layer that sees all of its input, such as a dense one, or that is no convolution or pool: transposed ones,
        upsampling, a block of several layers.

    References
    ----------
    A. Araujo, W. Norris, J. Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill, 2019,
    doi:10.23915/distill.00021

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.receptive_field([(7, 2, 3), (3, 2, 1), {"kernel_size": 3, "padding": "same"}])[-1]
    ReceptiveField(size=27, stride=4, offset=-9)
    """
    found = [_arguments(i, layer) for i, layer in enumerate(_items(layers))]
    lengths = [_axes(value) for layer in found for key, value in layer.items() if key != "ceil_mode"]
    axes = max([*lengths, _axes(input_size)])
    sizes = None if input_size is None else per_axis("receptive_field", "input_size", input_size, axes)
    R, S, start = (1,) * axes, (1,) * axes, (0,) * axes
    fields = []
    for i, arguments in enumerate(found):
        where = f"receptive_field: layers[{i}]"
        layer = _layer(where, arguments, axes, sizes)
        reach = [effective_kernel(k, d) - 1 for k, d in zip(layer.kernel, layer.dilation, strict=True)]
        R = tuple(r + n * s for r, n, s in zip(R, reach, S, strict=True))
        start = tuple(o - pad[0] * s for o, pad, s in zip(start, layer.pads, S, strict=True))
        S = tuple(s * step for s, step in zip(S, layer.stride, strict=True))
        fields.append(_field(R, S, start))
        sizes = None if sizes is None else _output_sizes(where, layer, sizes)
    return fields


def _items(layers: Any) -> list[Any]:
    """Return the layers as a list."""
    layers = getattr(layers, "layers", layers)
    if isinstance(layers, (str, Mapping)) or not isinstance(layers, Iterable):
        kind = type(layers).__name__
        raise ArgumentTypeError(f"receptive_field: layers = {shown(layers)} is a {kind}, expected a list of layers")
    return list(layers)


def _arguments(i: int, layer: Any) -> dict[str, Any]:
    """Return the arguments of a layer as it has them, without those that it leaves out."""
    where = f"receptive_field: layers[{i}]"
    if isinstance(layer, (tuple, list)):
        if not 1 <= len(layer) <= 4:
            raise OptionError(
                f"{where} = {shown(layer)} has length {len(layer)}, "
                "expected 1 to 4 of (kernel_size, stride, padding, dilation)"
            )
        return dict(zip(_KEYS, layer, strict=False))
    if isinstance(layer, Mapping):
        if unknown := [key for key in layer if key not in _NAMES]:
            raise OptionError(f"{where} has the key {shown(unknown[0])}, expected some of {', '.join(_NAMES)}")
        given = layer
    else:
        _check_kind(where, layer)
        given = {name: getattr(layer, name) for name in _NAMES if hasattr(layer, name)}
        if not any(name in given for name in _KEYS["kernel_size"]):
            return {}
    found = {}
    for key, names in _KEYS.items():
        present = [name for name in names if name in given]
        if len(present) > 1 and isinstance(layer, Mapping):
            raise OptionError(f"{where} has the keys {' and '.join(present)}, which mean the same, expected one of them")
        if present:
            found[key] = given[present[0]]
    if found.get("stride", 1) is None:
        # Pools: windows side by side.
        found["stride"] = found.get("kernel_size", 1)
    return found


def _check_kind(where: str, layer: Any) -> None:
    """Raise unless an object is a layer whose outputs see windows, or single elements."""
    kind = type(layer).__name__
    if layer is None or isinstance(layer, (str, bytes, int, float, type)):
        raise ArgumentTypeError(
            f"{where} = {shown(layer)} is a {kind}, expected a mapping, a tuple "
            "(kernel_size, stride, padding, dilation) or a layer"
        )
    names = [base.__name__ for base in type(layer).__mro__]
    children = getattr(layer, "children", None)
    if hasattr(layer, "layers") or (callable(children) and any(True for _ in children())):
        raise UnsupportedError(f"{where} is a {kind}, which has layers inside, expected each of them on its own")
    if any(part in name for part in _OTHER for name in names):
        raise UnsupportedError(f"{where} is a {kind}, expected convolutions, pools and elementwise layers")


def _axes(value: Any) -> int:
    return len(value) if isinstance(value, (tuple, list)) else 1


def _layer(where: str, arguments: dict[str, Any], axes: int, sizes: Numbers | None) -> _Layer:
    """Return a layer's numbers for every axis; `sizes` are those of its input, if known."""
    a = _DEFAULTS | arguments
    kernel, stride, dilation = (per_axis(where, key, a[key], axes) for key in ("kernel_size", "stride", "dilation"))
    window = kernel, stride, dilation
    if sizes is not None:
        pads = resolve(where, a["padding"], sizes, *window)
    else:
        # "same" pads most for the first of these sizes and least for the second.
        pads = resolve(where, a["padding"], (1,) * axes, *window)
        if any(p[0] != q[0] for p, q in zip(pads, resolve(where, a["padding"], stride, *window), strict=True)):
            raise OptionError(
                f"{where}: padding = {a['padding']!r} with stride = {shown(a['stride'])} depends on the size of the "
                "input, expected input_size=, or padding in numbers"
            )
    return _Layer(*window, pads, bool(a["ceil_mode"]))


def _output_sizes(where: str, layer: _Layer, sizes: Numbers) -> Numbers:
    """Return the sizes of a layer's output."""
    found = []
    for n, pad, k, s, d in zip(sizes, layer.pads, layer.kernel, layer.stride, layer.dilation, strict=True):
        size = output_size(n, pad, k, s, d)
        # PyTorch's rule: one more window, if it starts before the padding at the end.
        rest = (n + sum(pad) - effective_kernel(k, d)) % s
        size += layer.ceil_mode and rest > 0 and size * s < n + pad[0]
        found.append(int(size))
    if min(found) < 1:
        raise ShapeError(
            f"{where}: kernel_size = {layer.kernel} with dilation = {layer.dilation} is larger than the padded input, "
            f"size {sizes}, padding {layer.pads}"
        )
    return tuple(found)


def _field(size: Numbers, stride: Numbers, offset: Numbers) -> ReceptiveField:
    """Return ints where all axes agree."""
    if all(len(set(numbers)) == 1 for numbers in (size, stride, offset)):
        return ReceptiveField(size[0], stride[0], offset[0])
    return ReceptiveField(size, stride, offset)
