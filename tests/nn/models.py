"""Small models and data that the tests of fastconv.nn share."""

from __future__ import annotations

import numpy as np

from fastconv import nn

CLASSES = 3


def images(count=20, shape=(8, 8, 1), seed=0):
    """Return images and labels that have something to do with each other."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    x = rng.normal(size=(count, *shape)).astype("f4")
    for label in range(CLASSES):
        x[y == label, label * 2 : label * 2 + 3] += 2
    return x, y


def classifier(seed=0, **keywords):
    """Return a compiled network of the usual kind for `images`."""
    nn.set_random_seed(seed)
    model = nn.Sequential(
        [
            nn.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)),
            nn.MaxPooling2D(2),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Dense(5, activation="relu"),
            nn.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(**keywords)
    return model


def many_layers(dtype, last):
    """Return a model with every kind of layer, for images of (8, 8, 2)."""
    layers = [
        nn.Conv2D(4, 3, activation="tanh", padding="same", groups=2, dtype=dtype),
        nn.MaxPooling2D(2, dtype=dtype),
        nn.BatchNormalization(dtype=dtype),
        nn.SeparableConv2D(3, 3, activation="swish", padding="same", depth_multiplier=2, dtype=dtype),
        nn.UpSampling2D(2, interpolation="bilinear", dtype=dtype),
        nn.Conv2DTranspose(4, 2, strides=2, activation="leaky_relu", dtype=dtype),
        nn.AveragePooling2D(3, padding="same", dtype=dtype),
        nn.DepthwiseConv2D(2, activation="sigmoid", dtype=dtype),
        nn.UpSampling2D((1, 2), dtype=dtype),
        nn.Conv2D(3, (2, 3), strides=(1, 2), dtype=dtype),
        nn.Activation("relu6", dtype=dtype),
        nn.MaxPooling2D(2, strides=1, padding="same", dtype=dtype),
        nn.Dense(4, activation="gelu", dtype=dtype),
        *last,
    ]
    return nn.Sequential([nn.Input((8, 8, 2)), *layers])


def drawn_weights(model, seed=1, scale=0.5):
    """Set weights that are no zeros and ones, and return the model."""
    rng = np.random.default_rng(seed)
    weights = []
    for parameter in model.parameters:
        value = rng.normal(size=parameter.shape) * scale
        weights.append(np.abs(value) + 0.5 if parameter.name in ("moving_variance", "gamma") else value)
    model.set_weights(weights)
    return model
