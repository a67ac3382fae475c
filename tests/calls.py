"""Calls of every kind of operation on drawn problems: what soaks, many threads and interrupts are tested with.

A call is drawn first and can then be made any number of times, by any thread: it makes the same array each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc

Make = Callable[[], Any]
LAYOUTS = ("channels_first", "channels_last")
FLOATS = ("float32", "float32", "float32", "float64", "float16")
DTYPES = (*FLOATS, "int8", "uint8", "int32", "complex64")


class Call(NamedTuple):
    """An operation with its arguments."""

    name: str
    make: Make


class Draws:
    """Draws arrays of at most about `elements` elements; their data are views of one buffer, so they cost nothing."""

    def __init__(self, seed: int, elements: int):
        self.rng, self.elements = np.random.default_rng(seed), elements
        noise = self.rng.integers(-9, 10, 4 * elements + 100_000)
        self.noise = {name: noise.astype(name) for name in dict.fromkeys(DTYPES)}

    def integer(self, low: int, high: int) -> int:
        """Return an integer of [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *values: Any) -> Any:
        """Return one of the values."""
        return values[self.integer(0, len(values) - 1)]

    def array(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Return a view of the noise."""
        size, noise = int(np.prod(shape)), self.noise[dtype]
        start = self.integer(0, noise.size - size)
        return noise[start : start + size].reshape(shape)

    def image(self, axes: int, channels: int, layout: str, dtype: str, least: int = 4) -> np.ndarray:
        """Return a batch of images of random sizes."""
        N = self.integer(1, 2)
        side = max(least + 1, round((self.elements / (N * channels)) ** (1 / axes)))
        sizes = [self.integer(max(least, side // 2), side) for _ in range(axes)]
        return self.array((N, channels, *sizes) if layout == "channels_first" else (N, *sizes, channels), dtype)


def convolution(d: Draws) -> Call:
    """Draw a convolution of one to three axes."""
    axes, layout, dtype = d.one_of(1, 2, 2, 2, 3), d.one_of(*LAYOUTS), d.one_of(*DTYPES)
    G, K = d.one_of(1, 1, 1, 2), d.integer(1, 3)
    IC, OC = G * d.integer(1, 12), G * d.integer(1, 12)
    x, w = d.image(axes, IC, layout, dtype), d.array((OC, IC // G, *[K] * axes), dtype)
    keywords = {"stride": d.one_of(1, 1, 2), "padding": d.integer(0, K // 2), "groups": G, "layout": layout}
    keywords["algorithm"] = d.one_of("auto", "auto", "auto", "direct", "im2col")
    return Call(f"conv{axes}d {dtype}", partial(getattr(fc, f"conv{axes}d"), x, w, **keywords))


def other_algorithm(d: Draws) -> Call:
    """Draw a convolution by an algorithm that rounds in its own way."""
    algorithm = d.one_of("winograd", "fft", "separable")
    C, dtype = d.integer(2, 12), d.one_of("float32", "float64")
    x, w = d.image(2, C, "channels_first", dtype), d.array((C, 1 if algorithm == "separable" else C, 3, 3), dtype)
    if algorithm == "separable":
        w = w[:, :, :1] * w[:, :, :, :1]
    G = C // w.shape[1]
    return Call(f"{algorithm} {dtype}", partial(fc.conv2d, x, w, padding=1, groups=G, algorithm=algorithm))


def depthwise(d: Draws) -> Call:
    """Draw a depthwise convolution, alone or followed by a pointwise one."""
    layout, dtype, C, K = d.one_of(*LAYOUTS), d.one_of(*FLOATS, "int8"), d.integer(1, 32), d.integer(1, 5)
    x, w = d.image(2, C, layout, dtype), d.array((C, 1, K, K), dtype)
    keywords = {"padding": K // 2, "layout": layout, "stride": d.one_of(1, 2)}
    if d.one_of(False, True):
        pointwise = d.array((d.integer(1, 16), C, 1, 1), dtype)
        return Call(f"separable_conv2d {dtype}", partial(fc.separable_conv2d, x, w, pointwise, **keywords))
    return Call(f"depthwise_conv2d {dtype}", partial(fc.depthwise_conv2d, x, w, **keywords))


def transposed(d: Draws) -> Call:
    """Draw a transposed convolution."""
    axes, layout, dtype, K = d.one_of(1, 2, 2, 3), d.one_of(*LAYOUTS), d.one_of(*FLOATS), d.integer(2, 4)
    C = d.integer(1, 12)
    x, w = d.image(axes, C, layout, dtype), d.array((C, d.integer(1, 12), *[K] * axes), dtype)
    name = f"conv_transpose{axes}d"
    return Call(f"{name} {dtype}", partial(getattr(fc, name), x, w, stride=d.integer(1, 2), layout=layout))


def pool(d: Draws) -> Call:
    """Draw a pool."""
    axes, layout, dtype = d.one_of(1, 2, 2, 3), d.one_of(*LAYOUTS), d.one_of(*FLOATS, "int32", "uint8")
    x = d.image(axes, d.integer(1, 20), layout, dtype)
    kind = d.one_of("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool", "indices")
    if kind == "indices":
        function = partial(getattr(fc, f"max_pool{axes}d"), x, 2, d.integer(1, 3), return_indices=True, layout=layout)
        return Call(f"max_pool{axes}d indices {dtype}", function)
    if kind == "lp_pool":
        x = x if dtype in FLOATS else d.array(x.shape, "float32")
        return Call(kind, partial(getattr(fc, f"lp_pool{axes}d"), x, 2, 2, layout=layout))
    size = d.integer(1, 4)
    return Call(f"{kind}{axes}d {dtype}", partial(getattr(fc, f"{kind}{axes}d"), x, size, layout=layout))


def resized(d: Draws) -> Call:
    """Draw what makes images larger, or takes them apart."""
    layout, dtype, C = d.one_of(*LAYOUTS), d.one_of(*FLOATS), d.integer(1, 12)
    x = d.image(2, C, layout, dtype)
    kind = d.integer(0, 4)
    if kind == 0:
        size = (d.integer(3, 30), d.integer(3, 30))
        mode = d.one_of("nearest", "bilinear", "bicubic", "area")
        return Call(f"interpolate {mode}", partial(fc.interpolate, x, size, mode=mode, layout=layout))
    if kind == 1:
        return Call("nearest_unpool2d", partial(fc.nearest_unpool2d, x, 2, layout=layout))
    if kind == 2:
        return Call("unfold", partial(fc.unfold, x, d.integer(1, 3), layout=layout))
    if kind == 3:
        H, W = d.integer(4, 12), d.integer(4, 12)
        columns = d.array((1, 4 * C, (H - 1) * (W - 1)), dtype)
        return Call("fold", partial(fc.fold, columns, (H, W), 2))
    y, indices = fc.max_pool2d(x, 2, return_indices=True, layout=layout)
    sizes = x.shape[2:] if layout == "channels_first" else x.shape[1:3]
    return Call("max_unpool2d", partial(fc.max_unpool2d, y, indices, 2, output_size=sizes, layout=layout))


def filtered(d: Draws) -> Call:
    """Draw a filter of `ndimage`."""
    x = d.image(2, 1, "channels_first", d.one_of("float32", "float64", "uint8", "int32"))[0, 0]
    size, mode = d.integer(1, 7), d.one_of("reflect", "constant", "nearest", "mirror", "wrap")
    name = d.one_of(
        *("gaussian_filter", "uniform_filter", "maximum_filter", "minimum_filter", "sobel", "laplace", "correlate")
    )
    given = {"sobel": (d.integer(0, 1),), "laplace": (), "gaussian_filter": (size / 2,)}.get(name, (size,))
    given = (d.array((3, size), "float64"),) if name == "correlate" else given
    return Call(f"{name} {x.dtype}", partial(getattr(fc.ndimage, name), x, *given, mode=mode))


def signals(d: Draws) -> Call:
    """Draw a convolution of `signal`."""
    name = d.one_of("convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d")
    dtype, mode = d.one_of("float32", "float64", "complex64"), d.one_of("full", "same", "valid")
    axes = 2 if name.endswith("2d") else d.one_of(1, 2)
    x = d.image(axes, 1, "channels_first", dtype, 8)[0, 0]
    kernel = d.array(tuple(d.integer(1, 8) for _ in range(axes)), dtype)
    return Call(f"signal.{name} {dtype}", partial(getattr(fc.signal, name), x, kernel, mode))


def gradient(d: Draws) -> Call:
    """Draw a gradient."""
    layout, dtype, C, OC = d.one_of(*LAYOUTS), d.one_of("float32", "float64"), d.integer(1, 12), d.integer(1, 12)
    x = d.image(2, C, layout, dtype)
    kind = d.integer(0, 3)
    if kind == 0:
        w = d.array((OC, C, 3, 3), dtype)
        dy = fc.conv2d(x, w, padding=1, layout=layout)
        return Call(f"conv2d_vjp {dtype}", partial(fc.grad.conv2d_vjp, dy, x, w, padding=1, layout=layout))
    if kind == 3:
        return Call(f"gelu_vjp {dtype}", partial(fc.grad.gelu_vjp, x, x))
    name = ("max_pool2d", "avg_pool2d")[kind - 1]
    dy = getattr(fc, name)(x, 2, layout=layout)
    return Call(f"{name}_vjp {dtype}", partial(getattr(fc.grad, f"{name}_vjp"), dy, x, 2, layout=layout))


def planned(d: Draws) -> Call:
    """Draw a plan, which the threads of a test share, and sometimes make it anew at each call."""
    layout, C, activation = d.one_of(*LAYOUTS), d.integer(1, 16), d.one_of(None, "relu", "gelu")
    x, w = d.image(2, C, layout, "float32"), d.array((d.integer(1, 16), C, 3, 3), "float32")
    make = partial(fc.plan_conv2d, x.shape, w, padding=1, layout=layout, activation=activation)
    if d.one_of(False, True):
        return Call("plan_conv2d", lambda: make()(x))
    return Call("plan", partial(make(), x))


def rejected(d: Draws) -> Call:
    """Draw a call that raises."""
    x, w = d.image(2, 3, "channels_first", "float32"), d.array((2, 3, 3, 3), "float32")
    function, arguments, keywords = d.one_of(
        (fc.conv2d, (x, w[:, :2]), {}),
        (fc.conv2d, (x, w), {"padding": -(10 ** d.integer(0, 9))}),
        (fc.conv2d, (x, w), {"out": x[:1]}),
        (fc.conv2d, (x.astype(bool), w), {}),
        (fc.conv2d, (x, w), {"algorithm": "depthwise"}),
        (fc.max_pool2d, (x, d.integer(1000, 2000)), {}),
        (fc.interpolate, (x, 0), {}),
        (fc.ndimage.correlate, (x, w[0, 0]), {}),
        (fc.signal.convolve, (x, w[0]), {}),
    )

    def make() -> str:
        try:
            function(*arguments, **keywords)
        except (ValueError, TypeError, RuntimeError) as error:
            return type(error).__name__
        raise AssertionError(f"{function.__name__} takes {keywords}")

    return Call("rejected", make)


KINDS = (
    *(convolution, convolution, other_algorithm, depthwise, transposed, pool, pool, resized, filtered, signals),
    *(gradient, planned, rejected),
)


def draw(d: Draws) -> Call:
    """Draw a call of any kind."""
    return d.one_of(*KINDS)(d)


def bits(result: Any) -> Any:
    """Return what tells results apart to the last bit."""
    if isinstance(result, tuple):
        return tuple(bits(each) for each in result)
    return (result.shape, result.dtype.str, result.tobytes()) if isinstance(result, np.ndarray) else result
