"""Arrays of more than 2**31 elements: sizes and offsets are 64-bit numbers everywhere.

    python -m pytest tests/test_large_arrays.py -m slow

Results are compared at both ends, and in the middle, with the same operation on a part of the array.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv import system
from fastconv.testing import reference

pytestmark = pytest.mark.slow

GIB = 1 << 30
# A little more than 2**31 elements.
H, W = 46_400, 46_400


def needs(size):
    """Skip unless so many bytes are free."""
    free = system.available_bytes()
    if free is None or free < size + 2 * GIB:
        pytest.skip(f"needs {size >> 30} GiB of memory")


def image(shape, dtype):
    """Return numbers that repeat with a period that no size is a multiple of."""
    size = int(np.prod(shape))
    period = (np.arange(65_537) * 37 % 101).astype(dtype)
    out = np.empty(size, dtype)
    for start in range(0, size, len(period) * 1024):
        stop = min(size, start + len(period) * 1024)
        out[start:stop] = np.resize(np.roll(period, -start), stop - start)
    return out.reshape(shape)


def ends(n, m=40):
    """Yield slices of an axis: its first, its middle and its last elements."""
    yield from (slice(0, m), slice(n // 2, n // 2 + m), slice(n - m, n))


def same(found, expected):
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_conv2d_of_bytes():
    # As int16.
    needs(14 * GIB)
    x = image((1, 1, H, W), "int8")
    w = np.array([[[[1, 0, 2], [0, 1, 0], [1, 1, 0]]]], np.int8)
    out = fc.conv2d(x, w)
    for h in ends(H - 2):
        for v in ends(W - 2):
            rows, columns = slice(h.start, h.stop + 2), slice(v.start, v.stop + 2)
            same(out[:, :, h, v], reference(x[:, :, rows, columns], w))


def test_conv2d_of_bytes_with_channels_last_and_strides():
    needs(7 * GIB)
    x = image((1, 23_200, 23_200, 4), "int8")
    w = image((5, 4, 3, 3), "int8") % 3
    out = fc.conv2d(x, w, stride=2, layout="channels_last")
    n = out.shape[1]
    for h in ends(n):
        rows = slice(2 * h.start, 2 * h.stop + 1)
        v = slice(n - 30, n)
        same(out[:, h, v], reference(x[:, rows, 2 * v.start :], w, stride=2, layout="channels_last"))


@pytest.mark.parametrize(("name", "size"), [("max_pool2d", 14 * GIB), ("avg_pool2d", 25 * GIB)])
def test_pools_of_bytes(name, size):
    # Of wider integers: 5 and 10 bytes for each of the input.
    needs(size)
    x = image((1, 1, H, W), "uint8")
    out = getattr(fc, name)(x, 2)
    for h in ends(H // 2):
        for v in ends(W // 2):
            part = x[:, :, 2 * h.start : 2 * h.stop, 2 * v.start : 2 * v.stop]
            windows = part.reshape(1, 1, 40, 2, 40, 2)
            expected = windows.max((3, 5)) if name == "max_pool2d" else windows.sum((3, 5)) // 4
            same(out[:, :, h, v], expected)


def test_indices_of_a_pool():
    needs(8 * GIB)
    x = image((1, 1, H, W), "uint8")
    out, indices = fc.max_pool2d(x, 8, return_indices=True)
    assert indices.max() > 2**31 - W * 9
    same(np.take(x.reshape(-1), indices[0, 0, -5:]), out[0, 0, -5:])


def test_filters_of_bytes():
    needs(7 * GIB)
    x = image((H, W), "uint8")
    scipy = pytest.importorskip("scipy.ndimage")
    for name, given in (("gaussian_filter", (1.0,)), ("uniform_filter", (5,)), ("maximum_filter", (3,))):
        if name == "maximum_filter":
            # As int32.
            needs(18 * GIB)
        out = getattr(fc.ndimage, name)(x, *given)
        for h, cut in ((slice(0, 60), slice(0, 40)), (slice(H - 60, H), slice(20, 60))):
            for v, across in ((slice(0, 60), slice(0, 40)), (slice(W - 60, W), slice(20, 60))):
                same(out[h, v][cut, across], getattr(scipy, name)(x[h, v], *given)[cut, across])
        del out


def test_transposed_convolution_of_bytes():
    needs(9 * GIB)
    x = image((1, 1, H // 2, W // 2), "int8")
    w = np.array([[[[1, 2], [0, 1]]]], np.int8)
    out = fc.conv_transpose2d(x, w, stride=2)
    assert out.size > 2**31
    for h in ends(H // 2):
        for v in ends(W // 2):
            part = out[0, 0, 2 * h.start : 2 * h.stop, 2 * v.start : 2 * v.stop]
            same(part, np.kron(x[0, 0, h, v], w[0, 0]))


def test_resizing_of_bytes():
    needs(5 * GIB)
    x = image((1, 1, H // 2, W // 2), "uint8")
    for out in (fc.nearest_unpool2d(x, 2), fc.interpolate(x, scale_factor=2.0, mode="nearest")):
        assert out.size > 2**31
        for h in ends(H // 2):
            for v in ends(W // 2):
                part = out[0, 0, 2 * h.start : 2 * h.stop, 2 * v.start : 2 * v.stop]
                same(part, np.kron(x[0, 0, h, v], np.ones((2, 2), np.uint8)))


def test_a_batch_of_bytes():
    needs(14 * GIB)
    x = image((70_000, 1, 200, 160), "int8")
    w = np.array([[[[1, -1]]]], np.int8)
    out = fc.conv2d(x, w)
    for n in ends(len(x), 3):
        same(out[n], x[n, :, :, :-1] - x[n, :, :, 1:])


def test_conv2d_of_floats():
    needs(18 * GIB)
    x = image((1, 1, H, W), "float32")
    w = np.array([[[[1, 0, 2], [0, 1, 0], [1, 1, 0]]]], np.float32)
    out = fc.conv2d(x, w, algorithm="direct")
    for h in ends(H - 2):
        for v in ends(W - 2):
            rows, columns = slice(h.start, h.stop + 2), slice(v.start, v.stop + 2)
            same(out[:, :, h, v], reference(x[:, :, rows, columns], w))


def test_relu_of_floats():
    needs(18 * GIB)
    x = image((1, 1, H, W), "float32") - np.float32(50)
    out = fc.activations.relu(x)
    for h in ends(H):
        same(out[0, 0, h], np.maximum(x[0, 0, h], 0))
