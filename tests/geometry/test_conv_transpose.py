"""Sizes, arguments and stride phases of transposed convolutions, in plain integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastconv as fc
from fastconv.geometry.conv_transpose import conv_transpose_geometry, has_gaps, phase_convolution, phases


def geometry(x, w, axes=None, **keywords):
    return conv_transpose_geometry("f", len(w) - 2 if axes is None else axes, x, w, **keywords)


def test_output_sizes_follow_the_formula():
    g = geometry((2, 4, 5, 6), (4, 3, 3, 2), stride=(2, 3), padding=((1, 0), (-1, 2)), output_padding=(1, 2), groups=2)
    assert g.output_shape == (2, 6, (5 - 1) * 2 - 1 + 2 + 1 + 1, (6 - 1) * 3 - 1 + 1 + 2 + 1)
    assert g.weight_shape == (4, 3, 3, 2)
    assert g.input_shape == (2, 4, 5, 6)
    last = geometry((5, 7), (7, 1, 3), layout="channels_last", dilation=4)
    assert last.output_shape == (1, 4 + 8 + 1, 1)


@pytest.mark.parametrize("padding", ["same", "same_lower"])
def test_same_makes_the_output_stride_times_as_large(padding):
    for n, k, s, d in itertools.product((1, 2, 5), (1, 2, 3, 4), (1, 2, 3, 5), (1, 2)):
        g = geometry((1, 1, n), (1, 1, k), stride=s, dilation=d, padding=padding)
        assert g.outputs[2] == n * s
        # The padding at the start of the convolution that leads back from n * s to n.
        total = max(0, d * (k - 1) + 1 - s)
        assert g.before[2] == (total // 2 if padding == "same" else total - total // 2)


def draw(rng):
    """Return a drawn problem of one axis, of which at least one output is left."""
    n, k, s, d = (int(rng.integers(1, most)) for most in (7, 7, 6, 6))
    op = int(rng.integers(0, max(s, d)))
    before = int(rng.integers(-5, 8))
    after = min(int(rng.integers(-5, 8)), (n - 1) * s - before + d * (k - 1) + op)
    return geometry((1, 1, n), (1, 1, k), stride=s, dilation=d, output_padding=op, padding=((before, after),))


@pytest.mark.parametrize("merged", [False, True])
def test_phases_sum_to_the_definition(merged):
    rng = np.random.default_rng(0)
    for _ in range(500):
        g = draw(rng)
        n, k, size, s, d, before = (t[2] for t in (g.sizes, g.kernel, g.outputs, g.stride, g.dilation, g.before))
        expected = {(i * s + j * d - before, i, j) for i in range(n) for j in range(k)}
        expected = {term for term in expected if 0 <= term[0] < size}
        got, covered = [], set()
        for phase in phases(g, 2, merged):
            for start, last in zip(phase.starts, phase.first, strict=True):
                for q, o in enumerate(range(start, size, s)):
                    assert q < phase.outputs
                    covered.add(o)
                    reads = [(q - phase.before + j * phase.dilation, last - j * phase.step) for j in range(phase.taps)]
                    got += [(o, i, tap) for i, tap in reads if 0 <= i < n]
        assert len(got) == len(set(got))
        assert set(got) == expected, g
        assert has_gaps(g) == (covered != set(range(size))), g


def test_phases_that_read_the_same_input_are_one():
    two = geometry((1, 3, 5, 5), (3, 4, 2, 2), stride=2)
    assert [phase.starts for phase in phases(two, 2, True)] == [(0, 1)]
    assert [phase.starts for phase in phases(two, 2, False)] == [(0,), (1,)]
    along = [*(phases(two, axis, False)[0] for axis in (0, 1)), *phases(two, 2, True)]
    conv = phase_convolution(two, 7, along)
    assert (conv.N, conv.OC, conv.OH, conv.OW, conv.KH, conv.KW, conv.PL, conv.PR) == (7, 8, 5, 5, 1, 1, 0, 0)
    four = geometry((1, 3, 5, 5), (3, 4, 4, 4), stride=2, padding=1)
    assert [phase.starts for phase in phases(four, 2, True)] == [(1,), (0,)]


def test_a_huge_stride_has_as_many_phases_as_taps():
    g = geometry((1, 1, 1), (1, 1, 3), stride=2**40)
    assert len(phases(g, 2, False)) == 3
    assert not has_gaps(g)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (fc.ShapeError, r"input has 2 dimensions, expected 4 \(N, C, H, W\) or 3", {"x": (4, 5)}),
        (fc.ShapeError, r"weight has 3 dimensions, expected 4 \(IC, OC/groups, KH, KW\)", {"w": (4, 2, 3), "axes": 2}),
        (fc.ShapeError, r"weight has IC = 3, expected 4, the channels of the input", {"w": (3, 2, 3, 3)}),
        (fc.ShapeError, r"input has IC = 4, expected a multiple of groups = 3", {"groups": 3}),
        (fc.ShapeError, r"input has H = 0, expected at least 1", {"x": (1, 4, 0, 5)}),
        (fc.ShapeError, r"weight has OC/groups = 0, expected at least 1", {"w": (4, 0, 3, 3)}),
        (fc.ShapeError, r"weight has IC = 0, expected at least 1", {"x": (1, 0, 5, 5), "w": (0, 2, 3, 3)}),
        (fc.ShapeError, r"weight has KW = 0, expected at least 1", {"w": (4, 2, 3, 0)}),
        (
            fc.ShapeError,
            r"the output has H = 0, expected at least 1 \(padding = \(4, 3\)",
            {"padding": ((4, 3), (0, 0))},
        ),
        (fc.ShapeError, r"the output has H = \d+, expected fewer than 2\*\*47", {"stride": 2**46}),
        (fc.ShapeError, r"output has \d+ elements, expected fewer than 2\*\*47", {"stride": 2**23}),
        (fc.ShapeError, r"padding = -1 is negative, expected .* pairs to extend the output", {"padding": -1}),
        (fc.ShapeError, r"expected numbers below 2\*\*47", {"padding": 10**30}),
        (fc.OptionError, r"padding = 'full', expected 'valid', 'same', 'same_lower', an int", {"padding": "full"}),
        (fc.OptionError, r"padding = \(1, 1, 1\) has length 3", {"padding": (1, 1, 1)}),
        (fc.ArgumentTypeError, r"padding = 0.5 is a float", {"padding": 0.5}),
        (fc.ArgumentTypeError, r"padding = True is a bool", {"padding": True}),
        (fc.OptionError, r"output_padding = 1, expected .* below the stride or the dilation", {"output_padding": 1}),
        (fc.OptionError, r"output_padding = -1, expected", {"output_padding": -1, "stride": 2}),
        (fc.OptionError, r"output_padding = \(0, 2\), expected", {"output_padding": (0, 2), "stride": 2}),
        (fc.OptionError, r"output_padding = \(0, 0, 0\) has length 3", {"output_padding": (0, 0, 0)}),
        (fc.ArgumentTypeError, r"output_padding = True is a bool", {"output_padding": True}),
        (fc.ArgumentTypeError, r"output_padding = '1' is a str", {"output_padding": "1"}),
        (fc.OptionError, r"stride = 0, expected", {"stride": 0}),
        (fc.OptionError, r"dilation = \(1, -1\), expected", {"dilation": (1, -1)}),
        (fc.OptionError, r"groups = 0, expected", {"groups": 0}),
        (fc.OptionError, r"layout = 'nchw', expected one of", {"layout": "nchw"}),
    ],
)
def test_errors_name_the_argument(error, message, arguments):
    given = {"x": (1, 4, 5, 5), "w": (4, 2, 3, 3)} | arguments
    with pytest.raises(error, match=f"^f: .*{message}") as info:
        geometry(given.pop("x"), given.pop("w"), **given)
    assert "\n" not in str(info.value)
