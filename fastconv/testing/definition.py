"""The definition of a convolution as a function with the arguments of `fastconv.conv2d`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.epilogue import canonical
from fastconv.errors import DtypeError, ShapeError
from fastconv.geometry.arrays import as_input, common_dtype
from fastconv.geometry.conv import bias_shape_check, conv_geometry, output_shape, residual_shape_check
from fastconv.kernels.reference.conv import conv


def reference(
    input: ArrayLike,
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
    residual: ArrayLike | None = None,
    out_dtype: DTypeLike | None = None,
    accumulate: DTypeLike | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
) -> np.ndarray:
    """Return what `fastconv.conv1d`, `conv2d` or `conv3d` would return for these arguments, by the NumPy definition.

    Parameters
    ----------
    input, weight, bias, stride, padding, dilation, groups, padding_mode, layout, activation, residual, out_dtype
        As in `fastconv.conv2d`; the weight, of 3 to 5 dimensions, says how many spatial axes there are.
    accumulate : dtype, optional
        Everything is computed in it, and rounded once at the end. By default int64 where the result is an integer,
        which wraps, complex128 where it is complex, else float64.
    algorithm, precision, device
        Accepted, so that the arguments of a call can be passed on; they change nothing.

    Returns
    -------
    ndarray of shape (N, OC, *S) in the layout; without N if the input has none
        Of NumPy's promoted dtype, or `out_dtype`.

    Examples
    --------
    >>> from fastconv.testing import reference
    >>> reference([[[1.0, 2.0, 3.0]]], [[[[1.0, -1.0]]]])
    array([[[-1., -1.]]])
    """
    x, w = as_input("reference", "input", input), as_input("reference", "weight", weight)
    b, r = (
        None if value is None else as_input("reference", name, value)
        for name, value in (("bias", bias), ("residual", residual))
    )
    result = _result_dtype(common_dtype("reference", x, w, b, r), out_dtype)
    axes = w.ndim - 2
    if axes not in (1, 2, 3):
        raise ShapeError(f"reference: weight has {w.ndim} dimensions, expected 3, 4 or 5 (OC, IC/groups, *K)")
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "layout": layout}
    g = conv_geometry(
        "reference",
        axes,
        x.shape,
        w.shape,
        padding_mode=padding_mode,
        **options,  # type: ignore[arg-type]
    )
    batch = () if x.ndim == w.ndim else (None,)
    if b is not None:
        bias_shape_check("reference", b.shape, g)
    if r is not None:
        r = r[batch]
        residual_shape_check("reference", r.shape, g)
    sums = _SUMS.get(result.kind, np.float64) if accumulate is None else accumulate
    out = conv(x[batch], w, g, b, r, canonical(activation, "reference"), sums, result)
    return out if x.ndim == w.ndim else out.reshape(output_shape(g)[1:])


# Sums modulo 2**64 are right modulo every smaller power of 2.
_SUMS: dict[str, DTypeLike] = {"i": np.int64, "u": np.int64, "c": np.complex128}


def _result_dtype(dtype: np.dtype, out_dtype: DTypeLike | None) -> np.dtype:
    """Return the dtype of the result for arrays of a common dtype, or raise if it would lose a part of them."""
    result = dtype if out_dtype is None else np.dtype(out_dtype)
    # The kind of ml_dtypes.bfloat16 is "V".
    order = {"i": 0, "u": 0, "f": 1, "V": 1, "c": 2}
    if order[dtype.kind] > order.get(result.kind, -1):
        raise DtypeError(f"reference: out_dtype = {result} cannot hold results of arrays of dtype {dtype}")
    return result
