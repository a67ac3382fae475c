"""Keras's convolutions and pools through fastconv, against Keras on a backend that computes them itself.

Keras has one backend in a process. Functions are compared in a process that runs on the PyTorch backend; models also in
one on the NumPy backend, which needs JAX.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def has(*packages):
    return all(importlib.util.find_spec(package) for package in packages)


needs_torch = pytest.mark.skipif(not has("keras", "torch"), reason="Keras and PyTorch are not installed")
needs_jax = pytest.mark.skipif(not has("keras", "jax", "torch"), reason="Keras, PyTorch and JAX are not installed")


def run(code, backend, *args):
    """Run code in a fresh process with Keras on a backend, and return what it prints."""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


FUNCTIONS = """
import sys
import keras, numpy as np
from fastconv.integrations import keras as ours

def averages(x, size, strides, padding, data_format):
    # By the definition: Keras on PyTorch counts some of the padding where it is uneven.
    x = x if data_format == "channels_last" else np.moveaxis(x, 1, -1)
    ones = np.zeros((*size, x.shape[-1], x.shape[-1]), x.dtype)
    ones[..., range(x.shape[-1]), range(x.shape[-1])] = 1
    how = {"strides": strides, "padding": padding, "data_format": "channels_last"}
    total, count = (np.asarray(keras.ops.conv(a, ones, **how)) for a in (x, np.ones_like(x)))
    y = total / count
    return y if data_format == "channels_last" else np.moveaxis(y, -1, 1)

rng = np.random.default_rng(int(sys.argv[1]))
whole = lambda *shape: rng.integers(-3, 4, shape).astype("float32")
for i in range(300):
    axes, last = int(rng.integers(1, 4)), bool(rng.integers(2))
    K = tuple(rng.integers(1, (6, 5, 4)[axes - 1], axes).tolist())
    S, D = (tuple(rng.integers(1, 4, axes).tolist()), 1) if i % 2 else (1, tuple(rng.integers(1, 4, axes).tolist()))
    rates = (1,) * axes if D == 1 else D
    sizes = [(k - 1) * r + 1 + int(rng.integers(0, 6)) for k, r in zip(K, rates)]
    G, M = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    IC, OC = G * int(rng.integers(1, 4)), G * int(rng.integers(1, 4))
    x = whole(2, *sizes, IC)
    x = x if last else np.ascontiguousarray(np.moveaxis(x, -1, 1))
    how = {"strides": S, "padding": ("valid", "same")[rng.integers(2)]}
    how["data_format"] = "channels_last" if last else "channels_first"
    name = ("conv", "depthwise_conv", "separable_conv", "conv_transpose", "max_pool", "average_pool")[i // 2 % 6]
    if "pool" in name:
        args = (x, K)
    else:
        how["dilation_rate"] = D
        if name in ("depthwise_conv", "separable_conv"):
            # One stride for all axes.
            how["strides"] = S if S == 1 else (S[0],) * axes
        args = (x, whole(*K, IC // G, OC)) if name == "conv" else (x, whole(*K, IC, M))
        if name == "separable_conv":
            args += (whole(*(1,) * axes, IC * M, OC),)
        if name == "conv_transpose":
            args = (x, whole(*K, OC, IC))
            if rng.integers(2):
                steps = (1,) * axes if S == 1 else S
                how["output_padding"] = tuple(int(rng.integers(0, step)) for step in steps)
    want = averages(*args, **how) if name == "average_pool" else getattr(keras.ops, name)(*args, **how)
    want = np.asarray(want)
    got = getattr(ours, name)(*args, **how)
    assert got.dtype == want.dtype and got.shape == want.shape, (name, args[0].shape, K, how, got.shape, want.shape)
    assert np.allclose(got, want, 1e-5, 1e-5), (name, args[0].shape, K, how)
print("equal")
"""


@needs_torch
@pytest.mark.parametrize("seed", ["0", "1"])
def test_drawn_calls_equal_keras(seed):
    assert run(FUNCTIONS, "torch", seed).strip() == "equal"


@needs_torch
def test_another_backend_is_an_error():
    code = (
        "from fastconv.integrations.keras import enable\ntry:\n enable()\nexcept NotImplementedError as e:\n print(e)"
    )
    assert run(code, "torch").startswith('enable: Keras runs on the backend "torch", expected "numpy"')


MODEL = """
import sys
import keras, numpy as np
L = keras.layers
how = {"activation": "relu", "padding": "same"}
model = keras.Sequential([
    keras.Input((17, 16, 3)), L.Conv2D(8, 3, **how), L.MaxPooling2D(2), L.DepthwiseConv2D(3, depth_multiplier=2, **how),
    L.SeparableConv2D(6, (3, 2), dilation_rate=2), L.Conv2DTranspose(4, 3, strides=2, **how), L.BatchNormalization(),
    L.Conv2D(8, (2, 3), strides=2, groups=2), L.AveragePooling2D(2, 1, "same"), L.Conv2D(3, 1),
    L.Reshape((-1, 3)), L.Conv1D(4, 3, padding="causal"), L.MaxPooling1D(2), L.Conv1DTranspose(3, 4, strides=3),
    L.Flatten(), L.Dense(5, activation="softmax"),
])
rng = np.random.default_rng(0)
model.set_weights([rng.uniform(0.1, 1, w.shape).astype("float32") - 0.4 * (w.ndim > 1) for w in model.get_weights()])
x = rng.standard_normal((4, 17, 16, 3)).astype("float32")
if keras.config.backend() == "numpy":
    from keras.src.backend.numpy import nn
    from fastconv.integrations.keras import disable, enable, is_enabled
    before = nn.conv
    with enable():
        with enable():
            pass
        assert is_enabled() and nn.conv is not before
        y = model.predict(x, verbose=0)
    assert nn.conv is before and not is_enabled()
    disable()
else:
    y = model.predict(x, verbose=0)
np.save(sys.argv[1], y)
"""


@needs_jax
def test_model_predicts_as_on_pytorch(tmp_path):
    found = []
    for backend in ("numpy", "torch"):
        run(MODEL, backend, str(tmp_path / backend))
        found.append(np.load(tmp_path / f"{backend}.npy"))
    assert found[0].shape == (4, 5)
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


EXAMPLES = """
import doctest
import keras
from fastconv.integrations.keras import functions, switch
flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
modules = (functions, switch) if keras.config.backend() == "numpy" else (functions,)
print(*(doctest.testmod(module, optionflags=flags) for module in modules))
"""


@needs_torch
def test_examples():
    assert run(EXAMPLES, "torch").strip() == "TestResults(failed=0, attempted=18)"


@needs_jax
def test_examples_on_the_numpy_backend():
    assert run(EXAMPLES, "numpy").count("failed=0") == 2
