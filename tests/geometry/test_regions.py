"""Regions of an output: their own problems give the same values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from fastconv.geometry.conv import LAYOUTS, PADDING_MODES, conv_geometry, input_shape, weight_shape
from fastconv.geometry.regions import region_geometry, region_input, region_of
from fastconv.kernels.reference.conv import conv


class Region(NamedTuple):
    image: int
    row: int
    rows: int
    column: int
    columns: int


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", PADDING_MODES)
def test_region_is_a_convolution_of_what_it_reads(mode, layout):
    rng = np.random.default_rng(3)
    for _ in range(8):
        axes = int(rng.integers(1, 4))
        S, K = rng.integers(4, 8, axes).tolist(), rng.integers(1, 4, axes).tolist()
        shape = (2, 4, *S) if layout == "channels_first" else (2, *S, 4)
        pads = tuple(map(tuple, rng.integers(2, 5, (axes, 2)).tolist()))
        stride, dilation = (tuple(rng.integers(1, 3, axes).tolist()) for _ in range(2))
        keywords = {"stride": stride, "dilation": dilation, "layout": layout, "padding_mode": mode}
        g = conv_geometry("test", axes, shape, (6, 2, *K), padding=pads, groups=2, dtype="float64", **keywords)
        x, w = (rng.integers(-5, 6, s).astype(float) for s in (input_shape(g), weight_shape(g)))
        row, column = int(rng.integers(g.OH)), int(rng.integers(g.OW))
        rows, columns = int(rng.integers(1, g.OH - row + 1)), int(rng.integers(1, g.OW - column + 1))
        region = Region(int(rng.integers(g.N * g.OD)), row, rows, column, columns)
        part = conv(region_input(g, x, region), w.reshape(g.OC, g.ICG, g.KD, g.KH, g.KW), region_geometry(g, region))
        np.testing.assert_array_equal(part, region_of(g, conv(x, w, g), region))
