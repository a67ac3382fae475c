"""Filters with the bits of SciPy's: in double precision, in the order of its C code, of arrays of any element type.

The one place where `fastconv.ndimage` meets the kernels of kernels/cpu/filter_blocks.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from fastconv.dispatch import load
from fastconv.geometry.arrays import address
from fastconv.system import empty
from fastconv.threads import run

# About what an element, and each of its taps, takes on one core; it only decides how the work is cut.
_SECONDS: Final = 1.5e-9
_TAP_SECONDS: Final = 0.2e-9
_EPSILON: Final = float(np.finfo(np.float64).eps)
_SIGN: Final = -(2**63)


class Taps(NamedTuple):
    """Taps by their places in the kernel, counted over all its axes in C order.

    Sums start with `start`, then come `singles`, then `pairs`: ``(x[first] + sign * x[second]) * weight``. Maxima are
    those of `singles`, and minima with sign = -1.
    """

    singles: np.ndarray
    weights: np.ndarray
    pairs: np.ndarray = np.zeros((0, 2), np.int64)
    pair_weights: np.ndarray = np.zeros(0)
    sign: int = 1
    start: float = 0.0

    def table(self, offsets: np.ndarray) -> np.ndarray:
        """Return the table that the kernels read; `offsets` are those of each place of the kernel."""
        S, P = len(self.singles), len(self.pairs)
        table = np.zeros(4 + 3 * (S + P), np.int64)
        table[:4] = np.float64(self.start).view(np.int64), S, P, 0 if self.sign > 0 else _SIGN
        rows = table[4:].reshape(-1, 3)
        rows[:S, 0], rows[S:, :2] = offsets[self.singles], offsets[self.pairs]
        rows[:, 2] = np.concatenate((self.weights, self.pair_weights)).view(np.int64)
        return table


def line_taps(weights: np.ndarray) -> Taps:
    """Return the taps of a pass along one axis, as NI_Correlate1D sums them.

    Symmetric and antisymmetric weights of odd length in pairs, from the ends to the centre; of others the last first.
    """
    n = len(weights)
    half = n // 2
    left, right = weights[:half], weights[: n - half - 1 : -1]
    sign = 0
    if n % 2:
        with np.errstate(all="ignore"):
            # What is not a number is not different, as in C.
            symmetric = not (np.abs(right - left) > _EPSILON).any()
            opposite = not (np.abs(right + left) > _EPSILON).any()
        sign = 1 if symmetric else -1 if opposite else 0
    places = np.arange(n)
    # Adding to -0.0 changes nothing: C starts with the first product.
    if sign:
        pairs = np.stack((places[:half], places[: n - half - 1 : -1]), axis=1)
        return Taps(places[half : half + 1], weights[half : half + 1], pairs, left, sign, -0.0)
    order = np.roll(places, 1)
    return Taps(order, weights[order], start=-0.0)


def kernel_taps(weights: np.ndarray) -> Taps:
    """Return the taps of a kernel as NI_Correlate sums them: without those that are about 0 or not a number."""
    places = np.flatnonzero(np.abs(weights) > _EPSILON)
    return Taps(places, weights.ravel()[places])


def filtered(
    op: str,
    x: np.ndarray,
    dtype: np.dtype,
    sizes: Sequence[int],
    befores: Sequence[int],
    mode: str,
    cval: float,
    taps: Taps,
    safe: bool = False,
    axis: int | None = None,
) -> np.ndarray:
    """Return an array filtered in double precision and cast to `dtype` as C does.

    Parameters
    ----------
    op : {"sum", "extreme", "mean"}
        Sums of products and maxima or minima over `taps`; means along `axis`, the only one with a size above 1.
    x : ndarray of bool, integers or floats, not empty
    dtype : dtype
        Of the same kinds. Of bool the bytes are returned as uint8: the next pass counts with them.
    sizes, befores : sequence of int
        Of the kernel along each axis, and how many of it stand before the element that gets the result.
    mode : str
        A padding mode of the convolutions; "zeros" fills with `cval`.
    safe : bool
        Cast to uint64 as NI_Correlate does.
    """
    planes, axes, inner = _grouped(x.shape, sizes, befores, axis)
    (H, KH, PT), (W, KW, PL) = axes
    table = _plane_table(planes, mode)
    names = [_element(a) for a in (x.dtype, dtype)]
    problem = load.load("filter_blocks:Problem")(
        len(table), H, W, inner, table.shape[1], KH, KW, PT, PL, mode, *names, safe
    )
    program, strides = load.load("filter_blocks:build")(op, problem)
    places = np.indices((table.shape[1], KH, KW)).reshape(3, -1)
    words = taps.table(np.tensordot(strides, places, 1))
    source = np.ascontiguousarray(x, x.dtype.newbyteorder("="))
    source = source if source.flags.aligned else source.copy()
    out, value = _result(x.shape, names[1]), np.array([cval])
    io = np.array([address(a) for a in (source, out, table, words, value)], np.int64)
    seconds = x.size * (_SECONDS + _TAP_SECONDS * (len(taps.singles) + 2 * len(taps.pairs)))
    run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, seconds)
    return out


def _result(shape: Sequence[int], dtype: str) -> np.ndarray:
    return empty(shape, dtype)


def _element(dtype: np.dtype) -> str:
    """Return the name of the element type that a kernel reads or writes."""
    if dtype.kind == "b":
        return "uint8"
    kind = {"u": "uint", "i": "int", "f": "float"}[dtype.kind]
    return f"{kind}{8 * dtype.itemsize}"


def _grouped(shape: Sequence[int], sizes: Sequence[int], befores: Sequence[int], columns: int | None) -> Any:
    """Return the axes as (those of planes, (rows, columns), elements of a pixel); each is [n, taps, before].

    Neighbours that no tap moves along are one axis, but for the one that `columns` names.
    """
    groups: list[list[int]] = []
    whole = True
    for axis, (n, k, before) in enumerate(zip(shape, sizes, befores, strict=True)):
        if k == 1 and axis != columns and not whole:
            groups[-1][0] *= n
        else:
            groups.append([n, k, before])
        whole = k > 1 or axis == columns
    inner = groups.pop()[0] if len(groups) > 1 and not whole else 1
    groups = [[1, 1, 0]] * (2 - len(groups)) + groups
    return groups[:-2], groups[-2:], inner


def _plane_table(axes: Sequence[Sequence[int]], mode: str) -> np.ndarray:
    """Return (planes, taps): which input plane each output plane sees under each tap; -1: the constant."""
    table = np.zeros((1, 1), np.int64)
    for n, k, before in axes:
        line = padded_indices(n, before, k - 1 - before, mode)
        sources = line[np.arange(n)[:, None] + np.arange(k)]
        known = (table[:, None, :, None] >= 0) & (sources[:, None, :] >= 0)
        combined = np.where(known, table[:, None, :, None] * n + sources[:, None, :], -1)
        table = combined.reshape(len(table) * n, -1)
    return np.ascontiguousarray(table)


def padded_indices(n: int, before: int, after: int, mode: str) -> np.ndarray:
    """Return which of n elements stands at each place of a padded axis; -1: the constant."""
    indices = np.arange(-before, n + after)
    if mode == "replicate":
        return indices.clip(0, n - 1)
    if mode == "circular":
        return indices % n
    if mode == "zeros":
        return np.where((indices >= 0) & (indices < n), indices, -1)
    # A mirror repeats after 2n elements, or 2n - 2 if the ends are not doubled.
    period = 2 * n if mode == "symmetric" else max(2 * n - 2, 1)
    indices %= period
    return np.minimum(indices, (2 * n - 1 if mode == "symmetric" else period) - indices)


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return doubles cast as C does."""
    copy = Taps(np.zeros(1, np.int64), np.ones(1), start=-0.0)
    return filtered("sum", x, dtype, (1,) * x.ndim, (0,) * x.ndim, "zeros", 0.0, copy)
