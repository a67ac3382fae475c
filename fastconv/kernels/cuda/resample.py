"""Sums along each axis by tables of taps: interpolation, its adjoint, and the adjoint of averages; folded columns.

Output o of an axis is the sum of ``weights[p] * input[offsets[p]]`` over ``starts[o] <= p < starts[o + 1]``, with
offsets in elements, so that whatever reads other elements at other places is this one kernel. Arrays are (P, D, H, W,
L) as in kernels/cuda/windows.py; a thread computes one output, its neighbours in memory are those in the warp. Kernels
of many taps run one axis after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty, upload
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.memory import REAL, code_of, device, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
SIZES, REALS = 16, 2


class Tables(NamedTuple):
    """The taps of D, H and W on the device, for an array of some strides."""

    outs: tuple[int, int, int]
    starts: Buffer
    offsets: Buffer
    weights: Buffer
    shift: int


def resample(code: str, kind: str, threads: int) -> Kernel:
    """Return the kernel of one kind of sums.

    Parameters
    ----------
    kind : {"sum", "weighted", "rounded", "fixed"}
        Of elements alone, in the order of the taps; with weights; of those rounded to the nearest integer, halves to
        even, and clipped; of integers, divided by ``2**shift``, rounded half up and clipped.
    """
    real = REAL[code]
    finish = device(_finish(code, kind))
    WEIGHTED = kind != "sum"

    def resample_axes(x, out, starts, offsets, weights, g, limits):
        total, L, OW, OH, OD, XP, XL, shift = g[:8]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q = quotient(i, g[8], g[9])
        lane = uint32(i - uint32(q * L))
        rest = quotient(q, g[10], g[11])
        ow = uint32(q - uint32(rest * OW))
        q = quotient(rest, g[12], g[13])
        oh = uint32(rest - uint32(q * OH))
        plane = quotient(q, g[14], g[15])
        od = uint32(q - uint32(plane * OD))
        place = uint32(uint32(plane * XP) + uint32(lane * XL))
        d, dend = load(starts, od), load(starts, uint32(od + uint32(1)))
        oh, ow = uint32(uint32(oh + OD) + uint32(1)), uint32(uint32(uint32(ow + OD) + OH) + uint32(2))
        h0, hend = load(starts, oh), load(starts, uint32(oh + uint32(1)))
        w0, wend = load(starts, ow), load(starts, uint32(ow + uint32(1)))
        acc = real(0)
        while d < dend:
            image = uint32(place + load(offsets, d))
            planes, h = real(0), h0
            while h < hend:
                line = uint32(image + load(offsets, h))
                row, w = real(0), w0
                while w < wend:
                    v = real(load(x, uint32(line + load(offsets, w))))
                    if WEIGHTED:
                        row += load(weights, w) * v
                    else:
                        acc += v
                    w = uint32(w + uint32(1))
                if WEIGHTED:
                    planes += load(weights, h) * row
                h = uint32(h + uint32(1))
            if WEIGHTED:
                acc += load(weights, d) * planes
            d = uint32(d + uint32(1))
        out[i] = finish(acc, shift, limits)

    array, own, table = pointer(code), types.UniTuple(types.uint32, SIZES), pointer("I")
    arguments = (array, array, table, table, array, own, types.UniTuple(real, REALS))
    return Kernel(resample_axes, arguments, threads)


def _finish(code: str, kind: str) -> Any:
    """Return what is made of a sum."""
    real = REAL[code]

    def fixed(v, shift, limits):
        half = types.int32(uint32(uint32(uint32(1) << shift) >> uint32(1)))
        return types.int32(min(max(types.int32(types.int32(v + half) >> types.int32(shift)), limits[0]), limits[1]))

    def rounded(v, shift, limits):
        # Halves to even, whatever the size: the sum has no bits for fractions.
        magic = real(6755399441055744.0)
        near = real(real(v + magic) - magic) if abs(v) < real(2251799813685248.0) else v
        low = limits[0] if near < limits[0] else near
        return limits[1] if low > limits[1] else low

    return {"fixed": fixed, "rounded": rounded}.get(kind, lambda v, shift, limits: v)


def prepared(axes: Sequence[Any], strides: Sequence[int], element: str) -> Tables:
    """Return the `Taps` of D, H and W for arrays whose axes have these strides, with weights of an element type."""
    ends = np.cumsum([0, *[len(axis.sources) for axis in axes]])
    starts = np.concatenate([axis.start + first for axis, first in zip(axes, ends[:-1], strict=True)])
    offsets = np.concatenate([axis.sources * step for axis, step in zip(axes, strides, strict=True)])
    weights = np.concatenate([axis.weights for axis in axes]).astype(element)
    D, H, W = (axis.out for axis in axes)
    places, steps = (upload((each & 0xFFFFFFFF).astype(np.uint32)) for each in (starts, offsets))
    return Tables((D, H, W), places, steps, upload(weights), sum(axis.shift for axis in axes))


def run(
    stream: Any, kind: str, x: Buffer, target: Buffer, passes: Sequence[Tables], limits: tuple[float, float] = (0, 0)
) -> None:
    """Fill `target`, contiguous (P, OD, OH, OW, L), from x (P, D, H, W, L) of any strides but those of the tables."""
    P, L, code = x.shape[0], x.shape[4], code_of(x.dtype)
    for number, tables in enumerate(passes):
        D, H, W = tables.outs
        shape = (P, D, H, W, L)
        last = number == len(passes) - 1
        out = target.reshaped(*shape) if last else empty(shape, x.dtype, stream)
        total = P * D * H * W * L
        how = kind if last or kind != "rounded" else "weighted"
        if total:
            sizes = (total, L, W, H, D, x.strides[0], x.strides[4], tables.shift, *magics((L, W, H, D)))
            reals = tuple(map(x.dtype.type, limits))
            arguments = (x, out, tables.starts, tables.offsets, tables.weights, numbers(sizes), reals)
            launch(stream, resample, (code, how, THREADS), blocks_of(total, THREADS), arguments)
        x = out
