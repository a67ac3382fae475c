"""SciPy's own tests of its filters, with those of fastconv.ndimage in SciPy's place."""

from __future__ import annotations

import pytest

from tests.scipy_suite import run

FILES = ("test_filters.py",)
# Of the filters that are not ours, none; and not the two whose arrays are large enough for more kernels.
FEW = (
    "(correlate or convolve or gauss or uniform or sobel or prewitt or laplace or minimum or maximum or multiple_modes "
    "or origin or axes or footprint or multiple_calls) and not VectorizedFilter and not TestThreading and not gh_"
)
# Half precision is what both functions are asked to refuse.
HANDED = ["correlate1d", "gaussian_filter"]


def test_scipys_tests_of_the_filters(tmp_path):
    passed, handed = run("ndimage", FILES, FEW, tmp_path)
    assert passed > 1200
    assert sorted(handed) == HANDED


@pytest.mark.slow
def test_all_of_scipys_tests(tmp_path):
    passed, handed = run("ndimage", FILES, "test", tmp_path)
    assert passed > 2400
    assert sorted(handed) == HANDED
