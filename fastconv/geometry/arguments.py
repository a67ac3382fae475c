"""Scalar arguments: Python ints out of whatever integers the user passes, and keywords from a fixed set."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Collection, Sequence

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError

# No size, stride, dilation, padding or element count reaches this, so sums of products of a few fit an int64.
LIMIT = 2**47


class _OneLine(reprlib.Repr):
    """A repr that stays short for big arrays and works for ints too long for `str`."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 128 else f"{'-' if x < 0 else ''}2**{x.bit_length() - 1} or more"


_one_line = _OneLine()


def shown(value: object) -> str:
    """Return `value` as it stands in an error message: one short line."""
    return " ".join(_one_line.repr(value).split())


def integer(function: str, name: str, value: object, rule: str = "an int") -> int:
    """Return `value` as a Python int; `rule` says in the error message what is allowed.

    Raises
    ------
    ArgumentTypeError
        For a bool, a float, a string and anything else without ``__index__``.
    """
    if type(value) is int:
        return value
    try:
        # A bool has an index too, but stride=True is a mistake.
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise ArgumentTypeError(f"{function}: {name} = {shown(value)} is a {type(value).__name__}, expected {rule}")


def positive(function: str, name: str, value: object) -> int:
    """Return `value` as a Python int from 1 to ``LIMIT - 1``, or raise `OptionError`."""
    rule = "an int from 1 to 2**47 - 1"
    number = integer(function, name, value, rule)
    if not 1 <= number < LIMIT:
        raise OptionError(f"{function}: {name} = {shown(number)}, expected {rule}")
    return number


def per_axis(function: str, name: str, value: object, axes: int) -> tuple[int, ...]:
    """Return one positive int per axis from an int, or from a tuple or list of 1 or `axes` ints."""
    lengths = "1 int" if axes == 1 else f"1 or {axes} ints"
    rule = f"an int or a tuple of {lengths}, each from 1 to 2**47 - 1"
    items: Sequence[object] = value if isinstance(value, (tuple, list)) else (value,)
    if len(items) not in (1, axes):
        raise OptionError(f"{function}: {name} = {shown(value)} has length {len(items)}, expected {rule}")
    numbers = tuple(integer(function, name, item, rule) for item in items)
    if not all(1 <= number < LIMIT for number in numbers):
        raise OptionError(f"{function}: {name} = {shown(value)}, expected {rule}")
    return numbers if len(numbers) == axes else numbers * axes


def shape(function: str, name: str, value: object) -> tuple[int, ...]:
    """Return a shape as a tuple of Python ints, each from 0 to ``LIMIT - 1``."""
    rule = "a tuple of ints, each from 0 to 2**47 - 1"
    if not isinstance(value, (tuple, list)):
        raise ArgumentTypeError(f"{function}: {name} = {shown(value)}, expected {rule}")
    sizes = tuple(integer(function, name, item, rule) for item in value)
    if not all(0 <= size < LIMIT for size in sizes):
        raise ShapeError(f"{function}: {name} = {shown(value)}, expected {rule}")
    return sizes


def check_keyword(function: str, name: str, value: object, allowed: Collection[object]) -> None:
    """Raise unless `value` is one of `allowed`, which the message lists.

    Raises
    ------
    OptionError
        A string, or None, that is not allowed.
    ArgumentTypeError
        Anything else.
    """
    if value is None or isinstance(value, str):
        if value in allowed:
            return
        error: type[OptionError | ArgumentTypeError] = OptionError
    else:
        error = ArgumentTypeError
    raise error(f"{function}: {name} = {shown(value)}, expected one of {', '.join(map(repr, allowed))}")
