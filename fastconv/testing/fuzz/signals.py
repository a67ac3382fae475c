"""Calls of `fastconv.signal`: what is drawn; SciPy says what they return, or which error they raise."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.testing.fuzz.case import Array, Case
from fastconv.testing.fuzz.draw import Draw
from fastconv.testing.fuzz.wanted import Family, Wanted

DTYPES = ("float32", "float64", "complex64", "complex128", "uint8", "int8", "int16", "uint16", "int64", "uint64")
_SIZES = {1: 90, 2: 24, 3: 8, 4: 4}
_OPS = ("correlate2d", "convolve2d", "correlate", "convolve", "fftconvolve", "oaconvolve", "sepfir2d")
_MODES = ("full", "same", "valid")


def draw(d: Draw, op: str) -> Case:
    """Return a case of a function of `scipy.signal`."""
    if op.endswith("sepfir2d"):
        return _separable(d, op)
    axes = 2 if op.endswith("2d") else d.one((1, 1, 2, 2, 3, 4))
    shapes = [tuple(d.integer(1, most) for _ in range(axes)) for most in (_SIZES[axes], 3 + _SIZES[axes] // 3)]
    if d.chance(0.2):
        shapes.reverse()
    one = d.dtype(DTYPES)
    other = one if d.chance(0.85) else d.dtype(DTYPES)
    data = d.one(("integers", "normal", "full"))
    arguments: dict[str, Any] = {
        "in1": d.array(one, shapes[0], data),
        "in2": d.array(other, shapes[1], data),
    }
    if d.chance(0.7):
        arguments["mode"] = d.one(_MODES) if d.chance(0.98) else "valed"
    if op.endswith("2d"):
        arguments |= {"boundary": d.one(("fill", "wrap", "symm", "pad", "circular"))} if d.chance(0.6) else {}
        arguments |= {"fillvalue": d.one((0, 1, 2.5, -3))} if d.chance(0.2) else {}
    elif op.endswith(("correlate", "convolve")) and "fft" not in op and "oa" not in op:
        floats = "int" not in one + other
        arguments |= {"method": d.one(("auto", "direct", "fft")) if floats else "direct"}
    elif d.chance(0.15):
        arguments["axes"] = d.integer(-axes, axes - 1)
    return d.case(op, arguments)


def _separable(d: Draw, op: str) -> Case:
    dtype = d.dtype(("float32", "float64", "uint8", "int16", "complex64", "complex128", "int64"))
    taps = tuple(d.one((1, 3, 5, 7, 9)) for _ in range(2))
    shape = tuple(d.integer(max(*taps, 2), 30) for _ in range(2))
    # Longer than the image, SciPy reads beyond its ends.
    rows = {name: Array("float64", (n,), "list", "normal") for name, n in zip(("hrow", "hcol"), taps, strict=True)}
    rows |= {"hrow": d.array("float64", taps[:1], "normal")} if d.chance(0.2) else {}
    return d.case(op, {"input": d.array(dtype, shape, d.one(("integers", "normal")))} | rows)


def scipys(module: str, name: str, arguments: dict[str, Any]) -> Any:
    """Return what SciPy's function returns, or its error."""
    import scipy.ndimage
    import scipy.signal

    function = getattr(getattr(scipy, module), name)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return by_name(function, name, arguments)
        except Exception as error:
            return error


def by_name(function: Any, name: str, arguments: dict[str, Any]) -> Any:
    """Call a function by its arguments' names, but the one that takes none."""
    return function(*arguments.values()) if name == "sepfir2d" else function(**arguments)


def expect(op: str, a: dict[str, Any]) -> list[Wanted] | Exception:
    """Return SciPy's result, with an error bound for floats, or its error."""
    name = op.split(".")[1]
    result = scipys("signal", name, a)
    if isinstance(result, Exception):
        return result
    arrays = [np.asarray(value) for value in a.values() if isinstance(value, (np.ndarray, list))]
    if result.dtype.kind in "biu":
        return [Wanted(result)]
    # SciPy transforms float32 in single precision even where the result is double.
    single = any(v.dtype.itemsize // (1 + (v.dtype.kind == "c")) <= 4 and v.dtype.kind in "fc" for v in arrays)
    transforms = not name.endswith("2d") and a.get("method") != "direct"
    eps = np.finfo(np.float32 if single and transforms else result.dtype).eps
    outside = abs(a.get("fillvalue", 0))
    scale = math.prod(max(float(np.abs(v.astype(complex)).max(initial=0)), outside) for v in arrays)
    terms = min(v.size for v in arrays) if len(arrays) == 2 else 100 * arrays[1].size * arrays[2].size
    # What lies outside takes part.
    terms = max(v.size for v in arrays) if name.endswith("2d") and len(arrays) == 2 else terms
    return [Wanted(result, bound=float(8 * eps * max(scale, 1e-30) * terms))]


def call(op: str, a: dict[str, Any]) -> Any:
    """Call a function."""
    name = op.split(".")[1]
    return by_name(getattr(fc.signal, name), name, a)


FAMILY = Family(tuple(f"signal.{name}" for name in _OPS), draw, expect, call, scipy=True)
