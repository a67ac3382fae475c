"""The output-size formula and the meaning of `padding`, for any number of spatial axes.

A pad is a pair (before, after) per axis; a negative number crops. Every convolution and pool reads its sizes here.
"""

from __future__ import annotations

from typing import TypeAlias

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arguments import LIMIT, integer, shown

Pair: TypeAlias = tuple[int, int]

NAMES = ("valid", "same", "same_lower", "full")

# Looking only backwards has a meaning along time, not over an image.
NAMES_1D = (*NAMES, "causal")

# Of a transposed convolution: what "full" and "causal" would crop is not what their names say.
NAMES_TRANSPOSED = ("valid", "same", "same_lower")


def effective_kernel(kernel: int, dilation: int) -> int:
    """Return the number of input elements that a dilated kernel spans: ``dilation * (kernel - 1) + 1``."""
    return dilation * (kernel - 1) + 1


def output_size(size: int, pad: Pair, kernel: int, stride: int, dilation: int) -> int:
    """Return ``(size + before + after - effective_kernel) // stride + 1``, the output size along one axis.

    The result is 0 or negative where the kernel is larger than the padded input.
    """
    return (size + pad[0] + pad[1] - effective_kernel(kernel, dilation)) // stride + 1


def same(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """Return TensorFlow's SAME padding of one axis; the output size is ``ceil(size / stride)``.

    The total is ``max(0, dilation * (kernel - 1) - (size - 1) % stride)``; the odd one stands at the end.
    """
    total = max(0, dilation * (kernel - 1) - (size - 1) % stride)
    return total // 2, total - total // 2


def named(name: str, size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """Return the pair that a name of `NAMES_1D` stands for along one axis."""
    reach = dilation * (kernel - 1)
    if name == "valid":
        return 0, 0
    if name == "full":
        return reach, reach
    if name == "causal":
        return reach, 0
    before, after = same(size, kernel, stride, dilation)
    return (before, after) if name == "same" else (after, before)


def resolve(
    function: str,
    padding: object,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[Pair, ...]:
    """Return one (before, after) pair per spatial axis.

    Parameters
    ----------
    function : str
        Name of the public function, for the messages.
    padding : int, str, tuple or list
        One of `NAMES`, or "causal" for one axis; an int; 1 int or one int per axis; 1 pair or one pair per axis.
    sizes, kernel, stride, dilation : tuple of int
        One number per spatial axis.

    Raises
    ------
    OptionError
        Unknown name or wrong length.
    ShapeError
        A negative number outside a pair, or one that is too large.
    ArgumentTypeError
        Anything that is not a string or integers.
    """
    names = NAMES_1D if len(sizes) == 1 else NAMES
    if isinstance(padding, str):
        if padding not in names:
            raise OptionError(f"{function}: padding = {shown(padding)}, expected {_rule(len(sizes), names)}")
        return tuple(named(padding, *axis) for axis in zip(sizes, kernel, stride, dilation, strict=True))
    return _numbers(function, padding, len(sizes), names, "crop")


def resolve_transposed(
    function: str, padding: object, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Pair, ...]:
    """Return one (before, after) pair per spatial axis of a transposed convolution: what it crops from its result.

    It is the padding of the convolution that leads back. So "same" crops what makes the output `stride` times as large
    as the input: ``dilation * (kernel - 1) + 1 - stride``, the odd one at the end; where the kernel is smaller than the
    stride that is negative, and outputs that no tap reaches are added at the end, as in TensorFlow. Parameters and
    exceptions are those of `resolve`; the names are those of `NAMES_TRANSPOSED`.
    """
    axes = len(kernel)
    if not isinstance(padding, str):
        return _numbers(function, padding, axes, NAMES_TRANSPOSED, "extend the output")
    if padding not in NAMES_TRANSPOSED:
        raise OptionError(f"{function}: padding = {shown(padding)}, expected {_rule(axes, NAMES_TRANSPOSED)}")
    if padding == "valid":
        return ((0, 0),) * axes
    pairs = []
    for taps, step, rate in zip(kernel, stride, dilation, strict=True):
        total = effective_kernel(taps, rate) - step
        before = max(0, total + (padding == "same_lower")) // 2
        pairs.append((before, total - before))
    return tuple(pairs)


def _numbers(function: str, padding: object, axes: int, names: tuple[str, ...], to: str) -> tuple[Pair, ...]:
    """Return the pairs of a `padding` given in numbers; `to` says what negative ones are for."""
    rule = _rule(axes, names)
    items = list(padding) if isinstance(padding, (tuple, list)) else [padding]
    if len(items) not in (1, axes):
        raise OptionError(
            f"{function}: padding = {shown(padding)} has length {len(items)}, expected {rule}",
        )
    in_pairs = [isinstance(item, (tuple, list)) for item in items]
    if any(in_pairs) and not all(in_pairs):
        raise ArgumentTypeError(f"{function}: padding = {shown(padding)} mixes ints and pairs, expected {rule}")
    pairs = [_pair(function, padding, item, rule) for item in items]
    if not all(-LIMIT < number < LIMIT for pair in pairs for number in pair):
        raise ShapeError(f"{function}: padding = {shown(padding)}, expected numbers below 2**47")
    if not any(in_pairs) and any(pair[0] < 0 for pair in pairs):
        raise ShapeError(
            f"{function}: padding = {shown(padding)} is negative, expected ints of at least 0, "
            f"or (before, after) pairs to {to}",
        )
    return tuple(pairs if len(pairs) == axes else pairs * axes)


def _pair(function: str, padding: object, item: object, rule: str) -> Pair:
    """Return one item of `padding` as a pair."""
    if not isinstance(item, (tuple, list)):
        number = integer(function, "padding", item, rule)
        return number, number
    if len(item) != 2:
        raise OptionError(f"{function}: padding = {shown(padding)}, expected {rule}")
    before, after = (integer(function, "padding", number, rule) for number in item)
    return before, after


def _rule(axes: int, names: tuple[str, ...]) -> str:
    """Return what `padding` may be, in words."""
    listed = ", ".join(map(repr, names))
    if axes == 1:
        return f"{listed}, an int, a tuple of 1 int, or a tuple of 1 (before, after) pair"
    return f"{listed}, an int, 1 or {axes} ints, or 1 or {axes} (before, after) pairs"
