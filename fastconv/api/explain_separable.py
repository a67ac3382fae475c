"""What a depthwise, then pointwise convolution costs beside one with the full kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.api.calls import bound, call_of, dtype_of_arrays
from fastconv.api.conv import depthwise_conv2d, pointwise_conv2d
from fastconv.api.convolve import problem_of
from fastconv.api.explanation import Explanation, Line
from fastconv.dispatch import machine
from fastconv.dispatch.choose import choose
from fastconv.dispatch.cost import Cost, OpCount, bandwidth, call_seconds, direct_ops, peak, roofline
from fastconv.dispatch.measure import alone_and_together, measured_seconds
from fastconv.dispatch.plan import prepare
from fastconv.dispatch.rounding import conv_bound
from fastconv.dispatch.separable import Half, Separable
from fastconv.dispatch.separable import separable as prepared_separable
from fastconv.geometry.arrays import element_dtype
from fastconv.geometry.conv import ConvGeometry, input_shape, output_shape, weight_shape
from fastconv.threads import get_num_threads, threads

_NAME = "separable_conv2d"
_SOURCE = "Chollet 2017, arXiv:1610.02357; Howard et al. 2017, arXiv:1704.04861"


class _Problem(NamedTuple):
    """Both convolutions, and the one with the full kernel that they stand for."""

    depthwise: Half
    pointwise: Half
    full: ConvGeometry


def _problem(function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]) -> _Problem:
    given = bound(function, args, keywords)
    shared: dict[str, Any] = {k: given[k] for k in ("layout", "precision", "device") if k in given}
    own: dict[str, Any] = {
        k: given[k] for k in ("stride", "padding", "dilation", "padding_mode", "algorithm") if k in given
    }
    dtype = element_dtype(dtype_of_arrays(_NAME, given))
    first = call_of(depthwise_conv2d, (given["input"], given["depthwise_weight"]), shared | own)
    options = first.options._replace(activation=given.get("depthwise_activation"))
    g, activation = problem_of(_NAME, first.x_shape, first.w_shape, dtype, options)
    second = call_of(pointwise_conv2d, (output_shape(g), given["pointwise_weight"]), shared)
    last = second.options._replace(activation=given.get("activation"))
    whole, outer = problem_of(_NAME, second.x_shape, second.w_shape, dtype, last)
    depthwise = Half(g, activation, options.algorithm, options.precision)
    full = g._replace(G=1, OC=whole.OC)
    return _Problem(depthwise, Half(whole, outer, "auto", options.precision), full)


def explain_separable(
    function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any], measure: bool
) -> Explanation:
    """Return what both convolutions cost in bands, one after the other, and the one with the full kernel."""
    p = _problem(function, args, keywords)
    g, whole, full = p.depthwise.geometry, p.pointwise.geometry, p.full
    found = prepared_separable(p.depthwise, p.pointwise)
    halves = [choose(_NAME, h.geometry, h.algorithm, h.precision) for h in (p.depthwise, p.pointwise)]
    costs = [c.cost for c in halves if c.cost is not None]
    both = OpCount(*(a + b for a, b in zip(*(cost.ops for cost in costs), strict=True)))
    error = sum(conv_bound(c.row.name, h, c.blocking) for c, h in zip(halves, (g, whole), strict=True))
    scratch, seconds = max(cost.scratch_bytes for cost in costs), sum(cost.seconds for cost in costs)
    middle = np.dtype(g.dtype).itemsize * int(np.prod(output_shape(g)))
    banded = both._replace(bytes_read=both.bytes_read - middle, bytes_written=both.bytes_written - middle)
    chosen = "passes" if found.band_seconds is None else "bands"
    times, elapsed = _times(p, found, chosen) if measure else ({}, None)

    def line(name: str, cost: Cost, error: float, note: str = "") -> Line:
        rate = bandwidth(cost.ops.bytes_read + cost.ops.bytes_written)
        measured, most = times.get(name), peak(g)
        return Line(name, name == chosen, None, *cost, measured, _SOURCE, "", note, most, rate, error)

    lines = [line("passes", Cost(both, scratch, seconds), error)]
    if found.band_seconds is None:
        reason = "the images are no larger than a band or two, or an algorithm that was chosen computes no bands"
        lines.insert(0, Line("bands", False, reason, None, None, None, None, _SOURCE))
    else:
        time = roofline(found.band_seconds * machine.current().hertz(), banded) + call_seconds()
        lines.insert(0, line("bands", Cost(banded, scratch, time), error))
    dense = choose(_NAME, full, "auto", p.depthwise.precision)
    assert dense.cost is not None
    note = f"one convolution with the full kernel, for comparison, by {dense.row.name}"
    lines.append(line("conv2d", dense.cost, conv_bound(dense.row.name, full, dense.blocking), note))
    count = get_num_threads() if measure else None
    return Explanation(f"{g.problem}_then_oc{whole.OC}", direct_ops(full), lines, count, elapsed)


def _times(p: _Problem, found: Separable, chosen: str) -> tuple[dict[str, float], float]:
    """Return the time of each way on one thread, and of the chosen one on all, on random arrays."""
    rng, (one, two) = np.random.default_rng(0), (half.prepared() for half in (p.depthwise, p.pointwise))
    g, whole, full = p.depthwise.geometry, p.pointwise.geometry, p.full
    x, middle, dw, pw, w = (
        rng.random(shape).astype(g.dtype)
        for shape in (input_shape(g), output_shape(g), weight_shape(g), weight_shape(whole), weight_shape(full))
    )
    out = np.empty(output_shape(whole), g.dtype)
    alone, together = alone_and_together(lambda: found.run_once(x, (dw, pw), (None, None), None, out))
    dense = prepare(_NAME, full, None, "auto", p.depthwise.precision)
    with threads(1):
        passes = measured_seconds(one, x, (dw,)) + measured_seconds(two, middle, (pw,))
        times = {"passes": passes, "conv2d": measured_seconds(dense, x, (w,))}
    return times | {chosen: alone}, together


def count_separable(
    count: Callable[..., OpCount], function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]
) -> OpCount:
    """Return the sum over the depthwise and the pointwise convolution."""
    given = bound(function, args, keywords)
    layout = given.get("layout", "channels_first")
    shared: dict[str, Any] = {k: given[k] for k in ("stride", "padding", "dilation", "layout") if k in given}
    first = (given["input"], given["depthwise_weight"], given.get("depthwise_bias"))
    call = call_of(depthwise_conv2d, first, shared)
    g, _ = problem_of(call.name, call.x_shape, call.w_shape, call.dtype, call.options)
    one = count(depthwise_conv2d, first, shared, "direct")
    second = (output_shape(g), given["pointwise_weight"], given.get("bias"))
    two = count(pointwise_conv2d, second, {"layout": layout}, "direct")
    return OpCount(*(a + b for a, b in zip(one, two, strict=True)))
