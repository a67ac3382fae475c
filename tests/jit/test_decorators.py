"""The decorators of kernels and helpers."""

from __future__ import annotations

import numpy as np
import pytest

jit = pytest.importorskip("fastconv._jit")

pytestmark = pytest.mark.skipif(jit.config.DISABLE_JIT, reason="needs the JIT")


def test_compilations_counts_signatures_once():
    @jit.njit()
    def double(x):
        return x + x

    before = jit.compilations()
    assert (double(2), double(3), double(2.5)) == (4, 6, 5.0)
    again = jit.compilations()
    assert again - before <= 2
    double(4)
    assert jit.compilations() == again


def test_inline_takes_defaults_keywords_and_several_results():
    @jit.inline
    def both(a, b=3, c=1):
        if a > 10:
            return b, a
        return a + c, b

    @jit.njit()
    def kernel(a):
        x, y = both(a)
        u, v = both(a, 5, c=2)
        p, q = both(b=a, a=11)
        return x, y, u, v, p, q

    assert kernel(1) == (2, 3, 3, 5, 1, 11)
    assert kernel(20) == (3, 20, 5, 20, 20, 11)


@pytest.mark.parametrize("fastmath", [True, {"nnan"}, {"contract", "ninf"}, {"fast"}])
def test_fastmath_that_loses_nan_is_refused(fastmath):
    with pytest.raises(ValueError, match="njit: fastmath must be False or a subset of"):
        jit.njit(fastmath=fastmath)


@pytest.mark.parametrize("fastmath", [False, jit.FASTMATH])
def test_special_values_survive(fastmath):
    @jit.njit(fastmath=fastmath)
    def kernel(x):
        total = 0.0
        for value in x:
            total += value
        return total, x[0] != x[0], 1.0 / x[1]

    total, is_nan, quotient = kernel(np.array([np.nan, -0.0, 1.0]))
    assert np.isnan(total)
    assert is_nan
    # By NumPy's error model: no ZeroDivisionError.
    assert quotient == -np.inf
    assert kernel(np.array([np.inf, 1.0]))[0] == np.inf


def test_kernel_releases_the_gil_and_keeps_its_function():
    def count(n):
        """Document it."""
        return n + 1

    kernel = jit.njit()(count)
    assert kernel.targetoptions["nogil"]
    assert (kernel.__name__, kernel.__doc__) == ("count", "Document it.")
    assert count.__qualname__.endswith("<locals>.count"), "the function itself is not renamed"
