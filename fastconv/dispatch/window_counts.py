"""How many elements windows combine: each by itself, or axis by axis as the planner has it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.blocking_windows import reached, window_blocking
from fastconv.dispatch.window_stages import plan
from fastconv.geometry.fold import Blocks
from fastconv.geometry.windows import Axis, Windows


def elements(axes: Sequence[Axis]) -> int:
    """Return the elements of all windows over some axes, those in the padding too."""
    return math.prod(_elements(axis) for axis in axes)


def _elements(axis: Axis) -> int:
    if axis.mode != "adaptive":
        return axis.out * axis.kernel
    return sum(axis.reach(o) - axis.start(o) for o in range(axis.out))


def line_operations(axis: Axis, repeatable: bool) -> int:
    """Return how many times two elements are combined to make the windows along one line, in stages where that is less.

    `repeatable`: an element may count twice, as in a maximum.
    """
    if axis.mode == "adaptive":
        return _elements(axis) - axis.out
    stages = plan(axis.kernel, axis.stride, axis.dilation, repeatable).stages
    return sum((len(stage.taps) - 1) * (axis.out + stage.extra) for stage in stages)


def window_operations(g: Windows) -> int:
    """Return how many times two elements are combined, one axis after the other, if one block holds everything."""
    repeatable = g.op != "sum"
    along_w, along_h = (0 if axis.trivial else line_operations(axis, repeatable) for axis in (g.w, g.h))
    if window_blocking(g, load.target()).first:
        each = along_h * reached(g.w, g.w.out) + along_w * g.h.out
    else:
        rows = g.h.out if g.h.trivial else reached(g.h, g.h.out)
        each = along_w * rows + along_h * g.w.out
    return each * g.planes * g.lanes


def folded_sums(b: Blocks) -> int:
    """Return the additions of a plane's sums of columns: all that fall inside but the first on each element."""
    inside = met = 1
    for size, out, k, stride, before, dilation in zip(*b, strict=True):
        places = np.arange(out)[:, None] * stride + np.arange(k) * dilation - before
        places = places[(places >= 0) & (places < size)]
        inside, met = inside * places.size, met * np.unique(places).size
    return inside - met
