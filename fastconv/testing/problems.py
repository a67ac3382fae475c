"""Problems of one word, such as ``n1ic64h56w56_oc64k3s1p1``."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from fastconv.errors import OptionError
from fastconv.geometry.conv import PADDING_MODES


class Problem(NamedTuple):
    """The arguments of a named problem: ``conv2d(input, weight, **keywords)`` with arrays of these shapes."""

    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    keywords: dict[str, Any]
    dtype: str

    @property
    def axes(self) -> int:
        """Number of spatial axes: 1 for `conv1d`, 2 for `conv2d`, 3 for `conv3d`."""
        return len(self.weight_shape) - 2


_AXES = "dhw"
_ENDS = ("pf", "pk", "pt", "pb", "pl", "pr")
_FIELD = re.compile("([kspd][dhw]?|p[fktblr]|g)(-?[0-9]+)")
_DTYPES = {None: "float32", "f64": "float64", "c64": "complex64", "i8": "int8", "u8": "uint8"}
_DTYPES |= {"i16": "int16", "i32": "int32", "i64": "int64"}
_PROBLEM = re.compile(
    "n(?P<n>[0-9]+)ic(?P<ic>[0-9]+)(?:(?:d(?P<d>[0-9]+))?h(?P<h>[0-9]+))?w(?P<w>[0-9]+)"
    f"_oc(?P<oc>[0-9]+)(?P<fields>(?:{_FIELD.pattern})*)"
    f"(?P<nhwc>_nhwc)?(?:_(?P<dtype>{'|'.join(filter(None, _DTYPES))}))?(?:_(?P<mode>{'|'.join(PADDING_MODES[1:])}))?"
    '("[^"]*")?'
)


def problem(text: str) -> Problem:
    """Return the arguments that a problem name stands for; the inverse of `ConvGeometry.problem`.

    A label in double quotes may follow, as in the names of benchmarks. The keywords have `padding_mode` only where
    the name has it.

    Raises
    ------
    OptionError
        If `text` is not such a name.

    Examples
    --------
    >>> from fastconv.testing import problem
    >>> problem("n1ic64h56w56_oc64k3s1p1").weight_shape
    (64, 64, 3, 3)
    """
    match = _PROBLEM.fullmatch(text)
    found = _FIELD.findall(match["fields"]) if match else []
    fields = {name: int(number) for name, number in found}
    image = tuple(int(match[axis]) for axis in _AXES if match[axis]) if match else ()
    kernel = _per_axis(fields, "k", len(image), 0)
    keywords: dict[str, Any] = {
        "stride": _per_axis(fields, "s", len(image), 1),
        "padding": _padding(fields, len(image)),
        "dilation": _per_axis(fields, "d", len(image), 1),
        "groups": fields.pop("g", 1),
        "layout": "channels_last" if match and match["nhwc"] else "channels_first",
    }
    # Each field was taken by the one that it belongs to: what is left belongs to none.
    if match is None or fields or len({name for name, _ in found}) < len(found) or not all(kernel):
        raise OptionError(f"problem: text = {text!r}, expected a name such as 'n1ic64h56w56_oc64k3s1p1'")
    if match["mode"]:
        keywords["padding_mode"] = match["mode"]
    N, IC, OC = int(match["n"]), int(match["ic"]), int(match["oc"])
    x_shape = (N, *image, IC) if match["nhwc"] else (N, IC, *image)
    return Problem(x_shape, (OC, IC // max(keywords["groups"], 1), *kernel), keywords, _DTYPES[match["dtype"]])


def _per_axis(fields: dict[str, int], letter: str, axes: int, default: int) -> tuple[int, ...]:
    """Take one number per axis out of `fields`, given once for all axes or for each."""
    names = [letter + axis for axis in _AXES[-axes:]]
    if letter not in fields and fields.keys() >= set(names):
        return tuple(fields.pop(name) for name in names)
    return (fields.pop(letter, default),) * axes


def _padding(fields: dict[str, int], axes: int) -> tuple[tuple[int, int], ...]:
    """Take one (before, after) pair per axis out of `fields`."""
    ends = _ENDS[-2 * axes :]
    if fields.keys() >= set(ends):
        return tuple(
            (fields.pop(before), fields.pop(after)) for before, after in zip(ends[::2], ends[1::2], strict=True)
        )
    return tuple((number, number) for number in _per_axis(fields, "p", axes, 0))
