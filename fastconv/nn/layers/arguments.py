"""Arguments that several layers take, checked once when a layer is made."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fastconv.errors import ArgumentTypeError, DtypeError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arguments import check_keyword, per_axis, shown
from fastconv.geometry.arguments import shape as checked_shape

DTYPES = ("float32", "float64")
PADDINGS = ("valid", "same")

Pair = tuple[int, int]


def snake_case(name: str) -> str:
    """Return the name that Keras gives the first layer of a class."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def check_name(function: str, value: Any) -> None:
    """Raise unless a name can stand in messages and files."""
    rule = "a string, not empty and without /"
    if value is not None and not isinstance(value, str):
        raise ArgumentTypeError(f"{function}: name = {shown(value)} is a {type(value).__name__}, expected {rule}")
    if value is not None and (not value or "/" in value):
        raise OptionError(f"{function}: name = {shown(value)}, expected {rule}")


def pair(function: str, name: str, value: Any) -> Pair:
    """Return (height, width) from an int or two."""
    if isinstance(value, (tuple, list)) and len(value) != 2:
        raise OptionError(f"{function}: {name} = {shown(value)} has length {len(value)}, expected an int or 2 ints")
    height, width = per_axis(function, name, value, 2)
    return height, width


def padding(function: str, value: Any) -> str:
    """Return "valid" or "same", in small letters."""
    name = value.lower() if isinstance(value, str) else value
    check_keyword(function, "padding", name, PADDINGS)
    return str(name)


def data_format(function: str, value: Any) -> None:
    """Raise unless channels are last."""
    check_keyword(function, "data_format", value, (None, "channels_last", "channels_first"))
    if value == "channels_first":
        raise UnsupportedError(f'{function}: data_format = "channels_first"; layers have channels last')


def dtype(function: str, value: Any) -> np.dtype:
    """Return the dtype of a layer."""
    try:
        found = np.dtype(value)
    except TypeError:
        found = None
    if value is None or found is None or found.name not in DTYPES:
        raise DtypeError(f"{function}: dtype = {shown(value)}, expected one of {', '.join(map(repr, DTYPES))}")
    return found


def flag(function: str, name: str, value: Any) -> bool:
    """Return a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{function}: {name} = {shown(value)} is a {type(value).__name__}, expected a bool")
    return bool(value)


def number(function: str, name: str, value: Any, low: float, high: float, rule: str) -> float:
    """Return a float with low <= value <= high; `rule` says so in the message."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(f"{function}: {name} = {shown(value)} is a {type(value).__name__}, expected {rule}")
    if not low <= value <= high:
        raise OptionError(f"{function}: {name} = {shown(value)}, expected {rule}")
    return float(value)


def sample_shape(function: str, name: str, value: Any) -> tuple[int, ...]:
    """Return the shape of one sample: at least one axis, each at least 1."""
    sizes = checked_shape(function, name, (value,) if isinstance(value, int) else value)
    if not sizes or 0 in sizes:
        raise ShapeError(f"{function}: {name} = {shown(value)}, expected at least one axis, without the batch, none 0")
    return sizes
