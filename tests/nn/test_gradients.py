"""Gradients of whole models against finite differences, in double."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import losses
from tests.nn.models import drawn_weights, many_layers

STEP = 1e-6


def loss_of(model, loss, x, y, logits):
    value, kept = loss.value(y, model.tape.forward(x, logits), logits)
    return value, kept


def check_gradients(model, loss, x, y, logits, entries=2):
    """Compare the gradient of some elements of each weight with a difference quotient."""
    rng = np.random.default_rng(2)
    _, kept = loss_of(model, loss, x, y, logits)
    outputs = model.tape.forward(x, logits)
    found = model.tape.backward(loss.gradient(y, outputs, logits, kept), logits)
    assert found == [p for p in model.parameters if p.trainable]
    for parameter in found:
        gradient = parameter.gradient.copy()
        assert gradient.shape == parameter.value.shape
        assert gradient.dtype == parameter.value.dtype
        flat, g = parameter.value.reshape(-1), gradient.reshape(-1)
        for i in rng.choice(flat.size, min(entries, flat.size), replace=False):
            before = flat[i]
            values = []
            for change in (STEP, -STEP):
                flat[i] = before + change
                values.append(loss_of(model, loss, x, y, logits)[0])
            flat[i] = before
            quotient = (values[0] - values[1]) / (2 * STEP)
            assert abs(g[i] - quotient) < 1e-6 + 1e-5 * abs(quotient), (parameter.where, parameter.name)


def test_gradients_of_every_layer():
    model = many_layers(
        "float64", [nn.GlobalAveragePooling2D(dtype="float64"), nn.Dense(3, "softmax", dtype="float64")]
    )
    drawn_weights(model)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 8, 8, 2)), np.array([0, 2, 1])
    # With the softmax merged, and by itself.
    check_gradients(model, losses.SparseCategoricalCrossentropy(), x, y, True)
    check_gradients(model, losses.SparseCategoricalCrossentropy(), x, y, False, 1)


@pytest.mark.parametrize("activation", nn.activations.__all__)
def test_gradients_of_activations(activation):
    layers = [
        nn.Conv2D(3, 2, activation=activation, dtype="float64", input_shape=(5, 5, 1)),
        nn.MaxPooling2D(2, dtype="float64"),
        nn.Flatten(dtype="float64"),
        nn.Dense(4, activation, dtype="float64"),
        nn.Activation(activation, dtype="float64"),
    ]
    model = drawn_weights(nn.Sequential(layers), scale=1.0)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 5, 5, 1)), rng.normal(size=(2, 4))
    check_gradients(model, losses.MeanSquaredError(), x, y, False)


@pytest.mark.parametrize("logits", [True, False])
def test_gradients_of_crossentropies(logits):
    model = drawn_weights(nn.Sequential([nn.Dense(4, "softmax", dtype="float64", input_shape=(3,))]))
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(5, 3)), rng.random((5, 4))
    check_gradients(model, losses.CategoricalCrossentropy(), x, y, logits)
    check_gradients(model, losses.SparseCategoricalCrossentropy(), x, y.argmax(1), logits)


def test_gradients_of_images_of_labels():
    # One softmax for each pixel.
    model = nn.Sequential([nn.Conv2D(3, 3, padding="same", activation="softmax", dtype="float64")])
    model.build((None, 4, 4, 2))
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 4, 4, 2)), rng.integers(0, 3, (2, 4, 4))
    check_gradients(model, losses.SparseCategoricalCrossentropy(), x, y, True)


def test_frozen_layers_keep_their_weights_and_pass_gradients():
    first = nn.Dense(3, "relu", dtype="float64", input_shape=(4,))
    frozen = [
        nn.Dense(5, "tanh", trainable=False, dtype="float64"),
        nn.BatchNormalization(trainable=False, dtype="float64"),
    ]
    model = drawn_weights(nn.Sequential([first, *frozen, nn.Dense(2, dtype="float64")]))
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    loss = losses.MeanSquaredError()
    _, kept = loss_of(model, loss, x, y, False)
    found = model.tape.backward(loss.gradient(y, model.tape.forward(x), False, kept))
    assert [p.where.split('"')[1] for p in found] == ["dense", "dense", "dense_2", "dense_2"]
    for parameter in found[:1]:
        i = np.unravel_index(np.abs(parameter.gradient).argmax(), parameter.value.shape)
        gradient, values = parameter.gradient[i], []
        for change in (STEP, -2 * STEP):
            parameter.value[i] += change
            values.append(loss_of(model, loss, x, y, False)[0])
        assert abs(gradient - (values[0] - values[1]) / (2 * STEP)) < 1e-7
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert same == [False, False, True, True, True, True, True, True, False, False]
