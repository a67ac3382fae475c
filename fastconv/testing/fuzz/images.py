"""Calls of `fastconv.ndimage`: what is drawn; SciPy says what they return, or which error they raise."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv as fc
from fastconv.testing.fuzz.case import Array, Case
from fastconv.testing.fuzz.draw import WRITABLE, Draw
from fastconv.testing.fuzz.signals import scipys
from fastconv.testing.fuzz.wanted import Family, Wanted

INTEGERS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
DTYPES = ("float32", "float64", *INTEGERS)
MODES = ("reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap")
_CVALS = (1.5, -3.0, 300.0, 7)
_SIZES = {0: 1, 1: 70, 2: 24, 3: 9, 4: 5}
# Along one axis, that is, with at least one.
_LINES = ("correlate1d", "convolve1d", "gaussian_filter1d", "uniform_filter1d", "maximum_filter1d", "minimum_filter1d")
_OPS: tuple[str, ...] = (
    *_LINES,
    "correlate",
    "convolve",
    "gaussian_filter",
    "uniform_filter",
    "maximum_filter",
    "minimum_filter",
)
_OPS += ("sobel", "prewitt", "laplace")
# Sums of the weights' magnitudes in four dimensions.
_GAINS = {"sobel": 128, "prewitt": 54, "laplace": 16}


def draw(d: Draw, op: str) -> Case:
    """Return a case of a filter."""
    name = op.split(".")[1]
    count = d.one((1, 1, 2, 2, 2, 3, 4)) if name in (*_LINES, "sobel", "prewitt") or d.chance(0.98) else 0
    shape = tuple(d.integer(0 if d.chance(0.02) else 1, _SIZES[count]) for _ in range(count))
    dtype = d.dtype(DTYPES) if d.chance(0.9) else d.one(("bool", "uint64", *d.dtypes))
    dtype = dtype if dtype not in ("float16", "bfloat16") else "float32"
    if dtype.startswith("complex") and "m_filter" in name:
        dtype = "float32"
    data = d.one(("integers", "full", "normal"))
    x = d.array(dtype, shape, data)
    arguments: dict[str, Any] = {"input": x if x.memory != "list" else x._replace(memory="plain")}
    arguments |= _options(d, name, shape)
    if d.chance(0.7):
        arguments["mode"] = d.one(MODES) if d.chance(0.98) else "mirrored"
    arguments |= {"cval": d.one(_CVALS)} if d.chance(0.3) else {}
    if d.chance(0.25):
        kind = dtype if d.chance(0.6) else d.one(("float64", "float32", "uint8", "int32"))
        kind = "complex128" if dtype.startswith("complex") else kind
        memory = d.one(("plain", *WRITABLE))
        arguments["output"] = kind if d.chance(0.3) else Array(kind, shape, memory, "poison")
    return d.case(op, arguments)


def _options(d: Draw, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draw the arguments between the input and the mode."""
    count = len(shape)
    if name in _LINES:
        k = d.integer(1, 12)
        found: dict[str, Any] = {"axis": d.integer(-count, count - 1)}
        if name.startswith("gaussian"):
            return found | {"sigma": round(float(d.rng.uniform(0.3, 2)), 2), "order": d.integer(0, 3)}
        found |= _origin(d, [k], one=True)
        return found | (
            {"weights": d.array("float64", (k,), _taps(d))} if "correlate" in name or "conv" in name else {"size": k}
        )
    if name in ("sobel", "prewitt"):
        return {"axis": d.integer(-count, count - 1)}
    axes, found = count, {}
    if count and d.chance(0.3):
        some = [int(i) for i in d.rng.permutation(count)[: d.integer(1, count)]]
        axes, found["axes"] = len(some), tuple(some)
    if name == "laplace":
        return found
    if name == "gaussian_filter":
        found |= {"sigma": tuple(d.one((0.0, 0.5, 1.0, 1.7)) for _ in range(axes)) if axes else 1.0}
        return found | ({"order": d.integer(0, 2)} if d.chance(0.4) else {})
    most = {1: 9, 2: 6}.get(axes, 4)
    # SciPy reads what lies outside of the array where a window reaches four times as far as an axis is long.
    lengths = [shape[axis] for axis in found.get("axes", range(axes))]
    sizes = [min(d.integer(1, most), 4 * max(n, 1)) for n in lengths]
    found |= _origin(d, sizes)
    if name in ("correlate", "convolve"):
        return found | {"weights": d.array("float64", tuple(sizes), _taps(d))}
    if name.startswith("uniform") or d.chance(0.5) or not axes:
        return found | {"size": tuple(sizes) if axes else 3}
    return found | {"footprint": Array("bool", tuple(sizes))}


def _origin(d: Draw, sizes: list[int], one: bool = False) -> dict[str, Any]:
    if d.chance(0.6) or not sizes:
        return {}
    shifts = [d.integer(-(k // 2), (k - 1) // 2) + (k if d.chance(0.01) else 0) for k in sizes]
    return {"origin": shifts[0] if one or len(set(shifts)) == 1 else tuple(shifts)}


def _taps(d: Draw) -> str:
    return d.one(("integers", "normal", "ones"))


def expect(op: str, a: dict[str, Any]) -> list[Wanted] | Exception:
    """Return SciPy's result, with an error bound for floats, or its error."""
    name, x = op.split(".")[1], a["input"]
    given = {key: np.array(v) if key == "output" and isinstance(v, np.ndarray) else v for key, v in a.items()}
    result = scipys("ndimage", name, given)
    if isinstance(result, Exception):
        return result
    if result.dtype == bool:
        # SciPy leaves numbers other than 0 and 1 there.
        result = result.view(np.uint8) != 0
    if result.dtype.kind in "biu" or not result.size:
        return [Wanted(result)]
    gain = _GAINS.get(name, 1.0)
    for value in (a.get("weights"), a.get("size"), a.get("sigma")):
        gain += 0 if value is None else float(np.abs(np.asarray(value)).sum())
    scale = max(float(np.abs(x.astype(complex)).max(initial=0)), abs(a.get("cval", 0.0)), 1e-30) * gain
    # SciPy rounds the parts of complex results to the precision of the array.
    digits = max(float(np.finfo(v.dtype).eps) for v in (result, x) if v.dtype.kind in "fc")
    value = 0.0 if "m_filter" in name and "uniform" not in name else 32 * digits * scale
    return [Wanted(result, bound=value)]


def call(op: str, a: dict[str, Any]) -> Any:
    """Call a filter."""
    return getattr(fc.ndimage, op.split(".")[1])(**a)


FAMILY = Family(tuple(f"ndimage.{name}" for name in _OPS), draw, expect, call, scipy=True)
