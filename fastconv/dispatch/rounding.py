"""How far rounding can take each algorithm's sums from the exact ones, in the worst case.

A bound is relative to ``sum(|x| * |weight|)`` of an output. Winograd and FFT mix neighbouring outputs; theirs is
relative to the most that this can be, ``max(|x|) * sum(|weight|)``. u is half the machine epsilon; bounds are of first
order in it. On random data errors are far smaller: about the root of the number of roundings instead of their number.

References
----------
Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1 (sums) and theorem 24.2 (Fourier
transforms); Barabasz et al. 2020, arXiv:1803.10986 (Winograd).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from fastconv.geometry.conv import ConvGeometry
from fastconv.winograd import Scheme, schemes, transforms

# Of a sum beside one rounding for each term: the bias, the residual, and what stands for first order only.
MORE = 4
# Units of rounding in a Fourier transform for each doubling of its size, after Higham.
DOUBLING = 7.0
# bfloat16 has 8 bits: what rounding to it loses.
HALF = 2.0**-8
# Units of rounding of dtypes that are summed in float32.
HALVES = {"float16": 2.0**-11, "bfloat16": HALF}
# Rounded factors of a rounded outer product: both, and it.
FACTORS = 3


def unit(dtype: str) -> float:
    """Return half the machine epsilon of floats, 0 of integers."""
    kind = np.dtype(dtype)
    return float(np.finfo(kind).eps) / 2 if kind.kind == "f" else 0.0


def sum_bound(terms: int, dtype: str) -> float:
    """Return the bound of a sum of so many products, in any order: ``(terms + 4) * u``, as `assert_close` has it."""
    return (terms + MORE) * unit(dtype)


def conv_bound(name: str, g: ConvGeometry, blocking: Any, factors: float | None = None) -> float:
    """Return the bound of an algorithm on a problem.

    * direct, im2col, pointwise, depthwise: ``(K + 4) * u``, K = ICG * KD * KH * KW;
    * separable: ``(KH + KW + 4) * u``, and what the `factors` differ from the kernel, relative to its sum; where that
      is not known, 3u, which is right for the rounded product of a column and a row;
    * winograd: ``(ICG * KD + d) * a(MH, KH) * a(MW, KW) * u``, with d the roundings in all transforms, and the
      amplification a(m, r) of `amplification`;
    * fft: ``(21 * log2(n) + ICG + 3) * sqrt(n) * u`` of blocks of n numbers;
    * bf16x3: ``3 * 2**-16 + (3K + 4) * u``, from what two bfloat16 parts leave out; of one part ``2**-7 + …``.
    """
    u, K = unit(g.dtype), g.ICG * g.KD * g.KH * g.KW
    if name == "separable":
        return sum_bound(g.KH + g.KW, g.dtype) + (FACTORS * u if factors is None else factors)
    if name == "winograd":
        depth = sum(transform_depth(m, r) for m, r in ((blocking.MH, g.KH), (blocking.MW, g.KW)))
        larger = amplification(blocking.MH, g.KH) * amplification(blocking.MW, g.KW)
        return (g.ICG * g.KD + blocking.PASSES + depth + MORE) * larger * u
    if name == "fft":
        size, terms = math.prod(blocking.block), g.ICG
        if blocking.ROWS:
            size, terms = blocking.block[2], g.KH
        return (3 * DOUBLING * math.log2(size) + terms + 3) * math.sqrt(size) * u
    if name == "bf16x3":
        lost = 3 * HALF**2 if blocking.TERMS == 3 else 2 * HALF + HALF**2
        return (lost + (blocking.TERMS * K + MORE) * u) * (1 + 4 * HALF)
    return sum_bound(K, g.dtype)


def result_bound(bound: float, dtype: str, strict: bool = False) -> float:
    """Return the bound of a result from that of the real sums it is made of, relative to the same.

    * half precision: summed in float32 and rounded once more;
    * complex, of input and weight: three products, of which one is of sums, ``3.2 * bound + 11 * u``; `strict`: four,
      ``1.5 * (bound + u)``.
    """
    if dtype in HALVES:
        return bound + HALVES[dtype] * (1 + bound)
    if np.dtype(dtype).kind == "c":
        u = float(np.finfo(dtype).eps) / 2
        return 1.5 * (bound + u) if strict else 3.2 * bound + 11 * u
    return bound


@cache
def amplification(m: int, r: int) -> float:
    """Return by how much the transforms of F(m, r) enlarge rounding errors along one axis: 1 for one tap.

    The largest over taps k and outputs i of ``sum over p of |A[i, p]| * |G[p, k]| * sum over j of |B[p, j]|``.
    """
    A, G, B = (np.abs(np.array(matrix, np.float64)) for matrix in transforms(m, r))
    return float((A @ (G * B.sum(1, keepdims=True))).max())


@cache
def transform_depth(m: int, r: int) -> int:
    """Return the most roundings that a number meets in the three transforms along one axis."""
    return sum(map(_depth, schemes(m, r)))


def _depth(scheme: Scheme) -> int:
    depths = [0] * scheme.inputs
    for step in scheme.steps:
        # A product and a sum for each term, and the coefficient.
        depths.append(max(depths[j] for j, _ in step) + len(step) + any(abs(c) != 1 for _, c in step))
    return max(depths[j] for j in scheme.outputs)
