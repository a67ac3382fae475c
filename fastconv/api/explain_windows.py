"""What pools, unpoolings, interpolation and sliding blocks cost: each has one way, which depends on the problem."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.api import fold, pooling, resize, unpool, upsample
from fastconv.api.calls import shape_of
from fastconv.api.explanation import Explanation, Line
from fastconv.dispatch import load
from fastconv.dispatch.blocking_windows import turned_blocking, window_blocking
from fastconv.dispatch.cost import OpCount, bandwidth, call_seconds, peak, roofline
from fastconv.dispatch.measure import alone_and_together
from fastconv.dispatch.resampling import sums_of
from fastconv.dispatch.rounding import sum_bound
from fastconv.dispatch.window_counts import elements, folded_sums, window_operations
from fastconv.geometry.arguments import check_keyword
from fastconv.geometry.arrays import as_input
from fastconv.geometry.pool import adaptive_geometry, global_geometry, pool_geometry
from fastconv.threads import get_num_threads

_STAGES = "Gil and Kimmel 2002, doi:10.1109/TPAMI.2002.1114852"
_COMPARED = 'the definition, for comparison: algorithm = "direct" of count_ops'
_TURNED = "it is for many small planes of channels_first, a few vectors wide"


class Way(NamedTuple):
    """One way to do a problem: its name, operations, scratch, the model's time; why it is not taken, if it is not."""

    name: str
    ops: OpCount | None
    scratch_bytes: int | None = None
    seconds: float | None = None
    chosen: bool = True
    refused: str | None = None
    note: str = ""
    source: str = ""
    error: float | None = None


class Problem(NamedTuple):
    """The arguments of a call by name, the shape and dtype of its input."""

    name: str
    given: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def axes(self) -> int:
        """The spatial axes in the function's name."""
        return int(self.name[-2])

    def ops(
        self, out: tuple[int, ...], operations: tuple[int, int], macs: int = 0, more: tuple[int, int] = (0, 0)
    ) -> OpCount:
        """Return the operations, (multiplications, additions), and bytes; `more` are those of indices."""
        read, written = (math.prod(shape) * self.dtype.itemsize for shape in (self.shape, out))
        return OpCount(macs, *operations, 0, read + more[0], written + more[1])


def problem_of(function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]) -> Problem:
    """Return a call that is not made, with defaults."""
    call = inspect.signature(function).bind(*args, **keywords)
    call.apply_defaults()
    given, name = dict(call.arguments), function.__name__
    x = given["input"]
    dtype = as_input(name, "input", x).dtype if isinstance(x, np.ndarray) else np.dtype(np.float32)
    return Problem(name, given, shape_of(name, "input", x), dtype)


def _pools(p: Problem) -> tuple[tuple[int, ...], list[Way]]:
    """Return the shape of the result and the ways of a pool."""
    a, name = p.given, p.name
    largest, indices = "max" in name, bool(a.get("return_indices", False))
    if name.startswith("global"):
        g = global_geometry(name, p.shape, a["layout"], a["keepdims"])
    elif name.startswith("adaptive"):
        g = adaptive_geometry(name, p.axes, p.shape, a["output_size"], a["layout"])
    else:
        sizes = a["kernel_size"], a["stride"], a.get("padding", 0), a.get("dilation", 1), a["ceil_mode"], a["layout"]
        g = pool_geometry(name, p.axes, p.shape, *sizes)
    if largest:
        pool = pooling.maxima(p.dtype, g, indices)
    else:
        divisor = pooling.average_divisor(name, a.get("divisor_override"))
        pool = pooling.averages(p.dtype, g, a.get("count_include_pad", True), divisor)
    planes, outputs = g.N * g.C, math.prod(pool.out_shape)
    total = planes * elements(g.axes)
    # Divisions; of norms also a power of each input and a root.
    products = 0 if largest else outputs
    if name.startswith("lp"):
        exponent = pooling.norm(name, a["norm_type"])
        products = 0 if math.isinf(exponent) else math.prod(p.shape) + outputs
    more = (0, 8 * outputs if indices else 0)
    direct = p.ops(pool.out_shape, (products, max(total - outputs, 0)), 0, more)
    error: float | None = None
    if not name.startswith("lp"):
        error = 0.0 if largest or p.dtype.kind != "f" else sum_bound(total // max(outputs, 1), pool.element.name)
    ways = [Way("direct", direct, chosen=False, note=_COMPARED, error=error)]
    passes, target = pool.prepared.passes, load.target()
    ops = direct._replace(adds=sum(map(window_operations, passes)) if outputs else 0)
    plain = [window_blocking(each, target) for each in passes]
    turned = [turned_blocking(each, target) for each in passes]
    taken = [t or w for t, w in zip(turned, plain, strict=True)]
    for way, blockings, chosen in (("windows", plain, not any(turned)), ("turned", taken, any(turned))):
        if way == "turned" and not chosen:
            ways.append(Way(way, None, chosen=False, refused=_TURNED, source=_STAGES))
            continue
        seconds = roofline(sum(b.cycles for b in blockings), ops) + call_seconds()
        scratch = max(b.scratch_bytes for b in blockings)
        ways.append(Way(way, ops, scratch, seconds, chosen, None, "", _STAGES, error))
    return pool.out_shape, ways


def _interpolation(p: Problem) -> tuple[tuple[int, ...], list[Way]]:
    a = p.given
    sizes = (a["size"], a["scale_factor"], a["recompute_scale_factor"])
    plan = resize.plan(p.shape, p.dtype, a["layout"], sizes, a["mode"], a["align_corners"], a["antialias"])
    if a["mode"].startswith("nearest"):
        return plan.shape, [_moved("copies", p.ops(plan.shape, (0, 0)))]
    sums = sums_of(plan.problem)
    direct, ops = (p.ops(plan.shape, operations, operations[0]) for operations in (sums.whole, sums.passes))
    seconds = max(sums.seconds, roofline(0.0, ops)) + call_seconds()
    return plan.shape, [Way("direct", direct, chosen=False, note=_COMPARED), Way("axes", ops, None, seconds)]


def _unpooling(p: Problem) -> tuple[tuple[int, ...], list[Way]]:
    a = p.given
    sizes = (a["kernel_size"], a["stride"], a["padding"], a["output_size"])
    plan = unpool.unpooling_plan(p.shape, p.dtype, p.name, p.axes, sizes, a["duplicates"], a["layout"])
    # Each element is compared with, or added to, what stands there.
    adds = math.prod(p.shape) if a["duplicates"] in ("sum", "max") else 0
    return plan.shape, [_moved("scatter", p.ops(plan.shape, (0, adds), 0, (8 * math.prod(p.shape), 0)))]


def _upsampling(p: Problem) -> tuple[tuple[int, ...], list[Way]]:
    a = p.given
    factors = a["scale_factor"], a.get("position"), a["layout"]
    plan = upsample.upsampling_plan(p.shape, p.dtype, p.name, p.axes, *factors)
    return plan.shape, [_moved("copies", p.ops(plan.shape, (0, 0)))]


def _blocks(p: Problem) -> tuple[tuple[int, ...], list[Way]]:
    a = p.given
    rest = (a["kernel_size"], a["dilation"], a["padding"], a["stride"], a["layout"])
    if p.name == "unfold":
        plan = fold.unfold_plan(p.shape, p.dtype, *rest)
        return plan.shape, [_moved("copies", p.ops(plan.shape, (0, 0)))]
    plan = fold.fold_plan(p.shape, p.dtype, a["output_size"], *rest)
    adds = plan.planes.N * plan.planes.C * folded_sums(plan.blocks)
    error = sum_bound(plan.blocks.offsets, p.dtype.name) if p.dtype.kind == "f" else 0.0
    return plan.shape, [_moved("sums", p.ops(plan.shape, (0, adds)))._replace(error=error)]


def _moved(name: str, ops: OpCount) -> Way:
    """Return a way whose time is that of memory."""
    return Way(name, ops, None, roofline(0.0, ops) + call_seconds(), error=0.0)


_EACH = ("1d", "2d", "3d")
WINDOWS: dict[str, Callable[[Problem], tuple[tuple[int, ...], list[Way]]]] = {
    **{f"{kind}_pool{d}": _pools for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg") for d in _EACH},
    "global_max_pool": _pools,
    "global_avg_pool": _pools,
    "interpolate": _interpolation,
    **{f"max_unpool{d}": _unpooling for d in _EACH},
    **{f"{kind}_unpool{d}": _upsampling for kind in ("nearest", "bed_of_nails") for d in _EACH},
    "unfold": _blocks,
    "fold": _blocks,
}


def explain_windows(
    function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any], measure: bool
) -> Explanation:
    """Return what the ways of a call cost."""
    p = problem_of(function, args, keywords)
    out, ways = WINDOWS[p.name](p)
    alone, elapsed = _timed(function, p, out) if measure else (None, None)
    lines = []
    for way in ways:
        rate = None if way.ops is None else bandwidth(way.ops.bytes_read + way.ops.bytes_written)
        numbers = (way.ops, way.scratch_bytes, way.seconds, alone if way.chosen else None, way.source, "", way.note)
        most = peak(p)
        lines.append(Line(way.name, way.chosen, way.refused, *numbers, most, rate, way.error))
    title = f"{p.name} {p.shape} -> {out}"
    direct = next(way.ops for way in ways if way.ops is not None)
    return Explanation(title, direct, lines, get_num_threads() if measure else None, elapsed)


def _timed(function: Callable[..., Any], p: Problem, out: tuple[int, ...]) -> tuple[float, float]:
    """Return the time of the call on one thread, and on all."""
    given = dict(p.given)
    if not isinstance(given["input"], np.ndarray):
        given["input"] = np.random.default_rng(0).random(p.shape).astype(p.dtype)
    if "indices" in given and not isinstance(given["indices"], np.ndarray):
        # Each its own place, or the same ones again in the next plane.
        first = p.given["layout"] == "channels_first"
        plane, size = (math.prod(s[-p.axes :] if first else s[-1 - p.axes : -1]) for s in (p.shape, out))
        order = np.arange(math.prod(p.shape)) // (1 if first else p.shape[-1])
        given["indices"] = (order % plane % size).reshape(p.shape)
    call = inspect.signature(function).bind_partial()
    call.arguments.update(given)
    return alone_and_together(lambda: function(*call.args, **call.kwargs))


def count_windows(
    function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any], algorithm: str
) -> OpCount:
    """Return the operations of one way: "direct" is the definition, "auto" what is taken."""
    _, ways = WINDOWS[function.__name__](problem_of(function, args, keywords))
    able = {way.name: way.ops for way in ways if way.ops is not None}
    taken = next(way.name for way in ways if way.chosen)
    able = {"auto": able[taken], "direct": able[taken]} | able
    check_keyword("count_ops", "algorithm", algorithm, sorted(able))
    return able[algorithm]
