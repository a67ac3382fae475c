"""Numbers that count what is done with them, and the textbook definition of each algorithm on arrays of them.

Each definition does what the algorithm does, no more: no zero is added to start a sum, and nothing is multiplied by 1
or -1. Arrays are of objects, so NumPy only moves them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add

import numpy as np

from fastconv.winograd import schemes, transforms


class Tally:
    """What has been counted."""

    multiplies = adds = 0


class Number:
    """A float that counts multiplications, and additions, subtractions and comparisons."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __mul__(self, other):
        Tally.multiplies += 1
        return Number(self.value * getattr(other, "value", other))

    __rmul__ = __mul__

    def __add__(self, other):
        Tally.adds += 1
        return Number(self.value + other.value)

    def __sub__(self, other):
        Tally.adds += 1
        return Number(self.value - other.value)

    def __neg__(self):
        return Number(-self.value)

    def larger(self, other):
        """Return the larger of two."""
        Tally.adds += 1
        return self if self.value > other.value else other


@contextmanager
def counting() -> Iterator[type[Tally]]:
    """Count from zero."""
    Tally.multiplies = Tally.adds = 0
    yield Tally


numbers = np.vectorize(Number, otypes=[object])
values = np.vectorize(lambda number: number.value, otypes=[float])


def padded(x: np.ndarray, *pads: int) -> np.ndarray:
    """Return an array with zeros around its last axes."""
    widths = [(0, 0)] * (x.ndim - len(pads)) + [(pad, pad) for pad in pads]
    return np.pad(x, widths, constant_values=Number(0.0))


def windows(x: np.ndarray, K: tuple[int, int], stride: int, dilation: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (oh, ow, window) of images x (C, H, W)."""
    spans = [dilation * (k - 1) + 1 for k in K]
    for oh in range((x.shape[1] - spans[0]) // stride + 1):
        for ow in range((x.shape[2] - spans[1]) // stride + 1):
            h, w = oh * stride, ow * stride
            yield oh, ow, x[:, h : h + spans[0] : dilation, w : w + spans[1] : dilation]


def outputs(found: dict[tuple[int, ...], Number]) -> np.ndarray:
    """Return what stands at places as an array."""
    out = np.empty([max(axis) + 1 for axis in zip(*found, strict=True)], object)
    for place, number in found.items():
        out[place] = number
    return out


def direct(x: np.ndarray, w: np.ndarray, stride: int = 1, dilation: int = 1, groups: int = 1) -> np.ndarray:
    """Return (OC, OH, OW) of images x (IC, H, W), every sum by itself."""
    ICG, OCG, found = x.shape[0] // groups, w.shape[0] // groups, {}
    for oh, ow, window in windows(x, w.shape[2:], stride, dilation):
        for oc in range(len(w)):
            part = window[oc // OCG * ICG : (oc // OCG + 1) * ICG]
            found[oc, oh, ow] = reduce(add, (a * b for a, b in zip(part.flat, w[oc].flat, strict=True)))
    return outputs(found)


def im2col(x: np.ndarray, w: np.ndarray, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """Return the product of the weight as a matrix and the windows as columns."""
    found = list(windows(x, w.shape[2:], stride, dilation))
    columns = np.stack([window.ravel() for _, _, window in found], axis=1)
    return np.dot(w.reshape(len(w), -1), columns).reshape(len(w), found[-1][0] + 1, found[-1][1] + 1)


def separable(x: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return all rows of an image x (1, H, W) filtered along W, these along H."""
    along = direct(x, row.reshape(1, 1, 1, -1))
    return direct(along, column.reshape(1, 1, -1, 1))


def applied(scheme, vector: Sequence[Number]) -> list[Number]:
    """Return the outputs of a Winograd transform: sums of a few values, whose coefficients 1 and -1 are no products."""
    known = list(vector)
    for step in scheme.steps:
        total = None
        for j, c in step:
            term = known[j] if abs(c) == 1 else known[j] * abs(c)
            negative = c < 0
            total = (-term if negative else term) if total is None else total - term if negative else total + term
        known.append(total)
    return [known[j] for j in scheme.outputs]


def both_ways(down, across, tile: np.ndarray) -> np.ndarray:
    """Return a tile transformed column by column, then row by row."""
    columns = np.array([applied(down, tile[:, j]) for j in range(tile.shape[1])]).T
    return np.array([applied(across, row) for row in columns])


def winograd(x: np.ndarray, w: np.ndarray, m: tuple[int, int]) -> np.ndarray:
    """Return F(m, r) of images x (IC, H, W), which are extended by zeros to whole tiles; w is of plain floats."""
    (OC, IC, *r), (_, *S) = w.shape, x.shape
    n, out = [a + b - 1 for a, b in zip(m, r, strict=True)], [s - b + 1 for s, b in zip(S, r, strict=True)]
    G = [np.array(transforms(*pair).weight, float) for pair in zip(m, r, strict=True)]
    U = np.einsum("pk,ockl,ql->ocpq", G[0], w, G[1])
    down, across = (schemes(*pair) for pair in zip(m, r, strict=True))
    tiles = [-(-size // step) for size, step in zip(out, m, strict=True)]
    whole = np.pad(
        x, [(0, 0), *((0, t * a - o) for t, a, o in zip(tiles, m, out, strict=True))], constant_values=Number(0.0)
    )
    result = np.empty((OC, tiles[0] * m[0], tiles[1] * m[1]), object)
    for i, j in itertools.product(*map(range, tiles)):
        h, v = i * m[0], j * m[1]
        V = [both_ways(down.input, across.input, whole[ic, h : h + n[0], v : v + n[1]]) for ic in range(IC)]
        for oc in range(OC):
            M = reduce(add, (V[ic] * U[oc, ic] for ic in range(IC)))
            result[oc, h : h + m[0], v : v + m[1]] = both_ways(down.output, across.output, M)
    return result[:, : out[0], : out[1]]


class Complex:
    """A complex number of two that count: a product takes 4 multiplications and 2 additions, a sum 2 additions."""

    __slots__ = ("im", "re")

    def __init__(self, re, im):
        self.re, self.im = re, im

    def __mul__(self, z):
        if not isinstance(z, complex):
            return Complex(self.re * z, self.im * z)
        return Complex(self.re * z.real - self.im * z.imag, self.re * z.imag + self.im * z.real)

    def __add__(self, other):
        return Complex(self.re + other.re, self.im + other.im)

    def __sub__(self, other):
        return Complex(self.re - other.re, self.im - other.im)

    def turned(self, sign):
        """Return it times the imaginary unit, or its opposite: no operation."""
        return Complex(-self.im, self.re) if sign > 0 else Complex(self.im, -self.re)


def butterfly(z: list[Complex], sign: int) -> list[Complex]:
    """Return the transform of 2, 3 or 5 numbers."""
    if len(z) == 2:
        return [z[0] + z[1], z[0] - z[1]]
    sines = [math.sin(2 * math.pi * k / len(z)) for k in range(3)]
    cosines = [math.cos(2 * math.pi * k / len(z)) for k in range(3)]
    if len(z) == 3:
        t, d = z[1] + z[2], (z[1] - z[2]) * sines[1]
        middle = z[0] + t * cosines[1]
        return [z[0] + t, middle + d.turned(sign), middle - d.turned(sign)]
    t1, d1, t2, d2 = z[1] + z[4], z[1] - z[4], z[2] + z[3], z[2] - z[3]
    a1, a2 = z[0] + t1 * cosines[1] + t2 * cosines[2], z[0] + t1 * cosines[2] + t2 * cosines[1]
    b1, b2 = d1 * sines[1] + d2 * sines[2], d1 * sines[2] - d2 * sines[1]
    turned1, turned2 = b1.turned(sign), b2.turned(sign)
    return [z[0] + t1 + t2, a1 + turned1, a2 + turned2, a2 - turned2, a1 - turned1]


def transform(z: list[Complex], sign: int) -> list[Complex]:
    """Return the Fourier transform by Cooley and Tukey; 1 / n is left out."""
    n = len(z)
    if n == 1:
        return z
    p = next(p for p in (2, 3, 5) if n % p == 0)
    parts, out = [transform(z[r::p], sign) for r in range(p)], [None] * n
    for k in range(n // p):
        twiddled = [parts[0][k]]
        for r in range(1, p):
            angle = sign * 2 * math.pi * r * k / n
            twiddled.append(parts[r][k] * complex(math.cos(angle), math.sin(angle)))
        out[k :: n // p] = butterfly(twiddled, sign)
    return out


def transformed(block: np.ndarray, sign: int, axes: Sequence[int]) -> np.ndarray:
    """Return the transform of every line along some axes."""
    for axis in axes:
        moved = np.moveaxis(block, axis, -1).copy()
        for place in np.ndindex(moved.shape[:-1]):
            moved[place] = transform(list(moved[place]), sign)
        block = np.moveaxis(moved, -1, axis)
    return block


def completed(half: np.ndarray, size: int) -> np.ndarray:
    """Return the whole spectrum of real data from the half along the last axis: the rest is conjugated."""
    whole = np.empty((*half.shape[:-1], size), object)
    whole[..., : half.shape[-1]] = half
    for place in np.ndindex(*half.shape[:-1]):
        for k in range(half.shape[-1], size):
            z = half[(*(-i % n for i, n in zip(place, half.shape[:-1], strict=True)), size - k)]
            whole[(*place, k)] = Complex(z.re, -z.im)
    return whole


def fft(
    x: np.ndarray, w: np.ndarray, block: Sequence[int], valid: Sequence[int], rows: bool
) -> tuple[np.ndarray, int, int]:
    """Return the convolution of x (IC, H, W), and the multiplications and additions of its transforms alone.

    Blocks of `block` inputs give `valid` outputs; w, of plain floats, is transformed beforehand and holds 1 / n. With
    `rows` only rows are transformed, and IC is 1.
    """
    (OC, IC, KH, KW), (_, H, W) = w.shape, x.shape
    OH, OW, (BH, BW), (VH, VW) = H - KH + 1, W - KW + 1, block, valid
    real = np.vectorize(lambda a: Complex(a, Number(0.0)), otypes=[object])
    axes = [i for i, n in ((-2, BH), (-1, BW)) if n > 1 and (i == -1 or not rows)]
    sizes = [block[axis] for axis in axes]
    spectrum = np.conj(np.fft.fftn(w, sizes, axes)) / math.prod(sizes)
    result, F, spent = np.empty((OC, OH, OW), object), BW // 2 + 1, [0, 0]

    def counted(data, sign):
        before = Tally.multiplies, Tally.adds
        found = transformed(data, sign, axes)
        spent[0] += Tally.multiplies - before[0]
        spent[1] += Tally.adds - before[1]
        return found

    for h, v in itertools.product(range(0, OH, VH), range(0, OW, VW)):
        taken = np.pad(x[:, h : h + BH, v : v + BW], [(0, 0), (0, BH), (0, BW)], constant_values=Number(0.0))
        X = [counted(real(taken[ic, :BH, :BW]), -1)[..., :F] for ic in range(IC)]
        for oc in range(OC):
            if rows:
                lines = [
                    [
                        reduce(add, (X[0][r + k, f] * complex(spectrum[oc, 0, k, f]) for k in range(KH)))
                        for f in range(F)
                    ]
                    for r in range(VH)
                ]
                Y = np.array(lines, object)
            else:
                Y = np.empty((BH, F), object)
                for place in np.ndindex(BH, F):
                    Y[place] = reduce(add, (X[ic][place] * complex(spectrum[(oc, ic, *place)]) for ic in range(IC)))
            y = counted(completed_rows(Y, BW) if rows else completed(Y, BW), 1)
            for i, j in itertools.product(range(min(VH, OH - h)), range(min(VW, OW - v))):
                result[oc, h + i, v + j] = y[i, j].re
    return result, *spent


def completed_rows(half: np.ndarray, size: int) -> np.ndarray:
    """Return the whole spectra of single rows."""
    return np.stack([completed(row[None], size)[0] for row in half])


def transposed(x: np.ndarray, w: np.ndarray, stride: int, dilation: int) -> np.ndarray:
    """Return (OC, …) of images x (IC, H, W): products fall on outputs; where none does there is a zero."""
    found: dict[tuple[int, int, int], Number] = {}
    for (ic, i, j), a in np.ndenumerate(x):
        for (oc, kh, kw), b in np.ndenumerate(w[ic]):
            place = oc, i * stride + kh * dilation, j * stride + kw * dilation
            found[place] = found[place] + a * b if place in found else a * b
    sizes = [(n - 1) * stride + dilation * (k - 1) + 1 for n, k in zip(x.shape[1:], w.shape[2:], strict=True)]
    out = np.full((w.shape[1], *sizes), Number(0.0), object)
    for place, number in found.items():
        out[place] = number
    return out


def pooled(x: np.ndarray, K: tuple[int, int], stride: int, combine: Callable[[Number, Number], Number]) -> np.ndarray:
    """Return the windows of images x (C, H, W), each combined by itself."""
    found = {}
    for oh, ow, window in windows(x, K, stride, 1):
        for c in range(len(x)):
            found[c, oh, ow] = reduce(combine, window[c].flat)
    return outputs(found)


def staged(line: Sequence[Number], stages, stride: int, out: int, combine: Callable[[Number, Number], Number]):
    """Return the windows along a line in stages: each fills an area from runs of others; phases are the first areas."""
    areas: dict[int, Sequence[Number]] = {phase: line[phase::stride] for phase in range(stride)}
    for stage in stages:
        areas[stage.area] = [
            reduce(combine, (areas[area][i + at] for area, at in stage.taps)) for i in range(out + stage.extra)
        ]
    return areas[stages[-1].area]
