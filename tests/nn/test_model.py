"""Sequential: its layers, its summary, and how it runs when it is not trained."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from tests.nn.models import classifier, drawn_weights, images, many_layers

X, Y = images()


def test_summary_is_the_table_of_keras_with_macs(capsys):
    model = nn.Sequential(
        [
            nn.Conv2D(3, 5, activation="swish", input_shape=(28, 28, 1)),
            nn.Conv2D(6, 5, activation="swish"),
            nn.Flatten(),
            nn.Dense(84, activation="swish"),
            nn.Dense(10, activation="softmax"),
        ]
    )
    model.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'Model: "sequential"'
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["conv2d (Conv2D)", "(None, 24, 24, 3)", "78", "43,200"],
        ["conv2d_1 (Conv2D)", "(None, 20, 20, 6)", "456", "180,000"],
        ["flatten (Flatten)", "(None, 2400)", "0", "0"],
        ["dense (Dense)", "(None, 84)", "201,684", "201,600"],
        ["dense_1 (Dense)", "(None, 10)", "850", "840"],
    ]
    assert lines[-4:] == [
        " Total params: 203,068 (793.23 KB)",
        " Trainable params: 203,068 (793.23 KB)",
        " Non-trainable params: 0 (0.00 B)",
        " Total MACs: 425,640 per sample",
    ]
    assert model.count_params() == 203_068
    assert len({len(line) for line in lines[1:-4]}) == 1
    macs = fc.count_ops(fc.conv2d, (1, 3, 24, 24), (6, 3, 5, 5)).macs
    assert model.layers[1].macs() == macs


def test_summary_of_other_models(capsys, monkeypatch):
    model = nn.Sequential([nn.BatchNormalization(), nn.Flatten(), nn.Dense(2, trainable=False)], name="small")
    texts = []
    model.summary(print_fn=texts.append)
    assert len(texts) == 1
    assert "0 (unbuilt)" in texts[0]
    model.build((None, 2, 2, 3))
    model.summary(print_fn=texts.append)
    assert "│ batch_normalization             │" in texts[1]
    assert (
        "Total params: 38 (152.00 B)\n Trainable params: 6 (24.00 B)\n Non-trainable params: 32 (128.00 B)" in texts[1]
    )
    monkeypatch.setattr("fastconv.nn.summary.sys", type("", (), {"stdout": type("", (), {"encoding": "ascii"})}))
    model.summary()
    assert capsys.readouterr().out.isascii()


def test_model_is_built_when_it_knows_its_input():
    model = nn.Sequential([nn.Flatten(), nn.Dense(2)])
    assert not model.built
    with pytest.raises(fc.OptionError, match="count_params: sequential is not built"):
        model.count_params()
    with pytest.raises(fc.OptionError, match="output_shape: sequential is not built"):
        _ = model.output_shape
    assert model.predict(X).shape == (20, 2)
    assert (model.input_shape, model.output_shape) == ((None, 8, 8, 1), (None, 2))
    for make in (lambda: nn.Sequential([nn.Input((8, 8, 1)), nn.Flatten(), nn.Dense(2)]), lambda: model):
        assert make().count_params() == 130
    assert nn.Input((4,)).shape == nn.InputLayer([4]).shape == (4,)


def test_layers_are_named_within_their_model():
    for _ in range(2):
        model = nn.Sequential([nn.Dense(3, input_shape=(2,)), nn.Dense(3), nn.Dense(3, name="head"), nn.Dense(3)])
        assert [layer.name for layer in model.layers] == ["dense", "dense_1", "head", "dense_2"]
    assert model.get_layer("head") is model.get_layer(index=2) is model.layers[2]
    removed = model.pop()
    assert removed.name == "dense_2"
    assert len(model.layers) == 3
    model.add(nn.Activation("relu"))
    assert model.predict(np.ones((1, 2))).min() >= 0
    names = [nn.DepthwiseConv2D(1), nn.Conv2DTranspose(1, 1), nn.GlobalAveragePooling2D(), nn.UpSampling2D()]
    assert [layer.name for layer in names] == [
        "depthwise_conv2d",
        "conv2d_transpose",
        "global_average_pooling2d",
        "up_sampling2d",
    ]


WRONG = {
    "layer": (lambda m: m.add(3), fc.ArgumentTypeError, "sequential: add takes a layer, got 3"),
    "class": (lambda m: m.add(nn.Flatten), fc.ArgumentTypeError, "sequential: add takes a layer"),
    "twice": (lambda m: m.add(m.layers[0]), fc.OptionError, 'layer "conv2d" \\(Conv2D\\) is in the model already'),
    "name": (lambda m: m.add(nn.Dense(1, name="dense")), fc.OptionError, 'two layers have the name "dense"'),
    "input": (lambda m: m.add(nn.Input((3,))), fc.OptionError, "an Input stands before all layers, got one behind 6"),
    "shape": (
        lambda m: m.add(nn.Conv2D(1, 1)),
        fc.ShapeError,
        r'layer "conv2d_1" \(Conv2D\): input has shape \(batch, 3\), expected \(batch, height, width, channels\)',
    ),
    "given": (
        lambda m: m.add(nn.Dense(1, input_shape=(5,))),
        fc.ShapeError,
        r'layer "dense_2" \(Dense\): input has shape \(batch, 3\), expected \(batch, 5\)',
    ),
    "get": (lambda m: m.get_layer("x"), fc.OptionError, "get_layer: name = 'x', expected one of conv2d,"),
    "index": (lambda m: m.get_layer(index=9), fc.OptionError, "get_layer: index = 9, the model has 6 layers"),
    "predict": (lambda m: m.predict(X[:, 1:]), fc.ShapeError, r'predict: layer "conv2d" \(Conv2D\): input x has shape'),
    "call": (lambda m: m(X[0]), fc.ShapeError, r'Sequential: layer "conv2d" \(Conv2D\): input x has shape \(8, 8, 1\)'),
    "maps": (lambda m: m.feature_maps("a"), fc.DtypeError, "feature_maps: x has dtype <U1, expected real numbers"),
    "batch_size": (lambda m: m.predict(X, batch_size=-1), fc.OptionError, "predict: batch_size = -1"),
    "empty": (lambda m: nn.Sequential().predict(X), fc.OptionError, "predict: sequential has no layers"),
    "pop": (lambda m: nn.Sequential().pop(), fc.OptionError, "sequential: pop: there are no layers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_model_refuses(name):
    act, kind, text = WRONG[name]
    model = classifier()
    with pytest.raises(kind, match=text):
        act(model)
    assert [layer.name for layer in model.layers][-1] == "dense_1"
    assert model.predict(X).shape == (20, 3)


def test_runs_of_layers_are_plans_of_the_same_numbers():
    model = drawn_weights(many_layers("float32", [nn.Flatten(), nn.Dense(4, activation="softmax")]))
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 2)).astype("f4")
    maps = model.feature_maps(x)
    assert [m.shape for m in maps] == [(5, *layer.output_shape[1:]) for layer in model.layers]
    # The first convolution and its pooling are one plan.
    assert len(model.inference.steps) < len(model.layers)
    np.testing.assert_allclose(model(x), maps[-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.predict(x, batch_size=2), maps[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "relu", "swish", "softmax"])
def test_pooling_that_a_plan_can_do_and_not(activation):
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 1)).astype("f4")
    for pool in (
        nn.MaxPooling2D(2),
        nn.MaxPooling2D(2, padding="same"),
        nn.MaxPooling2D((2, 1)),
        nn.MaxPooling2D(3, 2),
    ):
        for layers in ([nn.Conv2D(3, 2, activation=activation)], [nn.Conv2D(3, 2), nn.Activation(activation)]):
            model = nn.Sequential([*layers, type(pool)(**pool.get_config())])
            expected = model.feature_maps(x)[-1]
            np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


def test_plans_see_changed_weights():
    model = classifier()
    before = model.predict(X)
    model.fit(X, Y, verbose=0)
    after = model.predict(X)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, model.feature_maps(X)[-1], rtol=1e-4, atol=1e-6)
    weights = [w * 2 for w in model.get_weights()]
    model.set_weights(weights)
    np.testing.assert_allclose(model.predict(X), model.feature_maps(X)[-1], rtol=1e-4, atol=1e-6)
    for size in range(1, 20):
        # More shapes than plans are kept for.
        assert model(X[:size]).shape == (size, 3)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_go_on_by_themselves(duplicate):
    weights = []
    for kind in (None, duplicate):
        model = classifier(seed=2)
        model.fit(X, Y, verbose=0)
        model.predict(X)
        model.train_on_batch(X, Y)
        if kind is not None:
            other, before = kind(model), model.get_weights()
            nn.set_random_seed(3)
            other.fit(X, Y, verbose=0)
            assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
            np.testing.assert_allclose(other.predict(X), other.feature_maps(X)[-1], rtol=1e-4, atol=1e-6)
            model = other
        else:
            nn.set_random_seed(3)
            model.fit(X, Y, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_mode_of_a_call():
    model = classifier()
    one, two = model(X, training=True), model(X, training=True)
    assert not np.array_equal(one, two)
    assert not np.may_share_memory(one, two)
    np.testing.assert_allclose(one.sum(1), 1, rtol=1e-5)


def test_models_of_two_dtypes():
    model = nn.Sequential([nn.Flatten(), nn.Dense(4, "relu", dtype="float64"), nn.Dense(3, "softmax")])
    model.compile()
    model.fit(X, Y, verbose=0)
    assert [m.dtype.name for m in model.feature_maps(X)] == ["float32", "float64", "float32"]
    np.testing.assert_allclose(model.predict(X), model.feature_maps(X)[-1], rtol=1e-5)
