"""Activations of whole arrays, and their gradients: what is drawn, and the definitions in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS, canonical
from fastconv.kernels.reference.grad import pullback
from fastconv.testing.fuzz.case import Case
from fastconv.testing.fuzz.draw import FLOATS, INTEGERS, Draw
from fastconv.testing.fuzz.wanted import Family, Wanted

NAMES = tuple(filter(None, ACTIVATIONS))
CLAMPS = ("relu", "relu6")


def draw(d: Draw, op: str) -> Case:
    """Return a case of an activation, or of its gradient."""
    name = op.split(".")[1].removesuffix("_vjp")
    clamp = name in CLAMPS and not op.startswith("grad")
    dtype = d.dtype((*FLOATS, "bfloat16", *(INTEGERS if clamp else ())))
    shape = tuple(0 if d.chance(0.03) else d.size(60) for _ in range(d.integer(1, 3)))
    data = d.data(dtype)
    if op.startswith("grad"):
        data = {"special": "normal", "extreme": "normal"}.get(data, data)
        return d.case(op, {name: d.array(dtype, shape, data) for name in ("grad_output", "x")})
    case = d.case(op, {"x": d.array(dtype, shape, data)})
    return case.replaced(**d.out(dtype, shape, case.arrays))


def expect(op: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the result by the definition."""
    name, x = op.split(".")[1].removesuffix("_vjp"), a["x"]
    if x.dtype.kind in "iu":
        return [Wanted(ACTIVATIONS[name](x).astype(x.dtype))]
    u = {"float64": 2.0**-53, "float16": 2.0**-11, "bfloat16": 2.0**-8}.get(x.dtype.name, 2.0**-24)
    least = {"float16": 6e-8, "bfloat16": 1e-40, "float64": 1e-320}.get(x.dtype.name, 1.5e-45)
    wide = x.astype(np.float64)
    if op.startswith("grad"):
        g = a["grad_output"].astype(np.float64)
        value = pullback(canonical(name) or name, g, wide)
        return [Wanted(value, x.dtype, 64 * u * (np.abs(g) * (1 + np.abs(wide))) + 8 * least)]
    with np.errstate(all="ignore"):
        value = ACTIVATIONS[name](wide)
        clean = np.abs(np.nan_to_num(value, posinf=0, neginf=0))
        # Near the end of the range all is lost at once; below it, an argument's rounding counts.
        bound = 32 * u * clean + 16 * u * (np.abs(value) < 1) * (clean > 0) + 8 * least
    free = np.abs(wide) > 1e30 if name == "gelu_tanh" and x.dtype.name != "float64" else False
    return [Wanted(value, x.dtype, bound, free)]


def call(op: str, a: dict[str, Any]) -> Any:
    """Call an activation, or the gradient."""
    if op.startswith("grad"):
        return getattr(fc.grad, op.split(".")[1])(a["grad_output"], a["x"])
    return getattr(fc.activations, op.split(".")[1])(a["x"], **{k: v for k, v in a.items() if k == "out"})


FAMILY = Family(
    (*(f"activations.{name}" for name in NAMES), *(f"grad.{name}_vjp" for name in NAMES)), draw, expect, call
)
