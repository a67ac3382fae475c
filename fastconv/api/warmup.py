"""Compiling kernels ahead of time."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from fastconv.api.conv_transpose import conv_transpose2d
from fastconv.api.fold import fold, unfold
from fastconv.api.plan import plan_conv2d
from fastconv.api.pool import avg_pool2d, max_pool2d
from fastconv.api.resize import interpolate
from fastconv.api.separable import separable_conv2d
from fastconv.api.unpool import max_unpool2d
from fastconv.api.upsample import bed_of_nails_unpool2d, nearest_unpool2d
from fastconv.dispatch import load
from fastconv.dispatch.menu import convolution_kernels
from fastconv.dispatch.weight_gradient import prepare_weight_gradient
from fastconv.epilogue import ACTIVATIONS, canonical, clamp_limits
from fastconv.geometry.arrays import dtype_of, element_dtype, kind_of
from fastconv.geometry.conv import LAYOUTS, check_keyword, conv_geometry


class WarmUp(NamedTuple):
    """What `warmup` has done: kernels looked at, those compiled and not found in the cache folder, seconds."""

    kernels: int
    compiled: int
    seconds: float


def warmup(
    dtypes: DTypeLike | Sequence[DTypeLike] = ("float32",),
    *,
    layouts: str | Sequence[str] = LAYOUTS,
    progress: bool = True,
) -> WarmUp:
    """Compile every kernel that arrays of these dtypes may need, into the cache folder.

    All tiles of all algorithms of convolution, the packers of their weights, activations, transposed convolutions,
    pooling, unpooling, resizing and folding. No later process compiles any of them; a first call then takes the 10 ms
    that loading a kernel takes. Run it when a container image is built, or once after installation.

    Parameters
    ----------
    dtypes : dtype or sequence of dtypes
        Of arrays; those that run on kernels of another one (float16 on float32, int8 on int64) stand for it.
    layouts : str or sequence of {"channels_first", "channels_last"}
    progress : bool
        Show on stderr what is compiled, if that is a terminal.

    Returns
    -------
    WarmUp
        ``(kernels, compiled, seconds)``; once all are in the cache folder, `compiled` is 0.

    Raises
    ------
    DtypeError, OptionError, ArgumentTypeError
        No dtype of the library, no layout.

    Notes
    -----
    About 1.5 seconds a kernel, 70 kernels a dtype. Without a cache folder it helps this process only.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.warmup(dtypes=(), progress=False).kernels
    0
    """
    start = time.perf_counter()
    count = load.load("precompile:compilations")
    before, kernels = count(), 0
    elements, names = _elements(dtypes), _layouts(layouts)
    work = [*_work(elements, names), *_dots(_given(dtypes), names)]
    for _, compile_kernel in _shown(work, progress):
        compile_kernel()
        kernels += 1
    return WarmUp(kernels, count() - before, time.perf_counter() - start)


def _elements(dtypes: DTypeLike | Sequence[DTypeLike]) -> list[np.dtype]:
    """Return the element types of kernels for arrays of some dtypes."""
    return list(dict.fromkeys(element_dtype(dtype) for dtype in _given(dtypes)))


def _given(dtypes: DTypeLike | Sequence[DTypeLike]) -> list[np.dtype]:
    several: Any = dtypes if isinstance(dtypes, (list, tuple, set, frozenset)) else (dtypes,)
    return [dtype_of("warmup", "dtypes", each) for each in several]


def _layouts(layouts: str | Sequence[str]) -> list[str]:
    names = [layouts] if isinstance(layouts, str) else list(layouts)
    for name in names:
        check_keyword("warmup", "layout", name, LAYOUTS)
    return names


def _work(elements: Sequence[np.dtype], layouts: Sequence[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of a kernel, and what compiles it."""
    for dtype in elements:
        for layout in layouts:
            for kernel, compile_kernel in convolution_kernels(dtype.name, layout):
                yield f"{kernel.__name__} {dtype}", compile_kernel
        for name in dict.fromkeys(canonical(name, "warmup") for name in ACTIVATIONS):
            if kind_of(dtype) == "f" and name is not None and clamp_limits(name) is None:
                yield f"{name} {dtype}", partial(load.load("activations:row_function"), 8 * dtype.itemsize, name)
        yield from _operations(dtype, layouts)


def _dots(dtypes: Sequence[np.dtype], layouts: Sequence[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the kernels of bytes that the dot products of this CPU sum, each once."""
    found: dict[int, tuple[str, Callable[[], Any]]] = {}
    names = [dtype.name for dtype in dtypes if dtype.itemsize == 1]
    for name, layout, weight in itertools.product(names if load.target().dots else (), layouts, ("int8", "uint8")):
        for kernel, compile_kernel in convolution_kernels(name, layout, weight):
            found[id(kernel)] = f"{kernel.__name__} {name}", compile_kernel
    yield from found.values()


def _operations(dtype: np.dtype, layouts: Sequence[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the operations whose kernels are few, as calls of small arrays."""
    x, indices = np.ones((1, 16, 8, 8), dtype), np.zeros((1, 16, 8, 8), np.int64)
    wide, w = np.ones((1, 16, 4, 40), dtype), np.ones((16, 2, 3, 3), dtype)
    for layout in layouts:
        for array in (x, wide):
            yield f"max_pool2d {dtype}", partial(max_pool2d, array, 2, layout=layout)
            yield f"max_pool2d {dtype}", partial(max_pool2d, array, 2, return_indices=True, layout=layout)
            yield f"avg_pool2d {dtype}", partial(avg_pool2d, array, 2, layout=layout)
        yield f"nearest_unpool2d {dtype}", partial(nearest_unpool2d, x, 2, layout=layout)
        yield f"bed_of_nails_unpool2d {dtype}", partial(bed_of_nails_unpool2d, x, 2, layout=layout)
        image = x if layout == "channels_first" else np.ones((1, 8, 8, 16), dtype)
        yield f"conv_transpose2d {dtype}", partial(conv_transpose2d, image, w, stride=2, layout=layout)
        narrow = np.ones((16, 1, 3, 3), dtype), np.ones((16, 16, 1, 1), dtype)
        yield f"separable_conv2d {dtype}", partial(separable_conv2d, image, *narrow, layout=layout)
        if kind_of(dtype) == "f":
            yield f"plan_conv2d {dtype}", partial(_pooled, image, narrow[1], layout)
            taps, mix = np.ones((16, 1, 3, 3), dtype), np.ones((16, 16), dtype)
            bands = np.ones((4, 16, 8, 16) if layout == "channels_first" else (4, 8, 16, 16), dtype)
            yield f"separable_conv2d {dtype}", partial(separable_conv2d, bands, taps, mix, padding=1, layout=layout)
            yield f"interpolate {dtype}", partial(interpolate, x, scale_factor=2, mode="bilinear", layout=layout)
        if kind_of(dtype) == "f":
            for channels in _GRADIENTS:
                yield f"weight gradient {dtype}", partial(_weight_gradient, *channels, dtype.name, layout)
    yield f"unfold {dtype}", partial(unfold, x, 2)
    yield f"fold {dtype}", partial(fold, np.ones((1, 64, 49), dtype), (8, 8), 2)
    for merge in ("last", "max", "sum"):
        yield f"max_unpool2d {dtype}", partial(max_unpool2d, x, indices, 2, duplicates=merge)


# (IC, OC, groups, size) of convolutions: one for each tile of weight gradients, depthwise ones, and one that is large
# enough for a matrix unit.
_GRADIENTS = ((16, 8, 1, 8), (16, 48, 1, 8), (16, 16, 16, 8), (48, 48, 48, 8), (64, 64, 1, 32))


def _weight_gradient(IC: int, OC: int, groups: int, size: int, dtype: str, layout: str) -> None:
    x, dy = ((1, c, size, size) if layout == "channels_first" else (1, size, size, c) for c in (IC, OC))
    shapes = x, (OC, IC // groups, 3, 3)
    g = conv_geometry("warmup", 2, *shapes, padding=1, groups=groups, layout=layout, dtype=dtype)
    prepare_weight_gradient(g, "default").run(np.zeros(x, dtype), np.zeros(dy, dtype))


def _pooled(image: np.ndarray, w: np.ndarray, layout: str) -> None:
    plan_conv2d(image.shape, w, layout=layout, dtype=image.dtype, pool=2)(image)


def _shown(work: Sequence[tuple[str, Any]], progress: bool) -> Iterator[tuple[str, Any]]:
    """Yield the work under a progress bar on stderr, or with a line for every tenth, if that is a terminal."""
    if not (progress and sys.stderr.isatty()):
        yield from work
        return
    try:
        from tqdm import tqdm
    except ImportError:
        for i, item in enumerate(work):
            if i % 10 == 0:
                print(f"{i}/{len(work)} {item[0]}", file=sys.stderr, flush=True)
            yield item
        return
    with tqdm(work, unit="kernel", leave=False, file=sys.stderr) as bar:
        for item in bar:
            bar.set_postfix_str(item[0], refresh=True)
            yield item
