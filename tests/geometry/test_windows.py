"""Windows along an axis: what they see, and that trimmed ones see the same."""

from __future__ import annotations

import itertools

import pytest

from fastconv.geometry.pool import pool_geometry
from fastconv.geometry.windows import Axis


def seen(axis, o):
    """Return the inputs that an output sees."""
    if axis.mode == "adaptive":
        return list(range(axis.start(o), axis.reach(o)))
    taps = [axis.start(o) + k * axis.dilation for k in range(axis.kernel)]
    return [i for i in taps if 0 <= i < axis.n]


def drawn():
    """Yield the axis of every small pool."""
    for n, K, S, D in itertools.product(range(1, 6), range(1, 6), range(1, 4), (1, 2, 3, 7)):
        half = (D * (K - 1) + 1) // 2
        for before, after, ceil in itertools.product(
            *[sorted({0, 1, half - 1, half} & set(range(half + 1)))] * 2, (0, 1)
        ):
            try:
                g = pool_geometry("pool", 1, (1, n), K, S, ((before, after),), D, bool(ceil))
            except ValueError:
                continue
            yield g.axes[0]


def test_trimmed_windows_see_the_same():
    count = 0
    for axis in drawn():
        short = axis.trimmed
        assert (short.n, short.out, short.mode) == (axis.n, axis.out, axis.mode)
        for o in range(axis.out):
            assert seen(short, o) == seen(axis, o), (axis, short)
            # What the kernels rely on.
            assert short.start(o) < axis.n, (axis, short)
            assert short.reach(o) > 0, (axis, short)
        assert short.kernel <= max(2, min(axis.kernel, 2 * axis.n + 1)), (axis, short)
        assert short.trimmed == short
        count += 1
    assert count > 2000


def test_trimming_finds_windows_that_do_nothing():
    assert Axis(7, 7, 3, 1, 100, 100).trimmed == Axis(7, 7)
    assert Axis(1, 1, 3, 5, 1, 1).trimmed == Axis(1, 1)
    assert Axis(7, 1, 2**40, 2**41, 1, 2**39).trimmed == Axis(7, 1, 7)
    assert Axis(9, 9, 3, 1, 1, 1).trimmed == Axis(9, 9, 3, 1, 1, 1)


@pytest.mark.parametrize(("n", "out"), [(5, 3), (7, 7), (3, 8), (1, 4), (100, 7)])
def test_adaptive_windows_cover_the_axis_in_order(n, out):
    axis = Axis(n, out, mode="adaptive")
    assert axis.trimmed == axis
    windows = [seen(axis, o) for o in range(out)]
    assert sorted({i for window in windows for i in window}) == list(range(n))
    assert max(map(len, windows)) <= -(-n // out) + 1
    assert all(a[0] <= b[0] and a[-1] <= b[-1] for a, b in itertools.pairwise(windows))
