"""Plans of windows in plain Python: outputs are made of their elements, each once, or more often where that may be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv.dispatch.window_stages import Plan, in_place, plan

OUT = 5


def inputs(p: Plan, reach: int) -> int:
    """Return the number of inputs of OUT outputs."""
    return (OUT + reach) * p.phases


def counted(p: Plan) -> np.ndarray:
    """Return how often each output has each input: a row at a time, each stage as soon as it can run, as kernels do."""
    n = inputs(p, p.reach)
    areas = np.full((p.areas, OUT + p.reach, n), -1, np.int64)
    result, lags = np.full((OUT, n), -1, np.int64), dict.fromkeys(range(p.phases), 0)
    late = []
    for stage in p.stages:
        late.append(max(lags[area] + at for area, at in stage.taps))
        lags[stage.area] = late[-1]
    for row in range(OUT + p.reach):
        for j in range(p.phases):
            areas[j, row] = np.arange(n) == row * p.phases + j
        for lag, stage in zip(late, p.stages, strict=True):
            i, last = row - lag, stage is p.stages[-1]
            if not 0 <= i < OUT + stage.extra:
                continue
            runs = np.array([areas[area, i + at] for area, at in stage.taps])
            assert (runs >= 0).all(), "a run is read before it is there"
            (result if last else areas[stage.area])[i] = runs.sum(0)
    assert (result >= 0).all(), "an output is missing"
    return result


def direct(p: Plan, kernel: int, stride: int, dilation: int) -> np.ndarray:
    """Return how often each output has each input by definition."""
    found = np.zeros((OUT, inputs(p, p.reach)), np.int64)
    for o in range(OUT):
        found[o, [o * stride + k * dilation for k in range(kernel)]] = 1
    return found


@pytest.mark.parametrize("repeatable", [False, True])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_plans_are_windows(stride, dilation, repeatable):
    few, more = [*range(1, 30), *range(30, 201, 23)], [*range(1, 70), *range(70, 201, 5)]
    for kernel in more if stride == dilation == 1 else few:
        p = plan(kernel, stride, dilation, repeatable)
        assert p.phases == stride
        got, want = counted(p), direct(p, kernel, stride, dilation)
        if repeatable:
            got = np.minimum(got, 1)
        np.testing.assert_array_equal(got, want, err_msg=f"kernel {kernel}: {p}")


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_plans_in_place_are_windows(dilation):
    for kernel in [*range(1, 40), *range(40, 201, 19)]:
        p = in_place(plan(kernel, 1, dilation, True))
        assert p.areas == 1
        got = np.minimum(counted(p), 1)
        np.testing.assert_array_equal(got, direct(p, kernel, 1, dilation), err_msg=f"kernel {kernel}: {p}")


@pytest.mark.parametrize("repeatable", [False, True])
def test_taps_grow_with_the_logarithm_of_a_window(repeatable):
    for stride in (1, 2, 3):
        for kernel in [*range(1, 65), *range(65, 600, 29)]:
            p = plan(kernel, stride, 1, repeatable)
            taps = sum(len(stage.taps) for stage in p.stages)
            assert taps <= min(kernel, 2.5 * math.log2(kernel) + 4 + stride), (kernel, stride, taps)


def test_few_elements_are_combined_directly():
    for kernel in range(1, 5):
        for stride in (1, 2, 3):
            assert len(plan(kernel, stride, 1, True).stages) == 1
