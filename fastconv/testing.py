"""Tools for testing code that convolves: the reference, an error bound, and one-line problem names."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.epilogue import canonical
from fastconv.errors import DtypeError, OptionError, ShapeError
from fastconv.geometry.arrays import as_input, common_dtype
from fastconv.geometry.conv import (
    PADDING_MODES,
    bias_shape_check,
    conv_geometry,
    output_shape,
    residual_shape_check,
)
from fastconv.kernels.reference.conv import conv

__all__ = ["Problem", "assert_close", "problem", "reference"]


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


def assert_close(
    actual: np.ndarray,
    expected: np.ndarray,
    *,
    terms: int,
    dtype: DTypeLike | None = None,
    magnitude: ArrayLike | None = None,
    factor: float = 2.0,
) -> None:
    """Raise AssertionError unless `actual` is `expected` up to the rounding of a sum of `terms` products.

    The bound is ``factor * (terms + 4) * u * magnitude``, with u half the machine epsilon of `dtype`; with
    ``magnitude = sum(|x| * |weight|) + |bias| + |residual|`` it holds for every order of summation [1]_. NaN and
    infinities must stand in the same places. Integers must be equal; the error of a complex number is the absolute
    value of the difference, and u that of its parts.

    Parameters
    ----------
    actual, expected : ndarray
        Of the same shape.
    terms : int
        Products per output: ``ICG * KD * KH * KW``.
    dtype : dtype, optional
        That of the summation, which `actual` must have; by default that of `actual`.
    magnitude : array_like, optional
        Scalar or array that broadcasts to `expected`. By default its largest finite magnitude, which suits random
        data: the result is then as accurate as typical sums are, though no theorem says so.
    factor : float
        Room for the slope of an activation (at most 1.5). Algorithms with larger constants need more.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1, SIAM, 2002,
       doi:10.1137/1.9780898718027

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.testing import assert_close
    >>> assert_close(np.float32([1.0000001]), np.array([1.0]), terms=9)
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    kind = actual.dtype if dtype is None else np.dtype(dtype)
    if actual.shape != expected.shape or actual.dtype != kind:
        raise AssertionError(
            f"got shape {actual.shape}, dtype {actual.dtype}, expected shape {expected.shape}, dtype {kind}",
        )
    if kind.kind in "iu":
        error = np.abs(actual.astype(np.float64) - expected)
        _report(actual, expected, error, np.zeros(()), actual != expected)
        return
    wide = actual.astype(np.complex128 if kind.kind == "c" else np.float64)
    finite = np.isfinite(expected)
    special = ~finite & ~((wide == expected) | (np.isnan(wide) & np.isnan(expected)))
    if magnitude is None:
        magnitude = np.max(np.abs(expected), initial=0, where=finite)
    eps, smallest = _precision(kind)
    # The largest error allowed to a result of size 0 is a few denormals.
    bound = factor * (terms + 4) * (eps / 2 * np.asarray(magnitude, np.float64) + smallest)
    with np.errstate(invalid="ignore"):
        error = np.abs(wide - expected)
    _report(actual, expected, error, bound, special | (finite & ~(error <= bound)))


def _precision(dtype: np.dtype) -> tuple[float, float]:
    """Return the machine epsilon and the smallest denormal of a floating-point dtype, or of a complex one's parts."""
    if dtype.name == "bfloat16":
        return 2.0**-7, 2.0**-133
    unit = np.finfo(dtype)
    return float(unit.eps), float(unit.smallest_subnormal)


def _report(actual: np.ndarray, expected: np.ndarray, error: np.ndarray, bound: np.ndarray, wrong: np.ndarray) -> None:
    """Raise AssertionError about the worst of the `wrong` elements, if there are any."""
    if not wrong.any():
        return
    worst = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1)), wrong.shape)
    allowed = np.broadcast_to(bound, wrong.shape)[worst]
    raise AssertionError(
        f"{np.count_nonzero(wrong)} of {wrong.size} elements differ; the worst, at {tuple(map(int, worst))}, "
        f"is {actual[worst]!s}, expected {expected[worst]!s}, error {error[worst]:.3g}, bound {allowed:.3g}",
    )


class Problem(NamedTuple):
    """The arguments of a named problem: ``conv2d(input, weight, **keywords)`` with arrays of these shapes."""

    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    keywords: dict[str, Any]
    dtype: str

    @property
    def axes(self) -> int:
        """Number of spatial axes: 1 for `conv1d`, 2 for `conv2d`, 3 for `conv3d`."""
        return len(self.weight_shape) - 2


_AXES = "dhw"
_ENDS = ("pf", "pk", "pt", "pb", "pl", "pr")
_FIELD = re.compile("([kspd][dhw]?|p[fktblr]|g)(-?[0-9]+)")
_DTYPES = {None: "float32", "f64": "float64", "c64": "complex64", "i8": "int8", "u8": "uint8"}
_DTYPES |= {"i16": "int16", "i32": "int32", "i64": "int64"}
_PROBLEM = re.compile(
    "n(?P<n>[0-9]+)ic(?P<ic>[0-9]+)(?:(?:d(?P<d>[0-9]+))?h(?P<h>[0-9]+))?w(?P<w>[0-9]+)"
    f"_oc(?P<oc>[0-9]+)(?P<fields>(?:{_FIELD.pattern})*)"
    f"(?P<nhwc>_nhwc)?(?:_(?P<dtype>{'|'.join(filter(None, _DTYPES))}))?(?:_(?P<mode>{'|'.join(PADDING_MODES[1:])}))?"
    '("[^"]*")?'
)


def problem(text: str) -> Problem:
    """Return the arguments that a problem name stands for; the inverse of `ConvGeometry.problem`.

    A label in double quotes may follow, as in the names of benchmarks. The keywords have `padding_mode` only where
    the name has it.

    Raises
    ------
    OptionError
        If `text` is not such a name.

    Examples
    --------
    >>> from fastconv.testing import problem
    >>> problem("n1ic64h56w56_oc64k3s1p1").weight_shape
    (64, 64, 3, 3)
    """
    match = _PROBLEM.fullmatch(text)
    found = _FIELD.findall(match["fields"]) if match else []
    fields = {name: int(number) for name, number in found}
    image = tuple(int(match[axis]) for axis in _AXES if match[axis]) if match else ()
    kernel = _per_axis(fields, "k", len(image), 0)
    keywords: dict[str, Any] = {
        "stride": _per_axis(fields, "s", len(image), 1),
        "padding": _padding(fields, len(image)),
        "dilation": _per_axis(fields, "d", len(image), 1),
        "groups": fields.pop("g", 1),
        "layout": "channels_last" if match and match["nhwc"] else "channels_first",
    }
    # Each field was taken by the one that it belongs to: what is left belongs to none.
    if match is None or fields or len({name for name, _ in found}) < len(found) or not all(kernel):
        raise OptionError(f"problem: text = {text!r}, expected a name such as 'n1ic64h56w56_oc64k3s1p1'")
    if match["mode"]:
        keywords["padding_mode"] = match["mode"]
    N, IC, OC = int(match["n"]), int(match["ic"]), int(match["oc"])
    x_shape = (N, *image, IC) if match["nhwc"] else (N, IC, *image)
    return Problem(x_shape, (OC, IC // max(keywords["groups"], 1), *kernel), keywords, _DTYPES[match["dtype"]])


def _per_axis(fields: dict[str, int], letter: str, axes: int, default: int) -> tuple[int, ...]:
    """Take one number per axis out of `fields`, given once for all axes or for each."""
    names = [letter + axis for axis in _AXES[-axes:]]
    if letter not in fields and fields.keys() >= set(names):
        return tuple(fields.pop(name) for name in names)
    return (fields.pop(letter, default),) * axes


def _padding(fields: dict[str, int], axes: int) -> tuple[tuple[int, int], ...]:
    """Take one (before, after) pair per axis out of `fields`."""
    ends = _ENDS[-2 * axes :]
    if fields.keys() >= set(ends):
        return tuple(
            (fields.pop(before), fields.pop(after)) for before, after in zip(ends[::2], ends[1::2], strict=True)
        )
    return tuple((number, number) for number in _per_axis(fields, "p", axes, 0))
