"""What a task does: put the pieces of a block together and call a function of fastconv with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastconv.threads import threads


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments but for the block, the same for all blocks.

    Attributes
    ----------
    function : callable
        Of a module, so that it can be pickled.
    keywords : dict
    names : tuple of str
        The keywords of the arrays that all blocks share.
    count : int
        Threads of a call.
    fill : scalar
        What is outside the input.
    dtype : dtype or None
        Of the block, if it is not that of the input.
    """

    function: Callable[..., Any]
    keywords: dict[str, Any]
    names: tuple[str, ...]
    count: int
    fill: Any = 0
    dtype: np.dtype | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One block: how it is put together, and what of the result is kept.

    Attributes
    ----------
    shape : tuple of int
    places : tuple of tuple of slice
        Where each piece stands; none: the one piece is the block.
    filled : bool
        Whether some elements are in no piece.
    crop : tuple of slice or None
    keywords : dict
    """

    shape: tuple[int, ...]
    places: tuple[tuple[slice, ...], ...]
    filled: bool = False
    crop: tuple[slice, ...] | None = None
    keywords: dict[str, Any] = field(default_factory=dict)


def compute(call: Call, part: Part, *values: Any) -> Any:
    """Return a block of the result; `values` are the arrays that all blocks share, then the pieces of this one.

    Nothing here turns an array into one of another library: what is on a device stays there.
    """
    shared = dict(zip(call.names, values, strict=False))
    block = assembled(call, part, values[len(call.names) :])
    with threads(call.count):
        result = call.function(block, **shared, **call.keywords, **part.keywords)
    if part.crop is None:
        return result
    kept = result[part.crop]
    # A view keeps all of the result alive.
    return kept.copy() if 2 * kept.size < result.size else kept


def assembled(call: Call, part: Part, pieces: tuple[Any, ...]) -> Any:
    """Return the block in one array, of the library of its pieces."""
    if not part.places:
        return pieces[0]
    block = np.empty_like(pieces[0], dtype=call.dtype, order="C", shape=part.shape)
    if part.filled:
        block[...] = call.fill
    for place, piece in zip(part.places, pieces, strict=True):
        block[place] = piece
    return block
