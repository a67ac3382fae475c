"""Every kernel that convolutions may need, found by asking the planner, one tile of the menus at a time.

So whatever a row of the table, a tile of a target or a new kernel adds is found by itself. The problems below only have
to be so different that each kernel is the best for one of them when the planner knows a single tile.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.choose import Candidate
from fastconv.dispatch.conv_table import TABLE
from fastconv.dispatch.plan import Prepared
from fastconv.geometry.conv import ConvGeometry, conv_geometry, input_shape, weight_shape

# (IC, OC, groups): one channel, few, many, depthwise with a tile of one and of several vectors.
_CHANNELS = ((1, 8, 1), (3, 16, 1), (64, 64, 1), (16, 16, 16), (64, 64, 64))
# (H, W, KH, KW, stride): small images, wide ones, rows; kernels and strides that have machine code of their own, and
# others; one for a transform.
_SHAPES = (
    *((8, 8, 1, 1, 1), (8, 8, 3, 3, 1), (8, 8, 3, 3, 2), (8, 8, 5, 5, 1)),
    *((56, 56, 1, 1, 1), (56, 56, 3, 3, 1), (56, 56, 5, 5, 1), (56, 56, 7, 7, 1)),
    *((24, 24, 3, 3, 2), (24, 24, 5, 5, 2), (24, 24, 7, 7, 2), (24, 24, 4, 4, 1)),
    *((24, 24, 3, 1, 1), (1, 200, 1, 3, 1), (1, 200, 1, 5, 1)),
    (40, 40, 15, 15, 1),
)


def convolution_kernels(dtype: str, layout: str, weight_dtype: str = "") -> Iterator[tuple[Any, Callable[[], None]]]:
    """Yield the kernels of all algorithms for all tiles, and of their packers, each once, and what compiles each.

    With a `weight_dtype` they are those of bytes, by dot products.
    Programs that are Python code around kernels of their own are run; they stand for themselves.
    """
    seen: set[Any] = set()
    precompile = load.load("precompile:precompile")
    for row, (channels, shape) in itertools.product(TABLE, itertools.product(_CHANNELS, _SHAPES)):
        g = _problem(channels, shape, dtype, layout)._replace(weight_dtype=weight_dtype)
        # A dot product of one byte is none (choose.in_bytes).
        if row.unsupported(g) is not None or (weight_dtype and g.ICG < 2):
            continue
        for blocking in _blockings(row, g):
            program = load.load(row.kernel)(g, None, blocking)
            if not load.load("precompile:is_compiled")(program.kernel):
                if (row.name, channels) not in seen:
                    seen.add((row.name, channels))
                    yield program.kernel, partial(_run, g, Candidate(row, None, blocking, None))
                continue
            for kernel in _kernels(program):
                if id(kernel) not in seen:
                    seen.add(id(kernel))
                    yield kernel, partial(precompile, kernel)


def _kernels(program: Any) -> Iterator[Any]:
    """Yield the kernels that a program calls."""
    for part in (program, *program.packers):
        yield part.kernel
        if part.words is not None:
            yield part.words.kernel


def _run(g: ConvGeometry, candidate: Candidate) -> None:
    prepared = Prepared(g, None, "default", candidate)
    x, w = (np.zeros(shape, g.dtype) for shape in (input_shape(g), weight_shape(g)))
    prepared.run_once(x, (w,), None, None, np.empty(prepared.out_shape, g.dtype))


def _blockings(row: Algorithm, g: ConvGeometry) -> set[Any]:
    """Return the blockings of a row when the planner knows one tile of each menu that the row looks at."""
    target, found = load.target(), set()
    for blocking in (row.blocking, row.rough):
        if blocking is None:
            continue
        watched = _Watched(target)
        found.add(blocking(g, watched))
        for menu in sorted(watched.menus):
            for tile in getattr(target, menu):
                # Not every tile fits every problem.
                with contextlib.suppress(ValueError):
                    found.add(blocking(g, target._replace(**{menu: _Only(getattr(target, menu), tile)})))
    return found


class _Only(tuple[Any, ...]):
    """A menu of tiles, or a part of it, from which only one may be taken."""

    def __new__(cls, tiles: Iterable[Any], only: Any) -> _Only:
        self = super().__new__(cls, tiles)
        self.only = only
        return self

    only: Any

    def __iter__(self) -> Iterator[Any]:
        return (tile for tile in super().__iter__() if tile == self.only)

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _Only(found, self.only) if isinstance(where, slice) else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Only) and super().__eq__(other) and self.only == other.only

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.only))


class _Watched:
    """A target that notes which of its menus are looked at."""

    def __init__(self, target: Any):
        self._target = target
        self.menus: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_tiles"):
            self.menus.add(name)
        return getattr(self._target, name)


def _problem(
    channels: tuple[int, int, int], shape: tuple[int, int, int, int, int], dtype: str, layout: str
) -> ConvGeometry:
    (IC, OC, G), (H, W, KH, KW, stride) = channels, shape
    return conv_geometry(
        "warmup",
        2,
        (1, IC, H, W) if layout == "channels_first" else (1, H, W, IC),
        (OC, IC // G, KH, KW),
        stride=stride,
        padding=(KH // 2, KW // 2),
        dilation=1,
        groups=G,
        layout=layout,
        dtype=dtype,
        padding_mode="zeros",
    )
