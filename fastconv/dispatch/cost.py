"""What an algorithm does on a problem: the numbers that the planner compares and that explain and count_ops show."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastconv.dispatch import load, machine
from fastconv.dispatch.blocking_fft import fft_blocking
from fastconv.geometry.conv import ConvGeometry
from fastconv.geometry.conv_transpose import TransposeGeometry
from fastconv.winograd import schemes

# Cycles per element to bring a weight into the kernel's order.
PACK_CYCLES = 0.6
# Of arithmetic and memory traffic the longer one is the time, but some of the shorter one shows.
NOT_HIDDEN = 0.25


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


def winograd_ops(g: ConvGeometry, bias: bool, outputs: tuple[int, int]) -> OpCount:
    """Count F(m, r) on tiles of `outputs`, whole ones at the edges too: products, and both transforms of data.

    A tile is transformed column by column, then row by row; what neighbours share is counted for each.
    """
    (MH, MW), direct = outputs, direct_ops(g, bias)
    NH, NW = MH + g.KH - 1, MW + g.KW - 1
    tiles = g.N * g.OD * -(-g.OH // MH) * -(-g.OW // MW)
    down, across = schemes(MH, g.KH), schemes(MW, g.KW)
    products, ICG = NH * NW * g.OC * g.ICG * g.KD, g.IC * g.KD
    multiplies = ICG * (NW * down.input.multiplies + NH * across.input.multiplies)
    multiplies += g.OC * (NW * down.output.multiplies + MH * across.output.multiplies)
    adds = ICG * (NW * down.input.adds + NH * across.input.adds)
    adds += g.OC * (NW * down.output.adds + MH * across.output.adds) + max(products - NH * NW * g.OC, 0)
    outputs_biased = direct.bytes_written // np.dtype(g.dtype).itemsize if bias else 0
    return direct._replace(multiplies=tiles * (products + multiplies), adds=tiles * adds + outputs_biased)


def _ops(g: ConvGeometry, macs_per_output: int, weights_per_channel: int, bias: bool) -> OpCount:
    size, outputs = np.dtype(g.dtype).itemsize, g.N * g.OC * g.OD * g.OH * g.OW
    written = outputs * np.dtype(g.sums_dtype).itemsize
    macs = outputs * macs_per_output
    params = g.OC * weights_per_channel + (g.OC if bias else 0)
    adds = max(macs - outputs, 0) + (outputs if bias else 0)
    return OpCount(macs, macs, adds, params, (g.N * g.IC * g.D * g.H * g.W + params) * size, written)


def transpose_ops(g: TransposeGeometry, bias: bool = False) -> OpCount:
    """Count a transposed convolution by its definition: OCG * KD * KH * KW multiplications an input."""
    size, inputs, outputs = np.dtype(g.dtype).itemsize, math.prod(g.input_shape), math.prod(g.output_shape)
    params = math.prod(g.weight_shape) + (g.OC if bias else 0)
    adds = max(g.macs - outputs, 0) + (outputs if bias else 0)
    return OpCount(g.macs, g.macs, adds, params, (inputs + params) * size, outputs * size)


def seconds(cycles: float) -> float:
    """Return how long the cycles of a blocking's model take."""
    return cycles / machine.current().hertz()


def roofline(cycles: float, ops: OpCount) -> float:
    """Return the model's time of a kernel, which computes and moves its arrays at once."""
    # Memory is read before it is written to, a line at a time.
    size = ops.bytes_read + 2 * ops.bytes_written
    rates = machine.current()
    moving = size / (rates.memory if size > load.target().l2_bytes else rates.l2)
    shorter, longer = sorted((seconds(cycles), moving))
    return longer + NOT_HIDDEN * shorter


def call_seconds() -> float:
    """Return what a call from Python takes beside its kernels."""
    return 1 / machine.current().calls


def pack_seconds(elements: int, cycles: float = PACK_CYCLES) -> float:
    """Return the model's time to bring a weight into the kernel's order, at so many cycles an element."""
    return seconds(elements * cycles)
