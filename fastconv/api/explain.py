"""What each algorithm costs on a problem, and which one is chosen: read from the planner itself."""

from __future__ import annotations

import html
import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.api.conv import conv2d, depthwise_conv2d, pointwise_conv2d
from fastconv.api.conv_nd import conv1d, conv3d
from fastconv.api.conv_transpose import (
    TransposeOptions,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    find_transpose,
    transpose_problem,
)
from fastconv.api.convolve import Options, find, problem_of
from fastconv.api.factors import rank_one_factors
from fastconv.api.separable import FEW_TAPS, separable_conv2d, spatially_separable_conv2d
from fastconv.dispatch import wisdom
from fastconv.dispatch.choose import Candidate, choose, judge
from fastconv.dispatch.conv_table import NAMES, ROWS, TABLE
from fastconv.dispatch.conv_transpose import count_transpose, judge_transpose, prepare_transpose
from fastconv.dispatch.cost import OpCount, transpose_ops
from fastconv.dispatch.measure import measured_seconds
from fastconv.dispatch.plan import Prepared, prepare
from fastconv.errors import ArgumentTypeError, OptionError, UnsupportedError
from fastconv.geometry.arrays import byte_dtypes, common_dtype, dtype_of, element_dtype, kind_of, working_dtype
from fastconv.geometry.conv import check_keyword, input_shape, weight_shape

_HEADER = ("algorithm", "multiplies", "saved", "MB moved", "scratch kB", "predicted ms", "measured ms", "note")


class Line(NamedTuple):
    """One algorithm on one problem; what is refused has a reason and no numbers. Times in seconds."""

    algorithm: str
    chosen: bool
    refused: str | None
    ops: OpCount | None
    scratch_bytes: int | None
    predicted: float | None
    measured: float | None
    source: str
    # Why it is chosen, where that is not its predicted time.
    why: str = ""

    def cells(self, direct: OpCount) -> tuple[str, ...]:
        """Return the line as texts under the header."""
        mark = "> " if self.chosen else "  "
        if self.ops is None:
            return (mark + self.algorithm, *[""] * 6, f"refused: {self.refused}")
        saved = direct.multiplies / self.ops.multiplies if self.ops.multiplies else 1.0
        return (
            mark + self.algorithm,
            f"{self.ops.multiplies:,}",
            f"{saved:.3g}x",
            f"{(self.ops.bytes_read + self.ops.bytes_written) / 1e6:.3g}",
            f"{(self.scratch_bytes or 0) / 1024:.0f}",
            f"{(self.predicted or 0) * 1e3:.4g}",
            "" if self.measured is None else f"{self.measured * 1e3:.4g}",
            f"chosen{self.why}" if self.chosen else ROWS[self.algorithm].automatic,
        )


class Explanation:
    """Every algorithm on one problem. It prints as a table, in notebooks as HTML, and `to_dict` feeds JSON."""

    def __init__(self, problem: str, direct: OpCount, lines: Sequence[Line]):
        self.problem, self.direct, self.lines = problem, direct, tuple(lines)

    @property
    def chosen(self) -> str:
        """Name of the algorithm that `algorithm="auto"`, or the name asked for, takes."""
        return next(line.algorithm for line in self.lines if line.chosen)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        yield _HEADER
        for line in self.lines:
            yield line.cells(self.direct)

    def __str__(self) -> str:
        rows = list(self._rows())
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER) - 1)]
        lines = [f"{self.problem}: {self.direct.macs:,} multiply-accumulates by direct summation"]
        for row in rows:
            cells = [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:], strict=True)),
                row[-1],
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = self._rows()
        cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in body)
        return f"<p>{html.escape(self.problem)}</p><table><tr>{cells}</tr>{rows}</table>"

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation in plain types."""
        lines = [line._asdict() | {"ops": line.ops and line.ops._asdict()} for line in self.lines]
        return {"problem": self.problem, "direct": self.direct._asdict(), "algorithms": lines}


def explain(function: Callable[..., Any], *args: Any, measure: bool = False, **keywords: Any) -> Explanation:
    """Return what every algorithm costs for a call, and which one is chosen.

    Parameters
    ----------
    function : callable
        `fastconv.conv1d`, `conv2d`, `conv3d`, `conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`,
        `depthwise_conv2d` or `pointwise_conv2d`.
    *args, **keywords
        Its arguments; arrays, or for arrays only their shapes.
    measure : bool
        Time each algorithm too, on the arrays given or on random ones: the median of 3 calls.

    Returns
    -------
    Explanation

    Raises
    ------
    FastconvError
        What the call itself would raise.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.explain(fc.conv2d, (1, 64, 56, 56), (64, 64, 1, 1)).lines[0].refused
    'groups must equal the input channels, got groups = 1, IC = 64'
    """
    call = _call("explain", function, args, keywords)
    if isinstance(call.options, TransposeOptions):
        return _explain_transpose(call, call.options, measure)
    prepared = find(call.name, call.x_shape, call.w_shape, call.dtype, call.options, narrow=call.narrow)
    return explain_prepared(prepared, measure, call.x, call.w)


def explain_prepared(
    prepared: Prepared, measure: bool, x: np.ndarray | None = None, w: np.ndarray | None = None
) -> Explanation:
    """Return the explanation of a prepared problem; missing arrays are drawn at random."""
    g, lines = prepared.geometry, []
    for row in TABLE:
        candidate = judge(g, row, prepared.precision, entry=prepared.entry)
        measured = _measured(prepared, candidate, x, w) if measure and candidate.cost else None
        lines.append(_line(candidate, row.name == prepared.algorithm, measured))
    problem = wisdom.problem("conv", g, prepared.precision, prepared.entry)
    if wisdom.advice(problem, [prepared.algorithm]) is not None:
        lines = [line._replace(why=", it was measured to be the fastest" if line.chosen else "") for line in lines]
    return Explanation(g.problem, ROWS["direct"].ops(g, False), lines)


def _explain_transpose(call: _Call, options: TransposeOptions, measure: bool) -> Explanation:
    """Return the explanation of a transposed convolution; what most of its stride phases' work takes is chosen."""
    prepared = find_transpose(call.name, call.x_shape, call.w_shape, call.dtype, options)
    g, rng, lines = prepared.geometry, np.random.default_rng(0), []
    work = Counter({row.name: 0 for row in TABLE})
    for conv, one in prepared.convolutions.items():
        work[one.algorithm] += conv.macs
    ((chosen, _),) = work.most_common(1)
    arrays = (call.x, g.input_shape), (call.w, g.weight_shape)
    for row in TABLE:
        candidate, measured = judge_transpose(g, row, prepared.precision), None
        if measure and candidate.cost:
            x, w = (rng.random(shape).astype(g.dtype) if a is None else a for a, shape in arrays)
            named = prepare_transpose("explain", g, prepared.activation, row.name, prepared.precision)
            measured = measured_seconds(named, x, (w,))
        lines.append(_line(candidate, row.name == chosen, measured))
    return Explanation(g.problem, transpose_ops(g), lines)


def _line(candidate: Candidate, chosen: bool, measured: float | None) -> Line:
    row, refused, _, cost = candidate
    ops, scratch_bytes, predicted = cost or (None, None, None)
    return Line(row.name, chosen, refused, ops, scratch_bytes, predicted, measured, row.source)


def _measured(prepared: Prepared, candidate: Candidate, x: np.ndarray | None, w: np.ndarray | None) -> float | None:
    g, rng = prepared.geometry, np.random.default_rng(0)
    x, w = (
        np.ascontiguousarray(rng.random(shape) if a is None else a, g.dtype)
        for a, shape in ((x, input_shape(g)), (w, weight_shape(g)))
    )
    weights: Any = (w,)
    if candidate.row.name == "separable":
        try:
            weights = rank_one_factors("explain", w)
        except UnsupportedError:
            return None
    one = prepare("explain", g, prepared.activation, candidate.row.name, "default", prepared.entry)
    return measured_seconds(one, x, weights)


def count_ops(function: Callable[..., Any], *args: Any, algorithm: str = "direct", **keywords: Any) -> OpCount:
    """Count the operations of a call by one algorithm, without running it.

    Parameters
    ----------
    function : callable
        `fastconv.conv1d`, `conv2d`, `conv3d`, `conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`,
        `depthwise_conv2d`, `pointwise_conv2d`, `separable_conv2d` or `spatially_separable_conv2d`.
    *args, **keywords
        Its arguments; shapes in the place of arrays will do.
    algorithm : str
        By default "direct".

    Returns
    -------
    OpCount
        macs, multiplies, adds, params, bytes_read, bytes_written.

    Raises
    ------
    UnsupportedError
        The algorithm cannot do this problem.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.count_ops(fc.conv2d, (1, 64, 56, 56), (64, 64, 3, 3), padding=1).macs
    115605504
    """
    if getattr(function, "__name__", "") == "separable_conv2d":
        return _count_depthwise_separable(args, keywords)
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


def _count_depthwise_separable(args: Sequence[Any], keywords: dict[str, Any]) -> OpCount:
    """Return the sum over the depthwise and the pointwise convolution."""
    given = inspect.signature(separable_conv2d).bind(*args, **keywords).arguments
    layout = given.get("layout", "channels_first")
    shared: dict[str, Any] = {k: given[k] for k in ("stride", "padding", "dilation", "layout") if k in given}
    first = (given["input"], given["depthwise_weight"], given.get("depthwise_bias"))
    call = _call("count_ops", depthwise_conv2d, first, shared)
    g, _ = problem_of(call.name, call.x_shape, call.w_shape, call.dtype, call.options)
    middle = (g.N, g.OC, g.OH, g.OW) if layout == "channels_first" else (g.N, g.OH, g.OW, g.OC)
    one = count_ops(depthwise_conv2d, *first, **shared)
    two = count_ops(pointwise_conv2d, middle, given["pointwise_weight"], given.get("bias"), layout=layout)
    return OpCount(*(a + b for a, b in zip(one, two, strict=True)))


class _Call(NamedTuple):
    """A call that is not made: shapes in the place of arrays, and the arrays as far as they were given."""

    name: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    dtype: np.dtype
    # Options or TransposeOptions.
    options: Any
    bias: bool
    x: np.ndarray | None
    w: np.ndarray | None
    # As `find` takes it.
    narrow: tuple[str, str] | None


def _call(caller: str, function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]) -> _Call:
    """Bind the arguments of a call to one of the convolutions with one weight."""
    name = getattr(function, "__name__", "")
    if name not in _FUNCTIONS:
        able = ", ".join(_FUNCTIONS)
        raise OptionError(f"{caller}: function = {function!r}, expected one of {able}")
    given = dict(inspect.signature(function).bind(*args, **keywords).arguments)
    if name == "spatially_separable_conv2d":
        given = _with_outer_weight(given)
        small = math.prod(_shape(name, "weight", given["weight"])[2:]) <= FEW_TAPS
        given.setdefault("algorithm", "depthwise" if small else "separable")
    x, w = given["input"], given["weight"]
    x_shape, w_shape = _shape(name, "input", x), _shape(name, "weight", w)
    if name == "pointwise_conv2d" and len(w_shape) == 2:
        w_shape = (*w_shape, 1, 1)
    if name in ("depthwise_conv2d", "spatially_separable_conv2d"):
        given["groups"] = max(_channels(x_shape, given), 1)
    arrays = [a if isinstance(a, np.ndarray) else None for a in (x, w)]
    common = common_dtype(name, *arrays) if any(a is not None for a in arrays) else np.dtype(np.float32)
    result = common if given.get("out_dtype") is None else dtype_of(name, "out_dtype", given["out_dtype"])
    work = working_dtype(name, common, result)
    dtype = element_dtype(work)
    if kind_of(work) != "f":
        # Not fused then.
        given.pop("activation", None)
    narrow = None
    if arrays[0] is not None and arrays[1] is not None:
        narrow = byte_dtypes(arrays[0].dtype, arrays[1].dtype, work, math.prod(w_shape[1:]))
    # Of complex arrays the real part: one of the real convolutions that they run as.
    x, w = (None if a is None else np.ascontiguousarray(a.real, dtype) for a in arrays)
    axes = {"1d": 1, "3d": 3}.get(name[-2:], 2)
    kind = TransposeOptions if name.startswith("conv_transpose") else Options
    options = kind(**{k: v for k, v in given.items() if k in kind._fields}, axes=axes)
    if options.algorithm == "measure":
        # What a measurement would choose is not known before it; this is what it starts from.
        options = options._replace(algorithm="auto")
    bias = given.get("bias") is not None
    return _Call(name, x_shape, w_shape, dtype, options, bias, x, None if w is None else w.reshape(w_shape), narrow)


_FUNCTIONS = tuple(
    f.__name__
    for f in (
        *(conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d),
        *(depthwise_conv2d, pointwise_conv2d, spatially_separable_conv2d),
    )
)


def _with_outer_weight(given: dict[str, Any]) -> dict[str, Any]:
    """Replace column and row by the shape of their outer product."""
    name = "spatially_separable_conv2d"
    x, column, row = (_shape(name, k, given[k]) for k in ("input", "column", "row"))
    channels = _channels(x, given)
    rest = {k: v for k, v in given.items() if k not in ("column", "row")}
    return rest | {"weight": (channels, 1, column[-1], row[-1])}


def _channels(shape: tuple[int, ...], given: dict[str, Any]) -> int:
    """Return the channels of an input; of a wrong number of dimensions, which is reported later, 1."""
    if len(shape) not in (3, 4):
        return 1
    return shape[-3 if given.get("layout", "channels_first") == "channels_first" else -1]


def _shape(function: str, name: str, value: Any) -> tuple[int, ...]:
    """Return the shape of an array, or a shape that stands for one."""
    if isinstance(value, (tuple, list)) and all(isinstance(n, (int, np.integer)) for n in value):
        return tuple(int(n) for n in value)
    shape = getattr(value, "shape", None)
    if shape is None:
        raise ArgumentTypeError(f"{function}: {name} is a {type(value).__name__}, expected an array or a shape")
    return tuple(int(n) for n in shape)
