"""Plans: a convolution whose weight is packed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.api.convolve import Options, cropped, job_of
from fastconv.api.job import Job
from fastconv.api.on_device import wants_device
from fastconv.api.pooled import Run, pooled
from fastconv.errors import DtypeError, ShapeError, UnsupportedError
from fastconv.geometry import arguments
from fastconv.geometry.arrays import as_input, check_out, common_dtype, dtype_of, usable_in_place
from fastconv.geometry.conv import bias_shape_check, weight_shape
from fastconv.system import empty


class ConvPlan:
    """A 2-D convolution with a fixed weight and input shape, made by `plan_conv2d`; call it with an input.

    It owns copies, so later changes of the weight are not seen, and any number of threads may call it at once.
    """

    __slots__ = (
        *("_bias", "_dtype", "_options", "_out_shape", "_packed", "_prepared", "_result", "_run", "_shape"),
        "_sums_shape",
    )

    def __init__(
        self,
        shape: tuple[int, ...],
        options: Options,
        job: Job,
        dtypes: tuple[np.dtype, np.dtype],
        arrays: tuple[Sequence[Sequence[np.ndarray]], np.ndarray | None],
        pool: tuple[tuple[int, ...], Run] | None,
    ):
        self._shape, self._options, (packed, self._bias) = shape, options, arrays
        self._packed, self._prepared, (self._dtype, self._result) = tuple(packed), job.prepared, dtypes
        self._sums_shape = sums_shape(job, shape)
        whole: tuple[tuple[int, ...], Run] = self._sums_shape, partial(job.run, job.prepared.run)
        self._out_shape, self._run = pool or whole

    @property
    def algorithm(self) -> str:
        """Name of the algorithm in use."""
        return str(self._prepared.algorithm)

    @property
    def problem(self) -> str:
        """The problem in one word, as `fastconv.testing.problem` reads it."""
        return str(self._prepared.geometry.problem)

    def __repr__(self) -> str:
        return f"<ConvPlan {self.problem} {self.algorithm}>"

    def __call__(self, x: ArrayLike, out: np.ndarray | None = None, *, residual: ArrayLike | None = None) -> np.ndarray:
        """Return the convolution of `x`.

        Parameters
        ----------
        x : array_like of the plan's input shape
        out : ndarray of the result's shape and dtype, optional
            Written in place and returned.
        residual : array_like of the result's shape, with `pool` of the convolution's, optional
            Added before the activation.

        Raises
        ------
        ShapeError
            Another input shape than the plan's.
        DtypeError
            An input whose dtype the plan's cannot hold.
        """
        x = self._array("input", x, self._shape, self._dtype)
        r = None
        if residual is not None:
            r = self._array("residual", residual, self._sums_shape, np.promote_types(self._dtype, self._result))
        if out is not None:
            check_out("plan_conv2d", out, self._out_shape, self._result)
        if self._options.padding_mode != "zeros":
            x, _ = cropped("plan_conv2d", x, weight_shape(self._prepared.geometry), self._options)
        direct = out is not None and usable_in_place(out, x, r)
        target = out if direct and out is not None else empty(self._out_shape, self._result)
        self._run(x, self._packed, self._bias, r, target)
        if out is None or direct:
            return target
        out[...] = target
        return out

    def explain(self, measure: bool = False) -> Any:
        """Return what every algorithm would cost on this problem; see `fastconv.explain`."""
        from fastconv.api.explain import explain_prepared, of_result

        found = explain_prepared(self._prepared, measure)
        return of_result(found, self._result, self._options.precision)

    def _array(self, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = as_input("plan_conv2d", name, value)
        if array.shape != shape:
            raise ShapeError(f"plan_conv2d: {name} has shape {array.shape}, expected {shape}")
        if array.dtype != dtype:
            if np.promote_types(array.dtype, dtype) != dtype:
                raise DtypeError(f"plan_conv2d: {name} has dtype {array.dtype}, expected {dtype}")
            array = array.astype(dtype)
        return array


def sums_shape(job: Job, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the convolution of an input of `shape`."""
    batched: tuple[int, ...] = job.prepared.out_shape
    return batched if len(shape) == 4 else batched[1:]


def plan_conv2d(
    input_shape: Sequence[int],
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    dtype: DTypeLike = "float32",
    out_dtype: DTypeLike | None = None,
    pool: int | None = None,
) -> ConvPlan:
    """Prepare a 2-D convolution: choose the algorithm and pack the weight once.

    Parameters
    ----------
    input_shape : tuple of int
        (N, IC, H, W) or (IC, H, W); with ``layout="channels_last"`` (N, H, W, IC) or (H, W, IC).
    weight, bias, stride, padding, dilation, groups, padding_mode, layout, activation, algorithm, precision, device
        As in `conv2d`.
    dtype : dtype
        Of the inputs to come.
    out_dtype : dtype, optional
        Of the results, as in `conv2d`.
    pool : int, optional
        The result is ``max_pool2d`` of the convolution, after bias, residual and activation: the maximum of windows of
        `pool` x `pool` outputs, `pool` apart; of NaN, NaN.

    Returns
    -------
    ConvPlan
        ``plan(x)``, ``plan(x, out=array)``, ``plan.explain()``. On a device the weight is packed there, and inputs and
        results are arrays of the host or of the device. With `pool` results have the shape
        (N, OC, OH // pool, OW // pool).

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `conv2d`.

    Notes
    -----
    A plan holds a packed copy of the weight; a call allocates its result and, once for each thread, the scratch. With
    `pool` a band of rows of the convolution stands in scratch until it is pooled; or, where the algorithm computes no
    bands, the convolution of one image, in a buffer of the thread.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> plan = fc.plan_conv2d((1, 3, 8, 8), np.ones((2, 3, 3, 3), np.float32), padding=1, activation="relu")
    >>> plan(np.ones((1, 3, 8, 8), np.float32)).shape
    (1, 2, 8, 8)
    """
    name = "plan_conv2d"
    shape = arguments.shape(name, "input_shape", input_shape)
    options = Options(stride, padding, dilation, groups, padding_mode, layout, activation, algorithm, precision, device)
    if wants_device(device, weight):
        return _on_device(shape, options, dtype, out_dtype, weight, bias, pool)
    w = as_input(name, "weight", weight)
    b = None if bias is None else as_input(name, "bias", bias)
    x = np.broadcast_to(np.zeros((), dtype_of(name, "dtype", dtype)), shape)
    common = common_dtype(name, x, w, b)
    result = common if out_dtype is None else dtype_of(name, "out_dtype", out_dtype)
    options = options._replace(entry="plan")
    left = options
    if padding_mode != "zeros":
        x, left = cropped(name, x, w.shape, options)
    job = job_of(name, x, w, common, result, left)
    if b is not None:
        bias_shape_check(name, b.shape, job.prepared.geometry)
        b = np.array(b)
    pack, pooling = job.prepared.pack, None
    if pool is not None:
        out_shape, run, pack = pooled(name, job, sums_shape(job, shape), result, pool)
        pooling = out_shape, run
    packed = []
    for product in job.weights(name, w):
        arrays = pack(product)
        packed.append([np.array(p) if any(p is a for a in product) else p for p in arrays])
    return ConvPlan(shape, options, job, (x.dtype, result), (packed, b), pooling)


def _on_device(
    shape: tuple[int, ...], options: Options, dtype: Any, out_dtype: Any, weight: Any, bias: Any, pool: Any
) -> ConvPlan:
    from fastconv.api.plan_on_device import DevicePlan

    if pool is not None:
        raise UnsupportedError(
            f'plan_conv2d: pool = {pool} with device = "cuda"; this version pools in plans on the CPU'
        )
    return DevicePlan(shape, options, dtype, out_dtype, weight, bias)
