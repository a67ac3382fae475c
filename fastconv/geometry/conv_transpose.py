"""The geometry of a transposed convolution, and its cut into small convolutions of stride 1, one per stride phase.

    out[o] = sum over i, k with i*S + k*D - P = o of x[i] * weight[k]

Outputs whose o + P leaves the same rest a by the stride S meet the same taps: those with k*D = a (mod S). With
g = gcd(D, S) they are S/g apart, and from each to the next the input lies D/g earlier. So the phase is a convolution
with the flipped taps, stride 1 and dilation D/g, on the unchanged input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from fastconv.errors import OptionError, ShapeError
from fastconv.geometry import arguments
from fastconv.geometry.arguments import LIMIT, check_keyword, integer, per_axis, positive, shown
from fastconv.geometry.conv import LAYOUTS, ConvGeometry
from fastconv.geometry.padding import Pair, resolve_transposed

Triple: TypeAlias = tuple[int, int, int]

_AXES = "DHW"


class TransposeGeometry(NamedTuple):
    """A validated transposed convolution of 1 to 3 spatial axes; hashable, so it can key a cache of plans.

    Attributes
    ----------
    N, G, IC, OC : int
        Batch size, groups, input channels and output channels (both over all groups).
    sizes, outputs, kernel, stride, before, dilation : tuple of int
        Along D, H and W: input and output sizes, kernel, stride, how many outputs are cropped at the start (negative:
        added), dilation. Axes that the user's arrays do not have are 1 long.
    layout : str
        "channels_first" or "channels_last".
    dtype : str
        Element type in which kernels compute.
    axes : int
        Number of spatial axes of the user's arrays.
    """

    N: int
    G: int
    IC: int
    OC: int
    sizes: Triple
    outputs: Triple
    kernel: Triple
    stride: Triple
    before: Triple
    dilation: Triple
    layout: str
    dtype: str
    axes: int

    # Sizes are UPPER CASE, properties too.
    @property
    def ICG(self) -> int:  # noqa: N802
        """Input channels per group."""
        return self.IC // self.G

    @property
    def OCG(self) -> int:  # noqa: N802
        """Output channels per group."""
        return self.OC // self.G

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the batched input."""
        return self._shape(self.IC, self.sizes)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight: (IC, OC/groups, *K) in both layouts."""
        return (self.IC, self.OCG, *self.kernel[-self.axes :])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the batched output."""
        return self._shape(self.OC, self.outputs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates by the definition; products that are cropped away are counted."""
        return self.N * self.IC * self.OCG * math.prod(self.sizes) * math.prod(self.kernel)

    @property
    def problem(self) -> str:
        """The problem in one word, as of `ConvGeometry`, and ``_transposed``; output_padding counts as padding."""
        sizes, spans = self.sizes, [rate * (taps - 1) for rate, taps in zip(self.dilation, self.kernel, strict=True)]
        whole = [(n - 1) * step + span + 1 for n, step, span in zip(sizes, self.stride, spans, strict=True)]
        after = [n - pad - out for n, pad, out in zip(whole, self.before, self.outputs, strict=True)]
        (PF, PT, PL), (PK, PB, PR) = self.before, after
        spatial = (*sizes, *self.outputs, *self.kernel, *self.stride, PF, PK, PT, PB, PL, PR, *self.dilation)
        named = ConvGeometry(self.N, self.G, self.IC, self.OC, *spatial, self.layout, self.dtype, "zeros", self.axes)  # type: ignore[misc]
        return f"{named.problem}_transposed"

    def _shape(self, channels: int, sizes: Triple) -> tuple[int, ...]:
        spatial = sizes[-self.axes :]
        return (self.N, channels, *spatial) if self.layout == "channels_first" else (self.N, *spatial, channels)


class Phase(NamedTuple):
    """Outputs along one axis that are one convolution: ``start, start + S, …`` for each of `starts`.

    Output q of each start reads the input at ``q - before + j*dilation`` under its tap ``first - j*step``, j < taps.
    Several starts read the same input, each with taps of its own: their outputs are channels of one convolution.
    """

    starts: tuple[int, ...]
    # The last tap of each start.
    first: tuple[int, ...]
    step: int
    taps: int
    dilation: int
    before: int
    # Of the start that has the most.
    outputs: int


def phases(g: TransposeGeometry, axis: int, merged: bool) -> tuple[Phase, ...]:
    """Return the phases along an axis that have taps and outputs; `merged` joins those that read the same input."""
    size, K, S, D, before = (t[axis] for t in (g.outputs, g.kernel, g.stride, g.dilation, g.before))
    period = S // math.gcd(D, S)
    found: dict[tuple[int, ...], list[Phase]] = {}
    for k in range(min(K, period)):
        start = (k * D - before) % S
        if start >= size:
            continue
        taps = -(-(K - k) // period)
        dilation = D // math.gcd(D, S) if taps > 1 else 1
        pad = (taps - 1) * dilation - (start + before - k * D) // S
        phase = Phase((start,), (k + (taps - 1) * period,), period, taps, dilation, pad, -(-(size - start) // S))
        found.setdefault((taps, pad) if merged else (start,), []).append(phase)
    return tuple(_joined(sorted(group)) for group in found.values())


def _joined(group: Sequence[Phase]) -> Phase:
    """Return phases that read the same input as one, in the order of their starts."""
    starts, first = tuple(phase.starts[0] for phase in group), tuple(phase.first[0] for phase in group)
    return group[0]._replace(starts=starts, first=first)


def has_gaps(g: TransposeGeometry) -> bool:
    """Return whether some outputs are under no tap: they are the bias."""
    covered = [sum(len(phase.starts) for phase in phases(g, axis, False)) for axis in range(3)]
    wanted = [min(S, size) for S, size in zip(g.stride, g.outputs, strict=True)]
    return covered != wanted


def phase_convolution(g: TransposeGeometry, N: int, along: Sequence[Phase]) -> ConvGeometry:
    """Return the convolution of N images that computes one phase along each of D, H and W.

    Its output channels are (group, start along W, channel of the group); the phases along D and H have one start.
    """
    OC, spans = g.OC * len(along[2].starts), [p.dilation * (p.taps - 1) for p in along]
    after = [p.outputs - n - p.before + span for p, n, span in zip(along, g.sizes, spans, strict=True)]
    (PF, PT, PL), (PK, PB, PR) = (p.before for p in along), after
    (OD, OH, OW), (KD, KH, KW) = (p.outputs for p in along), (p.taps for p in along)
    sizes = (*g.sizes, OD, OH, OW, KD, KH, KW, 1, 1, 1, PF, PK, PT, PB, PL, PR)
    DD, DH, DW = (p.dilation for p in along)
    return ConvGeometry(N, g.G, g.IC, OC, *sizes, DD, DH, DW, g.layout, g.dtype, "zeros", g.axes)


def constant_convolution(g: TransposeGeometry) -> ConvGeometry:
    """Return a convolution of no input channels and one output: its result is the bias, activated."""
    ones = (1,) * 12
    return ConvGeometry(1, g.G, 0, g.OC, *ones, 0, 0, 0, 0, 0, 0, 1, 1, 1, g.layout, g.dtype, "zeros", g.axes)


def conv_transpose_geometry(
    function: str,
    axes: int,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    stride: object = 1,
    padding: object = 0,
    output_padding: object = 0,
    groups: object = 1,
    dilation: object = 1,
    layout: str = "channels_first",
    dtype: str = "float32",
) -> TransposeGeometry:
    """Return the geometry of a transposed convolution, or raise an error that names the argument at fault.

    Output sizes: ``OH = (H - 1)*SH - PT - PB + DH*(KH - 1) + output_padding + 1``, and the same along D and W.

    Parameters
    ----------
    function : str
        Name of the public function, for the messages.
    axes : int
        Number of spatial axes: 1 (W), 2 (H, W) or 3 (D, H, W), called S below.
    x_shape : tuple of int
        (N, IC, *S), with channels last (N, *S, IC); without N the batch size is 1.
    w_shape : tuple of int
        (IC, OC/groups, *K) in both layouts.
    stride, dilation : int or tuple of int
        At least 1; a tuple has 1 number or one per axis.
    padding : int, str, tuple or list
        See `fastconv.geometry.padding.resolve_transposed`.
    output_padding : int or tuple of int
        At least 0 and below the stride or the dilation of its axis.
    groups : int
        Divides IC.
    layout : {"channels_first", "channels_last"}
    dtype : str
        Name of the dtype in which kernels compute; stored as it is.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError
        Bad sizes; bad keyword values; wrong types.
    """
    check_keyword(function, "layout", layout, LAYOUTS)
    strides, rates = per_axis(function, "stride", stride, axes), per_axis(function, "dilation", dilation, axes)
    G = positive(function, "groups", groups)
    x, w = arguments.shape(function, "input.shape", x_shape), arguments.shape(function, "weight.shape", w_shape)
    N, IC, sizes = _split(function, x, w, layout, axes)
    _check_channels(function, x, w, IC, G)
    kernel = w[2:]
    pads = resolve_transposed(function, padding, kernel, strides, rates)
    extra = _output_padding(function, output_padding, strides, rates)
    reach = [rate * (taps - 1) for rate, taps in zip(rates, kernel, strict=True)]
    along = zip(sizes, strides, pads, reach, extra, strict=True)
    outputs = tuple((n - 1) * step - sum(pad) + more + op + 1 for n, step, pad, more, op in along)
    OC = w[1] * G
    _check_outputs(function, x, w, pads, outputs, N * OC)
    before = tuple(pad[0] for pad in pads)
    sizes, outputs, kernel, strides, rates = (_three(n) for n in (sizes, outputs, kernel, strides, rates))
    return TransposeGeometry(
        N, G, IC, OC, sizes, outputs, kernel, strides, _three(before, 0), rates, layout, dtype, axes
    )


def _three(numbers: tuple[int, ...], missing: int = 1) -> Triple:
    """Return the numbers along D, H and W, with `missing` along those that the problem does not have."""
    D, H, W = (missing,) * (3 - len(numbers)) + numbers
    return D, H, W


def _error(function: str, message: str, x: tuple[int, ...], w: tuple[int, ...]) -> ShapeError:
    return ShapeError(f"{function}: {message}; input.shape = {x}, weight.shape = {w}")


def _split(
    function: str, x: tuple[int, ...], w: tuple[int, ...], layout: str, axes: int
) -> tuple[int, int, tuple[int, ...]]:
    """Return N, IC and the spatial sizes of the input; both shapes have the right length, and only N may be 0."""
    names = _AXES[-axes:]
    spatial, kernels = ", ".join(names), ", ".join(f"K{name}" for name in names)
    form = f"C, {spatial}" if layout == "channels_first" else f"{spatial}, C"
    if len(x) not in (axes + 1, axes + 2):
        message = f"input has {len(x)} dimensions, expected {axes + 2} (N, {form}) or {axes + 1} ({form})"
        raise _error(function, message, x, w)
    if len(w) != axes + 2:
        message = f"weight has {len(w)} dimensions, expected {axes + 2} (IC, OC/groups, {kernels})"
        raise _error(function, message, x, w)
    N, *rest = x if len(x) == axes + 2 else (1, *x)
    IC, sizes = (rest[-1], rest[:-1]) if layout == "channels_last" else (rest[0], rest[1:])
    for name, size in zip(names, sizes, strict=True):
        if size < 1:
            raise _error(function, f"input has {name} = {size}, expected at least 1 (layout {layout!r})", x, w)
    for name, size in zip(("IC", "OC/groups", *kernels.split(", ")), w, strict=True):
        if size < 1:
            raise _error(function, f"weight has {name} = {size}, expected at least 1", x, w)
    return N, IC, tuple(sizes)


def _check_channels(function: str, x: tuple[int, ...], w: tuple[int, ...], IC: int, groups: int) -> None:
    """Raise unless the channels of input and weight fit together in `groups` groups."""
    if w[0] != IC:
        raise _error(function, f"weight has IC = {w[0]}, expected {IC}, the channels of the input", x, w)
    if IC % groups:
        raise _error(function, f"input has IC = {IC}, expected a multiple of groups = {groups}", x, w)


def _output_padding(function: str, value: object, stride: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """Return how many outputs are added at the end of each axis."""
    axes = len(stride)
    rule = f"{'an int or 1 int' if axes == 1 else f'an int, or 1 or {axes} ints'}, each at least 0 and below the stride"
    rule += " or the dilation of its axis"
    items: Sequence[object] = value if isinstance(value, (tuple, list)) else (value,)
    if len(items) not in (1, axes):
        raise OptionError(f"{function}: output_padding = {shown(value)} has length {len(items)}, expected {rule}")
    numbers = [integer(function, "output_padding", item, rule) for item in items] * (axes // len(items))
    limits = [max(pair) for pair in zip(stride, dilation, strict=True)]
    if not all(0 <= number < limit for number, limit in zip(numbers, limits, strict=True)):
        more = f"stride = {stride}, dilation = {dilation}"
        raise OptionError(f"{function}: output_padding = {shown(value)}, expected {rule}; {more}")
    return numbers


def _check_outputs(
    function: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    pads: tuple[Pair, ...],
    outputs: tuple[int, ...],
    images: int,
) -> None:
    """Raise unless each output size is at least 1 and the arrays are not absurdly large."""
    for axis, pad, size in zip(_AXES[-len(pads) :], pads, outputs, strict=True):
        if size < 1:
            message = f"the output has {axis} = {size}, expected at least 1 (padding = {pad} along {axis} crops all)"
            raise _error(function, message, x, w)
        if size >= LIMIT:
            raise _error(function, f"the output has {axis} = {size}, expected fewer than 2**47", x, w)
    counts = {"input": math.prod(x), "weight": math.prod(w), "output": images * math.prod(outputs)}
    for name, count in counts.items():
        if count >= LIMIT:
            raise _error(function, f"{name} has {count} elements, expected fewer than 2**47", x, w)
