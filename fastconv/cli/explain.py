"""`fastconv explain`: what every algorithm would cost on a problem given by its shapes."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.api.calls import CONVOLUTIONS
from fastconv.api.explain_windows import WINDOWS
from fastconv.dispatch.conv_table import NAMES
from fastconv.named_kernels import NAMES as KERNELS
from fastconv.named_kernels import named

GRADIENTS = tuple(f"conv{axes}d_{part}" for axes in (1, 2, 3) for part in ("input", "weight", "vjp"))
FUNCTIONS = (*CONVOLUTIONS, "separable_conv2d", *WINDOWS, *GRADIENTS)
# Those whose weight a named kernel may be.
FILTERS = ("conv2d", "depthwise_conv2d")
# The option that has the shape of a parameter, where it has another name.
SHAPES = {"depthwise_weight": "weight", "pointwise_weight": "pointwise", "input_size": "input", "weight_size": "weight"}
OPTIONS = (
    *("stride", "padding", "dilation", "groups", "output_padding", "padding_mode", "layout", "algorithm", "precision"),
    *("kernel_size", "norm_type", "output_size", "size", "scale_factor", "mode", "align_corners", "antialias"),
    *("ceil_mode", "return_indices"),
)

_EPILOG = """examples:
  fastconv explain conv2d --input 1,64,56,56 --weight 64,64,3,3 --padding 1
  fastconv explain conv2d --input 1,1,3024,4032 --weight 1,1,15,15 --kernel gaussian:2.5 --padding same --measure
  fastconv explain max_pool2d --input 1,64,112,112 --kernel-size 3 --stride 2 --padding 1
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what `fastconv explain` takes."""
    command.description = "Print the operations, the memory and the time that every algorithm would need."
    command.epilog = _EPILOG
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("function", choices=FUNCTIONS, metavar="FUNCTION", help=", ".join(FUNCTIONS))
    add = command.add_argument
    add("--input", type=_shape, required=True, metavar="N,C,H,W", help="shape of the input")
    add(
        "--weight", type=_shape, metavar="OC,C,KH,KW", help="shape of the weight, of separable_conv2d the depthwise one"
    )
    add("--kernel", metavar="NAME", help=f"values of the weight: {', '.join(KERNELS)}, or a file .npy, .csv, .txt")
    add("--pointwise", type=_shape, metavar="OC,C", help="shape of the pointwise weight of separable_conv2d")
    add("--column", type=_shape, metavar="KH", help="taps of the column of spatially_separable_conv2d")
    add("--row", type=_shape, metavar="KW", help="taps of its row")
    add("--stride", type=_axes, metavar="S", help="a number, or two as H,W")
    add("--padding", type=_padding, metavar="P", help="as stride, or top,bottom,left,right, or a name")
    add("--dilation", type=_axes, metavar="D", help="as stride")
    add("--groups", type=int, metavar="G")
    add("--output-padding", type=_axes, metavar="P", help="of a transposed convolution")
    add("--padding-mode", metavar="NAME", help="zeros, reflect, replicate, circular, symmetric")
    add("--kernel-size", type=_axes, metavar="K", help="of a pool, an unpooling, unfold and fold")
    add("--output-size", type=_axes, metavar="N", help="of an adaptive pool, an unpooling and fold")
    add("--norm-type", type=float, metavar="P", help="of lp_pool")
    add("--size", type=_axes, metavar="N", help="of interpolate: a number, or H,W")
    add("--scale-factor", type=_factors, metavar="F", help="of interpolate and unpoolings")
    add("--mode", metavar="NAME", help="of interpolate")
    for flag in ("align-corners", "antialias", "ceil-mode", "return-indices"):
        add(f"--{flag}", action="store_true", default=None)
    add("--layout", choices=("channels_first", "channels_last"))
    add("--algorithm", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    add("--precision", choices=("default", "strict", "bf16"))
    add("--measure", action="store_true", help="time every algorithm too, on random numbers")
    add("--json", action="store_true", help="print JSON")
    command.set_defaults(run=explain, parser=command)


def explain(options: argparse.Namespace) -> int:
    """Print the table."""
    function = getattr(fc.grad if options.function in GRADIENTS else fc, options.function)
    explanation = fc.explain(function, **_arguments(function, options), measure=options.measure)
    print(json.dumps(explanation.to_dict(), indent=2) if options.json else explanation)
    return 0


def _arguments(function: Callable[..., Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the function; of arrays their shapes, or what a named kernel holds."""
    parameters = inspect.signature(function).parameters
    given = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    if options.kernel is not None:
        options.weight = _kernel(options, given)
    for name in ("weight", "pointwise", "column", "row"):
        if getattr(options, name) is not None and not any(SHAPES.get(p, p) == name for p in parameters):
            options.parser.error(f"{options.function} takes no --{name}")
    for name in given:
        if name not in parameters:
            options.parser.error(f"{options.function} takes no --{name.replace('_', '-')}")
    # Indices have the shape of the input, and a gradient that of the result.
    given |= {"indices": options.input} if "indices" in parameters else {}
    given |= {"grad_output": ()} if "grad_output" in parameters else {}
    for name, parameter in parameters.items():
        if name in given:
            continue
        value = getattr(options, SHAPES.get(name, name), None)
        if value is not None:
            given[name] = value
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            options.parser.error(f"{options.function} needs --{SHAPES.get(name, name).replace('_', '-')}")
    return given


def _kernel(options: argparse.Namespace, given: dict[str, Any]) -> np.ndarray:
    """Return a weight of the named kernel for all channels; without a shape it filters each channel by itself."""
    if options.function not in FILTERS:
        options.parser.error(f"--kernel is for {' and '.join(FILTERS)}")
    if options.weight is not None and len(options.weight) != 4:
        options.parser.error(f"--weight has {len(options.weight)} sizes, expected OC,C,KH,KW")
    shape = options.weight
    kernel = named(options.kernel, None if shape is None else shape[2:])
    if shape is None:
        last = given.get("layout") == "channels_last"
        channels = 1 if len(options.input) < 3 else options.input[-1 if last else -3]
        shape = (channels, 1, *kernel.shape)
        if options.function == "conv2d":
            given.setdefault("groups", channels)
    return np.broadcast_to(kernel.astype(np.float32), shape)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r}") from None


def _axes(text: str) -> int | tuple[int, ...]:
    numbers = _shape(text)
    return numbers[0] if len(numbers) == 1 else numbers


def _factors(text: str) -> Any:
    try:
        numbers = tuple(float(part) if "." in part else int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _padding(text: str) -> Any:
    if text.replace("_", "").isalpha():
        return text
    numbers = _shape(text)
    if len(numbers) == 4:
        return numbers[:2], numbers[2:]
    return _axes(text)
