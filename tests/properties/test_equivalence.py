"""What must be the same, computed in two ways: algorithms, layouts, numbers of axes, groups, batches, paddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv.testing import reference
from tests import cases
from tests.properties.strategies import (
    CONVS,
    LAYOUTS,
    MODES,
    convolve,
    exactly,
    narrow_dtypes,
    problems,
    to_first,
    to_last,
)

NUMPY_MODES = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}


def poison(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of what no result is."""
    return np.full(shape, 77 if dtype.kind in "iu" else np.nan, dtype)


@exactly
@given(problems(), st.sampled_from(["default", "strict"]))
def test_every_algorithm_equals_the_reference(p, precision):
    layout = p.keywords["layout"]
    x = to_last(p.x, layout)
    expected = reference(x, p.w, p.b, **p.keywords)
    found = fc.explain(CONVS[p.axes], x, p.w, precision=precision, **p.keywords)
    able = [line.algorithm for line in found.lines if line.refused is None and line.algorithm != "separable"]
    assert {"direct", "im2col"} <= set(able)
    for algorithm in ("auto", *able):
        out = poison(expected.shape, expected.dtype)
        got = convolve(x, p.w, p.b, algorithm=algorithm, precision=precision, out=out, **p.keywords)
        assert got is out
        if (found.chosen if algorithm == "auto" else algorithm) in cases.ROUNDED:
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * max(np.abs(expected).max(initial=0), 1))
        else:
            np.testing.assert_array_equal(got, expected, err_msg=algorithm)


@exactly
@given(problems(axes=(2,), types=st.just("float32")), st.integers(1, 3))
def test_separable_algorithm_equals_the_reference(p, filters):
    C = p.x.shape[1]
    w = cases.rank_one(np.random.default_rng(C), (C * filters, 1, *p.w.shape[2:])).astype(p.w.dtype)
    p = p._replace(w=w, b=None, keywords=p.keywords | {"groups": C})
    expected = to_first(reference(to_last(p.x, p.keywords["layout"]), p.w, **p.keywords), p.keywords["layout"])
    np.testing.assert_array_equal(p.run(algorithm="separable"), expected)


@exactly
@given(problems(types=narrow_dtypes))
def test_layouts_agree(p):
    assert p.run(layout="channels_first").tobytes() == p.run(layout="channels_last").tobytes()


@exactly
@given(problems(axes=(1,), types=narrow_dtypes), st.sampled_from(LAYOUTS))
def test_conv1d_is_conv2d_of_one_row_and_conv3d_of_one_line(p, layout):
    expected, (pair,) = p.run(), p.pairs()
    for more in (1, 2):
        ones = (1,) * more
        x, w = (a.reshape(*a.shape[:2], *ones, a.shape[2]) for a in (p.x, p.w))
        keywords = {name: ones + p.per_axis(name) for name in ("stride", "dilation")}
        keywords |= {"padding": ((0, 0),) * more + (pair,), "layout": layout}
        got = p._replace(x=x, w=w).run(**keywords)
        assert got.reshape(expected.shape).tobytes() == expected.tobytes()


@exactly
@given(problems(axes=(2,), types=narrow_dtypes), st.sampled_from(LAYOUTS), st.integers(0, 2))
def test_conv2d_is_conv3d_of_one_more_axis(p, layout, where):
    expected, at = p.run(), 2 + where
    insert = lambda values, value: (*values[:where], value, *values[where:])  # noqa: E731
    keywords = {name: insert(p.per_axis(name), 1) for name in ("stride", "dilation")}
    keywords |= {"padding": insert(p.pairs(), (0, 0)), "layout": layout}
    got = p._replace(x=np.expand_dims(p.x, at), w=np.expand_dims(p.w, at)).run(**keywords)
    assert got.squeeze(at).tobytes() == expected.tobytes()


@exactly
@given(problems())
def test_groups_are_separate_convolutions(p):
    G = p.keywords["groups"]
    parts = zip(np.split(p.x, G, 1), np.split(p.w, G), np.split(p.b, G), strict=True)
    each = [p._replace(x=x, w=w, b=b).run(groups=1) for x, w, b in parts]
    np.testing.assert_array_equal(p.run(), np.concatenate(each, 1))


@exactly
@given(problems(groups=1), st.permutations(range(4)))
def test_filters_are_separate_convolutions(p, order):
    order = [i for i in order if i < len(p.w)]
    np.testing.assert_array_equal(p._replace(w=p.w[order], b=p.b[order]).run(), p.run()[:, order])


@exactly
@given(problems())
def test_batch_is_a_stack_of_images(p):
    layout, expected = p.keywords["layout"], p.run()
    for image, want in zip(p.x, expected, strict=True):
        one = to_last(image[None], layout)
        assert to_first(convolve(one, p.w, p.b, **p.keywords), layout)[0].tobytes() == want.tobytes()
        alone = convolve(one[0], p.w, p.b, **p.keywords)
        assert to_first(alone[None], layout)[0].tobytes() == want.tobytes()


@exactly
@given(problems())
def test_padding_is_numpys_pad(p):
    pairs = p.pairs()
    kept = [slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(p.sizes, pairs, strict=True)]
    widths = [(0, 0), (0, 0), *((max(0, a), max(0, b)) for a, b in pairs)]
    mode = p.keywords["padding_mode"]
    padded = np.pad(p.x[:, :, *kept], widths, NUMPY_MODES.get(mode, mode))
    expected = p._replace(x=padded).run(padding="valid", padding_mode="zeros")
    np.testing.assert_array_equal(p.run(), expected)


@pytest.mark.parametrize("name", ["same", "same_lower", "full", "causal", "valid"])
@exactly
@given(st.data())
def test_named_padding_is_its_pairs(name, data):
    p = data.draw(problems(axes=(1,) if name == "causal" else (1, 2, 3), padding=name), "problem")
    expected = p.run(padding=p.pairs())
    np.testing.assert_array_equal(p.run(), expected)
    if name.startswith("same"):
        assert expected.shape[2:] == tuple(-(-n // s) for n, s in zip(p.sizes, p.per_axis("stride"), strict=True))


@exactly
@given(problems(modes=MODES[1:]), st.integers(2, 9))
def test_padding_modes_go_beyond_the_image(p, wide):
    padding = ((wide * 3, wide),) * p.axes
    expected = to_first(
        reference(to_last(p.x, p.keywords["layout"]), p.w, p.b, **p.keywords | {"padding": padding}),
        p.keywords["layout"],
    )
    np.testing.assert_array_equal(p.run(padding=padding), expected)
