"""Tools for testing code that convolves: the reference, an error bound, and one-line problem names."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.epilogue import canonical
from fastconv.errors import OptionError, UnsupportedError
from fastconv.geometry.arguments import check_keyword
from fastconv.geometry.arrays import as_input, common_dtype
from fastconv.geometry.conv import bias_shape_check, conv2d_geometry, output_shape, residual_shape_check
from fastconv.kernels.reference import conv

__all__ = ["Problem", "assert_close", "problem", "reference"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")


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
    accumulate: DTypeLike = np.float64,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
) -> np.ndarray:
    """Return what `fastconv.conv2d` would return for these arguments, by its NumPy definition.

    Parameters
    ----------
    input, weight, bias, stride, padding, dilation, groups, padding_mode, layout, activation, residual
        As in `fastconv.conv2d`.
    accumulate : dtype
        Everything is computed in it, and rounded once at the end.
    algorithm, precision, device
        Accepted, so that the arguments of a call can be passed on; they change nothing.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW) in the layout; without N if the input has none

    Examples
    --------
    >>> from fastconv.testing import reference
    >>> reference([[[1.0, 2.0, 3.0]]], [[[[1.0, -1.0]]]])
    array([[[-1., -1.]]])
    """
    check_keyword("reference", "padding_mode", padding_mode, _PADDING_MODES)
    if padding_mode != "zeros":
        raise UnsupportedError(f"reference: padding_mode = {padding_mode!r}; this version supports 'zeros'")
    x, w = as_input("reference", "input", input), as_input("reference", "weight", weight)
    b, r = (
        None if value is None else as_input("reference", name, value)
        for name, value in (("bias", bias), ("residual", residual))
    )
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "layout": layout}
    dtype = common_dtype("reference", x, w, b, r)
    g = conv2d_geometry("reference", x.shape, w.shape, dtype=dtype, **options)  # type: ignore[arg-type]
    batch = () if x.ndim == 4 else (None,)
    if b is not None:
        bias_shape_check("reference", b.shape, g)
    if r is not None:
        r = r[batch]
        residual_shape_check("reference", r.shape, g)
    out = conv.conv2d(x[batch], w, g, b, r, canonical(activation, "reference"), accumulate)
    return out if x.ndim == 4 else out.reshape(output_shape(g)[1:])


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
    infinities must stand in the same places.

    Parameters
    ----------
    actual, expected : ndarray
        Of the same shape.
    terms : int
        Products per output: ``ICG * KH * KW``.
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
    finite = np.isfinite(expected)
    special = ~finite & ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    if magnitude is None:
        magnitude = np.max(np.abs(expected), initial=0, where=finite)
    # The largest error allowed to a result of size 0 is a few denormals.
    unit = np.finfo(kind)
    bound = factor * (terms + 4) * (float(unit.eps) / 2 * np.asarray(magnitude, np.float64) + unit.smallest_subnormal)
    with np.errstate(invalid="ignore"):
        error = np.abs(actual.astype(np.float64) - expected)
    _report(actual, expected, error, bound, special | (finite & ~(error <= bound)))


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


# Two letters first, so that the "h" of "kh" is not read alone.
_KEYS = "ic|oc|kh|kw|sh|sw|ph|pw|pt|pb|pl|pr|dh|dw|n|h|w|k|s|p|d|g"
_EXCLUSIVE = ("k kh", "s sh", "d dh", "p ph", "p pt", "ph pt")
_FIELD = re.compile(f"({_KEYS})(-?[0-9]+)")
_PROBLEM = re.compile(f'(?P<fields>(?:_?{_FIELD.pattern})+)(?P<nhwc>_nhwc)?(?P<f64>_f64)?("[^"]*")?')


def problem(text: str) -> Problem:
    """Return the arguments that a problem name stands for; the inverse of `ConvGeometry.problem`.

    A label in double quotes may follow, as in the names of benchmarks.

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
    fields = _FIELD.findall(match["fields"]) if match else []
    values = {name: int(number) for name, number in fields}
    if match is None or len(values) < len(fields) or not _complete(values):
        raise OptionError(f"problem: text = {text!r}, expected a name such as 'n1ic64h56w56_oc64k3s1p1'")
    stride, dilation = _per_axis(values, "s", 1), _per_axis(values, "d", 1)
    groups, last = values.get("g", 1), bool(match["nhwc"])
    IC, image = values["ic"], (values["h"], values["w"])
    keywords = {
        "stride": stride,
        "padding": _padding(values),
        "dilation": dilation,
        "groups": groups,
        "layout": "channels_last" if last else "channels_first",
    }
    x_shape = (values["n"], *image, IC) if last else (values["n"], IC, *image)
    w_shape = (values["oc"], IC // max(groups, 1), *_per_axis(values, "k", 0))
    return Problem(x_shape, w_shape, keywords, "float64" if match["f64"] else "float32")


def _complete(values: dict[str, int]) -> bool:
    """Return whether every size is given, and each size per axis for both axes or none."""
    given = set(values)
    groups = [{"ph", "pw"}, {"pt", "pb", "pl", "pr"}, {"kh", "kw"}, {"sh", "sw"}, {"dh", "dw"}]
    whole = all(group <= given or not group & given for group in groups)
    once = all(sum((a in given, b in given)) < 2 for a, b in (pair.split() for pair in _EXCLUSIVE))
    return whole and once and {"n", "ic", "h", "w", "oc"} <= given and ("k" in given or "kh" in given)


def _per_axis(values: dict[str, int], letter: str, default: int) -> tuple[int, int]:
    both = values.get(letter, default)
    return values.get(f"{letter}h", both), values.get(f"{letter}w", both)


def _padding(values: dict[str, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    h, w = _per_axis(values, "p", 0)
    return (values.get("pt", h), values.get("pb", h)), (values.get("pl", w), values.get("pr", w))
