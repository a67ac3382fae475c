"""What docs/coming-from.md says is the same in another library is the same."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

import fastconv as fc

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from.md"
FRAMES = re.compile(
    r'^\| `"(\w+)"` \| `"(\w+)"` \|(?: `"(\w+)"`)? \| `"(\w+)"` \| `(BORDER_\w+)` \| (\d) (\d) \|$', re.MULTILINE
)


def frames():
    return FRAMES.findall(PAGE.read_text(encoding="utf-8"))


def test_frames_have_the_names_of_other_libraries():
    assert sorted(found[0] for found in frames()) == ["circular", "reflect", "replicate", "symmetric", "zeros"]
    row, taps = np.array([1, 2, 3, 4], np.float32), np.array([1, 10, 100, 1000, 10000], np.float32)
    for ours, ndimage, signal, pad, _, *left in frames():
        padded = np.pad(row, 2, mode=pad)
        assert [int(n) for n in left] == padded[:2].tolist()
        expected = np.correlate(padded, taps, "valid")
        y = fc.conv1d(row[None], taps[None, None], padding=2, padding_mode=ours)[0]
        assert np.array_equal(y, expected), ours
        assert np.array_equal(scipy.ndimage.correlate1d(row, taps, mode=ndimage), expected), ours
        if signal:
            both = fc.signal.correlate2d(row[None], taps[None], mode="same", boundary=signal)[0]
            assert np.array_equal(both, expected), ours


@pytest.mark.slow
def test_opencv_computes_the_same():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (23, 31)).astype(np.float32)
    kernel = rng.integers(-4, 5, (5, 3)).astype(np.float32)
    column, row = kernel[:, 0].copy(), kernel[0].copy()
    same = {"padding": "same", "padding_mode": "reflect"}
    colour, weight = np.stack([image, image + 1, image.copy()], -1), np.stack([kernel] * 3)[:, None]
    pairs = {
        "filter2D": (cv2.filter2D(image, -1, kernel), fc.ndimage.correlate(image, kernel, mode="mirror")),
        "colours": (
            cv2.filter2D(colour, -1, kernel),
            fc.depthwise_conv2d(colour, weight, layout="channels_last", **same),
        ),
        "sepFilter2D": (
            cv2.sepFilter2D(image, -1, row, column),
            fc.spatially_separable_conv2d(image[None], column, row, **same)[0],
        ),
        "GaussianBlur": (
            cv2.GaussianBlur(image, (0, 0), 1.5),
            fc.ndimage.gaussian_filter(image, 1.5, mode="mirror"),
        ),
        "Sobel": (cv2.Sobel(image, cv2.CV_32F, 1, 0), fc.ndimage.sobel(image, axis=1, mode="mirror")),
        "Laplacian": (cv2.Laplacian(image, cv2.CV_32F), fc.ndimage.laplace(image, mode="mirror")),
        "blur": (cv2.blur(image, (3, 3)), fc.ndimage.uniform_filter(image, 3, mode="mirror")),
        "dilate": (cv2.dilate(image, np.ones((3, 3))), fc.ndimage.maximum_filter(image, 3)),
        "erode": (cv2.erode(image, np.ones((3, 3))), fc.ndimage.minimum_filter(image, 3)),
    }
    for name, (there, here) in pairs.items():
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-2, err_msg=name)
