"""Windows that slide over two axes: what pools and rank filters have in common, as the kernels see it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# What stands outside the input: the modes of convolutions; the fill value; nothing, so that windows are cut off; and
# windows that are cut so that `out` of them cover the axis.
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric", "fill", "clip", "adaptive")


class Axis(NamedTuple):
    """Windows along one axis: output o sees the inputs ``o*stride + k*dilation - before``, k < kernel.

    With the mode "adaptive" it sees those from ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``, and the other numbers
    mean nothing.
    """

    n: int
    out: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    mode: str = "clip"

    @property
    def trivial(self) -> bool:
        """Whether the output is the input."""
        return self == Axis(self.n, self.n)

    @property
    def trimmed(self) -> Axis:
        """The same windows without the taps, and the numbers, that no output needs."""
        if self.mode != "clip":
            return self
        n, out, D = self.n, self.out, self.dilation
        last = (out - 1) * self.stride
        first = max(0, -(-(self.before - last) // D))
        end = min(self.kernel, (n - 1 + self.before) // D + 1)
        if end <= first:
            # All windows are empty, as are those of one tap before the input and one behind it.
            return Axis(n, out, 2, 1, n + out + 1, out + 1)
        # No window starts behind the input, or ends before it.
        first -= first * D - self.before + last >= n
        end += (end - 1) * D < self.before
        before = self.before - first * D
        inside = end - first == 1 and before <= 0 and last - before < n
        return Axis(n, out, end - first, self.stride if out > 1 else 1, 1 if inside else D, before)

    def start(self, o: int) -> int:
        """Return the first input that output o sees, which may lie outside."""
        return o * self.n // self.out if self.mode == "adaptive" else o * self.stride - self.before

    def reach(self, o: int) -> int:
        """Return the input behind the last one that output o sees, which may lie outside."""
        if self.mode == "adaptive":
            return -(-(o + 1) * self.n // self.out)
        return self.start(o) + (self.kernel - 1) * self.dilation + 1


def whole(n: int) -> Axis:
    """Return the axis along which nothing happens."""
    return Axis(n, n)


def window_inputs(axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Return the first input of each window along an axis, and how many there are."""
    o: Any = np.arange(axis.out, dtype=np.int64)
    start: Any = axis.start(o)
    if axis.mode == "adaptive":
        return start, axis.reach(o) - start
    step = axis.dilation
    before = np.maximum(0, -(start // step))
    count = np.minimum(axis.kernel, -(-(axis.n - start) // step)) - before
    return start + before * step, np.maximum(count, 0)


class Windows(NamedTuple):
    """A maximum, minimum or sum over windows of `planes` arrays of shape (h.n, w.n, lanes); hashable.

    Attributes
    ----------
    op : {"max", "min", "sum"}
    dtype : str
        "float32", "float64", "int32" or "int64".
    planes, lanes : int
        Independent arrays, and elements that lie together and are treated alike.
    h, w : Axis
    indices : {"", "narrow", "wide"}
        Which element won, as its number in the plane: in integers of the size of an element, or in int64.
    divided : {"", "constant", "table"}
        Sums are divided by one number, or by a product of one for each row and one for each column and lane.
    row_elements : int
        Elements that a row counts for in indices; 0: w.n.
    """

    op: str
    dtype: str
    planes: int
    lanes: int
    h: Axis
    w: Axis
    indices: str = ""
    divided: str = ""
    row_elements: int = 0
