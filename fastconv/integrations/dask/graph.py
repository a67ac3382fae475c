"""Dask arrays of window operations: a task for each block of the output, which reads pieces of chunks of the input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.array.chunk import getitem
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from fastconv.errors import ArgumentTypeError, ShapeError
from fastconv.geometry.arguments import positive, shown
from fastconv.geometry.arrays import on_device
from fastconv.geometry.windows import Axis
from fastconv.integrations.dask.blocks import Call, Part, compute
from fastconv.integrations.dask.windows import Extent, Run, extents, output_chunks, unsplit


@dataclass(frozen=True)
class Operation:
    """A window operation on a dask array.

    Attributes
    ----------
    name : str
    function : callable
        Of fastconv: ``function(block, **arrays, **keywords)``.
    axes : sequence of Axis
        The windows along each axis. With the mode "clip" the function makes the border of the image itself; other
        borders are part of the blocks.
    whole : dict
        Keywords for blocks that hold all of each axis with windows.
    split : dict
        Keywords for other blocks.
    arrays : dict
        What is the same for all blocks: arrays of NumPy or dask; None is left out.
    dtype : dtype
        Of the result.
    more : callable
        From the extents of a block further keywords and the part of the result to keep, or None.
    fill : scalar
    block_dtype : dtype or None
        Of the blocks; None: that of the input.
    channels : tuple of (int, int)
        From axes with one chunk to the size that the result has there.
    """

    name: str
    function: Callable[..., Any]
    axes: Sequence[Axis]
    whole: dict[str, Any]
    split: dict[str, Any]
    arrays: dict[str, Any]
    dtype: np.dtype
    more: Callable[[Sequence[Extent]], tuple[dict[str, Any], tuple[slice, ...] | None]]
    fill: Any = 0
    block_dtype: np.dtype | None = None
    channels: tuple[tuple[int, int], ...] = ()


def checked(function: str, name: str, x: Any) -> da.Array:
    """Return a dask array of known sizes, or raise."""
    if not isinstance(x, da.Array):
        kind = type(x).__name__
        raise ArgumentTypeError(
            f"{function}: {name} is a {kind}, expected a dask array: dask.array.from_array makes one"
        )
    for axis, sizes in enumerate(x.chunks):
        if any(math.isnan(size) for size in sizes):
            raise ShapeError(
                f"{function}: {name} has chunks of unknown sizes along axis {axis}, expected known ones: "
                f"call its compute_chunk_sizes() first"
            )
    return x


def as_shared(function: str, name: str, array: Any) -> Any:
    """Return an array that all blocks share: a dask array, also of one of a device, or one of NumPy."""
    if on_device(array):
        array = da.from_array(array, chunks=-1, asarray=False)
    return checked(function, name, array) if isinstance(array, da.Array) else np.asarray(array)


def stand_in(array: Any) -> np.ndarray:
    """Return zeros of the shape and dtype of an array, which take no memory; of one of NumPy itself."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape) if isinstance(array, da.Array) else array


def apply(x: da.Array, operation: Operation) -> da.Array:
    """Return the result of an operation as a dask array, of which nothing has been computed."""
    windows = [not axis.trivial for axis in operation.axes]
    split = any(window and len(chunks) > 1 for window, chunks in zip(windows, x.chunks, strict=True))
    chunks, along = [], []
    for axis, sizes in zip(operation.axes, x.chunks, strict=True):
        one = not split and not axis.trivial
        chunks.append((axis.out,) if one else output_chunks(axis, sizes))
        along.append(unsplit(axis.n, axis.out) if one else extents(axis, sizes, chunks[-1]))
    for axis_index, size in operation.channels:
        chunks[axis_index] = (size,)
    shared = {key: _one_chunk(array) for key, array in operation.arrays.items() if array is not None}
    count = positive("dask.config", "fastconv.threads", dask.config.get("fastconv.threads", 1))
    call = Call(
        operation.function,
        operation.split if split else operation.whole,
        tuple(shared),
        count,
        operation.fill,
        operation.block_dtype if split else None,
    )
    token = tokenize(x.name, operation.name, chunks, [a.name for a in shared.values()], call, operation.axes)
    name = f"{operation.name}-{token}"
    keys = [(a.name, *(0,) * a.ndim) for a in shared.values()]
    tasks: dict[Any, Any] = {}
    for where in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        block = [along[axis][i] for axis, i in enumerate(where)]
        part, pieces = _block(x, block, operation if split else None)
        names = [_piece(tasks, name, where, i, piece) for i, piece in enumerate(pieces)]
        tasks[(name, *where)] = (compute, call, part, *keys, *names)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[x, *shared.values()])
    meta = meta_from_array(x._meta, ndim=x.ndim, dtype=operation.dtype)
    return da.Array(graph, name, tuple(chunks), meta=meta, dtype=operation.dtype)


def _one_chunk(array: Any) -> da.Array:
    """Return an array as one node of the graph, which all tasks refer to."""
    if not isinstance(array, da.Array):
        return da.from_array(array, chunks=-1)
    return array.rechunk(-1) if array.npartitions > 1 else array


def _block(x: da.Array, block: Sequence[Extent], operation: Operation | None) -> tuple[Part, list[Any]]:
    """Return how a block is made, and its pieces: the key of each chunk and, unless all of it is read, the slices."""
    shape = tuple(extent.length for extent in block)
    combinations = list(itertools.product(*(extent.runs for extent in block)))
    pieces: list[Any] = []
    for runs in combinations:
        key = (x.name, *(run.chunk for run in runs))
        pieces.append((key, None if all(run.whole for run in runs) else tuple(run.source for run in runs)))
    places = tuple(tuple(run.target for run in runs) for runs in combinations)
    if operation is None:
        return Part(shape, ()), pieces
    keywords, crop = operation.more(block)
    if len(places) == 1 and operation.block_dtype is None and _fits(combinations[0], shape):
        return Part(shape, (), False, crop, keywords), pieces
    covered = [sum(run.count for run in extent.runs) == extent.length for extent in block]
    return Part(shape, places, not all(covered), crop, keywords), pieces


def _fits(runs: Sequence[Run], shape: tuple[int, ...]) -> bool:
    """Return whether one piece, as it is read, is the whole block."""
    return all(run.target == slice(0, size) for run, size in zip(runs, shape, strict=True)) and all(
        run.source.stop - run.source.start == size for run, size in zip(runs, shape, strict=True)
    )


def _piece(tasks: dict[Any, Any], name: str, where: tuple[int, ...], number: int, piece: Any) -> Any:
    """Return the key of a piece: of the chunk, or of a task of its own, so that no more than is read is sent around."""
    key, slices = piece
    if slices is None:
        return key
    own = (f"{name}-piece", *where, number)
    tasks[own] = (getitem, key, slices)
    return own


def refuse_output(function: str, output: Any) -> None:
    """Raise if a result is to go into an array."""
    if hasattr(output, "shape"):
        raise ArgumentTypeError(f"{function}: output = {shown(type(output).__name__)}, expected a dtype or None")
