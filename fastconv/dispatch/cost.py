"""What an algorithm does on a problem: the numbers that the planner compares and that explain and count_ops show."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.blocking_fft import fft_blocking
from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.conv_transpose import TransposeGeometry

# The model counts cycles; this turns them into seconds. Only ratios decide.
HERTZ = 3.0e9
# Cycles per element to bring a weight into the kernel's order, and of one call from Python.
PACK_CYCLES = 0.6
CALL_CYCLES = 2e4


class OpCount(NamedTuple):
    """Operations and memory traffic of one call; every number is exact, none is measured.

    Attributes
    ----------
    macs : int
        Multiply-accumulates; taps in the padding are counted too.
    multiplies, adds : int
        Multiplications, those of data transforms included, those of weight transforms not; additions.
    params : int
        Elements of weight and bias.
    bytes_read, bytes_written : int
        Each array once: input, weight and bias; output.
    """

    macs: int
    multiplies: int
    adds: int
    params: int
    bytes_read: int
    bytes_written: int


class Cost(NamedTuple):
    """Operations, scratch in bytes for each thread, and the model's time on one thread in seconds."""

    ops: OpCount
    scratch_bytes: int
    seconds: float


def direct_ops(g: ConvGeometry, bias: bool = False) -> OpCount:
    """Count direct summation: ICG * KD * KH * KW multiplications an output."""
    return _ops(g, g.ICG * g.KD * g.KH * g.KW, g.ICG * g.KD * g.KH * g.KW, bias)


def fft_ops(g: ConvGeometry, bias: bool = False) -> OpCount:
    """Count radix-2 transforms of all blocks of input and output, and a complex product at each frequency."""
    block = fft_blocking(g, load.target())
    size, blocks = math.prod(block.block), g.N * math.prod(block.counts)
    doublings = blocks * (g.IC + g.OC) * size * math.log2(size)
    products = blocks * block.FREQUENCIES * g.OC * g.ICG * 4
    counted = direct_ops(g, bias)
    adds = round(1.5 * doublings) + products + (g.N * g.OC * g.OD * g.OH * g.OW if bias else 0)
    return counted._replace(multiplies=round(doublings) + products, adds=adds)


def separable_ops(g: ConvGeometry, bias: bool = False) -> OpCount:
    """Count two 1-D passes: KH + KW multiplications an output instead of KH * KW."""
    return _ops(g, g.KH + g.KW, g.KH + g.KW, bias)


def _ops(g: ConvGeometry, macs_per_output: int, weights_per_channel: int, bias: bool) -> OpCount:
    size, outputs = np.dtype(g.dtype).itemsize, g.N * g.OC * g.OD * g.OH * g.OW
    macs = outputs * macs_per_output
    params = g.OC * weights_per_channel + (g.OC if bias else 0)
    adds = max(macs - outputs, 0) + (outputs if bias else 0)
    return OpCount(macs, macs, adds, params, (g.N * g.IC * g.D * g.H * g.W + params) * size, outputs * size)


def transpose_ops(g: TransposeGeometry, bias: bool = False) -> OpCount:
    """Count a transposed convolution by its definition: OCG * KD * KH * KW multiplications an input."""
    size, inputs, outputs = np.dtype(g.dtype).itemsize, math.prod(g.input_shape), math.prod(g.output_shape)
    params = math.prod(g.weight_shape) + (g.OC if bias else 0)
    adds = max(g.macs - outputs, 0) + (outputs if bias else 0)
    return OpCount(g.macs, g.macs, adds, params, (inputs + params) * size, outputs * size)


def pack_seconds(elements: int, cycles: float = PACK_CYCLES) -> float:
    """Return the model's time to bring a weight into the kernel's order, at so many cycles an element."""
    return elements * cycles / HERTZ
