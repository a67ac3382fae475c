"""Arguments that must be refused: a case with one of its arguments replaced."""

from __future__ import annotations

from typing import Any

from fastconv.testing.fuzz.case import Array, Case
from fastconv.testing.fuzz.draw import Draw

_HUGE = 2**63
_SIZES = (0, -1, True, 1.5, "2", (1, 1, 1, 1, 1), (0,), _HUGE, -_HUGE)
_FLAGS = ("yes", 3, 1.0)
_ARRAYS: tuple[Any, ...] = (
    None,
    3.5,
    "abc",
    ((), 1),
    {},
    Array("bool", (2, 3, 4)),
    Array("float32", ()),
    Array("U3", (2, 3, 4)),
)
_ARRAYS += (
    Array("object", (2, 3, 4)),
    Array("M8[s]", (2, 3)),
    Array("float32", (1,) * 7),
    Array("longdouble", (2, 3, 9)),
)

# What no operation takes for an argument of this name.
BAD: dict[str, tuple[Any, ...]] = {
    "input": _ARRAYS,
    "weight": _ARRAYS,
    "depthwise_weight": _ARRAYS,
    "pointwise_weight": _ARRAYS,
    "column": _ARRAYS,
    "row": _ARRAYS,
    "indices": (*_ARRAYS, Array("float32", (2, 3, 4))),
    "grad_output": _ARRAYS,
    "x": (None, "abc", {}, Array("U3", (2, 3)), Array("complex64", (3,)), Array("M8[s]", (2,))),
    "bias": (3.5, "abc", Array("float32", (2, 2, 2)), Array("float32", (9973,)), Array("bool", (3,))),
    "residual": ("abc", Array("float32", (2, 2)), Array("float32", (1, 9973, 1, 1, 1, 1))),
    "stride": _SIZES,
    "dilation": _SIZES,
    "kernel_size": (*_SIZES, None),
    "scale_factor": (0, -1, True, "2", (1, 1, 1, 1, 1), _HUGE),
    "output_size": (0, -1, True, 1.5, "2", (1, 1, 1, 1, 1), _HUGE),
    "groups": (0, -1, True, 1.5, "2", (1,), None, _HUGE, 9973),
    "padding": (True, 1.5, "sane", (1, 1, 1, 1, 1), -1, -_HUGE, _HUGE, ((1, 2, 3),), None, {}),
    "output_padding": (-1, True, 1.5, "1", (1, 1, 1, 1, 1), 99, _HUGE),
    "norm_type": (0, "2", None, (2,)),
    "padding_mode": ("zero", 3, None),
    "layout": ("nchw", 1, None),
    "activation": ("mish", 1),
    "algorithm": ("gemm", None, 3),
    "precision": ("high", None, 1),
    "device": ("gpu", None, 3),
    "mode": ("cubic", None, 3),
    "duplicates": ("first", None, 1),
    "position": (-1, 1.5, "0", _HUGE),
    "ceil_mode": _FLAGS,
    "return_indices": _FLAGS,
    "count_include_pad": _FLAGS,
    "divisor_override": (0, 1.5, "2"),
    "keepdims": _FLAGS,
    "align_corners": _FLAGS,
    "out_dtype": ("float12", "bool", "U3"),
    "out": ("abc", 3, Array("float32", (1, 9973)), Array("U3", (2, 2)), Array("float32", ()), ()),
}


def spoil(d: Draw, case: Case) -> Case:
    """Return a case whose one argument has a value that must be refused, or the case itself if there is none."""
    names = [name for name in case.arguments if name in BAD]
    if not names:
        return case
    name = d.one(names)
    # What lay in its memory cannot any more.
    apart = {key: a._replace(memory="plain") for key, a in case.arrays.items() if a.memory == f"over:{name}"}
    return case.replaced(**apart, **{name: d.one(BAD[name])})._replace(flaw=name, threads=1)
