"""What compiled functions call when they run: public functions by name, and the errors of those.

Machine code that Numba keeps on disk names `bound`, `keep` and `CallError`, and what they are given. So these keep
their meaning from version to version; nothing else of fastconv is compiled in.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.errors import FastconvError, UnsupportedError


class _Kept(threading.local):
    """The error of a thread's last failed call, and how often it is still asked for."""

    error: BaseException | None = None
    times = 0


_kept = _Kept()
# To raise an exception, Numba makes an instance of its class, throws it away, and lets Python make another one.
_TIMES = 2


class Call:
    """A call in a jitted function, which machine code holds as a pickle; unpickled, it is what `bound` returns."""

    def __init__(self, *arguments: Any):
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return bound, self._arguments


def bound(
    function: str,
    lead: int,
    names: tuple[str, ...],
    constants: tuple[tuple[str, Any], ...],
    expected: Any,
) -> Callable[..., Any]:
    """Return a function of the values of run time.

    Parameters
    ----------
    function : str
        ``module:name``.
    lead : int
        How many of the values are passed by position; `names` are those of the others.
    constants : tuple of (str, object)
        The arguments that were constants.
    expected : (dtype, int), tuple of such, or None
        What the code was compiled for: dtype and number of dimensions of the result, or of each of several; None is
        not checked.
    """
    module, _, name = function.partition(":")
    target = getattr(importlib.import_module(module), name)
    keywords = dict(constants)

    def call(*values: Any) -> Any:
        if names:
            named = dict(zip(names, values[lead:], strict=True))
            result = target(*values[:lead], **named, **keywords)
        else:
            result = target(*values, **keywords)
        return result if expected is None else _checked(function, result, expected)

    return call


def _checked(function: str, result: Any, expected: Any) -> Any:
    """Return a result as compiled code can take it: that looks at nothing but the address and the sizes of arrays."""
    if expected is None:
        return result
    if isinstance(expected[1], int):
        dtype, ndim = expected
        if type(result) is np.ndarray and result.dtype == dtype and result.ndim == ndim:
            return result if result.flags.carray else np.array(result, order="C")
    elif type(result) is tuple and len(result) == len(expected):
        return tuple(_checked(function, each, form) for each, form in zip(result, expected, strict=True))
    kind = f"{result.dtype} of {result.ndim} dimensions" if isinstance(result, np.ndarray) else type(result).__name__
    raise UnsupportedError(
        f"{function.replace(':', '.')} made {kind} for a function compiled for {expected}, perhaps with another "
        "version of fastconv: delete what Numba has cached of it (*.nbi, *.nbc)"
    )


# Errors. Code that is compiled can raise only what it knows beforehand, so it raises `CallError`, which is replaced.


class CallError(FastconvError):
    """A call of fastconv failed in a thread that no error leaves; `threading.excepthook` was told which."""

    def __new__(cls, *given: Any) -> Any:
        """Return the error of the thread's last call that failed, if there is one."""
        if given and isinstance(given[0], BaseException):
            # Python makes sure that what it was given is an instance.
            return given[0]
        error = _kept.error
        if error is None:
            return super().__new__(cls)
        _kept.times -= 1
        if not _kept.times:
            _kept.error = None
        return error

    def __str__(self) -> str:
        return "a call of fastconv failed; the error was shown when it happened"


def keep(error: BaseException) -> None:
    """Keep the error of a call until the compiled function has returned, and raises it."""
    if sys._getframe().f_back is None:
        # A thread of a parallel loop. Numba drops exceptions there.
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
        return
    # Its frames hold arrays, and the error may be caught in compiled code, where no one will ask for it.
    _kept.error, _kept.times = error.with_traceback(None), _TIMES
