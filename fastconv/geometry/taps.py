"""Which inputs each output of a resized axis sees, and with which weights: the coordinate rules of PyTorch.

Coordinates are computed in the type in which PyTorch computes them, float32 unless the data are float64, so that no
pixel is taken from its neighbour. All here is NumPy on one axis at a time; kernels read the tables.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

# Of the cubic kernel: as OpenCV without antialiasing, as Pillow (Keys 1981) with it.
_A, _A_ANTIALIAS = -0.75, -0.5
# Bits of the weights of uint8, as Pillow and PyTorch have them: they fit int16.
_MAX_PRECISION, _WEIGHT_LIMIT = 22, 1 << 15


class Axis(NamedTuple):
    """How one axis is resized; hashable, so it keys caches.

    Attributes
    ----------
    n, out : int
        Input and output size.
    scale : float or None
        The user's scale factor, if the coordinates follow it instead of ``out / n``.
    align_corners : bool
        The centres of the first and last elements stay in place, not the ends of the axis.
    """

    n: int
    out: int
    scale: float | None = None
    align_corners: bool = False


class Taps(NamedTuple):
    """Output o is the sum of ``weights[p] * input[sources[p]]`` over ``start[o] <= p < start[o + 1]``, at least one p.

    Sums of integers are divided by ``2**shift``, rounded half up, and clipped to `low` and `high`.
    """

    start: np.ndarray
    sources: np.ndarray
    weights: np.ndarray
    shift: int = 0
    low: int = -(2**63)
    high: int = 2**63 - 1

    @property
    def out(self) -> int:
        """How many outputs there are."""
        return len(self.start) - 1

    @property
    def is_identity(self) -> bool:
        """Whether outputs are the inputs."""
        one = 1 << self.shift
        return len(self.sources) == self.out and bool(
            (self.sources == np.arange(self.out)).all() and (self.weights == one).all()
        )


def nearest(axis: Axis, exact: bool, real: Any, short: bool) -> np.ndarray:
    """Return the input that each output copies.

    Parameters
    ----------
    axis : Axis
    exact : bool
        Centre to centre, as Pillow; else ``floor(o * n / out)``, as OpenCV.
    real : dtype
        float32 or float64, for the coordinates.
    short : bool
        PyTorch has two codes that round differently; this one is for two axes of together at most 128 outputs.
    """
    n, out, _, _ = axis
    o = np.arange(out)
    if short and not exact and axis.out in (n, 2 * n):
        return o // (out // n)
    if short:
        step = _step(axis, np.float32)
        at = (o + 0.5) * np.float64(step) if exact else o.astype(np.float32) * step
    elif exact:
        at = _positions(axis, real, below=False).astype(np.float64) + 0.5
    else:
        at = o.astype(real) * _step(axis, real)
    return np.minimum(np.floor(at.astype(np.float32)).astype(np.int64), n - 1)


def _step(axis: Axis, real: Any) -> Any:
    """Return the distance of two outputs, in inputs."""
    if axis.align_corners:
        return real(axis.n - 1) / real(axis.out - 1) if axis.out > 1 else real(0)
    if axis.scale is not None:
        return real(1.0 / axis.scale)
    return real(axis.n) / real(axis.out)


def _positions(axis: Axis, real: Any, below: bool) -> np.ndarray:
    """Return where outputs lie among the inputs; without `below` not before the first."""
    o, step = np.arange(axis.out).astype(real), _step(axis, real)
    if axis.align_corners:
        return np.asarray(o * step)
    # Rounded once, as by the fused multiply-add of PyTorch's kernels.
    at = ((o + 0.5).astype(np.float64) * step - 0.5).astype(real)
    return at if below else np.maximum(at, real(0))


def _split(at: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the input at or before each position, and the distance from it, 0 to 1."""
    index = np.minimum(np.floor(at.astype(np.float32)).astype(np.int64), n - 1)
    return index, np.clip(at - index.astype(at.dtype), at.dtype.type(0), at.dtype.type(1))


def linear(axis: Axis, real: Any) -> Taps:
    """Return the two neighbours of each output."""
    if axis.out == axis.n:
        index, distance = np.arange(axis.out), np.zeros(axis.out, real)
        following = index
    else:
        index, distance = _split(_positions(axis, real, below=False), axis.n)
        following = np.minimum(index + 1, axis.n - 1)
    return _regular(np.stack([index, following], 1), np.stack([real(1) - distance, distance], 1))


def cubic(axis: Axis, real: Any) -> Taps:
    """Return the four neighbours of each output, those beyond the ends replaced by the ends."""
    index, t = _split(_positions(axis, real, below=True), axis.n)
    indices = np.clip(index[:, None] + np.arange(-1, 3), 0, axis.n - 1)
    t = t.astype(np.float64)
    weights = _cubic(np.stack([t + 1, t, 1 - t, 2 - t], 1), _A)
    return _regular(indices, weights.astype(real))


def _cubic(distance: np.ndarray, a: Any) -> np.ndarray:
    """Return the cubic kernel of Keys (1981, doi:10.1109/TASSP.1981.1163711) at distances of 0 or more."""
    x = distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0)).astype(x.dtype)


def _triangle(distance: np.ndarray, a: Any) -> np.ndarray:
    return np.maximum(1 - distance, 0).astype(distance.dtype)


def antialiased(axis: Axis, taps: int, real: Any) -> Taps:
    """Return a linear (2 `taps`) or cubic (4) kernel that is stretched to the distance of outputs where they are fewer.

    The rule is Pillow's: weights are those of all inputs under the kernel, divided by their sum.
    """
    if axis.out == axis.n:
        return identity(axis.n, real)
    step = _step(axis, real)
    wide = step >= 1
    support = real(taps * 0.5) * step if wide else real(taps * 0.5)
    center = ((np.arange(axis.out) + 0.5) * np.float64(step)).astype(real)
    first = np.maximum(_truncated(center - support + 0.5), 0)
    most = math.ceil(support) * 2 + 1
    count = np.clip(np.minimum(_truncated(center + support + 0.5), axis.n) - first, 1, most)
    offsets = np.arange(count.max())
    at = (offsets + first[:, None]).astype(real) - center[:, None]
    distance = np.abs(((at + 0.5) * (1.0 / step if wide else 1.0)).astype(real))
    kernel = _triangle if taps == 2 else _cubic
    weights = np.where(offsets < count[:, None], kernel(distance, real(_A_ANTIALIAS)), real(0))
    total = weights.sum(1, keepdims=True, dtype=real)
    weights = np.divide(weights, total, out=weights, where=total != 0)
    return _ragged(first, count, weights)


def _truncated(at: np.ndarray) -> np.ndarray:
    return at.astype(np.int64)


def area(axis: Axis, real: Any, divided: bool = True) -> Taps:
    """Return the inputs under each output, ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``, with equal weights.

    Weights add up to 1, or, not `divided`, are 1.
    """
    o = np.arange(axis.out)
    first = o * axis.n // axis.out
    count = -(-(o + 1) * axis.n // axis.out) - first
    each = real(1) / count.astype(real) if divided else np.ones(axis.out, real)
    return _ragged(first, count, np.broadcast_to(each[:, None], (axis.out, int(count.max()))))


def identity(n: int, real: Any, weight: int = 1) -> Taps:
    """Return outputs that are the inputs."""
    return _regular(np.arange(n)[:, None], np.full((n, 1), weight, real))


def fixed_point(axis: Axis, taps: int, antialias: bool) -> Taps:
    """Return integer weights for uint8 data, PyTorch's and Pillow's, of a linear (2 `taps`) or cubic (4) kernel."""
    if axis.out == axis.n:
        return identity(axis.n, np.int32)._replace(low=0, high=255)
    exact = antialiased(axis, taps, np.float64) if antialias else _merged(axis, taps)
    largest, precision = float(exact.weights.max()), 0
    while precision < _MAX_PRECISION and int(0.5 + largest * (1 << (precision + 1))) < _WEIGHT_LIMIT:
        precision += 1
    scaled = exact.weights * (1 << precision)
    whole = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32)
    return exact._replace(weights=whole, shift=precision, low=0, high=255)


def _merged(axis: Axis, taps: int) -> Taps:
    """Return the linear or cubic neighbours with one weight for each input: those at the ends are added up."""
    at = _positions(axis, np.float64, below=taps == 4)
    index, t = _split(at, axis.n)
    reach = taps // 2
    offsets = np.arange(1 - reach, reach + 1)
    distances = np.abs(offsets - t[:, None])
    weights = _cubic(distances, _A) if taps == 4 else _triangle(distances, None)
    indices = np.clip(index[:, None] + offsets, 0, axis.n - 1)
    first = indices[:, :1]
    count = indices[:, -1] - first[:, 0] + 1
    sums = np.zeros((axis.out, taps))
    for j in range(taps):
        np.add.at(sums, (np.arange(axis.out), indices[:, j] - first[:, 0]), weights[:, j])
    return _ragged(first[:, 0], count, sums)


def _regular(index: np.ndarray, weights: np.ndarray) -> Taps:
    """Return taps of which each output has as many."""
    out, count = index.shape
    return Taps(np.arange(out + 1) * count, index.astype(np.int64).ravel(), np.ascontiguousarray(weights).ravel())


def _ragged(first: np.ndarray, count: np.ndarray, weights: np.ndarray) -> Taps:
    """Return taps on runs of inputs: the first `count` weights of each row are used."""
    offsets = np.arange(weights.shape[1])
    used = offsets < count[:, None]
    index = (first[:, None] + offsets)[used]
    return Taps(np.concatenate([[0], np.cumsum(count)]), index, np.ascontiguousarray(weights[used]))


def with_lanes(taps: Taps, lanes: int) -> Taps:
    """Return the taps of an axis whose elements are runs of `lanes` numbers, number by number."""
    counts = np.repeat(np.diff(taps.start), lanes)
    start = np.concatenate([[0], np.cumsum(counts)])
    source = np.repeat(np.repeat(taps.start[:-1], lanes) - start[:-1], counts) + np.arange(start[-1])
    lane = np.repeat(np.tile(np.arange(lanes), taps.out), counts)
    return taps._replace(start=start, sources=taps.sources[source] * lanes + lane, weights=taps.weights[source])


def product(outer: Taps, inner: Taps, n: int) -> Taps:
    """Return the taps of two axes as one; the inner has n inputs."""
    counts = np.multiply.outer(np.diff(outer.start), np.diff(inner.start))
    start = np.concatenate([[0], np.cumsum(counts)])
    number = np.arange(start[-1]) - np.repeat(start[:-1], counts.ravel())
    o, i = (np.repeat(each, counts.ravel()) for each in np.divmod(np.arange(counts.size), inner.out))
    each = np.diff(inner.start)[i]
    p, q = outer.start[o] + number // each, inner.start[i] + number % each
    return inner._replace(
        start=start, sources=outer.sources[p] * n + inner.sources[q], weights=outer.weights[p] * inner.weights[q]
    )


def gathered(sources: np.ndarray, real: Any) -> Taps:
    """Return outputs that are one input each."""
    return _regular(sources[:, None], np.ones((len(sources), 1), real))


def windows(start: np.ndarray, reach: np.ndarray, real: Any) -> Taps:
    """Return outputs that are the sums of the inputs from `start` on and before `reach`; none may be empty."""
    count = reach - start
    return _ragged(start, count, np.broadcast_to(np.ones(1, real), (len(start), int(count.max()))))


def transposed(taps: Taps, n: int) -> tuple[Taps, np.ndarray]:
    """Return the taps of the adjoint, from outputs to the n inputs, and the inputs that no output sees.

    Those have a tap all the same, of weight 0.
    """
    unseen = np.flatnonzero(np.bincount(taps.sources, minlength=n) == 0)
    outputs = np.repeat(np.arange(taps.out), np.diff(taps.start))
    order = np.argsort(taps.sources, kind="stable")
    # An input that is not seen has an output that its neighbour has, so that rows stay together.
    places = np.searchsorted(taps.sources[order], unseen)
    near = outputs[order][np.minimum(places, len(outputs) - 1)]
    counts = np.maximum(np.bincount(taps.sources, minlength=n), 1)
    weights = np.insert(taps.weights[order], places, 0)
    return Taps(np.concatenate([[0], np.cumsum(counts)]), np.insert(outputs[order], places, near), weights), unseen
