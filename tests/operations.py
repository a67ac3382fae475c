"""One small call of every public operation, by name, for what must hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc

# Even sizes, so that windows of two leave nothing over; about as many elements for each number of axes.
SIZES = {1: (1024,), 2: (32, 32), 3: (8, 8, 16)}


class Operation(NamedTuple):
    """A function of large arrays; what else it takes is small and bound to it."""

    name: str
    call: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]


def data(shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 integers from 0 to 6, never two alike next to each other."""
    return (np.arange(np.prod(shape)) % 7).astype("f4").reshape(shape)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "f4")


def forward(axes: int) -> dict[str, tuple[tuple[Any, ...], dict[str, Any], tuple[int, ...]]]:
    """Return the operations of so many spatial axes: what follows the input, and the shape of the result."""
    sizes = SIZES[axes]
    same, half = (1, 1, *sizes), (1, 1, *(n // 2 for n in sizes))
    double = (1, 1, *(2 * n for n in sizes))
    w = ones(1, 1, *[3] * axes)
    halves = tuple(n // 2 for n in sizes)
    found: dict[str, Any] = {
        f"conv{axes}d": ((w,), {"padding": 1}, same),
        f"conv_transpose{axes}d": ((w,), {"padding": 1}, same),
        f"lp_pool{axes}d": ((2, 2), {}, half),
        f"adaptive_avg_pool{axes}d": ((halves,), {}, half),
        f"adaptive_max_pool{axes}d": ((halves,), {}, half),
        f"avg_pool{axes}d": ((2,), {}, half),
        f"max_pool{axes}d": ((2,), {}, half),
        f"nearest_unpool{axes}d": ((2,), {}, double),
        f"bed_of_nails_unpool{axes}d": ((2,), {}, double),
        f"max_unpool{axes}d": ((np.arange(np.prod(sizes)).reshape(same), 2), {}, double),
    }
    if axes == 2:
        one, k = (1, 1, 1, 1), ones(1, 1, 1, 1)
        found |= {
            "depthwise_conv2d": ((w,), {"padding": 1}, same),
            "pointwise_conv2d": ((k,), {}, same),
            "separable_conv2d": ((w, k), {"padding": 1}, same),
            "spatially_separable_conv2d": ((ones(3), ones(3)), {"padding": 1}, same),
            "interpolate": ((), {"scale_factor": 2, "mode": "bilinear"}, double),
            "global_avg_pool": ((), {}, one),
            "global_max_pool": ((), {}, one),
            "unfold": ((2,), {"stride": 2}, (1, 4, half[2] * half[3])),
            "fold": ((sizes, 1), {}, same),
        }
    return found


def operations() -> list[Operation]:
    """Return all of them."""
    found = []
    for axes in SIZES:
        shape = (1, 1, *SIZES[axes])
        for name, (args, keywords, out) in forward(axes).items():
            x = data((1, 1, shape[2] * shape[3])) if name == "fold" else data(shape)
            found.append(Operation(name, then(getattr(fc, name), *args, **keywords), (x,)))
            vjp = getattr(fc.grad, f"{name}_vjp")
            found.append(Operation(f"grad.{name}_vjp", then(vjp, *args, **keywords), (data(out), x)))
        x, w = data(shape), ones(1, 1, *[3] * axes)
        to_input, to_weight = (getattr(fc.grad, f"conv{axes}d_{part}") for part in ("input", "weight"))
        found.append(Operation(to_input.__name__, partial(to_input, shape, w, padding=1), (x,)))
        found.append(Operation(to_weight.__name__, then_last(to_weight, w.shape, padding=1), (x, x)))
    for name in fc.activations.__all__:
        found.append(Operation(f"activations.{name}", getattr(fc.activations, name), (x,)))
        found.append(Operation(f"grad.{name}_vjp", getattr(fc.grad, f"{name}_vjp"), (x, x)))
    return found + filters() + prepared()


def then(function: Callable[..., Any], *args: Any, **keywords: Any) -> Callable[..., Any]:
    """Return a function of the first arguments."""
    return lambda *arrays: function(*arrays, *args, **keywords)


def then_last(function: Callable[..., Any], size: Any, **keywords: Any) -> Callable[..., Any]:
    return lambda x, dy: function(x, size, dy, **keywords)


def filters() -> list[Operation]:
    """Return the functions with the rules of SciPy."""
    image, kernel, line = data(SIZES[2]), ones(3, 3), ones(3)
    found = {name: then(getattr(fc.signal, name), kernel, "same") for name in fc.signal.__all__ if name != "sepfir2d"}
    found["sepfir2d"] = then(fc.signal.sepfir2d, line, line)
    calls = {f"signal.{name}": call for name, call in found.items()}
    arguments: dict[str, tuple[Any, ...]] = dict.fromkeys(fc.ndimage.__all__, ())
    arguments |= dict.fromkeys(("convolve", "correlate"), (kernel,))
    arguments |= dict.fromkeys(("convolve1d", "correlate1d"), (line,))
    arguments |= dict.fromkeys(("gaussian_filter", "gaussian_filter1d"), (1.0,))
    arguments |= {name: (3,) for name in fc.ndimage.__all__ if name.split("_")[0] in ("maximum", "minimum", "uniform")}
    calls |= {f"ndimage.{name}": then(getattr(fc.ndimage, name), *args) for name, args in arguments.items()}
    return [Operation(name, call, (image,)) for name, call in calls.items()]


def prepared() -> list[Operation]:
    """Return what is made once and called often: a plan and a model."""
    x = data((1, 1, *SIZES[2]))
    images = x.reshape(1, *SIZES[2], 1)
    layer = fc.nn.Conv2D(1, 3, input_shape=images.shape[1:], kernel_initializer="ones")
    return [
        Operation("plan_conv2d", lambda a: fc.plan_conv2d(x.shape, ones(1, 1, 3, 3))(a), (x,)),
        Operation("nn.predict", fc.nn.Sequential([layer]).predict, (images,)),
    ]


# What takes no array, or only looks at shapes.
OTHERS = {
    *("autotune", "count_ops", "devices", "explain", "receptive_field", "separate", "threads", "warmup"),
    *("get_max_workspace", "get_num_threads", "set_max_workspace", "set_num_threads"),
}
