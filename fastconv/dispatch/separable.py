"""A depthwise and a pointwise convolution as one: band by band, or where there are few bands one after the other.

In a band the depthwise result stands in a buffer in L2, from which the pointwise convolution reads it. Images that are
themselves no larger than a band or two are cut by channels instead, which gives threads more to do; then the depthwise
result of the whole batch stands in a buffer that the thread keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch import load, workspace
from fastconv.dispatch.blocking_pixels import pixels_blocking
from fastconv.dispatch.blocking_turned import turned_blocking
from fastconv.dispatch.choose import choose
from fastconv.dispatch.cost import seconds
from fastconv.dispatch.plan import Prepared, free_buffers, pack_weight, prepare
from fastconv.geometry.arrays import address
from fastconv.geometry.conv import ConvGeometry, output_shape
from fastconv.threads import run

# Bytes of a band; the pixels that it has at least; bands of a batch at least.
BAND_BYTES, BAND_PIXELS, BANDS = 256 << 10, 96, 4
# Algorithms whose planes of output may lie anywhere.
MOVABLE = ("pointwise", "im2col", "direct", "bf16x3")


class Half(NamedTuple):
    """One of both convolutions; hashable."""

    geometry: ConvGeometry
    activation: str | None
    algorithm: str
    precision: str

    def prepared(self) -> Prepared:
        """Return it as a convolution of its own."""
        return prepare("separable_conv2d", *self)

    @property
    def chosen(self) -> str:
        """Name of the algorithm that does it."""
        return str(choose("separable_conv2d", self.geometry, self.algorithm, self.precision).row.name)


class Chain:
    """A program of bands, with the pointwise convolution of one band, whose packing it shares."""

    __slots__ = ("packers", "pointwise", "program", "seconds")

    def __init__(self, depthwise: Half, pointwise: Half, rows: int):
        g, whole, target = depthwise.geometry, pointwise.geometry, load.target()
        size, OHOW, pixels = np.dtype(g.dtype).itemsize, g.OH * g.OW, rows * g.OW
        band = whole._replace(N=1, H=1, OH=1, W=pixels, OW=pixels)
        self.pointwise = pointwise._replace(geometry=band, algorithm=pointwise.chosen).prepared()
        second = self.pointwise.program
        b: Any
        if g.layout == "channels_first":
            b = turned_blocking(g, target, rows)
            first = load.load("depthwise_turned:build")(g, depthwise.activation, b, pixels)
            second = load.load("chain:moved_planes")(second, OHOW)
            sizes = {"IMAGE": g.OC * pixels, "BAND": pixels, "OUT_IMAGE": whole.OC * OHOW, "OUT_BAND": pixels}
        else:
            b = pixels_blocking(g, target, rows)
            first = load.load("depthwise_pixels:build")(g, depthwise.activation, b)
            sizes = {"IMAGE": OHOW * g.OC, "BAND": pixels * g.OC}
            sizes |= {"OUT_IMAGE": OHOW * whole.OC, "OUT_BAND": pixels * whole.OC}
        tasks = g.N * (g.OH // rows)
        sizes = {name: n * size for name, n in sizes.items()} | {"BANDS": g.OH // rows}
        sizes["FIRST_TASKS"] = first.tasks // tasks
        self.packers = first.packers
        self.program = load.load("chain:build")(first, second, sizes, pixels * g.OC * size, tasks)
        self.seconds = seconds(b.cycles) + tasks * self.pointwise.seconds

    def run_once(
        self,
        x: np.ndarray,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray],
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> bool:
        """Fill `out`, and return whether it is right: not where sums of the matrix unit are not finite."""
        program, dtype = self.program, out.dtype
        packers = [*self.packers, *self.pointwise.program.packers]
        buffers = [free_buffers.take(packer.elements * dtype.itemsize) for packer in packers]
        try:
            each = zip(packers, weights, buffers, strict=True)
            one, two = (pack_weight(packer, weight, buffer, dtype) for packer, weight, buffer in each)
            flags = np.zeros(program.flags, np.uint8)
            # ROW is no one's.
            arrays = (x, one, biases[0], residual, out, None, flags, two, biases[1])
            io = np.array([0 if a is None else address(a) for a in arrays], np.int64)
            run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, self.seconds)
        finally:
            for buffer in buffers:
                free_buffers.give_back(buffer)
        return not flags.any()


def band_rows(g: ConvGeometry) -> int:
    """Return how many output rows a band has, a divisor of all rows; 0: the convolutions run one after the other."""
    if not g.N or not g.IC:
        return 0
    row = g.OC * g.OW * np.dtype(g.dtype).itemsize
    fitting = [n for n in range(1, g.OH + 1) if g.OH % n == 0 and n * row <= BAND_BYTES and n * g.OW >= BAND_PIXELS]
    if not fitting or g.N * g.OH // fitting[-1] < BANDS:
        return 0
    if g.layout == "channels_first" and turned_blocking(g, load.target(), fitting[-1]) is None:
        return 0
    return fitting[-1]


class Separable:
    """Both convolutions, ready but for their weights; immutable."""

    __slots__ = ("_chain", "_halves", "_no_biases", "dtype")

    def __init__(self, depthwise: Half, pointwise: Half):
        self._halves, self._chain = (depthwise, pointwise), None
        self.dtype = np.dtype(depthwise.geometry.dtype)
        self._no_biases = [np.zeros(half.geometry.OC, self.dtype) for half in self._halves]
        rows = band_rows(depthwise.geometry) if depthwise.chosen == "depthwise" else 0
        if rows and pointwise.chosen in MOVABLE:
            self._chain = Chain(depthwise, pointwise, rows)
        else:
            for half in self._halves:
                half.prepared()

    @property
    def band_seconds(self) -> float | None:
        """What its arithmetic takes on one thread, by the model, where it runs band by band; else None."""
        return None if self._chain is None else self._chain.seconds

    def run_once(
        self,
        x: np.ndarray,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray | None],
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Fill `out`; weights and biases are those of the depthwise and of the pointwise convolution."""
        if out.size == 0:
            return
        filled = [zeros if b is None else b for zeros, b in zip(self._no_biases, biases, strict=True)]
        if self._chain is None or not self._chain.run_once(x, weights, filled, residual, out):
            self._run_both(x, weights, filled, residual, out)

    def _run_both(
        self,
        x: np.ndarray,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray],
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        depthwise, pointwise = (half.prepared() for half in self._halves)
        shape = output_shape(depthwise.geometry)
        size = int(np.prod(shape)) * self.dtype.itemsize
        buffer = free_buffers.take(size)
        try:
            middle = buffer[:size].view(self.dtype).reshape(shape)
            depthwise.run_once(x, weights[:1], biases[0], None, middle)
            pointwise.run_once(middle, weights[1:], biases[1], residual, out)
        finally:
            free_buffers.give_back(buffer)


@lru_cache(maxsize=512)
def separable(depthwise: Half, pointwise: Half) -> Separable:
    """Return both as one, from the bounded cache if they were met before."""
    return Separable(depthwise, pointwise)


workspace.on_change(separable.cache_clear)
