"""conv1d and conv3d, the other dtypes and padding modes: few problems, on every CPU target."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import problem, reference
from tests import cases

# By the axes; the second of each pads beyond the image.
TINY = {
    "series": "n2ic3w9_oc4k3s1pl2pr0",
    "series, stride 2, dilation 3": "n1ic2w11_oc3k2s2pl4pr9d3",
    "image, uneven": "n1ic2h4w5_oc3kh2kw3sh1sw2pt1pb6pl0pr2",
    "volume": "n1ic2d3h4w5_oc3k2s1pf1pk0pt0pb1pl1pr0",
    "volume, depthwise, stride 2": "n1ic3d4h3w5_oc3k3s2p1g3",
}
CONVS = {1: fc.conv1d, 2: fc.conv2d, 3: fc.conv3d}
ALL = [
    # One is enough for each target: the others differ in what they pack, not in how they compute.
    pytest.param(name, layout, marks=pytest.mark.targets if (name, layout) == ("volume", "channels_first") else ())
    for name in TINY
    for layout in cases.LAYOUTS
]
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")


def check(text, layout, dtype, **more):
    """Compare every algorithm that can do a problem with the reference."""
    p, rng = problem(text), np.random.default_rng(len(text))
    x, w = cases.integers(rng, p.input_shape, dtype), cases.integers(rng, p.weight_shape, dtype)
    x = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
    keywords = p.keywords | {"layout": layout} | more
    expected = reference(x, w, **keywords)
    for algorithm in ("auto", "direct", "im2col"):
        got = CONVS[p.axes](x, w, algorithm=algorithm, **keywords)
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got, expected, err_msg=f"{text} {layout} {algorithm} {more}")


@pytest.mark.parametrize(("name", "layout"), ALL)
def test_padding_modes(name, layout):
    for mode in MODES:
        check(TINY[name], layout, "float32", padding_mode=mode)


@pytest.mark.parametrize(
    "dtype", [pytest.param("int32", marks=pytest.mark.targets), "int8", "int64", "complex128", "float16"]
)
def test_dtypes(dtype):
    check(TINY["image, uneven"], "channels_first", dtype)


def test_causal_outputs_see_nothing_later():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 2, 20)), rng.standard_normal((3, 2, 4))
    y = fc.conv1d(x, w, padding="causal", dilation=2)
    assert y.shape == (1, 3, 20)
    for t in range(20):
        later = x.copy()
        later[:, :, t + 1 :] = np.nan
        np.testing.assert_array_equal(
            fc.conv1d(later, w, padding="causal", dilation=2)[:, :, : t + 1], y[:, :, : t + 1]
        )


def test_messages_name_the_function():
    with pytest.raises(fc.ShapeError, match=r"^conv1d: weight has 4 dimensions, expected 3 \(OC, IC/groups, KW\)"):
        fc.conv1d(np.ones((1, 2, 5)), np.ones((3, 2, 1, 1)))
    with pytest.raises(fc.ShapeError, match=r"^conv3d: input has 3 dimensions"):
        fc.conv3d(np.ones((1, 2, 5)), np.ones((3, 2, 1, 1, 1)))
    with pytest.raises(fc.OptionError, match=r"^conv2d: padding = .causal."):
        fc.conv2d(np.ones((1, 5, 5)), np.ones((1, 1, 3, 3)), padding="causal")


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", ["n1ic20d1h6w5_oc3kd1kh3kw1s1pd2ph1pw2", "n2ic32d1h4w5_oc3k1s2pf1pk0pt0pb0pl0pr0"])
def test_one_plane_between_planes_of_zeros(text, layout):
    p, rng = problem(text), np.random.default_rng(1)
    x, w = cases.integers(rng, p.input_shape, "f4"), cases.integers(rng, p.weight_shape, "f4")
    keywords = p.keywords | {"layout": layout}
    x = x if layout == "channels_first" else np.moveaxis(x, 1, -1).copy()
    expected = reference(x, w, **keywords)
    for algorithm in ("auto", "direct", "im2col", "winograd", "bf16x3", "depthwise", "fft"):
        try:
            got = fc.conv3d(x, w, algorithm=algorithm, **keywords)
        except fc.UnsupportedError:
            continue
        np.testing.assert_allclose(got, expected, atol=1e-3, err_msg=algorithm)
