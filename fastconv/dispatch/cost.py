"""What an algorithm does on a problem: the numbers that the planner compares and that explain and count_ops show."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch import load, machine
from fastconv.dispatch.blocking_bf16x3 import BLOCK, STEP
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
        Multiplications, those of data transforms included, those of weight transforms not; additions. A division, or a
        power, is a multiplication, a comparison of a maximum is an addition.
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
    """Count direct summation: ICG * KD * KH * KW multiplications an output, and one addition less.

    So do im2col, pointwise, depthwise and bf16x3, whose products of parts count as one. A pointwise convolution takes
    IC of them an output, a depthwise one KD * KH * KW; a stride divides the outputs; a dilation changes nothing but
    what the kernel spans, so that a dilated 3 x 3 kernel sees 5 x 5 inputs for 9 products instead of 25.
    """
    return _ops(g, g.ICG * g.KD * g.KH * g.KW, g.ICG * g.KD * g.KH * g.KW, bias)


def fft_ops(g: ConvGeometry, bias: bool = False) -> OpCount:
    """Count the transforms of all blocks of input and output, and a complex product at each frequency.

    A transform of n real numbers is half of the complex one of `transform_ops`; with more axes it is one of every line
    along each. Of a real block half of the frequencies is enough, along its last axis n // 2 + 1. A complex product has
    4 multiplications and 2 additions, and to add it to the sum over channels takes 2 more. Where only rows are
    transformed, the sums are over the KH rows of the kernel. With n a power of 2 that is, for a block of n numbers,
    ``n * log2(n) * (IC + OC) + 4 * (n/2 + 1) * OC * ICG`` multiplications.
    """
    b = fft_blocking(g, load.target())
    blocks, (_, _, width) = g.N * math.prod(b.counts), b.block
    if b.ROWS:
        height, kept = b.block[1], b.valid[1]
        multiplies, adds = ((g.IC * height + g.OC * kept) * one // 2 for one in transform_ops(width))
        sums, terms = g.OC * kept * b.FREQUENCIES, g.KH
    else:
        multiplies, adds = ((g.IC + g.OC) * one // 2 for one in _block_ops(b.block))
        sums, terms = g.OC * b.FREQUENCIES, g.ICG
    multiplies, adds = multiplies + sums * 4 * terms, adds + sums * (4 * terms - 2)
    biased = g.N * g.OC * g.OD * g.OH * g.OW if bias else 0
    return direct_ops(g, bias)._replace(multiplies=blocks * multiplies, adds=blocks * adds + biased)


# Real multiplications and additions of a transform of so many complex numbers, the twiddle factors apart.
_BUTTERFLIES = {2: (0, 4), 3: (4, 12), 5: (16, 32)}


def transform_ops(n: int) -> tuple[int, int]:
    """Return the real multiplications and additions of a Fourier transform of n complex numbers, by Cooley and Tukey.

    For each prime factor p of n there is a pass of n/p butterflies of p numbers, all but the first of which are
    multiplied by twiddle factors, 4 multiplications and 2 additions each, also where these are 1. A butterfly of 2
    numbers takes 4 additions; of 3: 4 multiplications, 12 additions; of 5: 16 and 32; of others it is the definition.
    So for a power of 2 it is ``2 * n * log2(n)`` multiplications and ``3 * n * log2(n)`` additions.
    """
    multiplies, adds, rest = 0, 0, n
    for p in (2, 3, 5, None):
        while rest > 1 and (p is None or rest % p == 0):
            size = p or rest
            products, sums = _BUTTERFLIES.get(size) or (4 * (size - 1) ** 2, 2 * (size - 1) * (2 * size - 1))
            multiplies += n // size * (4 * (size - 1) + products)
            adds += n // size * (2 * (size - 1) + sums)
            rest //= size
    return multiplies, adds


def _block_ops(block: tuple[int, int, int]) -> list[int]:
    """Return the multiplications and additions of a complex transform along all axes of a block."""
    size = math.prod(block)
    along = [[size // n * count for count in transform_ops(n)] for n in block]
    return [sum(counts) for counts in zip(*along, strict=True)]


def separable_ops(g: ConvGeometry, bias: bool = False) -> OpCount:
    """Count two 1-D passes: KH + KW multiplications an output instead of KH * KW, so 2k instead of k**2.

    That is what an output in the middle of an image costs. The first pass, along W, also makes the rows above and below
    that only the border needs: ``(OH - 1)*SH + (KH - 1)*DH + 1`` of OW numbers instead of OH; these are not counted.
    """
    counted = _ops(g, g.KH + g.KW, g.KH + g.KW, bias)
    # Each pass takes one addition less than products.
    return counted._replace(adds=counted.adds - g.N * g.OC * g.OD * g.OH * g.OW)


def winograd_ops(g: ConvGeometry, bias: bool, outputs: tuple[int, int]) -> OpCount:
    """Count F(m, r) on tiles of `outputs`, whole ones at the edges too: products, and both transforms of data.

    A tile takes (m + r - 1)**2 products for each pair of channels instead of ``m**2 * r**2``: F(2x2,3x3) 16 instead of
    36, F(4x4,3x3) 36 instead of 144. It is transformed column by column, then row by row; what neighbours share is
    counted for each. Multiplications by 1 and -1 are none.
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
    """Count a transposed convolution by its definition: OCG * KD * KH * KW multiplications an input.

    The first product that falls on an output is stored, all others are added, before anything is cropped.
    """
    size, inputs, outputs = np.dtype(g.dtype).itemsize, math.prod(g.input_shape), math.prod(g.output_shape)
    params = math.prod(g.weight_shape) + (g.OC if bias else 0)
    along = zip(g.sizes, g.kernel, g.stride, g.dilation, strict=True)
    met = g.N * g.OC * math.prod(_distinct(*axis) for axis in along)
    adds = max(g.macs - met, 0) + (outputs if bias else 0)
    return OpCount(g.macs, g.macs, adds, params, (inputs + params) * size, outputs * size)


def _distinct(n: int, k: int, stride: int, dilation: int) -> int:
    """Return how many different numbers ``i*stride + j*dilation`` there are, i < n and j < k."""
    common = math.gcd(stride, dilation)
    return n * k - max(0, n - dilation // common) * max(0, k - stride // common)


def seconds(cycles: float) -> float:
    """Return how long the cycles of a blocking's model take."""
    return cycles / machine.current().hertz()


def roofline(cycles: float, ops: OpCount) -> float:
    """Return the model's time of a kernel, which computes and moves its arrays at once."""
    # Memory is read before it is written to, a line at a time.
    size = ops.bytes_read + 2 * ops.bytes_written
    moving = size / bandwidth(size)
    shorter, longer = sorted((seconds(cycles), moving))
    return longer + NOT_HIDDEN * shorter


def bandwidth(size: int) -> float:
    """Return how many bytes a second one thread reads of arrays of so many bytes: from L2, or from beyond it."""
    rates = machine.current()
    return rates.memory if size > load.target().l2_bytes else rates.l2


def peak(g: Any, blocking: Any = None) -> float:
    """Return the most operations, multiplications and additions, that one thread does in a second on a problem.

    They are fused multiply-adds of vectors; of bytes, dot products of four; of the matrix unit, what its steps make.
    """
    rate = 2 * machine.current().multiply_adds
    if hasattr(blocking, "TERMS"):
        return unit_peak(blocking.TERMS)
    if getattr(g, "weight_dtype", ""):
        return 4 * rate
    return rate * 4 / max(np.dtype(g.dtype).itemsize, 4)


def unit_peak(terms: int = 3) -> float:
    """Return the most operations of one thread on the matrix unit, with so many products for one of float32."""
    return 2 * BLOCK**3 / STEP[terms] * machine.current().hertz()


def call_seconds() -> float:
    """Return what a call from Python takes beside its kernels."""
    return 1 / machine.current().calls


def pack_seconds(elements: int, cycles: float = PACK_CYCLES) -> float:
    """Return the model's time to bring a weight into the kernel's order, at so many cycles an element."""
    return seconds(elements * cycles)
