"""Pullbacks of convolutions and transposed convolutions on a CUDA device.

All arrays are brought to one dtype, float32 or float64, half precision too; each gradient is rounded to that of its
array at the end. A gradient that no one wants, because its array is of integers or not there, is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from fastconv.api.conv_transpose import TransposeOptions, bias_error, transpose_problem
from fastconv.api.convolve import Options, checked_activation, problem_of
from fastconv.api.factored import check_factor
from fastconv.api.on_device import begin, volume
from fastconv.dispatch import cuda
from fastconv.errors import ShapeError
from fastconv.geometry.conv import ConvGeometry, bias_shape_check, input_shape, output_shape
from fastconv.grad.conv_job import adjoint
from fastconv.grad.problem import ConvGradients, gradients_of
from fastconv.grad.products import check_floats, check_gradient, check_pointwise, is_wanted

Shape = tuple[int, ...]


class Pull:
    """One call: its arrays by name, of one dtype, and which of them want a gradient.

    Attributes
    ----------
    arrays : dict
        Buffers on the device; None for one that is not given. All but the input and grad_output are contiguous.
    dtypes : dict
        Those of the arrays as they were given, of the arrays that want a gradient.
    """

    def __init__(self, function: str, **arrays: Any):
        self.function, self.call = function, begin(function, **arrays)
        check_floats(function, self.call.buffers)
        self.dtypes = {name: a.dtype for name, a in self.call.buffers.items() if is_wanted(a)}
        self.dtype, self.stream = self.call.unify("fd"), self.call.stream
        loose = "grad_output", "input"
        self.arrays = {
            name: a if name in loose else self.call.contiguous(name) for name, a in self.call.buffers.items()
        }

    def new(self, shape: Shape) -> Any:
        """Return a new array of the dtype in which all is computed."""
        return self.call.empty(shape, self.dtype)

    def like(self, name: str) -> Any:
        """Return a new array of the shape of another one."""
        return self.new(self.arrays[name].shape)

    def results(self, given: dict[str, Any], gradients: Iterable[Any]) -> tuple[Any, ...]:
        """Return gradients of named arrays in their dtypes: None if not wanted; a residual only if it is there."""
        pairs = [(name, each) for name, each in zip(given, gradients, strict=True) if _is_listed(name, given[name])]
        return tuple(self.call.finish(d, dtype=self.dtypes[name]) if name in self.dtypes else None for name, d in pairs)

    def contiguous(self, a: Any) -> Any:
        """Return an array in C order."""
        return a if a.contiguous else cuda.kernels("call:copied")(self.stream, a)

    def forward(self, g: ConvGeometry, activation: str | None, options: Options, arrays: tuple, out: Any = None) -> Any:
        """Return the convolution of (input, weight, bias, residual), in `out` or batched."""
        program = cuda.convolution(self.function, g, activation, options.algorithm, options.precision)
        x, w, b, r = arrays
        out = self.new(output_shape(g)) if out is None else out
        if out.size:
            x, r, target = (volume(a, g.axes, g.layout) for a in (x, r, out))
            program.run(self.stream, x, program.pack(self.stream, w), b, r, target)
        return out

    def activated(self, activation: str | None, dy: Any, pre: Callable[[], Any]) -> Any:
        """Return the gradient of what an activation was applied to, which `pre` computes again."""
        if activation is None:
            return dy
        pulled = self.new(dy.shape)
        cuda.kernels("activation_grad:run")(self.stream, activation, self.contiguous(dy), pre(), pulled)
        return pulled

    def input(self, problem: ConvGradients, dy: Any, w: Any, out: Any) -> Any:
        """Fill the gradient of the input."""
        g = problem.geometry
        batched = out.reshaped(*input_shape(problem.forward))
        d = self.new(input_shape(g)) if problem.gathers else batched
        if out.size:
            program = cuda.transposed(self.function, problem.adjoint, None)
            program.run(self.stream, volume(dy, g.axes, g.layout), w, None, volume(d, g.axes, g.layout))
            for gather in reversed(problem.gathers):
                shape = (*d.shape[: gather.axis], gather.size, *d.shape[gather.axis + 1 :])
                target = batched if gather is problem.gathers[0] else self.new(shape)
                cuda.kernels("border_grad:run")(self.stream, d, gather.axis, gather.source, target)
                d = target
        return out

    def weight(self, g: ConvGeometry, x: Any, dy: Any, out: Any) -> Any:
        """Fill the gradient of the weight."""
        if out.size:
            x, dy = (volume(a, g.axes, g.layout) for a in (x, dy))
            if g.padding_mode != "zeros":
                x, g = cuda.kernels("moves:bordered")(self.stream, x, g)
            cuda.kernels("weight_gradient:program")(self.function, g).run(self.stream, x, dy, out)
        return out

    def bias(self, dy: Any, g: Any) -> Any:
        """Return the gradient of the bias."""
        out = self.new((g.OC,))
        cuda.kernels("gradient_sums:channel_sums")(self.stream, volume(dy, g.axes, g.layout), g.layout, out)
        return out


def _is_listed(name: str, array: Any) -> bool:
    return name != "residual" or array is not None


def conv_input(name: str, size: Shape, weight: Any, grad_output: Any, options: Options) -> Any:
    """Return the gradient of the input of a convolution."""
    pull = Pull(name, weight=weight, grad_output=grad_output)
    w, dy = pull.arrays["weight"], pull.arrays["grad_output"]
    problem = gradients_of(name, size, w.shape, pull.dtype, options._replace(device="auto"))
    check_gradient(name, dy, problem.result_shape(len(size)), None)
    return pull.call.finish(pull.input(problem, dy, w, pull.new(size)))


def conv_weight(name: str, x: Any, size: Shape, grad_output: Any, options: Options) -> Any:
    """Return the gradient of the weight of a convolution."""
    pull = Pull(name, input=x, grad_output=grad_output)
    x, dy = pull.arrays["input"], pull.arrays["grad_output"]
    problem = gradients_of(name, x.shape, size, pull.dtype, options._replace(device="auto"))
    check_gradient(name, dy, problem.result_shape(len(x.shape)), None)
    return pull.call.finish(pull.weight(problem.forward, x, dy, pull.new(size)))


def conv_vjp(
    function: str, grad_output: Any, x: Any, weight: Any, bias: Any, options: Options, residual: Any
) -> tuple[Any, ...]:
    """Return the gradients of input, weight and bias, and of the residual if there is one.

    Groups of 0 are as many as the input has channels.
    """
    named = {"input": x, "weight": weight, "bias": bias, "residual": residual}
    pull = Pull(function, grad_output=grad_output, **named)
    options = grouped(pull.arrays["input"].shape, options)
    return pull.results(named, pulled(pull, tuple(pull.arrays.values()), options, pull.dtypes))


def pointwise_vjp(
    function: str, grad_output: Any, x: Any, weight: Any, bias: Any, options: Options, residual: Any
) -> tuple[Any, ...]:
    """Return the gradients of input, weight and bias, and of the residual if there is one, of a pointwise one."""
    named = {"input": x, "weight": weight, "bias": bias, "residual": residual}
    pull = Pull(function, grad_output=grad_output, **named)
    dy, x, w, b, r = pull.arrays.values()
    check_pointwise(function, "weight", w.shape)
    arrays = dy, x, w.reshaped(*w.shape[:2], 1, 1), b, r
    return pull.results(named, pulled(pull, arrays, options, pull.dtypes, pull.like("weight")))


def grouped(shape: Shape, options: Options) -> Options:
    """Return the options with as many groups as the input has channels where they are 0."""
    if options.groups:
        return options
    channel = -3 if options.layout == "channels_first" else -1
    return options._replace(groups=max(shape[channel], 1) if len(shape) in (3, 4) else 1)


def pulled(pull: Pull, arrays: tuple, options: Options, wanted: Any, dw: Any = None) -> tuple[Any, ...]:
    """Return the gradients of input, weight, bias and residual that are wanted, of (grad_output, *these).

    `dw` is where that of the weight is written.
    """
    function, (dy, x, w, b, r) = pull.function, arrays
    options = options._replace(device="auto")
    activation = checked_activation(function, options)
    problem = gradients_of(function, x.shape, w.shape, pull.dtype, options)
    g = problem.forward
    if b is not None and b.shape != (g.OC,):
        bias_shape_check(function, b.shape, g)
    check_gradient(function, dy, problem.result_shape(len(x.shape)), None)
    if r is not None and r.shape != dy.shape:
        raise ShapeError(f"{function}: residual has shape {r.shape}, expected {dy.shape}, that of the result")
    dy = pull.activated(activation, dy, lambda: pull.forward(g, None, options, (x, w, b, r)))
    dx = pull.input(problem, dy, w, pull.new(x.shape)) if "input" in wanted else None
    if "weight" in wanted:
        dw = pull.weight(g, x, dy, pull.new(w.shape) if dw is None else dw)
    db = pull.bias(dy, g) if "bias" in wanted else None
    dr = None
    if "residual" in wanted:
        dr = pull.new(dy.shape)
        cuda.kernels("moves:copy")(pull.stream, volume(dy, g.axes, g.layout), volume(dr, g.axes, g.layout))
    return dx, dw, db, dr


def separable_vjp(
    function: str,
    grad_output: Any,
    x: Any,
    weights: tuple[Any, Any],
    biases: tuple[Any, Any],
    options: tuple[Options, Options],
    residual: Any,
) -> tuple[Any, ...]:
    """Return the gradients of input, both weights, bias and depthwise bias, and of the residual if there is one."""
    named = {"input": x, "depthwise_weight": weights[0], "pointwise_weight": weights[1], "bias": biases[0]}
    named |= {"depthwise_bias": biases[1], "residual": residual}
    pull = Pull(function, grad_output=grad_output, **named)
    dy, x, dw, pw, b, db, r = pull.arrays.values()
    check_pointwise(function, "pointwise_weight", pw.shape)
    first, second = grouped(x.shape, options[0]), options[1]
    g, activation = problem_of(function, x.shape, dw.shape, pull.dtype, first._replace(device="auto"))
    if db is not None and db.shape != (g.OC,):
        bias_shape_check(function, db.shape, g)
    middle = pull.forward(g, activation, first, (x, dw, db, None))
    middle = middle if len(x.shape) == 4 else middle.reshaped(*middle.shape[1:])
    own = {"weight": "pointwise_weight", "bias": "bias", "residual": "residual"}
    wanted = ["input", *(short for short, name in own.items() if name in pull.dtypes)]
    dmiddle, dpw, dbias, dr = pulled(
        pull, (dy, middle, pw.reshaped(*pw.shape[:2], 1, 1), b, r), second, wanted, pull.like("pointwise_weight")
    )
    own = {"input": "input", "weight": "depthwise_weight", "bias": "depthwise_bias"}
    wanted = [short for short, name in own.items() if name in pull.dtypes]
    dx, ddw, ddb, _ = pulled(pull, (dmiddle, x, dw, db, None), first, wanted)
    return pull.results(named, (dx, ddw, dpw, dbias, ddb, dr))


def factors_vjp(
    function: str,
    grad_output: Any,
    x: Any,
    factors: tuple[Any, Any],
    bias: Any,
    options: Options,
    residual: Any,
) -> tuple[Any, ...]:
    """Return the gradients of input, column, row and bias, and of the residual if there is one."""
    named = {"input": x, "column": factors[0], "row": factors[1], "bias": bias, "residual": residual}
    pull = Pull(function, grad_output=grad_output, **named)
    dy, x, column, row, b, r = pull.arrays.values()
    options = grouped(x.shape, options)
    for name, factor in (("column", column), ("row", row)):
        check_factor(function, name, factor.shape, options.groups)
    weight = pull.new((options.groups, 1, column.shape[-1], row.shape[-1]))
    cuda.kernels("factors:product")(pull.stream, column, row, weight)
    wanted = [name for name in ("input", "bias", "residual") if name in pull.dtypes]
    if "column" in pull.dtypes or "row" in pull.dtypes:
        wanted.append("weight")
    dx, dw, db, dr = pulled(pull, (dy, x, weight, b, r), options, wanted)
    pairs = {"column": (row, 0), "row": (column, 1)}
    found = {"input": dx, "column": None, "row": None, "bias": db, "residual": dr}
    for name, (other, axis) in pairs.items():
        if name in pull.dtypes:
            found[name] = pull.like(name)
            cuda.kernels("factors:gradient")(pull.stream, dw, other, axis, found[name])
    return pull.results(named, found.values())


def conv_transpose_vjp(
    function: str, grad_output: Any, x: Any, weight: Any, bias: Any, options: TransposeOptions
) -> tuple[Any, ...]:
    """Return the gradients of input, weight and bias."""
    named = {"input": x, "weight": weight, "bias": bias}
    pull = Pull(function, grad_output=grad_output, **named)
    dy, x, w, b = pull.arrays.values()
    g, activation = transpose_problem(function, x.shape, w.shape, pull.dtype, options._replace(device="auto"))
    if b is not None and b.shape != (g.OC,):
        raise bias_error(function, b.shape, g, x.shape, w.shape)
    shape = g.output_shape if len(x.shape) == len(w.shape) else g.output_shape[1:]
    check_gradient(function, dy, shape, None)

    def again() -> Any:
        pre = pull.new(shape)
        program = cuda.transposed(function, g, None, options.algorithm)
        if math.prod(shape):
            program.run(pull.stream, volume(x, g.axes, g.layout), w, b, volume(pre, g.axes, g.layout))
        return pre

    dy, back = pull.activated(activation, dy, again), adjoint(g)
    dx = dw = db = None
    if "input" in pull.dtypes:
        plain = Options(precision=options.precision)
        dx = pull.forward(back, None, plain, (dy, w, None, None), pull.new(x.shape))
    if "weight" in pull.dtypes:
        dw = pull.weight(back, dy, x, pull.like("weight"))
    if "bias" in pull.dtypes:
        db = pull.bias(dy, g)
    return pull.results(named, (dx, dw, db))
