"""The matrices of minimal filtering: exact in fractions, and the sums are the matrices."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastconv.winograd import schemes, transforms

SIZES = [(1, 1), (2, 3), (4, 3), (6, 3), (2, 5), (4, 5)]


def product(matrix, vector):
    return [sum(c * x for c, x in zip(row, vector, strict=True)) for row in matrix]


def drawn(n, seed):
    return [Fraction(int(x), 7) for x in np.random.default_rng(seed).integers(-20, 20, n)]


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_transforms_are_correlation(m, r):
    t = transforms(m, r)
    for seed in range(3):
        x, w = drawn(m + r - 1, seed), drawn(r, seed + 9)
        products = [a * b for a, b in zip(product(t.weight, w), product(t.input, x), strict=True)]
        assert product(t.output, products) == [sum(x[i + k] * w[k] for k in range(r)) for i in range(m)]


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_schemes_are_the_matrices(m, r):
    for matrix, scheme in zip(transforms(m, r), schemes(m, r), strict=True):
        exact = np.array(matrix, float)
        assert scheme.inputs == exact.shape[1]
        for j in range(scheme.inputs):
            values = [float(i == j) for i in range(scheme.inputs)]
            for step in scheme.steps:
                values.append(sum(c * values[i] for i, c in step))
            np.testing.assert_allclose([values[i] for i in scheme.outputs], exact[:, j], rtol=1e-15, atol=0)


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_schemes_cost_less_than_the_matrices(m, r):
    for matrix, scheme in zip(transforms(m, r), schemes(m, r), strict=True):
        assert scheme.adds <= sum(max(np.count_nonzero(row) - 1, 0) for row in matrix)
        assert scheme.multiplies <= sum(abs(c) not in (0, 1) for row in matrix for c in row)


def test_small_tiles_are_exact_on_integers():
    for t in transforms(2, 3):
        assert all(c.denominator in (1, 2) for row in t for c in row)
