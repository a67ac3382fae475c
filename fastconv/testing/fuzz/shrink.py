"""Making a failing case small: every change that keeps the same kind of failure is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from fastconv.testing.fuzz.case import DROP, Array, Case

# Arguments that stand for their default when they are left out, from the first one to try on.
_OPTIONAL = (
    *("out", "output", "residual", "bias", "depthwise_bias", "activation", "depthwise_activation", "pool", "out_dtype"),
    *("precision", "algorithm", "padding_mode", "padding", "output_padding", "dilation", "stride", "groups", "layout"),
    *("ceil_mode", "return_indices", "count_include_pad", "divisor_override", "keepdims", "duplicates", "position"),
    *("align_corners", "antialias", "mode", "boundary", "fillvalue", "cval", "origin", "axes", "axis", "order"),
    "method",
)


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float = 20.0) -> Case:
    """Return the smallest case that still `fails`, as far as greedy steps lead in a time.

    Parameters
    ----------
    case : Case
        One that fails.
    fails : callable
        Tells whether a case fails in the same way; it must not raise.
    seconds : float
    """
    end, changed = time.monotonic() + seconds, True
    while changed:
        changed = False
        for smaller in steps(case):
            if time.monotonic() > end:
                return case
            if smaller != case and fails(smaller):
                case, changed = smaller, True
                break
    return case


def steps(case: Case) -> Iterator[Case]:
    """Yield simpler cases, those that say less first."""
    if case.threads != 1:
        yield case._replace(threads=1)
        yield case._replace(threads=2)
    for name in _OPTIONAL:
        if name in case.arguments and name != case.flaw:
            yield case.replaced(**{name: DROP})
    yield from _plainer(case)
    yield from _smaller(case)
    yield from _numbers(case)
    if case.seed > 1:
        yield case._replace(seed=1)


def _plainer(case: Case) -> Iterator[Case]:
    for name, array in case.arrays.items():
        if array.memory != "plain":
            yield case.replaced(**{name: array._replace(memory="plain")})
        for data in ("ones", "integers"):
            if array.data not in ("poison", "ones", data) and ":" not in array.data and "int" not in array.data:
                yield case.replaced(**{name: array._replace(data=data)})
    kinds = {array.dtype for array in case.arrays.values()}
    if kinds - {"float32"} and len(kinds) == 1:
        plain = {name: array._replace(dtype="float32") for name, array in case.arrays.items()}
        yield case.replaced(**plain)


def _smaller(case: Case) -> Iterator[Case]:
    """Yield cases in which a size is halved, or one less, wherever arrays have it."""
    sizes = sorted({n for array in case.arrays.values() for n in array.shape if n > 1}, reverse=True)
    for size in sizes:
        for less in dict.fromkeys((1, size // 2, size - 1)):
            yield _resized(case, size, less)
            for name, array in case.arrays.items():
                for axis, n in enumerate(array.shape):
                    if n == size:
                        shape = (*array.shape[:axis], less, *array.shape[axis + 1 :])
                        yield case.replaced(**{name: array._replace(shape=shape)})


def _resized(case: Case, size: int, less: int) -> Case:
    def changed(value: Any) -> Any:
        if isinstance(value, Array):
            return value._replace(shape=tuple(less if n == size else n for n in value.shape))
        if isinstance(value, tuple) and all(type(n) is int for n in value):
            return tuple(less if n == size else n for n in value)
        return less if type(value) is int and value == size else value

    keep = ("stride", "padding", "dilation", case.flaw)
    return case._replace(arguments={k: v if k in keep else changed(v) for k, v in case.arguments.items()})


def _numbers(case: Case) -> Iterator[Case]:
    """Yield cases in which a number among the options is smaller, in a tuple one number."""
    for name, value in case.arguments.items():
        if name == case.flaw or isinstance(value, (Array, str, bool)):
            continue
        if isinstance(value, int) and value > 1:
            yield case.replaced(**{name: 1})
            yield case.replaced(**{name: value - 1})
        elif isinstance(value, tuple):
            for i, n in enumerate(value):
                for less in _less(n):
                    yield case.replaced(**{name: (*value[:i], less, *value[i + 1 :])})


def _less(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for i, n in enumerate(value):
            if n:
                yield (*value[:i], 0, *value[i + 1 :])
    elif type(value) is int and value > 1:
        yield 1
        yield value - 1
    elif type(value) is int and value < 0:
        yield 0
