"""The record of an algorithm: a row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastconv.dispatch.cost import PACK_CYCLES, OpCount
from fastconv.geometry.conv import ConvGeometry


class Algorithm(NamedTuple):
    """One way to compute a convolution.

    Attributes
    ----------
    name : str
        What users write in `algorithm=`.
    kernel : str
        "module:function" in kernels/<backend>: builds the program from geometry, epilogue and blocking.
    unsupported : callable
        geometry -> the reason why it cannot, or None.
    blocking : callable
        (geometry, target) -> tile and block sizes, with `tasks`, `scratch_bytes` and the model's `cycles`.
    ops : callable
        (geometry, bias) -> OpCount.
    packing : str
        Order of the packed weight, channels_first / channels_last; "" if it is read as it is.
    exact : bool
        Rounds as direct summation does; others are kept out by precision="strict".
    automatic : str
        Empty, or why `algorithm="auto"` does not consider it.
    source : str
        Where the algorithm comes from.
    rough : callable, optional
        As `blocking`, for precision="bf16", where products may be rounded to bfloat16.
    pack_cycles : float
        Cycles to bring a weight into the kernel's order, for each packed element.
    backends : tuple of str
        The folders of kernels that have it; in kernels/cuda it is
        ``(function, geometry, activation) -> program``.
    """

    name: str
    kernel: str
    unsupported: Callable[[ConvGeometry], str | None]
    blocking: Callable[[ConvGeometry, Any], Any]
    ops: Callable[[ConvGeometry, bool], OpCount]
    packing: str
    exact: bool
    automatic: str
    source: str
    rough: Callable[[ConvGeometry, Any], Any] | None = None
    pack_cycles: float = PACK_CYCLES
    backends: tuple[str, ...] = ("cpu",)
