"""A user's program, for `mypy --strict`: every kind of public name, and what type checkers know of its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import fastconv as fc
from fastconv.nn import Conv2D, Dense, Flatten, Sequential, load_model

Image = npt.NDArray[np.float32]


def convolutions(x: Image, w: Image, b: Image | None = None) -> np.ndarray:
    y = fc.conv2d(x, w, b, stride=(1, 2), padding="same", activation="relu", layout="channels_first")
    assert_type(y, np.ndarray)
    assert_type(fc.conv1d([[1.0, 2.0]], [[[1.0]]], padding=((1, 0),)), np.ndarray)
    assert_type(fc.conv3d(x, w, out=y, out_dtype="float64"), np.ndarray)
    assert_type(fc.conv_transpose2d(x, w, stride=2, output_padding=1), np.ndarray)
    assert_type(fc.depthwise_conv2d(x, w), np.ndarray)
    assert_type(fc.pointwise_conv2d(memoryview(b"1"), w), np.ndarray)
    assert_type(fc.separable_conv2d(x, w, w), np.ndarray)
    assert_type(fc.spatially_separable_conv2d(x, b or w, w), np.ndarray)
    found = fc.separate(w)
    assert_type(found.columns, np.ndarray)
    assert_type(found.error, float)
    return y


def pools(x: Image, wants_indices: bool) -> tuple[np.ndarray, np.ndarray]:
    assert_type(fc.max_pool2d(x, 2), np.ndarray)
    assert_type(fc.max_pool2d(x, 2, return_indices=False), np.ndarray)
    values, indices = fc.max_pool2d(x, 2, return_indices=True)
    assert_type(values, np.ndarray)
    assert_type(indices, np.ndarray)
    assert_type(fc.max_pool1d(x, (2,), return_indices=wants_indices), Any)
    assert_type(fc.max_pool3d(x, 2, return_indices=True), tuple[np.ndarray, np.ndarray])
    assert_type(fc.adaptive_max_pool2d(x, 1), np.ndarray)
    assert_type(fc.adaptive_max_pool2d(x, 1, True), tuple[np.ndarray, np.ndarray])
    assert_type(fc.avg_pool2d(x, 2), np.ndarray)
    assert_type(fc.lp_pool2d(x, 2.0, 2), np.ndarray)
    assert_type(fc.adaptive_avg_pool1d(x, 1), np.ndarray)
    assert_type(fc.global_avg_pool(x, keepdims=False), np.ndarray)
    assert_type(fc.max_unpool2d(values, indices, 2), np.ndarray)
    assert_type(fc.nearest_unpool2d(x, 2), np.ndarray)
    assert_type(fc.interpolate(x, scale_factor=2, mode="bilinear"), np.ndarray)
    assert_type(fc.fold(fc.unfold(x, 3), (4, 4), 3), np.ndarray)
    return values, indices


def plans(x: Image, w: Image) -> None:
    plan = fc.plan_conv2d(x.shape, w, padding=1, dtype=np.float32)
    assert_type(plan, fc.ConvPlan)
    assert_type(plan(x), np.ndarray)
    fields = fc.receptive_field([{"kernel_size": 3}])
    assert_type(fields, list[fc.ReceptiveField])
    assert_type(fc.count_ops(fc.conv2d, x, w), fc.OpCount)
    print(fc.explain(fc.conv2d, x, w))
    with fc.threads(2), fc.autotune():
        fc.set_num_threads(fc.get_num_threads())
    fc.set_max_workspace(None)
    assert_type(fc.get_max_workspace(), int | None)


def images(x: Image) -> None:
    kernel = np.ones((3, 3), np.float32)
    assert_type(fc.signal.correlate2d(x, kernel, mode="same", boundary="symm"), np.ndarray)
    assert_type(fc.signal.convolve2d(x, kernel), np.ndarray)
    smooth: Image = fc.ndimage.gaussian_filter(x, sigma=1.5, mode="nearest")
    assert_type(fc.ndimage.maximum_filter(smooth, size=3), np.ndarray)
    some: np.ndarray = fc.activations.relu(x)
    fc.testing.assert_close(some, fc.testing.reference(x[None, None], kernel[None, None]), terms=9)


def gradients(x: Image, w: Image, dy: Image) -> None:
    assert_type(fc.grad.conv2d_input(x.shape, w, dy, padding=1), np.ndarray)
    assert_type(fc.grad.conv2d_weight(x, w.shape, dy, padding=1), np.ndarray)
    (dx,) = fc.grad.max_pool2d_vjp(dy, x, 2)
    assert_type(dx, np.ndarray | None)


def model(folder: Path, x: Image, y: Image) -> Sequential:
    net = Sequential([Conv2D(8, 3, activation="relu", input_shape=(8, 8, 1)), Flatten(), Dense(10)])
    net.compile("adam", "mse", metrics=["mae"])
    history = net.fit(x, y, epochs=2, batch_size=16, validation_data=(x, y))
    assert_type(history, fc.nn.History)
    assert_type(net.predict(x), np.ndarray)
    net.save(folder / "net.safetensors")
    assert_type(load_model(folder / "net.safetensors"), Sequential)
    return net


def refused(x: Image, w: Image) -> str:
    try:
        fc.conv2d(x, w, stride=0)
    except fc.OptionError as error:
        return str(error)
    except (fc.FastconvError, ValueError):
        raise
    return fc.__version__
