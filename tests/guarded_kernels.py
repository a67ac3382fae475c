"""What there is to run inside a fence, read from the sources, and which calls run it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "fastconv" / "kernels" / "cpu"

# Which kernels each family runs, in their order: those that no family before it has run.
KERNELS = {
    "steps": ("optimizers:step",),
    "activations": ("activation_grad:pull", "activations:activate", "elementwise:activate"),
    "movements": (
        "fold:fold",
        "fold:unfold",
        "nearest:nails",
        "nearest:nearest",
        "resample:resample",
        "unpool:merge",
        "unpool:place",
    ),
    "windows": (
        "max_pool_grad:route",
        "max_pool_sums:add",
        "max_pool_sums:turned",
        "windows:windows",
        "windows_turned:turned",
    ),
    "filters": (
        "conv_depthwise:depthwise_planes",
        "conv_tiles:conv_planes",
        "filter_blocks:filter_blocks",
        "weight_packers:pack_panels",
    ),
    "whole_vectors": (
        "chain:chain",
        "conv_fft:finish_sums",
        "conv_lanes:conv_lanes",
        "conv_tiles:conv_pixels",
        "depthwise_pixels:depthwise_pixels",
        "depthwise_turned:depthwise_turned",
        "gradient_sums:finish_gradient",
        "interleave:interleave",
        "phase_packing:flip",
        "phase_packing:pack_lanes",
        "phase_packing:regroup",
        "spectra:sum_lines",
        "weight_gradient:weight_gradient",
        "weight_packers:pack_lanes",
    ),
    "layers": ("conv_separable:separable_planes",),
    "dot_products": ("words:words_of_pixels", "words:words_of_planes"),
    "matrix_unit": ("bf16_packing:pack_unit", "conv_bf16x3:conv_unit", "gradient_unit:gradient_unit"),
    "convolutions": (
        "conv_separable:separable_pixels",
        "conv_winograd:conv_winograd",
        "spectra:sum_spectra",
        "winograd_weights:pack_winograd",
    ),
}
# These need a unit, or dot products, that not every CPU has.
OPTIONAL = ("dot_products", "matrix_unit")


def kernels() -> set[str]:
    """Return "module:name" of every function of kernels/cpu that is compiled by itself."""
    return set(_functions(lambda node: any(_is_njit(d) for d in node.decorator_list)))


def twins() -> set[str]:
    """Return "module:name" of every operation's Python twin."""
    return set(_functions(lambda node: node.name.endswith("_twin")))


def _is_njit(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "njit"


def _functions(wanted: Callable[[ast.FunctionDef], bool]) -> Iterator[str]:
    for path in sorted(FOLDER.glob("*.py")):
        nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
        yield from (f"{path.stem}:{node.name}" for node in nodes if wanted(node))
