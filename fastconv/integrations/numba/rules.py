"""What is known of a result before the call: its dtype and its number of dimensions; one line for each function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from fastconv.errors import OptionError, ShapeError
from fastconv.geometry.arrays import as_input, common_dtype, dtype_of, kind_of, working_dtype


class Form(NamedTuple):
    """An array, before the call."""

    dtype: np.dtype
    ndim: int


class Later(NamedTuple):
    """A value that is known when the call runs, by the name of its type."""

    kind: str


class Same(NamedTuple):
    """A result that is the array given as an argument."""

    argument: str


# Arguments that were given, by name: a Form, a Later or, of a constant, its value.
Given: TypeAlias = dict[str, Any]
Result: TypeAlias = Form | Same | type[int] | tuple[Form | Same, ...] | None


class Rule(NamedTuple):
    """The type of a function's result.

    Attributes
    ----------
    result : callable
        Of the function's name and the arguments given.
    arrays : tuple of str
        The arguments that must be arrays, or None.
    ndims : tuple of int
        The dimensions that the first of them may have; () for any.
    decides : mapping of str to str
        The other arguments on which the type depends, which must be constants, and what they may be.
    out : str
        The argument that is the result where it is an array.
    """

    result: Callable[[str, Given], Result]
    arrays: tuple[str, ...] = ("input",)
    ndims: tuple[int, ...] = ()
    decides: Mapping[str, str] = MappingProxyType({})
    out: str = "out"

    def of(self, function: str, given: Given) -> Result:
        """Return the type of the result.

        Raises
        ------
        TypeError, ValueError
            What is wrong with the arguments and can be seen in their types, with the function's name in front.
        """
        for name, allowed in self.decides.items():
            if isinstance(given.get(name), Later):
                why = f"{name} decides the type of the result, so inside @njit it must be a constant"
                raise TypeError(f"{function}: {why}: {allowed}")
        if self.out == "out":
            _check_arrays(function, self, given)
        found = self.result(function, given)
        out = given.get(self.out)
        if not isinstance(out, Form):
            return found
        first, *rest = found if type(found) is tuple else (found,)
        if self.out == "out" and isinstance(first, Form) and first.dtype != out.dtype:
            raise OptionError(f"{function}: out has dtype {out.dtype}, expected {first.dtype}")
        return (Same(self.out), *rest) if rest else Same(self.out)


def _check_arrays(function: str, rule: Rule, given: Given) -> None:
    """Raise for arrays of kinds that the plain call refuses, in its words; SciPy's namespaces have their own."""
    for name in rule.arrays:
        form = given.get(name)
        if isinstance(form, Form) and form.ndim:
            as_input(function, name, np.empty((1,) * form.ndim, form.dtype))
    first = given.get(rule.arrays[0]) if rule.arrays else None
    if rule.ndims and isinstance(first, Form) and first.ndim not in rule.ndims:
        allowed = " or ".join(map(str, rule.ndims))
        raise ShapeError(f"{function}: {rule.arrays[0]} has {first.ndim} dimensions, expected {allowed}")


def _forms(given: Given, *names: str) -> Iterator[Form]:
    return (given[name] for name in names if isinstance(given.get(name), Form))


def _first(given: Given, name: str) -> Form:
    form = given.get(name)
    assert isinstance(form, Form)
    return form


# The operations.


def _input(function: str, given: Given) -> Form:
    return _first(given, "input")


def _both(function: str, given: Given) -> Result:
    x = _first(given, "input")
    return (x, Form(np.dtype(np.int64), x.ndim)) if given.get("return_indices") else x


def _norms(function: str, given: Given) -> Form:
    x = _first(given, "input")
    return x if kind_of(x.dtype) == "f" else x._replace(dtype=np.dtype(np.float32))


def _global(function: str, given: Given) -> Form:
    x = _first(given, "input")
    return x if given.get("keepdims", True) else x._replace(ndim=2)


def _activation(function: str, given: Given) -> Form:
    return _first(given, "x")


def _convolution(*arrays: str) -> Callable[[str, Given], Form]:
    def result(function: str, given: Given) -> Form:
        # What has a dtype is enough.
        dtype = common_dtype(function, *_forms(given, *arrays))  # type: ignore[arg-type]
        wanted = given.get("out_dtype")
        if wanted is not None:
            wanted = dtype_of(function, "out_dtype", wanted)
            working_dtype(function, dtype, wanted)
            dtype = wanted
        return Form(dtype, _first(given, "input").ndim)

    return result


def _promoted(function: str, given: Given) -> Form:
    a, b = _first(given, "in1"), _first(given, "in2")
    return Form(np.result_type(a.dtype, b.dtype), a.ndim)


def _single(function: str, given: Given) -> Form:
    x = _first(given, "input")
    return x._replace(dtype=np.result_type(x.dtype, np.float32))


def _filtered(function: str, given: Given) -> Form:
    from fastconv.ndimage.arguments import target_of

    x = _first(given, "input")
    weights = given.get("weights")
    is_complex = x.dtype.kind == "c" or (isinstance(weights, Form) and weights.dtype.kind == "c")
    return Form(target_of(given.get("output"), np.empty((), x.dtype), is_complex).native, x.ndim)


def _count(function: str, given: Given) -> Result:
    return int


def _nothing(function: str, given: Given) -> Result:
    return None


_FLAG: Final = "True or False"
_DTYPE: Final = 'a dtype such as np.float32, or its name, "float32"'
_INDICES: Final = {"return_indices": _FLAG}
_OUT_DTYPE: Final = {"out_dtype": _DTYPE}
_WEIGHTED: Final = ("input", "weight", "bias", "residual")


def _conv(*ndims: int, arrays: tuple[str, ...] = _WEIGHTED) -> Rule:
    return Rule(_convolution(*arrays), arrays, ndims, _OUT_DTYPE)


_SEPARABLE: Final = ("input", "depthwise_weight", "pointwise_weight", "bias", "depthwise_bias", "residual")
_FILTER: Final = Rule(_filtered, ("input", "weights", "footprint"), decides={"output": _DTYPE}, out="output")
_IMAGES: Final = Rule(_promoted, ("in1", "in2"), (2,), out="")
_ARRAYS: Final = Rule(_promoted, ("in1", "in2"), out="")

_OPERATIONS = {
    "depthwise_conv2d": _conv(4, 3),
    "pointwise_conv2d": _conv(4, 3),
    "separable_conv2d": _conv(4, 3, arrays=_SEPARABLE),
    "spatially_separable_conv2d": _conv(4, 3, arrays=("input", "column", "row", "bias", "residual")),
    "interpolate": Rule(_input),
    "global_avg_pool": Rule(_global, decides={"keepdims": _FLAG}),
    "global_max_pool": Rule(_global, decides={"keepdims": _FLAG}),
    "get_num_threads": Rule(_count, ()),
    "set_num_threads": Rule(_nothing, ()),
}
for _n in (1, 2, 3):
    _ndims = (_n + 2, _n + 1)
    _OPERATIONS |= {
        f"conv{_n}d": _conv(*_ndims),
        f"conv_transpose{_n}d": _conv(*_ndims, arrays=("input", "weight", "bias")),
        f"max_pool{_n}d": Rule(_both, ndims=_ndims, decides=_INDICES),
        f"adaptive_max_pool{_n}d": Rule(_both, ndims=_ndims, decides=_INDICES),
        f"avg_pool{_n}d": Rule(_input, ndims=_ndims),
        f"adaptive_avg_pool{_n}d": Rule(_input, ndims=_ndims),
        f"lp_pool{_n}d": Rule(_norms, ndims=_ndims),
        f"max_unpool{_n}d": Rule(_input, ("input", "indices"), _ndims),
        f"nearest_unpool{_n}d": Rule(_input, ndims=_ndims),
        f"bed_of_nails_unpool{_n}d": Rule(_input, ndims=_ndims),
    }

# By namespace. What is missing here cannot be called inside @njit functions.
RULES: Final[dict[str, dict[str, Rule]]] = {
    "fastconv": _OPERATIONS,
    "fastconv.activations": dict.fromkeys(
        ("gelu", "gelu_tanh", "hardswish", "leaky_relu", "relu", "relu6", "sigmoid", "silu", "swish", "tanh"),
        Rule(_activation, ("x",)),
    ),
    "fastconv.signal": {
        **dict.fromkeys(("correlate2d", "convolve2d"), _IMAGES),
        **dict.fromkeys(("correlate", "convolve"), _ARRAYS),
        "sepfir2d": Rule(_single, ("input", "hrow", "hcol"), (2,), out=""),
    },
    "fastconv.ndimage": dict.fromkeys(
        (
            *("correlate", "convolve", "correlate1d", "convolve1d", "gaussian_filter", "gaussian_filter1d", "laplace"),
            *("maximum_filter", "maximum_filter1d", "minimum_filter", "minimum_filter1d", "prewitt", "sobel"),
            *("uniform_filter", "uniform_filter1d"),
        ),
        _FILTER,
    ),
}
