"""The geometry of a convolution: every size in Python ints, checked once, before any array is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastconv.errors import ShapeError
from fastconv.geometry import arguments
from fastconv.geometry.arguments import LIMIT, check_keyword, per_axis, positive
from fastconv.geometry.arrays import dtype_name
from fastconv.geometry.padding import Pair, effective_kernel, output_size, resolve

__all__ = [
    "LAYOUTS",
    "ConvGeometry",
    "bias_shape_check",
    "check_keyword",
    "conv2d_geometry",
    "input_shape",
    "output_shape",
    "residual_shape_check",
    "weight_shape",
]

LAYOUTS = ("channels_first", "channels_last")


class ConvGeometry(NamedTuple):
    """A validated 2-D convolution; hashable, so it can key a cache of plans.

    Attributes
    ----------
    N, G, IC, OC : int
        Batch size, groups, input channels and output channels (both over all groups).
    H, W, OH, OW, KH, KW : int
        Input, output and kernel sizes.
    SH, SW, DH, DW : int
        Stride and dilation.
    PT, PB, PL, PR : int
        Padding at the top, bottom, left and right; negative numbers crop.
    layout : str
        "channels_first" or "channels_last".
    dtype : str
        "float32" or "float64".
    """

    N: int
    G: int
    IC: int
    OC: int
    H: int
    W: int
    OH: int
    OW: int
    KH: int
    KW: int
    SH: int
    SW: int
    PT: int
    PB: int
    PL: int
    PR: int
    DH: int
    DW: int
    layout: str
    dtype: str

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
    def flat(self) -> ConvGeometry:
        """The same problem on an image of one row if the kernel is 1x1 and reads each pixel once, else itself."""
        if (self.KH, self.KW, self.SH, self.SW, self.PT, self.PB, self.PL, self.PR) != (1, 1, 1, 1, 0, 0, 0, 0):
            return self
        return self._replace(H=1, W=self.H * self.W, OH=1, OW=self.OH * self.OW)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of direct summation; taps in the padding are counted."""
        return self.N * self.OC * self.OH * self.OW * self.ICG * self.KH * self.KW

    @property
    def problem(self) -> str:
        """The problem in one word, such as ``n1ic64h56w56_oc64k3s1p1``; `fastconv.testing.problem` reads it back.

        Letters stand before their number: ``n ic h w`` of the input, then ``oc``, kernel ``k``, stride ``s``, padding
        ``p``, dilation ``d`` and groups ``g``; ``d1`` and ``g1`` are left out. Where the axes differ, ``kh3kw1``,
        ``sh2sw1``, ``dh1dw2``, ``ph1pw0``, and ``pt0pb1pl0pr1`` where the two ends differ. Then ``_nhwc`` for
        channels last and ``_f64`` for float64.
        """
        words = [f"n{self.N}ic{self.IC}h{self.H}w{self.W}_oc{self.OC}", _field("k", self.KH, self.KW)]
        words += [_field("s", self.SH, self.SW), _padding_field(self)]
        words.append("" if self.DH == self.DW == 1 else _field("d", self.DH, self.DW))
        words.append("" if self.G == 1 else f"g{self.G}")
        words.append("_nhwc" if self.layout == "channels_last" else "")
        words.append("_f64" if self.dtype == "float64" else "")
        return "".join(words)


def _field(letter: str, along_h: int, along_w: int) -> str:
    return f"{letter}{along_h}" if along_h == along_w else f"{letter}h{along_h}{letter}w{along_w}"


def _padding_field(g: ConvGeometry) -> str:
    if g.PT == g.PB and g.PL == g.PR:
        return _field("p", g.PT, g.PL)
    return f"pt{g.PT}pb{g.PB}pl{g.PL}pr{g.PR}"


def conv2d_geometry(
    function: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: object = 1,
    layout: str = "channels_first",
    dtype: object = "float32",
) -> ConvGeometry:
    """Return the geometry of a 2-D convolution, or raise an error that names the argument at fault.

    Output sizes: ``OH = (H + PT + PB - DH*(KH - 1) - 1) // SH + 1``, and the same along W.

    Parameters
    ----------
    function : str
        Name of the public function, for the messages.
    x_shape : tuple of int
        (N, IC, H, W), with channels last (N, H, W, IC); without N the batch size is 1.
    w_shape : tuple of int
        (OC, IC/groups, KH, KW) in both layouts.
    stride, dilation : int or tuple of int
        At least 1; a tuple has 1 or 2 numbers.
    padding : int, str, tuple or list
        See `fastconv.geometry.padding.resolve`.
    groups : int
        Divides IC and OC.
    layout : {"channels_first", "channels_last"}
    dtype : str or dtype
        float32 or float64.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, UnsupportedError
        Bad sizes; bad keyword values; wrong types; a dtype of a later version.
    """
    check_keyword(function, "layout", layout, LAYOUTS)
    name = dtype_name(function, dtype)
    SH, SW = per_axis(function, "stride", stride, 2)
    DH, DW = per_axis(function, "dilation", dilation, 2)
    G = positive(function, "groups", groups)
    shapes = arguments.shape(function, "input.shape", x_shape), arguments.shape(function, "weight.shape", w_shape)
    _check_sizes(function, *shapes, layout)
    N, IC, H, W = _channels_first(shapes[0], layout)
    OC, ICG, KH, KW = shapes[1]
    _check_groups(function, *shapes, IC, OC, ICG, G)
    vertical, horizontal = resolve(function, padding, (H, W), (KH, KW), (SH, SW), (DH, DW))
    OH = _output_size(function, *shapes, "H", H, vertical, KH, SH, DH)
    OW = _output_size(function, *shapes, "W", W, horizontal, KW, SW, DW)
    _check_limit(function, *shapes, {"input": N * IC * H * W, "weight": OC * ICG * KH * KW, "output": N * OC * OH * OW})
    pads = (*vertical, *horizontal)
    return ConvGeometry(N, G, IC, OC, H, W, OH, OW, KH, KW, SH, SW, *pads, DH, DW, layout, name)


def _channels_first(x: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return (N, IC, H, W) from a shape of 3 or 4 sizes in `layout`."""
    batched = x if len(x) == 4 else (1, *x)
    return (batched[0], batched[3], *batched[1:3]) if layout == "channels_last" else batched


def _error(function: str, message: str, x: tuple[int, ...], w: tuple[int, ...]) -> ShapeError:
    return ShapeError(f"{function}: {message}; input.shape = {x}, weight.shape = {w}")


def _check_sizes(function: str, x: tuple[int, ...], w: tuple[int, ...], layout: str) -> None:
    """Raise unless both shapes have the right length and only N and IC are 0."""
    axes = "C, H, W" if layout == "channels_first" else "H, W, C"
    if len(x) not in (3, 4):
        raise _error(function, f"input has {len(x)} dimensions, expected 4 (N, {axes}) or 3 ({axes})", x, w)
    if len(w) != 4:
        raise _error(function, f"weight has {len(w)} dimensions, expected 4 (OC, IC/groups, KH, KW)", x, w)
    _, _, H, W = _channels_first(x, layout)
    for argument, name, size in (("input", "H", H), ("input", "W", W)):
        if size < 1:
            raise _error(function, f"{argument} has {name} = {size}, expected at least 1 (layout {layout!r})", x, w)
    for name, size in (("OC", w[0]), ("KH", w[2]), ("KW", w[3])):
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


def input_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Return the shape of the batched input in the layout of `g`."""
    return (g.N, g.IC, g.H, g.W) if g.layout == "channels_first" else (g.N, g.H, g.W, g.IC)


def weight_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Return the shape of the weight: (OC, IC/groups, KH, KW) in both layouts."""
    return g.OC, g.ICG, g.KH, g.KW


def output_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Return the shape of the batched output in the layout of `g`."""
    return (g.N, g.OC, g.OH, g.OW) if g.layout == "channels_first" else (g.N, g.OH, g.OW, g.OC)


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
