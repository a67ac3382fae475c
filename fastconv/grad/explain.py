"""What the gradients of a convolution cost: of the input a transposed convolution, of the weight sums over bands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastconv.api.calls import bound, shape_of
from fastconv.api.convolve import Options
from fastconv.api.explain import EXPLAINERS, explain_transpose
from fastconv.api.explanation import Explanation, Line
from fastconv.dispatch import load
from fastconv.dispatch.cost import OpCount, bandwidth, call_seconds, peak, roofline, unit_peak
from fastconv.dispatch.measure import alone_and_together
from fastconv.dispatch.rounding import HALF, sum_bound
from fastconv.errors import ShapeError
from fastconv.geometry.arrays import common_dtype, element_dtype
from fastconv.geometry.conv import ConvGeometry, input_shape, output_shape, weight_shape
from fastconv.grad.problem import ConvGradients, gradients_of
from fastconv.threads import get_num_threads

_SUMS = "Georganas et al. 2018, doi:10.1109/SC.2018.00069"


def explain_gradient(
    part: str, function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any], measure: bool
) -> Explanation:
    """Return what a gradient of a convolution costs; `part` is "input", "weight" or "vjp", which is both."""
    name, given = function.__name__, bound(function, args, keywords)
    x, w = given.get("input", given.get("input_size")), given.get("weight", given.get("weight_size"))
    arrays = [a for a in (x, w, given["grad_output"]) if isinstance(a, np.ndarray)]
    dtype = element_dtype(common_dtype(name, *arrays) if arrays else np.dtype(np.float32))
    words = {k: v for k, v in given.items() if k in Options._fields and k != "algorithm"}
    options = Options(**words, axes=int(name[4]))
    problem = gradients_of(name, shape_of(name, "input", x), shape_of(name, "weight", w), dtype, options)
    grad = shape_of(name, "grad_output", given["grad_output"])
    expected = problem.result_shape(len(shape_of(name, "input", x)))
    # No shape at all stands for the right one.
    if grad and grad != expected:
        raise ShapeError(f"{name}: grad_output has shape {grad}, expected {expected}, that of the result")
    parts = {"input": explain_input, "weight": explain_weight}
    found = {which: explain(problem, measure) for which, explain in parts.items() if part in (which, "vjp")}
    if part != "vjp":
        return found[part]
    lines = [
        line._replace(algorithm=f"{which}: {line.algorithm}", definition=explanation.direct)
        for which, explanation in found.items()
        for line in explanation.lines
    ]
    direct = OpCount(*map(sum, zip(*(explanation.direct for explanation in found.values()), strict=True)))
    seconds = sum(explanation.seconds or 0.0 for explanation in found.values()) if measure else None
    return Explanation(f"{problem.forward.problem}_vjp", direct, lines, found["input"].threads, seconds)


def explain_input(problem: ConvGradients, measure: bool) -> Explanation:
    """Return what the gradient of the input costs: the transposed convolution of that of the output."""
    return explain_transpose(problem.transposed, measure)


def explain_weight(problem: ConvGradients, measure: bool) -> Explanation:
    """Return what the gradient of the weight costs."""
    g, prepared = problem.geometry, problem.correlated
    ops, alone, together = weight_ops(g), None, None
    if measure:
        rng = np.random.default_rng(0)
        x, dy = (rng.random(shape).astype(g.dtype) for shape in (input_shape(g), output_shape(g)))
        alone, together = alone_and_together(lambda: prepared.run(x, dy))
    lines, terms = [], g.N * g.OD * g.OH * g.OW
    for name, blocking in prepared.ways().items():
        chosen = name == prepared.algorithm
        if blocking is None:
            lines.append(Line(name, chosen, _refusal(problem), None, None, None, None, _SUMS))
            continue
        error = sum_bound(terms, g.dtype)
        if name == "bf16x3":
            error = (3 * HALF**2 + sum_bound(3 * terms, g.dtype)) * (1 + 4 * HALF)
        seconds = roofline(blocking.cycles, ops) + call_seconds()
        most = unit_peak() if name == "bf16x3" else peak(g)
        rate = bandwidth(ops.bytes_read + ops.bytes_written)
        measured = alone if chosen else None
        scratch = blocking.scratch_bytes
        lines.append(Line(name, chosen, None, ops, scratch, seconds, measured, _SUMS, "", "", most, rate, error))
    count = get_num_threads() if measure else None
    return Explanation(f"{g.problem}_weight", ops, lines, count, together)


def _refusal(problem: ConvGradients) -> str:
    """Return why the matrix unit does not compute the gradient of a weight."""
    if problem.precision == "strict":
        return 'its rounding error grows past that of direct summation, which precision="strict" forbids'
    if problem.geometry.dtype != "float32":
        return f"arrays must be float32, got {problem.geometry.dtype}"
    if not load.target().matrix_unit:
        return "this CPU has no matrix unit for bfloat16 (Intel AMX), or the system does not grant it"
    return "the matrix unit is not made for channels and sizes such as these"


def weight_ops(g: ConvGeometry) -> OpCount:
    """Count the gradient of a weight: each element is a sum of N * OD * OH * OW products."""
    size, macs, params = np.dtype(g.dtype).itemsize, g.macs, math.prod(weight_shape(g))
    read = math.prod(input_shape(g)) + math.prod(output_shape(g))
    return OpCount(macs, macs, max(macs - params, 0), params, read * size, params * size)


EXPLAINERS.update(
    {
        f"conv{axes}d_{part}": partial(explain_gradient, part)
        for axes in (1, 2, 3)
        for part in ("input", "weight", "vjp")
    }
)
