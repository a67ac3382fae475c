"""What the demo computes: filters and layers, each as one problem that fastconv and SciPy both solve."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc

# Rec. 709 luminance, and the usual sepia tone.
LUMINANCE = (0.2126, 0.7152, 0.0722)
SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
SHARPEN = ((0, -1, 0), (-1, 5, -1), (0, -1, 0))
LAPLACIAN = ((1, 1, 1), (1, -8, 1), (1, 1, 1))


class Choice(NamedTuple):
    """One algorithm for a step, with what the planner says about it."""

    algorithm: str
    chosen: bool
    multiplies: int
    macs: int
    predicted: float


class Step(NamedTuple):
    """One problem.

    Attributes
    ----------
    name : str
        The key of its picture.
    title : str
    direct : int
        Multiplications of direct summation.
    choices : tuple of Choice
    run : callable
        Name of an algorithm -> result.
    reference : callable
        -> the same by SciPy in float64.
    rival : callable
        -> seconds that SciPy needs in float32.
    """

    name: str
    title: str
    direct: int
    choices: tuple[Choice, ...]
    run: Callable[[str], np.ndarray]
    reference: Callable[[], np.ndarray]
    rival: Callable[[], float]


Results = dict[str, np.ndarray]


def steps() -> tuple[Callable[[Results], Step], ...]:
    """Return functions that make the steps, in order; each is given the results so far, `photo` among them."""
    return (_sobel, _sharpen, _gaussian, _laplacian, _sepia, _first_layer, _block, _full_block)


def _sobel(results: Results) -> Step:
    weight = np.array([SOBEL, np.transpose(SOBEL)], np.float32)[:, None]
    return _convolution("sobel", "Sobel, x and y", _grey(results["photo"]), weight)


def _sharpen(results: Results) -> Step:
    return _convolution("sharpen", "sharpen 3x3", results["photo"], _per_channel(SHARPEN), groups=3)


def _gaussian(results: Results) -> Step:
    bell = np.exp(-0.5 * (np.arange(-7, 8) / 3.0) ** 2)
    bell /= bell.sum()
    return _convolution("gaussian", "Gaussian 15x15", results["photo"], _per_channel(np.outer(bell, bell)), groups=3)


def _laplacian(results: Results) -> Step:
    weight = np.array([[LAPLACIAN]], np.float32)
    return _convolution("laplacian", "Laplacian, dilation 4", _grey(results["photo"]), weight, dilation=4)


def _sepia(results: Results) -> Step:
    weight = np.array(SEPIA, np.float32)[:, :, None, None]
    return _convolution("sepia", "sepia, 3 to 3 colours", results["photo"], weight)


def _first_layer(results: Results) -> Step:
    title = "CNN layer, 7x7, stride 2"
    return _convolution("maps", title, results["photo"], gabor_bank(), stride=2, activation="relu")


def _block(results: Results) -> Step:
    """Return depthwise 3x3, then pointwise: the numbers are the sums over both, direct is the full convolution."""
    x, (depthwise, pointwise) = results["maps"], _block_weights()
    groups = len(depthwise)
    first = fc.explain(fc.depthwise_conv2d, x, depthwise, padding=1)
    second = fc.explain(fc.pointwise_conv2d, x, pointwise)
    extra = next(c for c in _choices(second) if c.chosen)
    choices = tuple(
        Choice(c.algorithm, c.chosen, *(getattr(c, k) + getattr(extra, k) for k in ("multiplies", "macs", "predicted")))
        for c in _choices(first)
    )
    return Step(
        "block",
        "depthwise 3x3, pointwise",
        fc.count_ops(fc.conv2d, x.shape, (len(pointwise), groups, 3, 3), padding=1).multiplies,
        choices,
        lambda name: fc.separable_conv2d(x, depthwise, pointwise, padding=1, algorithm=name),
        lambda: correlate(correlate(x, depthwise, groups=groups), pointwise),
        lambda: _scipy_seconds(x, depthwise) + _scipy_seconds(x, pointwise),
    )


def _full_block(results: Results) -> Step:
    depthwise, pointwise = _block_weights()
    return _convolution("full", "the same, one full 3x3", results["maps"], pointwise * depthwise[:, 0])


def _convolution(
    name: str,
    title: str,
    x: np.ndarray,
    weight: np.ndarray,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: str | None = None,
) -> Step:
    """Return the step of one convolution of odd kernels, padded so that with stride 1 the size stays."""
    padding = tuple(dilation * (n - 1) // 2 for n in weight.shape[2:])
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    explanation = fc.explain(fc.conv2d, x, weight, activation=activation, **options)

    def reference() -> np.ndarray:
        expected = correlate(x, weight, stride, dilation, groups)
        return np.maximum(expected, 0) if activation == "relu" else expected

    return Step(
        name,
        title,
        explanation.direct.multiplies,
        tuple(_choices(explanation)),
        lambda algorithm: fc.conv2d(x, weight, activation=activation, algorithm=algorithm, **options),
        reference,
        lambda: _scipy_seconds(x, _stuffed(weight, dilation)),
    )


def _choices(explanation: Any) -> Iterator[Choice]:
    for line in explanation.lines:
        if line.refused is None:
            yield Choice(line.algorithm, line.chosen, line.ops.multiplies, line.ops.macs, line.predicted)


def _grey(photo: np.ndarray) -> np.ndarray:
    return fc.pointwise_conv2d(photo, np.array([LUMINANCE], np.float32))


def _per_channel(kernel: Any) -> np.ndarray:
    return np.repeat(np.array([[kernel]], np.float32), 3, axis=0)


def gabor_bank() -> np.ndarray:
    """Return 16 filters (16, 3, 7, 7) like those that networks learn: 8 directions, in grey and in colour."""
    y, x = np.mgrid[-3:4, -3:4]
    bank = np.empty((16, 3, 7, 7), np.float32)
    for i, angle in enumerate(np.arange(8) * np.pi / 8):
        wave = np.exp(-(x**2 + y**2) / 8) * np.sin(2 * np.pi / 5 * (x * np.cos(angle) + y * np.sin(angle)))
        wave /= np.abs(wave).sum()
        bank[i] = wave
        # Red against green, and blue against yellow.
        colours = (1, -1, 0) if i % 2 else (-0.5, -0.5, 1)
        bank[i + 8] = wave * np.array(colours)[:, None, None]
    return bank


def _block_weights() -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (16, 1, 3, 3) and (32, 16, 1, 1)."""
    rng = np.random.default_rng(0)
    shapes = ((16, 1, 3, 3), (32, 16, 1, 1))
    depthwise, pointwise = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return depthwise, pointwise


def correlate(x: np.ndarray, weight: np.ndarray, stride: int = 1, dilation: int = 1, groups: int = 1) -> np.ndarray:
    """Return the convolution by scipy.signal.correlate2d in float64: sums over channels, zeros stuffed into kernels."""
    from scipy.signal import correlate2d

    kernels = _stuffed(weight.astype(np.float64), dilation)
    images = x.astype(np.float64)[0]
    OC, ICG = weight.shape[:2]
    out = np.zeros((1, OC, *images.shape[1:]))
    for oc in range(OC):
        first = oc // (OC // groups) * ICG
        for icg in range(ICG):
            out[0, oc] += correlate2d(images[first + icg], kernels[oc, icg], mode="same")
    return out[:, :, ::stride, ::stride]


def _stuffed(weight: np.ndarray, dilation: int) -> np.ndarray:
    """Return the kernels with dilation - 1 zeros between their elements."""
    OC, ICG, KH, KW = weight.shape
    wide = np.zeros((OC, ICG, dilation * (KH - 1) + 1, dilation * (KW - 1) + 1), weight.dtype)
    wide[:, :, ::dilation, ::dilation] = weight
    return wide


def _scipy_seconds(x: np.ndarray, weight: np.ndarray) -> float:
    """Return SciPy's time in float32: that of one image with one kernel, times how many it has to do."""
    from scipy.signal import correlate2d

    OC, ICG = weight.shape[:2]
    return OC * ICG * seconds(lambda: correlate2d(x[0, 0], weight[0, 0], mode="same"), 3)


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
