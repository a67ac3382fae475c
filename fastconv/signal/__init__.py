"""Correlation and convolution of arrays with the signatures, results and messages of `scipy.signal`.

`correlate2d`, `convolve2d`, `correlate`, `convolve` and `sepfir2d` run on the kernels of `fastconv.conv2d`: the array
is an image of one channel. Where it is cheaper, and as exact, kernels that are outer products run as their two factors,
and large ones by FFTs of blocks in double precision; NaN and infinities stay where direct sums have them, and integers
are exact but for their wrapping. `fftconvolve` and `oaconvolve` are what their names say, on `scipy.fft`.
"""

from fastconv import _namespaces
from fastconv.signal.arrays import choose_conv_method, convolve, correlate
from fastconv.signal.images import convolve2d, correlate2d, sepfir2d
from fastconv.signal.spectral import fftconvolve, oaconvolve

__all__ = [
    "choose_conv_method",
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "fftconvolve",
    "oaconvolve",
    "sepfir2d",
]

_namespaces.imported(__name__)
