"""Filters of arrays of any number of dimensions, with the signatures, results and messages of `scipy.ndimage`.

Large float32 and float64 arrays run on the kernels of the convolutions in their own precision. All others are summed in
double precision in the order of SciPy's C code and cast as there, after each pass: integer results are equal.
"""

from fastconv import _namespaces
from fastconv.ndimage.correlation import convolve, correlate
from fastconv.ndimage.derivatives import laplace, prewitt, sobel
from fastconv.ndimage.extrema import maximum_filter, maximum_filter1d, minimum_filter, minimum_filter1d
from fastconv.ndimage.lines import convolve1d, correlate1d, gaussian_filter1d, uniform_filter1d
from fastconv.ndimage.smoothing import gaussian_filter, uniform_filter

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "laplace",
    "maximum_filter",
    "maximum_filter1d",
    "minimum_filter",
    "minimum_filter1d",
    "prewitt",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]

_namespaces.imported(__name__)
