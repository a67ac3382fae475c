"""What each algorithm costs on a problem, and which one is chosen: read from the planner itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.api.calls import CONVOLUTIONS, Call, call_of
from fastconv.api.conv_transpose import TransposeOptions, find_transpose, transpose_problem
from fastconv.api.convolve import find, problem_of
from fastconv.api.explain_separable import count_separable, explain_separable
from fastconv.api.explain_windows import WINDOWS, count_windows, explain_windows
from fastconv.api.explanation import Explanation, Line
from fastconv.api.factors import rank_one_factors
from fastconv.dispatch import wisdom
from fastconv.dispatch.choose import Candidate, choose, judge, pays
from fastconv.dispatch.conv_table import NAMES, ROWS, TABLE
from fastconv.dispatch.conv_transpose import PreparedTranspose, count_transpose, judge_transpose, prepare_transpose
from fastconv.dispatch.cost import OpCount, bandwidth, peak, transpose_ops
from fastconv.dispatch.measure import alone_and_together, median_seconds
from fastconv.dispatch.measure import call_of as run_of
from fastconv.dispatch.plan import Prepared, prepare
from fastconv.dispatch.rounding import conv_bound, result_bound
from fastconv.errors import OptionError, UnsupportedError
from fastconv.geometry.conv import check_keyword, input_shape, weight_shape
from fastconv.threads import get_num_threads, threads

_RANK_1 = 'these kernels have rank 1, but "auto" does not look: ask for it by name, or pass the factors'

# Other functions, by name: what explains a call of them. `fastconv.grad` adds its own.
EXPLAINERS: dict[str, Callable[..., Explanation]] = {
    "separable_conv2d": explain_separable,
    **dict.fromkeys(WINDOWS, explain_windows),
}


def explain(function: Callable[..., Any], *args: Any, measure: bool = False, **keywords: Any) -> Explanation:
    """Return what every algorithm costs for a call, and which one is chosen.

    Parameters
    ----------
    function : callable
        A convolution or transposed convolution of `fastconv`, `separable_conv2d`, `spatially_separable_conv2d`; a pool,
        an unpooling, `interpolate`, `unfold` or `fold`; or of `fastconv.grad` a gradient of a convolution:
        ``conv2d_input``, ``conv2d_weight``, ``conv2d_vjp`` and those of one and three axes.
    *args, **keywords
        Its arguments; arrays, or for arrays only their shapes. The values of a weight say whether it is separable.
    measure : bool
        Time each algorithm too, on the arrays given or on random ones: the median of 3 calls on one thread, and of the
        chosen one also on all threads.

    Returns
    -------
    Explanation
        It has a `Line` for each algorithm: refused with a reason, or with multiplications and additions, bytes moved,
        scratch, operations for each byte, times predicted from the machine's constants and measured, the share of the
        roofline ``min(peak, intensity * bandwidth)``, and the bound of the rounding error.

    Raises
    ------
    FastconvError
        What the call itself would raise.

    Notes
    -----
    Error bounds are relative to ``sum(|x| * |weight|)``, with u half the machine epsilon: of direct sums of K products
    ``(K + 4) * u``; of Winograd, whose transforms amplify errors, and of FFT, where they grow with the logarithm of the
    block, relative to the most that this sum can be, and far above what random data give. Half precision is rounded
    once more, and complex arrays are summed of several products, which the bounds contain.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.explain(fc.conv2d, (1, 64, 56, 56), (64, 64, 1, 1)).lines[0].refused
    'groups must equal the input channels, got groups = 1, IC = 64'
    """
    name = getattr(function, "__name__", "")
    if name in EXPLAINERS:
        return EXPLAINERS[name](function, args, keywords, measure)
    call = _call("explain", function, args, keywords)
    if isinstance(call.options, TransposeOptions):
        found = find_transpose(call.name, call.x_shape, call.w_shape, call.dtype, call.options)
        return of_result(explain_transpose(found, measure, call.x, call.w), call.result, call.options.precision)
    prepared = find(call.name, call.x_shape, call.w_shape, call.dtype, call.options, narrow=call.narrow)
    return of_result(explain_prepared(prepared, measure, call.x, call.w), call.result, call.options.precision)


def of_result(found: Explanation, dtype: np.dtype, precision: str) -> Explanation:
    """Return an explanation of real sums with the error bounds of the result that is made of them."""
    strict = precision == "strict"
    found.lines = tuple(
        line._replace(error_bound=result_bound(line.error_bound, dtype.name, strict)) if line.error_bound else line
        for line in found.lines
    )
    return found


def explain_prepared(
    prepared: Prepared, measure: bool, x: np.ndarray | None = None, w: np.ndarray | None = None
) -> Explanation:
    """Return the explanation of a prepared problem; missing arrays are drawn at random."""
    g, lines, elapsed = prepared.geometry, [], None
    arrays = _arrays(g.dtype, (x, input_shape(g)), (w, weight_shape(g))) if measure else None
    for row in TABLE:
        chosen = row.name == prepared.algorithm
        candidate, factors, gap = judge(g, row, prepared.precision, entry=prepared.entry), None, None
        if w is not None and row.name == "separable" and candidate.cost:
            factors, gap, refused = _factors(w)
            candidate = candidate if refused is None else Candidate(row, refused, None, None)
        if candidate.cost is None:
            lines.append(_line(candidate, chosen))
            continue
        measured = None
        if arrays is not None:
            weights = factors or (arrays[1:] if row.name != "separable" else _factors(arrays[1])[0])
            if weights is not None:
                one = prepare("explain", g, prepared.activation, row.name, prepared.precision, prepared.entry)
                measured, all_threads = _timed(one, arrays[0], weights, chosen)
                elapsed = all_threads or elapsed
        error = conv_bound(row.name, g, candidate.blocking, gap)
        line = _line(candidate, chosen, measured, peak(g, candidate.blocking), error)
        lines.append(line._replace(note=_RANK_1) if factors and not chosen else line)
    problem = wisdom.problem("conv", g, prepared.precision, prepared.entry)
    measured_before = wisdom.advice(problem, [prepared.algorithm]) is not None
    why = ", it was measured to be the fastest" if measured_before else _reason(lines, prepared.algorithm)
    lines = [line._replace(why=why if line.chosen else "") for line in lines]
    return Explanation(g.problem, ROWS["direct"].ops(g, False), lines, *_everyone(elapsed))


def _reason(lines: Sequence[Line], chosen: str) -> str:
    """Return why an algorithm was chosen by its predicted time."""
    times = {line.algorithm: line.predicted for line in lines if line.predicted and not ROWS[line.algorithm].automatic}
    if not times or chosen not in times:
        return ", it was asked for"
    best = min(times, key=lambda name: times[name])
    if best == chosen:
        return ", the least predicted time"
    exact = min((name for name in times if ROWS[name].exact), key=lambda name: times[name], default=best)
    if exact == chosen and not pays(times[best], times[chosen]):
        return f", which rounds less than {best} and takes hardly longer"
    return ", it was asked for"


def explain_transpose(
    prepared: PreparedTranspose, measure: bool, x: np.ndarray | None = None, w: np.ndarray | None = None
) -> Explanation:
    """Return the explanation of a transposed convolution; what most of its stride phases' work takes is chosen."""
    g, lines, elapsed = prepared.geometry, [], None
    work = Counter({row.name: 0 for row in TABLE})
    for conv, one in prepared.convolutions.items():
        work[one.algorithm] += conv.macs
    ((taken, _),) = work.most_common(1)
    for row in TABLE:
        chosen, measured, error = row.name == taken, None, None
        candidate = judge_transpose(g, row, prepared.precision)
        if candidate.cost:
            error = max((conv_bound(row.name, *phase) for phase in candidate.blocking), default=0.0)
        if measure and candidate.cost:
            first, *weights = _arrays(g.dtype, (x, g.input_shape), (w, g.weight_shape))
            named = prepare_transpose("explain", g, prepared.activation, row.name, prepared.precision)
            measured, all_threads = _timed(named, first, weights, chosen)
            elapsed = all_threads or elapsed
        most = peak(g, candidate.blocking[0][1] if candidate.blocking else None)
        lines.append(_line(candidate, chosen, measured, most, error))
    return Explanation(g.problem, transpose_ops(g), lines, *_everyone(elapsed))


def _line(
    candidate: Candidate,
    chosen: bool,
    measured: float | None = None,
    most: float | None = None,
    error: float | None = None,
) -> Line:
    row, refused, _, cost = candidate
    if cost is None:
        return Line(row.name, chosen, refused, None, None, None, None, row.source)
    ops, scratch_bytes, predicted = cost
    rate = bandwidth(ops.bytes_read + ops.bytes_written)
    note = "" if chosen else row.automatic
    return Line(
        row.name, chosen, None, ops, scratch_bytes, predicted, measured, row.source, "", note, most, rate, error
    )


def _arrays(dtype: str, *given: tuple[np.ndarray | None, tuple[int, ...]]) -> list[np.ndarray]:
    """Return the arrays of a call, those that are missing drawn at random."""
    rng = np.random.default_rng(0)
    return [np.ascontiguousarray(rng.random(shape) if a is None else a, dtype).reshape(shape) for a, shape in given]


def _factors(w: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray] | None, float | None, str | None]:
    """Return the factors of a weight, by how much they differ from it at most; or why there are none."""
    try:
        columns, rows = rank_one_factors("explain", w)
    except UnsupportedError as error:
        return None, None, str(error).partition("refused: ")[2].rpartition("; ")[0]
    kernels, c, r = (a.astype(np.float64) for a in (w[:, 0], columns, rows))
    with np.errstate(all="ignore"):
        gaps = np.abs(kernels - c[:, :, None] * r[:, None, :]).sum((1, 2)) / np.abs(kernels).sum((1, 2))
    return (columns, rows), float(np.nan_to_num(gaps).max(initial=0.0)), None


def _timed(one: Any, x: np.ndarray, weights: Any, chosen: bool) -> tuple[float, float | None]:
    """Return the time of a call on one thread, and of what is chosen on all threads."""
    call = run_of(one, x, weights)
    if chosen:
        return alone_and_together(call)
    with threads(1):
        return median_seconds(call), None


def _everyone(elapsed: float | None) -> tuple[int | None, float | None]:
    return (None if elapsed is None else get_num_threads()), elapsed


def count_ops(function: Callable[..., Any], *args: Any, algorithm: str = "direct", **keywords: Any) -> OpCount:
    """Count the operations of a call by one algorithm, without running it.

    Parameters
    ----------
    function : callable
        A convolution or transposed convolution of `fastconv`, `separable_conv2d`, `spatially_separable_conv2d`; a pool,
        an unpooling, `interpolate`, `unfold` or `fold`.
    *args, **keywords
        Its arguments; shapes in the place of arrays will do.
    algorithm : str
        Of convolutions, by default "direct". Transposed convolutions are counted by their definition, but for
        "winograd" and "fft"; `spatially_separable_conv2d` by its two passes unless another one is named.

    Returns
    -------
    OpCount
        macs, multiplies, adds, params, bytes_read, bytes_written.

    Raises
    ------
    UnsupportedError
        The algorithm cannot do this problem.

    Notes
    -----
    Multiplications an output, with K = KD * KH * KW taps:

    * direct, im2col, bf16x3: ``IC/groups * K``, and one addition less; pointwise: IC; depthwise: K. Taps in the
      padding are counted. A stride s leaves one output in s**2; a kernel with dilation d spans ``d*(k - 1) + 1``
      inputs at the price of k.
    * separable, two passes: ``KH + KW`` instead of ``KH * KW``, 2k instead of k**2. The rows above and below the image
      that only the first pass makes are not counted.
    * `separable_conv2d`, depthwise then pointwise: ``K + OC`` for each channel of a pixel instead of ``K * OC``: the
      share ``1/OC + 1/K``.
    * winograd F(m x m, r x r): ``((m + r - 1) / m)**2 * IC/groups``, the share ``(m + r - 1)**2 / (m*r)**2`` of direct:
      4/9 for F(2x2,3x3), 1/4 for F(4x4,3x3); more for the transforms of tiles of input and output, whole ones at the
      edges too; not for that of the weight.
    * fft, blocks of n numbers, n a power of 2: ``n * log2(n)`` for the transform of a block, one for each channel of
      input and output, and ``4 * (n/2 + 1)`` for each pair of channels; the kernels' transforms are not counted.
    * transposed: ``OC/groups * K`` an input.
    * pools: a maximum of K elements is K - 1 comparisons, counted as additions; an average K - 1 additions and a
      division; an Lp norm a power of each input and a root too.
    * `interpolate`: for each axis its taps an output.

    A test runs each definition on numbers that count what is done with them.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.count_ops(fc.conv2d, (1, 64, 56, 56), (64, 64, 3, 3), padding=1).macs
    115605504
    """
    name = getattr(function, "__name__", "")
    if name == "separable_conv2d":
        return count_separable(_count, function, args, keywords)
    if name in WINDOWS:
        return count_windows(function, args, keywords, algorithm)
    return _count(function, args, keywords, algorithm)


def _count(function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any], algorithm: str) -> OpCount:
    call = _call("count_ops", function, args, keywords)
    if call.name == "spatially_separable_conv2d" and algorithm == "direct":
        algorithm = "separable"
    check_keyword("count_ops", "algorithm", algorithm, NAMES)
    if isinstance(call.options, TransposeOptions):
        transposed, _ = transpose_problem(call.name, call.x_shape, call.w_shape, call.dtype, call.options)
        return count_transpose("count_ops", transposed, algorithm, call.options.precision, call.bias)
    g, _ = problem_of(call.name, call.x_shape, call.w_shape, call.dtype, call.options)
    row = choose("count_ops", g, "auto" if algorithm == "measure" else algorithm, call.options.precision).row
    return row.ops(g, call.bias)


def _call(caller: str, function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]) -> Call:
    if getattr(function, "__name__", "") not in CONVOLUTIONS:
        able = ", ".join((*CONVOLUTIONS, *(EXPLAINERS if caller == "explain" else ("separable_conv2d", *WINDOWS))))
        raise OptionError(f"{caller}: function = {function!r}, expected one of {able}")
    return call_of(function, args, keywords)
