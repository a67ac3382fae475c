"""The geometry of a convolution: every size in Python ints, checked once, before any array is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastconv.errors import ShapeError
from fastconv.geometry import arguments
from fastconv.geometry.arguments import LIMIT, check_keyword, per_axis, positive
from fastconv.geometry.padding import Pair, effective_kernel, output_size, resolve

__all__ = [
    "LAYOUTS",
    "PADDING_MODES",
    "ConvGeometry",
    "bias_shape_check",
    "check_keyword",
    "conv_geometry",
    "input_shape",
    "output_shape",
    "residual_shape_check",
    "weight_shape",
]

LAYOUTS = ("channels_first", "channels_last")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")

_AXES = "DHW"
_DTYPES = {"float64": "_f64", "int16": "_i16", "int32": "_i32", "int64": "_i64", "int8": "_i8", "uint8": "_u8"}


class ConvGeometry(NamedTuple):
    """A validated convolution of 1 to 3 spatial axes; hashable, so it can key a cache of plans.

    Without depth, ``D = OD = KD = SD = DD = 1`` and ``PF = PK = 0``, and in 1-D likewise for the height: kernels
    see three axes always.

    Attributes
    ----------
    N, G, IC, OC : int
        Batch size, groups, input channels and output channels (both over all groups).
    D, H, W, OD, OH, OW, KD, KH, KW : int
        Input, output and kernel sizes.
    SD, SH, SW : int
        Stride.
    PF, PK, PT, PB, PL, PR : int
        Padding at the front, back, top, bottom, left and right; negative numbers crop.
    DD, DH, DW : int
        Dilation.
    layout : str
        "channels_first" or "channels_last".
    dtype : str
        Element type in which kernels compute: "float32", "float64", "int16", "int32" or "int64"; of bytes that they
        sum in int32, the input's: "int8" or "uint8".
    padding_mode : str
        One of `PADDING_MODES`.
    axes : int
        Number of spatial axes of the user's arrays: the last 1, 2 or 3 of depth, height and width.
    weight_dtype : str
        Of bytes that are summed in int32 the weight's, "int8" or "uint8"; else empty.
    """

    N: int
    G: int
    IC: int
    OC: int
    D: int
    H: int
    W: int
    OD: int
    OH: int
    OW: int
    KD: int
    KH: int
    KW: int
    SD: int
    SH: int
    SW: int
    PF: int
    PK: int
    PT: int
    PB: int
    PL: int
    PR: int
    DD: int
    DH: int
    DW: int
    layout: str
    dtype: str
    padding_mode: str
    axes: int
    weight_dtype: str = ""

    # Sizes are UPPER CASE, properties too: kernels read g.IC and g.ICG alike.
    @property
    def ICG(self) -> int:  # noqa: N802
        """Input channels per group."""
        return self.IC // self.G

    @property
    def OCG(self) -> int:  # noqa: N802
        """Output channels per group."""
        return self.OC // self.G

    @property
    def planar(self) -> ConvGeometry:
        """The same problem in 2-D: an image per output plane, and a channel per tap in depth."""
        IC, N = self.IC * self.KD, self.N * self.OD
        return self._replace(N=N, IC=IC, D=1, OD=1, KD=1, SD=1, PF=0, PK=0, DD=1)

    @property
    def flat(self) -> ConvGeometry:
        """The same problem on an image of one row if the kernel is 1x1 and reads each pixel once, else itself."""
        ones = (self.KD, self.KH, self.KW, self.SD, self.SH, self.SW)
        pads = (self.PF, self.PK, self.PT, self.PB, self.PL, self.PR)
        if ones != (1, 1, 1, 1, 1, 1) or pads != (0, 0, 0, 0, 0, 0):
            return self
        W, OW = self.D * self.H * self.W, self.OD * self.OH * self.OW
        return self._replace(D=1, H=1, W=W, OD=1, OH=1, OW=OW)

    @property
    def deep(self) -> bool:
        """Whether outputs may see another plane than the one with their own number, or none."""
        return (self.D, self.KD, self.OD, self.PF) != (1, 1, 1, 0)

    @property
    def sums_dtype(self) -> str:
        """Dtype of the sums, of bias, residual and result."""
        return "int32" if self.weight_dtype else self.dtype

    @property
    def flipped(self) -> bool:
        """Whether dot products take the bytes of the input with the other sign: one side unsigned, one signed."""
        return self.dtype == self.weight_dtype

    @property
    def words(self) -> ConvGeometry:
        """The same problem on words of four channels; an input whose zeros are flipped has its border already."""
        words = self._replace(IC=self.G * -(-self.ICG // 4), dtype="int32")
        if not self.flipped or self.padding_mode != "zeros":
            return words
        D, H, W = self.D + self.PF + self.PK, self.H + self.PT + self.PB, self.W + self.PL + self.PR
        return words._replace(D=D, H=H, W=W, PF=0, PK=0, PT=0, PB=0, PL=0, PR=0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of direct summation; taps in the padding are counted."""
        return self.N * self.OC * self.OD * self.OH * self.OW * self.ICG * self.KD * self.KH * self.KW

    @property
    def problem(self) -> str:
        """The problem in one word, such as ``n1ic64h56w56_oc64k3s1p1``; `fastconv.testing.problem` reads it back.

        Letters stand before their number: ``n ic d h w`` of the input (``d`` in 3-D, ``h`` in 2-D and 3-D), then
        ``oc``, kernel ``k``, stride ``s``, padding ``p``, dilation ``d`` and groups ``g``; ``d1`` and ``g1`` are left
        out. Where the axes differ, ``kh3kw1``, ``sh2sw1``, ``dh1dw2``, ``ph1pw0``, in 3-D ``kd3kh1kw1``, and
        ``pf0pk1pt0pb1pl0pr1`` where the two ends differ. Then ``_nhwc`` for channels last in any dimension, ``_f64``,
        ``_i8``, ``_u8``, ``_i16``, ``_i32`` or ``_i64`` unless the dtype is float32, and the padding mode unless it is
        zeros.
        """
        sizes = "".join(f"{axis.lower()}{getattr(self, axis)}" for axis in _AXES[-self.axes :])
        words = [f"n{self.N}ic{self.IC}{sizes}_oc{self.OC}", _field(self, "k"), _field(self, "s"), _padding_field(self)]
        words.append("" if self.DD == self.DH == self.DW == 1 else _field(self, "d"))
        words.append("" if self.G == 1 else f"g{self.G}")
        words.append("_nhwc" if self.layout == "channels_last" else "")
        words.append(_DTYPES.get(self.dtype, ""))
        words.append("" if self.padding_mode == "zeros" else f"_{self.padding_mode}")
        return "".join(words)


def _field(g: ConvGeometry, letter: str) -> str:
    """Return kernel, stride or dilation: one number if it holds for all axes, else one per axis."""
    return _numbers(letter, {axis: getattr(g, letter.upper() + axis) for axis in _AXES[-g.axes :]})


def _padding_field(g: ConvGeometry) -> str:
    ends = [("PF", "PK"), ("PT", "PB"), ("PL", "PR")][-g.axes :]
    pads = [(getattr(g, before), getattr(g, after)) for before, after in ends]
    if all(before == after for before, after in pads):
        return _numbers("p", {axis: before for axis, (before, _) in zip(_AXES[-g.axes :], pads, strict=True)})
    return "".join(f"{name.lower()}{getattr(g, name)}" for names in ends for name in names)


def _numbers(letter: str, values: dict[str, int]) -> str:
    if len(set(values.values())) == 1:
        return f"{letter}{next(iter(values.values()))}"
    return "".join(f"{letter}{axis.lower()}{number}" for axis, number in values.items())


def conv_geometry(
    function: str,
    axes: int,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: object = 1,
    layout: str = "channels_first",
    dtype: str = "float32",
    padding_mode: str = "zeros",
) -> ConvGeometry:
    """Return the geometry of a convolution, or raise an error that names the argument at fault.

    Output sizes: ``OH = (H + PT + PB - DH*(KH - 1) - 1) // SH + 1``, and the same along D and W.

    Parameters
    ----------
    function : str
        Name of the public function, for the messages.
    axes : int
        Number of spatial axes: 1 (W), 2 (H, W) or 3 (D, H, W), called S below.
    x_shape : tuple of int
        (N, IC, *S), with channels last (N, *S, IC); without N the batch size is 1.
    w_shape : tuple of int
        (OC, IC/groups, *K) in both layouts.
    stride, dilation : int or tuple of int
        At least 1; a tuple has 1 number or one per axis.
    padding : int, str, tuple or list
        See `fastconv.geometry.padding.resolve`.
    groups : int
        Divides IC and OC.
    layout : {"channels_first", "channels_last"}
    dtype : str
        Name of the dtype in which kernels compute; stored as it is.
    padding_mode : str
        One of `PADDING_MODES`; all but "zeros" take padding wider than the image too, as `numpy.pad` does.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError
        Bad sizes; bad keyword values; wrong types.
    """
    check_keyword(function, "layout", layout, LAYOUTS)
    check_keyword(function, "padding_mode", padding_mode, PADDING_MODES)
    strides, rates = per_axis(function, "stride", stride, axes), per_axis(function, "dilation", dilation, axes)
    G = positive(function, "groups", groups)
    shapes = arguments.shape(function, "input.shape", x_shape), arguments.shape(function, "weight.shape", w_shape)
    _check_sizes(function, *shapes, layout, axes)
    (N, IC), sizes = _split(shapes[0], layout, axes)
    (OC, ICG), kernel = shapes[1][:2], shapes[1][2:]
    _check_groups(function, *shapes, IC, OC, ICG, G)
    pads = resolve(function, padding, sizes, kernel, strides, rates)
    along = zip(_AXES[-axes:], sizes, pads, kernel, strides, rates, strict=True)
    outputs = tuple(_output_size(function, *shapes, *axis) for axis in along)
    counts = {"input": N * IC * math.prod(sizes), "weight": OC * ICG * math.prod(kernel)}
    _check_limit(function, *shapes, counts | {"output": N * OC * math.prod(outputs)})
    front, top, left = ((0, 0),) * (3 - axes) + pads
    spatial = (*_three(sizes), *_three(outputs), *_three(kernel), *_three(strides), *front, *top, *left)
    return ConvGeometry(N, G, IC, OC, *spatial, *_three(rates), layout, dtype, padding_mode, axes)


def _three(numbers: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the numbers along D, H and W: 1 along those that the problem does not have."""
    D, H, W = (1,) * (3 - len(numbers)) + numbers
    return D, H, W


def _split(x: tuple[int, ...], layout: str, axes: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return (N, IC) and the spatial sizes of an input's shape in `layout`; without a batch N is 1."""
    batched = x if len(x) == axes + 2 else (1, *x)
    if layout == "channels_last":
        return (batched[0], batched[-1]), batched[1:-1]
    return (batched[0], batched[1]), batched[2:]


def _error(function: str, message: str, x: tuple[int, ...], w: tuple[int, ...]) -> ShapeError:
    return ShapeError(f"{function}: {message}; input.shape = {x}, weight.shape = {w}")


def _check_sizes(function: str, x: tuple[int, ...], w: tuple[int, ...], layout: str, axes: int) -> None:
    """Raise unless both shapes have the right length and only N and IC are 0."""
    names = _AXES[-axes:]
    spatial = ", ".join(names)
    form = f"C, {spatial}" if layout == "channels_first" else f"{spatial}, C"
    if len(x) not in (axes + 1, axes + 2):
        message = f"input has {len(x)} dimensions, expected {axes + 2} (N, {form}) or {axes + 1} ({form})"
        raise _error(function, message, x, w)
    if len(w) != axes + 2:
        kernel = ", ".join(f"K{name}" for name in names)
        message = f"weight has {len(w)} dimensions, expected {axes + 2} (OC, IC/groups, {kernel})"
        raise _error(function, message, x, w)
    for name, size in zip(names, _split(x, layout, axes)[1], strict=True):
        if size < 1:
            raise _error(function, f"input has {name} = {size}, expected at least 1 (layout {layout!r})", x, w)
    for name, size in zip(("OC", *(f"K{name}" for name in names)), (w[0], *w[2:]), strict=True):
        if size < 1:
            raise _error(function, f"weight has {name} = {size}, expected at least 1", x, w)


def _check_groups(
    function: str, x: tuple[int, ...], w: tuple[int, ...], IC: int, OC: int, ICG: int, groups: int
) -> None:
    """Raise unless the channels of input and weight fit together in `groups` groups."""
    if IC % groups:
        raise _error(function, f"input has IC = {IC}, expected a multiple of groups = {groups}", x, w)
    if IC // groups != ICG:
        message = f"weight has IC/groups = {ICG}, expected {IC // groups} (IC = {IC}, groups = {groups})"
        raise _error(function, message, x, w)
    if OC % groups:
        raise _error(function, f"weight has OC = {OC}, expected a multiple of groups = {groups}", x, w)


def _output_size(
    function: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    axis: str,
    size: int,
    pad: Pair,
    kernel: int,
    stride: int,
    dilation: int,
) -> int:
    """Return the output size along `axis`, or raise if it is cropped away or smaller than the kernel."""
    if size + min(pad[0], 0) + min(pad[1], 0) < 1:
        raise _error(function, f"padding = {pad} along {axis} crops all of {axis} = {size}, expected some left", x, w)
    padded, effective = size + sum(pad), effective_kernel(kernel, dilation)
    if padded >= LIMIT:
        raise _error(function, f"padding = {pad} along {axis} makes the input 2**47 or larger", x, w)
    if effective > padded:
        message = (
            f"weight has effective size {effective} along {axis} (K{axis} = {kernel}, dilation = {dilation}), "
            f"expected at most the padded input size {padded} ({axis} = {size}, padding = {pad})"
        )
        raise _error(function, message, x, w)
    return output_size(size, pad, kernel, stride, dilation)


def _check_limit(function: str, x: tuple[int, ...], w: tuple[int, ...], elements: dict[str, int]) -> None:
    for name, count in elements.items():
        if count >= LIMIT:
            raise _error(function, f"{name} has {count} elements, expected fewer than 2**47", x, w)


def input_shape(g: ConvGeometry) -> tuple[int, ...]:
    """Return the shape of the batched input in the layout of `g`: (N, IC, *S) or (N, *S, IC)."""
    return _shape(g, g.IC, (g.D, g.H, g.W))


def weight_shape(g: ConvGeometry) -> tuple[int, ...]:
    """Return the shape of the weight: (OC, IC/groups, *K) in both layouts."""
    return (g.OC, g.ICG, *(g.KD, g.KH, g.KW)[-g.axes :])


def output_shape(g: ConvGeometry) -> tuple[int, ...]:
    """Return the shape of the batched output in the layout of `g`: (N, OC, *S) or (N, *S, OC)."""
    return _shape(g, g.OC, (g.OD, g.OH, g.OW))


def _shape(g: ConvGeometry, channels: int, sizes: tuple[int, int, int]) -> tuple[int, ...]:
    spatial = sizes[-g.axes :]
    return (g.N, channels, *spatial) if g.layout == "channels_first" else (g.N, *spatial, channels)


def bias_shape_check(function: str, shape: tuple[int, ...], g: ConvGeometry) -> None:
    """Raise `ShapeError` unless the bias has shape (OC,)."""
    if shape != (g.OC,):
        message = f"bias has shape {shape}, expected {(g.OC,)} (OC = {g.OC})"
        raise _error(function, message, input_shape(g), weight_shape(g))


def residual_shape_check(function: str, shape: tuple[int, ...], g: ConvGeometry) -> None:
    """Raise `ShapeError` unless the residual has the shape of the batched output."""
    if shape != output_shape(g):
        message = f"residual has shape {shape}, expected {output_shape(g)}, the shape of the output"
        raise _error(function, message, input_shape(g), weight_shape(g))
