"""A convolution and a maximum pooling as one step.

Algorithms that compute blocks of whole rows run band by band: a block's rows stand in a buffer in cache until they are
pooled, and the convolution's output is never stored. Others, and what is rare, run one image after the other through a
buffer that the thread keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.dispatch import load, pooling
from fastconv.dispatch.blocking import gemm_blocking
from fastconv.dispatch.blocking_bf16x3 import bf16_blocking
from fastconv.dispatch.plan import Prepared, free_buffers, prepare
from fastconv.geometry.arrays import address
from fastconv.geometry.conv import ConvGeometry, output_shape
from fastconv.geometry.windows import Axis
from fastconv.threads import run

# Elements that the pool kernels compare as they are.
DTYPES = ("float32", "float64", "int32", "int64")
# Bytes of a band at most; bands of a batch at least, since threads share them.
BAND_BYTES, BANDS = 1 << 20, 4


class Pooled:
    """A prepared convolution whose output is pooled: the maximum of each `size` x `size` window, `size` apart."""

    __slots__ = ("_bands", "_image", "_pool")

    def __init__(self, prepared: Prepared, size: int):
        g = prepared.geometry
        self._image, self._bands = _in_bands(prepared, size)
        if self._bands is None and g.N > 1:
            names = prepared.activation, prepared.algorithm, prepared.precision, prepared.entry
            self._image = prepare("plan_conv2d", g._replace(N=1), *names)
        image = self._image.geometry
        planes = image.N * image.OC if g.layout == "channels_first" else image.N
        self._pool = _windows(image, size, max(planes, 1), image.OH, image.OH)

    def pack(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the weight arrays in the order that `run` reads; see `Prepared.pack`."""
        return self._image.pack(weights)

    def run(
        self,
        x: np.ndarray,
        packed: Sequence[np.ndarray],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Fill `out` as `Prepared.run` does; `residual` has the shape of the convolution's output."""
        if out.size and (residual is not None or self._bands is None or not self._run_bands(x, packed, bias, out)):
            self._run_images(x, packed, bias, residual, out)

    def _run_bands(self, x: np.ndarray, packed: Sequence[np.ndarray], bias: np.ndarray | None, out: np.ndarray) -> bool:
        """Fill `out`, and return whether it is right: not where sums of the matrix unit are not finite."""
        program, g = self._bands, self._image.geometry
        bias = np.zeros(g.OC, out.dtype) if bias is None else bias
        flags = np.zeros(program.flags, np.uint8)
        arrays = (x, packed[0], bias, None, out, None, flags)
        # Two more are for chains of two convolutions.
        io = np.array([*(0 if a is None else address(a) for a in arrays), 0, 0], np.int64)
        run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, self._image.seconds)
        return not flags.any()

    def _run_images(
        self,
        x: np.ndarray,
        packed: Sequence[np.ndarray],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        image = self._image
        shape = output_shape(image.geometry)
        size = int(np.prod(shape)) * image.dtype.itemsize
        buffer = free_buffers.take(size)
        try:
            middle = buffer[:size].view(image.dtype).reshape(shape)
            N = image.geometry.N
            inputs, outputs = (a if a.ndim == 4 else a[None] for a in (x, out))
            added = residual if residual is None or residual.ndim == 4 else residual[None]
            for n in range(0, len(inputs), N):
                one = None if added is None else added[n : n + N]
                image.run(inputs[n : n + N], packed, bias, one, middle)
                self._pool.run(middle, outputs[n : n + N])
        finally:
            free_buffers.give_back(buffer)


def _windows(g: ConvGeometry, size: int, planes: int, rows: int, filled: int) -> pooling.Prepared:
    """Return the maxima over the first `filled` of `rows` rows of so many planes of the convolution's output."""
    axes = tuple(Axis(n, out // size, size, size).trimmed for n, out in ((rows, filled), (g.OW, g.OW)))
    return pooling.prepare("max", g.dtype, planes, 1 if g.layout == "channels_first" else g.OC, axes)


def _in_bands(prepared: Prepared, size: int) -> tuple[Prepared, Any]:
    """Return the convolution and the program of its bands; the same and None where it has none."""
    g, candidate, target = prepared.geometry, prepared.candidate, load.target()
    first = g.layout == "channels_first"
    if prepared.algorithm not in ("direct", "bf16x3") or size == 1 or g.flat != g or not g.N or not (first or g.G == 1):
        return prepared, None
    b: Any
    if prepared.algorithm == "direct":
        b = gemm_blocking(g, target, False, size)
    else:
        b = bf16_blocking(g, target, candidate.blocking.TERMS, size)
    RB, item = b.RB, prepared.dtype.itemsize
    channels, pixels, bands = g.OCG if first else g.OC, RB * g.OW, -(-g.OH // RB)
    if channels * pixels * item > BAND_BYTES or g.N * g.G * bands < BANDS:
        return prepared, None
    cut = Prepared(g, prepared.activation, prepared.precision, candidate._replace(blocking=b), prepared.entry)
    conv = load.load("chain:moved_planes")(cut.program, pixels) if first else cut.program
    pools = [_band_pool(g, size, channels, RB, filled) for filled in (RB, g.OH - (bands - 1) * RB)]
    out = (g.OH // size) * (g.OW // size) * channels, RB // size * (g.OW // size) * (1 if first else channels)
    sizes = {"BANDS": bands, "FIRST_TASKS": b.tasks // (g.N * g.G * bands)}
    image, band = (channels * pixels, pixels) if first else (g.OH * g.OW * channels, pixels * channels)
    names = ("IMAGE", "BAND", "OUT_IMAGE", "OUT_BAND")
    sizes |= {name: n * item for name, n in zip(names, (image, band, *out), strict=True)}
    build = load.load("chain:build")
    return cut, build(conv, pools[0], sizes, channels * pixels * item, g.N * g.G * bands, pools[1], True)


def _band_pool(g: ConvGeometry, size: int, channels: int, rows: int, filled: int) -> Any:
    """Return the program that pools the `filled` rows of a band of `rows`, or None where they are too few."""
    if filled < size:
        return None
    first = g.layout == "channels_first"
    windows = _windows(g, size, channels if first else 1, rows, filled)
    out_plane = (g.OH // size) * (g.OW // size)
    return load.load("windows_turned:moved")(windows.program, out_plane) if first else windows.program
