"""The register tiles that the fast tests know: of each kind one or two, for each is a compilation for each dtype.

A kernel is generated from the sizes of its tile. The fast tests run every kernel, dtype and layout, but in few tiles;
the microkernels by themselves (tests/kernels), and all of the tests together with the slow ones, have the whole menus.
"""

from __future__ import annotations

from typing import Any

from fastconv.dispatch import load

# What a new process runs first, to know no more than this one.
SETUP = "from tests import tiles; tiles.know_few()\n"
_whole = load.target


def few(target: Any) -> Any:
    """Return a target with the first and the last of its outer tiles, and one tile of each kind of the others."""
    rows = {(R, TAPS): (R, NV, TAPS) for R, NV, TAPS in reversed(target.row_tiles)}
    return target._replace(
        outer_tiles=(target.outer_tiles[0], target.outer_tiles[-1]),
        row_tiles=tuple(tile for tile in target.row_tiles if tile in rows.values()),
        gradient_tiles=target.gradient_tiles[:1],
    )


def know_few() -> None:
    """Let the planner of this process choose among few tiles."""
    load.target = lambda: few(_whole())


def setup() -> str:
    """Return what makes a new process know the tiles that this one knows."""
    return "" if load.target is _whole else SETUP
