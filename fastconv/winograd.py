"""Winograd's minimal filtering: the matrices, and the sums that the kernels compute and the planner counts.

    F(m, r): m neighbouring outputs of a filter of r taps from n = m + r - 1 inputs x, with n products instead of m * r,
    y = A [(G w) * (B x)],  in 2-D  Y = A [(G W G^T) * (B X B^T)] A^T

The matrices are those of Toom and Cook for the points 0, ±p, … and infinity. With the usual points 0, ±1, ±2 the error
of F(4x4,3x3) is four times as large as with 0, ±5/8, ±3/2; the search is in the reference, the numbers are ours.

References
----------
Winograd 1980, Arithmetic Complexity of Computations; Lavin and Gray 2016, arXiv:1509.09308;
Barabasz, Anderson, Soodhalter and Gregg 2020, arXiv:1803.10986 (choice of points).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import NamedTuple, TypeAlias

Matrix: TypeAlias = tuple[tuple[Fraction, ...], ...]

# The positive points, by the number n of inputs.
POINTS = {
    4: (Fraction(1),),
    6: (Fraction(5, 8), Fraction(3, 2)),
    8: (Fraction(1, 2), Fraction(1), Fraction(2)),
}


class Transforms(NamedTuple):
    """The matrices A (m x n), G (n x r) and B (n x n) of F(m, r)."""

    output: Matrix
    weight: Matrix
    input: Matrix


class Scheme(NamedTuple):
    """A matrix times a vector of `inputs` values, as few sums: each step appends a sum of (value, coefficient)."""

    inputs: int
    steps: tuple[tuple[tuple[int, float], ...], ...]
    outputs: tuple[int, ...]

    @property
    def multiplies(self) -> int:
        """Multiplications."""
        return sum(abs(c) != 1 for step in self.steps for _, c in step)

    @property
    def adds(self) -> int:
        """Additions and subtractions."""
        return sum(len(step) - 1 for step in self.steps)


class Schemes(NamedTuple):
    """The three transforms of F(m, r)."""

    output: Scheme
    weight: Scheme
    input: Scheme


@cache
def transforms(m: int, r: int) -> Transforms:
    """Return the matrices of F(m, r); a kernel of one tap is not transformed."""
    one = Fraction(1)
    if m == r == 1:
        return Transforms(((one,),), ((one,),), ((one,),))
    n = m + r - 1
    points = [Fraction(0), *(s * p for p in POINTS[n] for s in (1, -1))]
    last = (Fraction(0),) * (m - 1) + (one,)
    output = tuple(zip(*[tuple(p**i for i in range(m)) for p in points], last, strict=True))
    weight, rows = [], []
    for j, p in enumerate(points):
        others = points[:j] + points[j + 1 :]
        scale = one
        for q in others:
            scale *= p - q
        weight.append(tuple(p**k / scale for k in range(r)))
        rows.append((*_product(others), Fraction(0)))
    weight.append((Fraction(0),) * (r - 1) + (one,))
    return Transforms(output, tuple(weight), (*rows, tuple(_product(points))))


def _product(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients, from that of 1 on, of the product of (x - root)."""
    poly = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *poly], [*(root * c for c in poly), Fraction(0)]
        poly = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return poly


@cache
def schemes(m: int, r: int) -> Schemes:
    """Return the sums of F(m, r): the rows, or columns, of the points p and -p share their even and odd parts."""
    t = transforms(m, r)
    return Schemes(_by_columns(t.output), _by_rows(t.weight), _by_rows(t.input))


def _by_rows(matrix: Matrix) -> Scheme:
    """Rows 2i - 1 and 2i are e + o and e - o, with e over even inputs and o over odd ones."""
    steps: list[tuple[tuple[int, float], ...]] = []
    inputs, outputs = len(matrix[0]), []

    def summed(terms: list[tuple[int, Fraction]]) -> int:
        if len(terms) == 1 and terms[0][1] == 1:
            return terms[0][0]
        steps.append(_ordered(terms))
        return inputs + len(steps) - 1

    pairs = (len(matrix) - 2) // 2
    for i in range(pairs):
        row = matrix[2 * i + 1]
        even, odd = ([(j, row[j]) for j in range(k, inputs, 2) if row[j]] for k in (0, 1))
        lead = odd[-1][1]
        common = summed(even) if len(even) > 1 else even[0][0]
        scale = Fraction(1) if len(even) > 1 else even[0][1]
        other = summed([(j, c / lead) for j, c in odd])
        outputs += [summed([(common, scale), (other, s * lead)]) for s in (1, -1)]
    ends = [summed([(j, c) for j, c in enumerate(matrix[k]) if c]) for k in ((0,) if len(matrix) == 1 else (0, -1))]
    return Scheme(inputs, tuple(steps), (ends[0], *outputs, *ends[1:]))


def _by_columns(matrix: Matrix) -> Scheme:
    """Columns 2i - 1 and 2i agree in even rows, and are opposite in odd ones."""
    inputs = len(matrix[0])
    pairs = range(1, inputs - 1, 2)
    steps: list[tuple[tuple[int, float], ...]] = [((j, 1.0), (j + 1, s)) for j in pairs for s in (1.0, -1.0)]
    outputs = []
    for i, row in enumerate(matrix):
        # Sum and difference of pair j stand at inputs + j - 1 and inputs + j.
        terms = [(inputs + j - 1 + i % 2, row[j]) for j in pairs if row[j]]
        terms += [(j, row[j]) for j in sorted({0, inputs - 1}) if row[j]]
        if len(terms) == 1 and terms[0][1] == 1:
            outputs.append(terms[0][0])
            continue
        steps.append(_ordered(terms))
        outputs.append(inputs + len(steps) - 1)
    # A single row reads no differences.
    return Scheme(inputs, tuple(steps), tuple(outputs))


def _ordered(terms: Sequence[tuple[int, Fraction]]) -> tuple[tuple[int, float], ...]:
    """Return the terms as floats, one with coefficient 1 first if there is any."""
    return tuple((j, float(c)) for j, c in sorted(terms, key=lambda term: term[1] != 1))
