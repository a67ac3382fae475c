"""The limit of scratch: kept by what is chosen, refused by name, and gone when it is lifted."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc

X, W = np.ones((1, 8, 12, 13), np.float32), np.ones((6, 8, 3, 3), np.float32)


@pytest.fixture(autouse=True)
def _no_limit():
    yield
    fc.set_max_workspace(None)


def scratch(algorithm):
    lines = fc.explain(fc.conv2d, X, W, padding=1).lines
    return next(line.scratch_bytes for line in lines if line.algorithm == algorithm)


def test_there_is_no_limit_by_default():
    assert fc.get_max_workspace() is None


def test_auto_keeps_the_limit():
    lines = [line for line in fc.explain(fc.conv2d, X, W, padding=1).lines if not line.refused]
    limit = sorted(line.scratch_bytes for line in lines)[len(lines) // 2]
    fc.set_max_workspace(limit)
    assert fc.get_max_workspace() == limit
    limited = {line.algorithm: line for line in fc.explain(fc.conv2d, X, W, padding=1).lines}
    for line in lines:
        assert ("scratch" in (limited[line.algorithm].refused or "")) == (line.scratch_bytes > limit)
    assert not limited[fc.plan_conv2d(X.shape, W, padding=1).algorithm].refused


def test_named_algorithm_over_the_limit_is_refused():
    need = scratch("direct")
    fc.conv2d(X, W, padding=1, algorithm="direct")
    fc.set_max_workspace(np.int64(need - 1))
    expected = (
        rf'^conv2d: algorithm "direct" refused: it needs {need} bytes of scratch a thread, the limit is {need - 1} '
    )
    with pytest.raises(fc.UnsupportedError, match=expected):
        fc.conv2d(X, W, padding=1, algorithm="direct")
    fc.set_max_workspace(need)
    assert fc.conv2d(X, W, padding=1, algorithm="direct").shape == (1, 6, 12, 13)


@pytest.mark.parametrize("algorithm", ["auto", "measure"])
def test_limit_that_nothing_keeps_is_an_error(algorithm):
    fc.set_max_workspace(0)
    with pytest.raises(
        fc.UnsupportedError, match=r"^conv2d: no algorithm keeps the limit: direct: it needs [0-9]+ bytes"
    ):
        fc.conv2d(X, W, padding=1, algorithm=algorithm)
    with pytest.raises(fc.UnsupportedError, match=r"no algorithm keeps the limit"):
        fc.conv_transpose2d(X, np.ones((8, 2, 3, 3), np.float32), stride=2, algorithm=algorithm)


def gradient_scratch():
    from fastconv.dispatch.weight_gradient import prepare_weight_gradient
    from fastconv.geometry.conv import conv_geometry

    g = conv_geometry("test", 2, LARGE.shape, (8, 8, 3, 3), padding=1, dtype="float32")
    return prepare_weight_gradient(g, "strict")._blocking.scratch_bytes


LARGE = np.arange(8 * 60 * 200, dtype=np.float32).reshape(1, 8, 60, 200) % 5


def test_gradients_of_weights_keep_the_limit():
    given = (LARGE, (8, 8, 3, 3), LARGE % 3)
    expected = fc.grad.conv2d_weight(*given, padding=1)
    need = gradient_scratch()
    fc.set_max_workspace(need // 2)
    assert 0 < gradient_scratch() <= need // 2
    # Smaller bands; sums of integers.
    np.testing.assert_array_equal(fc.grad.conv2d_weight(*given, padding=1), expected)
    fc.set_max_workspace(1000)
    refused = r"^conv_weight: no algorithm keeps the limit: direct: it needs [0-9]+ bytes of scratch a thread"
    with pytest.raises(fc.UnsupportedError, match=refused):
        fc.grad.conv2d_weight(*given, padding=1)
    fc.set_max_workspace(None)
    assert gradient_scratch() == need


def test_plans_that_exist_are_not_concerned():
    plan = fc.plan_conv2d(X.shape, W, padding=1)
    expected = plan(X)
    fc.set_max_workspace(0)
    np.testing.assert_array_equal(plan(X), expected)


@pytest.mark.parametrize(
    ("size", "error"), [(-1, fc.OptionError), (True, fc.ArgumentTypeError), (1.5, fc.ArgumentTypeError)]
)
def test_wrong_limits_are_refused(size, error):
    with pytest.raises(error, match=r"^set_max_workspace: bytes "):
        fc.set_max_workspace(size)
    assert fc.get_max_workspace() is None
