"""SciPy's own tests of the functions of fastconv.signal, with ours in SciPy's place."""

from __future__ import annotations

import pytest

from tests.scipy_suite import run

FILES = ("test_signaltools.py", "test_bsplines.py")
# All of what runs on our kernels; of the transforms, whose tests are thousands, one in the daily run.
FEW = "TestConvolve or TestConvolve2d or TestCorrelate or TestSepfir2d or (TestOAConvolve and 1d and same)"
ALL = "Convolve or Correlate or FreqConv or Sepfir2d"


def test_scipys_tests_of_what_runs_on_the_kernels(tmp_path):
    passed, handed = run("signal", FILES, FEW, tmp_path)
    assert passed > 250
    assert handed == []


@pytest.mark.slow
def test_all_of_scipys_tests(tmp_path):
    passed, handed = run("signal", FILES, ALL, tmp_path)
    assert passed > 5000
    # One test convolves arrays of longdouble and of clongdouble.
    assert handed == ["convolve", "convolve"]
