"""Who is measured: the peers of the convolutions behind one interface.

A rival is available or not, refuses a layer with a reason or makes a callable without arguments, which returns the
result as an array-like. Other libraries get their number of threads when a call is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.benchmarks.problems import Layer
from fastconv.benchmarks.rival import Arrays, Rival
from fastconv.benchmarks.runtimes import OnnxRuntime, OpenVino
from fastconv.dispatch.conv_table import TABLE
from fastconv.errors import OptionError, UnsupportedError

__all__ = ["RIVALS", "FastconvAlgorithm", "Rival", "find"]


class Torch(Rival):
    """PyTorch on the same memory; its tensors are made before the clock starts."""

    name = package = "torch"

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        import torch

        torch.set_num_threads(threads)
        x, weight = (torch.from_numpy(array) for array in arrays)
        k = layer.problem.keywords
        last = k["layout"] == "channels_last"
        if last:
            # A view that PyTorch takes for its own channels-last format.
            x = x.movedim(-1, 1)
            if layer.problem.axes == 2:
                weight = weight.contiguous(memory_format=torch.channels_last)
        even = all(before == after >= 0 for before, after in k["padding"])
        padding = tuple(before if even else 0 for before, _ in k["padding"])
        ends = [number for pair in reversed(k["padding"]) for number in pair]
        convolve = getattr(torch.nn.functional, f"conv{layer.problem.axes}d")

        def call() -> Any:
            with torch.no_grad():
                padded = x if even else torch.nn.functional.pad(x, ends)
                y = convolve(padded, weight, None, k["stride"], padding, k["dilation"], k["groups"])
            return y.movedim(1, -1) if last else y

        try:
            call()
        except RuntimeError as error:
            raise UnsupportedError(f"{self.name}: {error}") from error
        return call


class _Filter(Rival):
    """What filters one image with one kernel, output as large as input."""

    def refusal(self, layer: Layer) -> str | None:
        """See `Rival`."""
        problem = layer.problem
        if problem.axes != 2:
            return "it takes images"
        k, (_, _, KH, KW) = problem.keywords, problem.weight_shape
        if problem.input_shape[:2] != (1, 1) or problem.weight_shape[:2] != (1, 1) or k["layout"] != "channels_first":
            return "it takes one image of one channel and one kernel"
        if k["stride"] != (1, 1) or k["dilation"] != (1, 1):
            return "it has no stride and no dilation"
        half = ((KH // 2, KH // 2), (KW // 2, KW // 2))
        return None if KH % 2 and KW % 2 and k["padding"] == half else "its result has the size of the image"


class OpenCV(_Filter):
    """cv2.filter2D, zeros outside of the image."""

    name, package = "opencv", "cv2"

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        import cv2

        cv2.setNumThreads(threads)
        image, kernel = arrays[0][0, 0], arrays[1][0, 0]
        return lambda: cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT)[None, None]


class OpenCVSeparable(_Filter):
    """cv2.sepFilter2D on the factors of the kernel, which are found before the clock starts."""

    name, package = "opencv-separable", "cv2"

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        import cv2

        cv2.setNumThreads(threads)
        found = fc.separate(arrays[1][0, 0])
        if found.rank != 1:
            raise UnsupportedError(f"{self.name}: the kernel has rank {found.rank}, expected 1")
        image, column, row = arrays[0][0, 0], found.columns[0], found.rows[0]
        return lambda: cv2.sepFilter2D(image, -1, row, column, borderType=cv2.BORDER_CONSTANT)[None, None]


class SciPy(_Filter):
    """scipy.signal.correlate2d, always on one thread."""

    name, package = "scipy", "scipy"

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        from scipy.signal import correlate2d

        image, kernel = arrays[0][0, 0], arrays[1][0, 0]
        return lambda: correlate2d(image, kernel, mode="same")[None, None]


class Copy(Rival):
    """numpy.copyto of as many bytes as the convolution reads and writes: what memory allows. Nothing is computed."""

    name = "copy"
    independent = False

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        ops = fc.count_ops(layer.function, arrays[0], arrays[1], **layer.keywords)
        source = np.ones((ops.bytes_read + ops.bytes_written) // 8, np.float32)
        target = np.empty_like(source)
        return lambda: np.copyto(target, source)


class FastconvAlgorithm(Rival):
    """The convolution with an algorithm asked for by name. The threads are those of the caller's `fastconv.threads`."""

    independent = False

    def __init__(self, algorithm: str):
        self.name, self.algorithm = f"fastconv-{algorithm}", algorithm

    def refusal(self, layer: Layer) -> str | None:
        """See `Rival`."""
        shapes = layer.problem.input_shape, layer.problem.weight_shape
        lines = fc.explain(layer.function, *shapes, **layer.keywords).lines
        return next(line.refused for line in lines if line.algorithm == self.algorithm)

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        (x, weight), keywords, convolve = arrays, layer.keywords, layer.function

        def call() -> np.ndarray:
            found: np.ndarray = convolve(x, weight, **keywords, algorithm=self.algorithm)
            return found

        # Whether a kernel is separable, only its values tell.
        call()
        return call


_PEERS: tuple[Rival, ...] = (Torch(), OnnxRuntime(), OpenVino(), OpenCV(), OpenCVSeparable(), SciPy(), Copy())
_OWN = tuple(FastconvAlgorithm(row.name) for row in TABLE)

RIVALS: dict[str, Rival] = {rival.name: rival for rival in (*_PEERS, *_OWN)}


def find(name: str) -> Rival:
    """Return the rival of a name, which must be installed.

    Raises
    ------
    OptionError
        If there is none.
    ModuleNotFoundError
        If its package is missing.
    """
    if name not in RIVALS:
        raise OptionError(f"rival = {name!r}, expected one of {', '.join(RIVALS)}")
    rival = RIVALS[name]
    if not rival.available():
        raise ModuleNotFoundError(f"rival {name!r} needs {rival.package}", name=rival.package)
    return rival
