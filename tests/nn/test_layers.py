"""Layers by their definitions, in Keras's shapes; and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.testing import reference
from tests.nn.models import classifier, drawn_weights, images

RNG = np.random.default_rng(0)


def integers(*shape):
    """Return small integers, whose sums are exact."""
    return RNG.integers(-3, 4, shape).astype("f4")


def first(x):
    return np.moveaxis(x, -1, 1)


def last(x):
    return np.moveaxis(x, 1, -1)


def built(layer, *shape):
    """Return a layer with integer weights, built for one sample's shape."""
    layer.build((None, *shape))
    layer.set_weights([integers(*w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_conv2d_is_the_convolution_of_keras_weights(padding, strides):
    x = integers(2, 7, 6, 4)
    layer = built(nn.Conv2D(6, (3, 2), strides, padding, groups=2), 7, 6, 4)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (3, 2, 2, 6)
    total = [max(0, k - 1 - (n - 1) % strides) if padding == "same" else 0 for n, k in ((7, 3), (6, 2))]
    padded = np.pad(x, ((0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)))
    OH, OW = ((n - k) // strides + 1 for n, k in zip(padded.shape[1:3], (3, 2), strict=True))
    expected = np.zeros((2, OH, OW, 6), "f4")
    for oh in range(OH):
        for ow in range(OW):
            window = padded[:, oh * strides : oh * strides + 3, ow * strides : ow * strides + 2]
            for group in range(2):
                part = window[..., 2 * group : 2 * group + 2], kernel[..., 3 * group : 3 * group + 3]
                expected[:, oh, ow, 3 * group : 3 * group + 3] = np.einsum("nhwi,hwio->no", *part)
    np.testing.assert_array_equal(layer(x), expected + bias)
    assert layer.output_shape == (None, OH, OW, 6)
    assert layer.macs() == OH * OW * 6 * 3 * 2 * 2


def test_depthwise_and_separable_follow_their_definitions():
    x = integers(2, 5, 5, 3)
    layer = built(nn.DepthwiseConv2D(2, depth_multiplier=2), 5, 5, 3)
    kernel, bias = layer.get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (1, 2))
    middle = np.einsum("nhwcij,ijcm->nhwcm", windows, kernel).reshape(2, 4, 4, 6)
    np.testing.assert_array_equal(layer(x), middle + bias)
    layer = built(nn.SeparableConv2D(5, 2, depth_multiplier=2), 5, 5, 3)
    depthwise, pointwise, bias = layer.get_weights()
    middle = np.einsum("nhwcij,ijcm->nhwcm", windows, depthwise).reshape(2, 4, 4, 6)
    np.testing.assert_array_equal(layer(x), middle @ pointwise[0, 0] + bias)
    assert [w.shape for w in layer.get_weights("OIHW")] == [(6, 1, 2, 2), (5, 6, 1, 1), (5,)]


# kernel, stride, padding, output padding -> size of the output for 4 inputs: Keras's rule.
TRANSPOSED = {
    (3, 2, "valid", None): 9,
    (2, 3, "valid", None): 12,
    (3, 2, "same", None): 8,
    (4, 2, "same", None): 8,
    (1, 3, "same", None): 12,
    (3, 2, "valid", 1): 10,
    (3, 2, "same", 0): 7,
    (3, 2, "same", 1): 8,
    (4, 3, "same", 2): 11,
}


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv2d_transpose_scatters_and_crops_as_keras(case):
    k, stride, padding, added = case
    x = integers(2, 4, 4, 3)
    layer = built(nn.Conv2DTranspose(2, k, stride, padding, output_padding=added), 4, 4, 3)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (k, k, 2, 3)
    whole = np.zeros((2, 3 * stride + k + 5, 3 * stride + k + 5, 2), "f4")
    for h in range(4):
        for w in range(4):
            part = np.einsum("ni,hwoi->nhwo", x[:, h, w], kernel)
            whole[:, h * stride : h * stride + k, w * stride : w * stride + k] += part
    size = TRANSPOSED[case]
    # What is cropped in front, of what Keras's convolution of the spread input pads.
    before = 0
    if padding == "same":
        total = stride + k - 2 if added is None else k + k % 2 - 2 + added
        before = k - 1 - min(total - total // 2, k - 1)
    assert layer.output_shape == (None, size, size, 2)
    np.testing.assert_array_equal(layer(x), whole[:, before : before + size, before : before + size] + bias)


def pooled(x, size, strides, padding, reduce):
    """Return a reduction of each window's cells that are inside of the image."""
    N, H, W, C = x.shape
    out = [-(-n // strides) if padding == "same" else (n - size) // strides + 1 for n in (H, W)]
    pads = [max(0, (o - 1) * strides + size - n) // 2 for o, n in zip(out, (H, W), strict=True)]
    y = np.empty((N, *out, C), x.dtype)
    for oh in range(out[0]):
        for ow in range(out[1]):
            h, w = oh * strides - pads[0], ow * strides - pads[1]
            y[:, oh, ow] = reduce(x[:, max(h, 0) : h + size, max(w, 0) : w + size], axis=(1, 2))
    return y


@pytest.mark.parametrize(("size", "strides"), [(2, 2), (3, 2), (2, 3), (4, 1)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pooling_leaves_out_the_padding(size, strides, padding):
    x = RNG.normal(size=(2, 7, 6, 3)).astype("f4") - 5
    layer = nn.MaxPooling2D(size, strides, padding)
    np.testing.assert_array_equal(layer(x), pooled(x, size, strides, padding, np.max))
    layer = nn.AveragePooling2D(size, strides, padding)
    expected = pooled(x, size, strides, padding, np.mean)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    assert layer.output_shape == (None, *expected.shape[1:])


def test_layers_of_whole_images():
    x = integers(2, 4, 6, 3)
    np.testing.assert_allclose(nn.GlobalAveragePooling2D()(x), x.mean((1, 2)), rtol=1e-6)
    assert nn.GlobalAveragePooling2D(keepdims=True)(x).shape == (2, 1, 1, 3)
    np.testing.assert_array_equal(nn.Flatten()(x), x.reshape(2, 72))
    np.testing.assert_array_equal(nn.UpSampling2D((2, 3))(x), x.repeat(2, 1).repeat(3, 2))
    bilinear = nn.UpSampling2D(2, interpolation="bilinear")(x)
    # In the middle of four pixels, nine sixteenths of the nearest.
    expected = (9 * x[:, 0, 0] + 3 * x[:, 0, 1] + 3 * x[:, 1, 0] + x[:, 1, 1]) / 16
    np.testing.assert_allclose(bilinear[:, 1, 1], expected, atol=1e-6)


def test_dense_takes_the_last_axis():
    for shape in ((7,), (3, 7), (2, 3, 7)):
        x = integers(5, *shape)
        layer = built(nn.Dense(4), *shape)
        kernel, bias = layer.get_weights()
        np.testing.assert_array_equal(layer(x), x @ kernel + bias)
        assert layer.output_shape == (None, *shape[:-1], 4)
    assert [w.shape for w in layer.get_weights("OIHW")] == [(4, 7), (4,)]
    assert [w.shape for w in built(nn.Dense(4, use_bias=False), 7).get_weights()] == [(7, 4)]


def test_activations_of_layers():
    x = RNG.normal(size=(3, 5)).astype("f4") * 3
    kernel = np.eye(5, dtype="f4")
    for name in nn.activations.__all__:
        function = getattr(nn.activations, name)
        layer = nn.Dense(5, activation=name)
        layer.build((None, 5))
        layer.set_weights([kernel, np.zeros(5)])
        for y in (layer(x), layer(x, training=True), nn.Activation(function)(x)):
            np.testing.assert_allclose(y, function(x), rtol=1e-6, atol=1e-7)
    p = nn.activations.softmax([[1e4, 0.0], [-1e4, -1e4]])
    np.testing.assert_array_equal(p, [[1, 0], [0.5, 0.5]])
    assert nn.Conv2D(1, 1, activation="linear").activation is None
    assert nn.Dense(1, activation="hard_silu").activation == "hardswish"


def test_weights_of_layers_keep_their_order():
    for layer, shape in ((nn.Conv2D(4, (2, 3)), (5, 5, 2)), (nn.DepthwiseConv2D(2, depth_multiplier=3), (4, 4, 2))):
        layer.build((None, *shape))
        kernel = np.arange(layer.get_weights()[0].size, dtype="f4").reshape(layer.get_weights()[0].shape)
        layer.set_weights([kernel, layer.get_weights()[1]])
        np.testing.assert_array_equal(layer.get_weights()[0], kernel)
        ours = layer.get_weights("OIHW")
        other = type(layer)(**layer.get_config())
        other.build((None, *shape))
        other.set_weights(ours, layout="OIHW")
        np.testing.assert_array_equal(other.get_weights()[0], kernel)
        # The operation with PyTorch's signature takes them as they are.
        x = RNG.normal(size=(1, *shape)).astype("f4")
        groups = 2 if isinstance(layer, nn.DepthwiseConv2D) else 1
        np.testing.assert_allclose(
            first(layer(x)), reference(first(x), ours[0], ours[1], groups=groups), rtol=1e-4, atol=1e-3
        )


def test_weights_are_copies():
    layer = built(nn.Dense(3), 4)
    for layout in ("HWIO", "OIHW"):
        before = layer.get_weights()
        for weight in layer.get_weights(layout):
            weight[...] = 99
        assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))


def test_weights_of_pytorch_models_see_the_flattened_image_channels_first():
    model = nn.Sequential([nn.Input((3, 4, 2)), nn.Flatten(), nn.Dropout(0.1), nn.BatchNormalization(), nn.Dense(5)])
    drawn_weights(model)
    x = RNG.normal(size=(6, 3, 4, 2)).astype("f4")
    gamma, beta, mean, variance, kernel, bias = model.get_weights(layout="OIHW")
    flat = first(x).reshape(6, -1)
    expected = ((flat - mean) / np.sqrt(variance + 1e-3) * gamma + beta) @ kernel.T + bias
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-4)
    again = nn.Sequential([nn.Input((3, 4, 2)), nn.Flatten(), nn.Dropout(0.1), nn.BatchNormalization(), nn.Dense(5)])
    again.set_weights(model.get_weights(layout="OIHW"), layout="OIHW")
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_initializers_have_their_deviations():
    nn.set_random_seed(0)
    shape = (3, 3, 40, 60)
    fan_in, fan_out = 9 * 40, 9 * 60
    assert nn.initializers.fans((5, 7)) == (5, 7)
    expected = {
        "glorot_uniform": 2 / (fan_in + fan_out),
        "glorot_normal": 2 / (fan_in + fan_out),
        "he_uniform": 2 / fan_in,
        "he_normal": 2 / fan_in,
    }
    for name, variance in expected.items():
        layer = nn.Conv2D(60, 3, kernel_initializer=name)
        layer.build((None, 5, 5, 40))
        kernel, bias = layer.get_weights()
        assert kernel.shape == shape
        assert abs(kernel.var() / variance - 1) < 0.05
        assert abs(kernel).max() <= (np.sqrt(3) if "uniform" in name else 2.28) * np.sqrt(variance)
        assert not bias.any()
    same = [nn.initializers.HeNormal(seed=3)((4, 4)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    layer = nn.Dense(2, kernel_initializer=lambda shape, dtype: np.full(shape, 7), bias_initializer="ones")
    layer.build((None, 3))
    assert layer.get_weights()[0].tolist() == [[7.0, 7.0]] * 3


def test_seed_decides_the_weights_and_nothing_else_does():
    first_model, _ = classifier(seed=1), np.random.default_rng().random()
    np.random.seed(0)  # noqa: NPY002 - it must not matter
    again = classifier(seed=1)
    for a, b in zip(first_model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


X, _ = images()

WRONG_LAYERS = {
    "filters": (lambda: nn.Conv2D(0, 3), fc.OptionError, "Conv2D: filters = 0, expected an int from 1"),
    "filters float": (lambda: nn.Conv2D(3.0, 3), fc.ArgumentTypeError, "Conv2D: filters = 3.0 is a float"),
    "kernel_size": (lambda: nn.Conv2D(3, (1, 2, 3)), fc.OptionError, r"Conv2D: kernel_size = \(1, 2, 3\) has length 3"),
    "strides": (lambda: nn.MaxPooling2D(2, 0), fc.OptionError, "MaxPooling2D: strides = 0"),
    "padding": (lambda: nn.Conv2D(3, 3, padding="full"), fc.OptionError, "Conv2D: padding = 'full', expected one of"),
    "format": (lambda: nn.Flatten("channels_first"), fc.UnsupportedError, 'Flatten: data_format = "channels_first"'),
    "groups": (lambda: nn.Conv2D(3, 3, groups=2), fc.OptionError, "Conv2D: filters = 3 is no multiple of groups = 2"),
    "activation": (lambda: nn.Dense(3, "rely"), fc.OptionError, "Dense: activation = 'rely', expected None or one of"),
    "function": (lambda: nn.Dense(3, np.tanh), fc.OptionError, "Dense: activation = <ufunc 'tanh'>"),
    "activation type": (lambda: nn.Dense(3, 5), fc.ArgumentTypeError, "Dense: activation = 5 is a int"),
    "use_bias": (
        lambda: nn.Dense(3, use_bias=1),
        fc.ArgumentTypeError,
        "Dense: use_bias = 1 is a int, expected a bool",
    ),
    "initializer": (lambda: nn.Dense(3, kernel_initializer="he"), fc.OptionError, "Dense: kernel_initializer = 'he'"),
    "rate": (lambda: nn.Dropout(1), fc.OptionError, "Dropout: rate = 1, expected a number from 0 to below 1"),
    "rate text": (lambda: nn.Dropout("a"), fc.ArgumentTypeError, "Dropout: rate = 'a' is a str"),
    "dtype": (lambda: nn.Dense(3, dtype="int8"), fc.DtypeError, "Dense: dtype = 'int8', expected one of"),
    "input_shape": (lambda: nn.Dense(3, input_shape=(0,)), fc.ShapeError, r"Dense: input_shape = \(0,\), expected"),
    "name": (lambda: nn.Dense(3, name="a/b"), fc.OptionError, "Dense: name = 'a/b', expected a string"),
    "interpolation": (lambda: nn.UpSampling2D(2, interpolation="area"), fc.OptionError, "UpSampling2D: interpolation"),
    "output_padding": (
        lambda: nn.Conv2DTranspose(1, 3, 2, output_padding=2),
        fc.OptionError,
        "Conv2DTranspose: output_padding = 2, expected None, an int or 2 ints, each from 0 to below the stride",
    ),
    "seed": (
        lambda: nn.set_random_seed(-1),
        fc.OptionError,
        "set_random_seed: seed = -1, expected an int of at least 0",
    ),
    "axes": (
        lambda: nn.Conv2D(1, 1)(X[..., 0]),
        fc.ShapeError,
        r'layer "conv2d" \(Conv2D\): input has shape \(batch, 8, 8\)',
    ),
    "small": (
        lambda: nn.Conv2D(1, 9)(X),
        fc.ShapeError,
        r'layer "conv2d" \(Conv2D\): input of shape \(batch, 8, 8, 1\) is smaller',
    ),
    "vector": (lambda: nn.Dense(1)(X[:, 0, 0, 0]), fc.ShapeError, r'layer "dense" \(Dense\): input has shape \(20,\)'),
    "complex": (lambda: nn.Flatten()(X + 0j), fc.DtypeError, r'layer "flatten" \(Flatten\): input has dtype complex'),
    "channels": (lambda: nn.Conv2D(2, 1, groups=2)(X), fc.ShapeError, "expected a multiple of groups = 2 channels"),
    "unbuilt": (lambda: nn.Dense(1).output_shape, fc.OptionError, r'layer "dense" \(Dense\): it is not built'),
}


@pytest.mark.parametrize("name", WRONG_LAYERS)
def test_layers_refuse(name):
    make, kind, text = WRONG_LAYERS[name]
    with pytest.raises(kind, match=f"{text}"):
        make()


def test_layer_that_is_built_takes_no_other_shape():
    layer = nn.Dense(2, name="head")
    layer(X.reshape(20, -1))
    with pytest.raises(
        fc.ShapeError, match=r'^layer "head" \(Dense\): input has shape \(20, 32\), expected \(batch, 64\)'
    ):
        layer(X[:, :4].reshape(20, -1))


def test_wrong_weights_change_nothing():
    model = classifier()
    before = model.get_weights()
    wrong = model.get_weights()
    wrong[4] = wrong[4].T
    for weights, text in (
        (before[:-1], "has 5 arrays, sequential has 6"),
        (wrong, r'layer "dense_1".*: kernel has shape'),
    ):
        with pytest.raises(fc.ShapeError, match=text):
            model.set_weights(weights)
    wrong[4] = before[4] + 0j
    with pytest.raises(fc.DtypeError, match=r'layer "dense_1" \(Dense\): kernel has dtype complex64'):
        model.set_weights(wrong)
    with pytest.raises(fc.OptionError, match="set_weights: layout = 'IOHW'"):
        model.set_weights(before, layout="IOHW")
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
