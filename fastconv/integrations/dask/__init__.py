"""Filters, convolutions and pools of dask arrays, block by block, with the borders of blocks exact.

    import dask.array as da
    from fastconv.integrations.dask import correlate2d

    image = da.from_zarr("image.zarr")
    correlate2d(image, kernel, mode="same", boundary="symm").to_zarr("filtered.zarr")

Nothing is computed before dask is asked to. Each block of the result reads the elements under its windows, of as many
chunks as they lie in, and is one call of the function of the same name in `fastconv`, `fastconv.signal` or
`fastconv.ndimage`: the arguments, results and errors are those, but that there is no `out`, no `device` and, for
`output`, only dtypes. Chunks of any sizes will do, if they are known; the chunks of the result are those of the input,
divided by the stride. Channels are put into one chunk. Kernels, weights and biases may be NumPy or dask arrays; each is
one node of the graph.

Maxima and minima have the bits of a call on the whole array, and integers are equal; sums of floats are equal to
rounding, since the order of summation may depend on the size of a block. Chunks on a CUDA device stay there.

Each task computes with one thread, since dask runs one task for each core;
``dask.config.set({"fastconv.threads": 2})``, where the array is defined, makes it more.
"""

from fastconv.errors import MissingExtraError

try:
    import dask.array as _array  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        'fastconv.integrations.dask needs dask, which cannot be imported: pip install "dask[array]"'
    ) from error

from fastconv.integrations.dask.convolutions import (
    conv1d,
    conv2d,
    conv3d,
    depthwise_conv2d,
    pointwise_conv2d,
    separable_conv2d,
    spatially_separable_conv2d,
)
from fastconv.integrations.dask.extrema import maximum_filter, maximum_filter1d, minimum_filter, minimum_filter1d
from fastconv.integrations.dask.filters import (
    convolve,
    convolve1d,
    correlate,
    correlate1d,
    gaussian_filter,
    gaussian_filter1d,
    laplace,
    prewitt,
    sobel,
    uniform_filter,
    uniform_filter1d,
)
from fastconv.integrations.dask.images import convolve2d, correlate2d
from fastconv.integrations.dask.pools import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "convolve",
    "convolve1d",
    "convolve2d",
    "correlate",
    "correlate1d",
    "correlate2d",
    "depthwise_conv2d",
    "gaussian_filter",
    "gaussian_filter1d",
    "laplace",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "maximum_filter",
    "maximum_filter1d",
    "minimum_filter",
    "minimum_filter1d",
    "pointwise_conv2d",
    "prewitt",
    "separable_conv2d",
    "sobel",
    "spatially_separable_conv2d",
    "uniform_filter",
    "uniform_filter1d",
]
