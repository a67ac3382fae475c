"""`fastconv explain`: what every algorithm would cost on a problem given by its shapes."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

import fastconv as fc
from fastconv.dispatch.conv_table import NAMES

FUNCTIONS = {f.__name__: f for f in (fc.conv2d, fc.depthwise_conv2d, fc.pointwise_conv2d)}
OPTIONS = ("stride", "padding", "dilation", "groups", "layout", "algorithm", "precision")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what `fastconv explain` takes."""
    command.description = "Print the operations, the memory and the time that every algorithm would need."
    command.epilog = "example: fastconv explain conv2d --input 1,64,56,56 --weight 64,64,3,3 --padding 1"
    command.add_argument("function", choices=FUNCTIONS, metavar="FUNCTION", help=", ".join(FUNCTIONS))
    command.add_argument("--input", type=_shape, required=True, metavar="N,C,H,W", help="shape of the input")
    command.add_argument("--weight", type=_shape, required=True, metavar="OC,C,KH,KW", help="shape of the weight")
    command.add_argument("--stride", type=_axes, metavar="S", help="a number, or two as H,W")
    command.add_argument("--padding", type=_padding, metavar="P", help="as stride, or top,bottom,left,right, or a name")
    command.add_argument("--dilation", type=_axes, metavar="D", help="as stride")
    command.add_argument("--groups", type=int, metavar="G")
    command.add_argument("--layout", choices=("channels_first", "channels_last"))
    command.add_argument("--algorithm", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    command.add_argument("--precision", choices=("default", "strict"))
    command.add_argument("--measure", action="store_true", help="time every algorithm too, on random numbers")
    command.set_defaults(run=explain, parser=command)


def explain(options: argparse.Namespace) -> int:
    """Print the table."""
    function = FUNCTIONS[options.function]
    keywords = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    for name in keywords:
        if name not in inspect.signature(function).parameters:
            options.parser.error(f"{options.function} takes no --{name}")
    print(fc.explain(function, options.input, options.weight, measure=options.measure, **keywords))
    return 0


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r}") from None


def _axes(text: str) -> int | tuple[int, ...]:
    numbers = _shape(text)
    return numbers[0] if len(numbers) == 1 else numbers


def _padding(text: str) -> Any:
    if text.replace("_", "").isalpha():
        return text
    numbers = _shape(text)
    if len(numbers) == 4:
        return numbers[:2], numbers[2:]
    return _axes(text)
