"""Every kernel that convolutions may need, found by asking the planner, one tile of the menus at a time.

So whatever a row of the table, a tile of a target or a new kernel adds is found by itself. The problems below only have
to be so different that each kernel is the best for one of them when the planner knows a single tile.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from fastconv.dispatch import load
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.conv_table import TABLE
from fastconv.geometry.conv import ConvGeometry, conv_geometry

# (IC, OC, groups): one channel, few, many, depthwise with a tile of one and of several vectors.
_CHANNELS = ((1, 8, 1), (3, 16, 1), (64, 64, 1), (8, 8, 8), (64, 64, 64))
# (size of the image, of the kernel, stride): small images, wide ones, strides, a kernel for a transform.
_SHAPES = ((8, 1, 1), (8, 3, 1), (8, 3, 2), (8, 5, 1), (56, 1, 1), (56, 3, 1), (56, 5, 1), (40, 15, 1))
# Those that only the depthwise kernels tell apart: taps and strides with and without a tile of their own.
_DEPTHWISE = ((8, 2, 1), *((n, k, stride) for n in (8, 56) for k in (3, 5, 7) for stride in (1, 2)))


def convolution_kernels(dtype: str, layout: str) -> Iterator[Any]:
    """Yield the kernels of all algorithms for all tiles, and of their packers, each once; none is compiled."""
    seen = set()
    for row, (channels, shape) in _problems():
        g = _problem(channels, shape, dtype, layout)
        if row.unsupported(g) is not None:
            continue
        for blocking in _blockings(row, g):
            program = load.load(row.kernel)(g, None, blocking)
            for kernel in (program.kernel, *(packer.kernel for packer in program.packers)):
                if id(kernel) not in seen:
                    seen.add(id(kernel))
                    yield kernel


def _problems() -> Iterator[tuple[Algorithm, tuple[Any, Any]]]:
    """Yield the rows of the table with what is to be tried with each."""
    for row in TABLE:
        yield from ((row, problem) for problem in itertools.product(_CHANNELS, _SHAPES))
        if row.name == "depthwise":
            yield from ((row, problem) for problem in itertools.product(_CHANNELS[-2:], _DEPTHWISE))


def _blockings(row: Algorithm, g: ConvGeometry) -> set[Any]:
    """Return the blockings of a row when the planner knows one tile of each menu that the row looks at."""
    target, found = load.target(), set()
    watched = _Watched(target)
    row.blocking(g, watched)
    for menu in sorted(watched.menus):
        for tile in getattr(target, menu):
            # Not every tile fits every problem.
            with contextlib.suppress(ValueError):
                found.add(row.blocking(g, target._replace(**{menu: (tile,)})))
    return found or {row.blocking(g, target)}


class _Watched:
    """A target that notes which of its menus are looked at."""

    def __init__(self, target: Any):
        self._target = target
        self.menus: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_tiles"):
            self.menus.add(name)
        return getattr(self._target, name)


def _problem(channels: tuple[int, int, int], shape: tuple[int, int, int], dtype: str, layout: str) -> ConvGeometry:
    (IC, OC, G), (n, k, stride) = channels, shape
    return conv_geometry(
        "warmup",
        2,
        (1, IC, n, n) if layout == "channels_first" else (1, n, n, IC),
        (OC, IC // G, k, k),
        stride=stride,
        padding=k // 2,
        dilation=1,
        groups=G,
        layout=layout,
        dtype=dtype,
        padding_mode="zeros",
    )
