"""What fit, compile and evaluate refuse, before any training."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from tests.nn.models import classifier, images

X, Y = images()


def no_labels_beyond(label):
    y = Y.copy()
    y[5] = label
    return y


WRONG_FITS = {
    "label too large": (
        (X, no_labels_beyond(3)),
        {},
        fc.OptionError,
        r"fit: y has the label 3 at position 5, expected 0 to 2",
    ),
    "label negative": ((X, no_labels_beyond(-1)), {}, fc.OptionError, "fit: y has the label -1 at position 5"),
    "labels as floats": ((X, Y.astype("f4")), {}, fc.DtypeError, "fit: y has dtype float32, expected integers"),
    "labels as text": ((X, Y.astype("U1")), {}, fc.DtypeError, "fit: y has dtype <U1, expected real numbers"),
    "one-hot labels": (
        (X, np.eye(3, dtype=int)[Y]),
        {},
        fc.ShapeError,
        r"fit: y has shape \(20, 3\), expected \(20,\)",
    ),
    "too few labels": ((X, Y[:-1]), {}, fc.ShapeError, r"fit: x and y must have the same number of samples; x.shape"),
    "no labels": ((X, None), {}, fc.ArgumentTypeError, "fit: y is None"),
    "no samples": ((X[:0], Y[:0]), {}, fc.ShapeError, "fit: there are no samples"),
    "wrong images": (
        (X[:, :7], Y),
        {},
        fc.ShapeError,
        r'fit: layer "conv2d" \(Conv2D\): input x has shape \(20, 7, 8, 1\), expected \(samples, 8, 8, 1\)',
    ),
    "no channels": (
        (X[..., 0], Y),
        {},
        fc.ShapeError,
        r"input x has shape \(20, 8, 8\), expected \(samples, 8, 8, 1\)",
    ),
    "complex": ((X + 0j, Y), {}, fc.DtypeError, "fit: x has dtype complex"),
    "ragged": (([[1, 2], [3]], Y), {}, fc.ShapeError, "fit: x of type list cannot be read as an array"),
    "batch_size": ((X, Y), {"batch_size": 0}, fc.OptionError, "fit: batch_size = 0, expected an int from 1"),
    "epochs": ((X, Y), {"epochs": 1.5}, fc.ArgumentTypeError, "fit: epochs = 1.5 is a float"),
    "verbose": ((X, Y), {"verbose": 3}, fc.OptionError, "fit: verbose = 3, expected one of 'auto', 0, 1, 2"),
    "callbacks": ((X, Y), {"callbacks": [3]}, fc.ArgumentTypeError, "fit: callbacks has 3"),
    "shuffle": ((X, Y), {"shuffle": 1}, fc.ArgumentTypeError, "fit: shuffle = 1 is a int, expected a bool"),
    "validation_split": ((X, Y), {"validation_split": 1}, fc.OptionError, "fit: validation_split = 1"),
    "small split": ((X[:2], Y[:2]), {"validation_split": 0.9}, fc.OptionError, "cuts 2 samples in 0 and 2"),
    "validation_data": (
        (X, Y),
        {"validation_data": X},
        fc.ArgumentTypeError,
        r"fit: validation_data = .*, expected a tuple",
    ),
    "validation labels": (
        (X, Y),
        {"validation_data": (X, Y + 1)},
        fc.OptionError,
        "fit: validation_data: y has the label 3",
    ),
}


@pytest.mark.parametrize("name", WRONG_FITS)
def test_fit_refuses(name):
    arguments, keywords, kind, text = WRONG_FITS[name]
    model = classifier()
    before = [w.tobytes() for w in model.get_weights()]
    with pytest.raises(kind, match=text):
        model.fit(*arguments, **({"verbose": 0} | keywords))
    assert [w.tobytes() for w in model.get_weights()] == before


def test_model_that_is_not_compiled_is_refused():
    model = nn.Sequential([nn.Flatten(), nn.Dense(3)])
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(fc.OptionError, match="sequential is not compiled; call compile"):
            call(X, Y)


WRONG_COMPILES = {
    "optimizer": (
        {"optimizer": "adamw"},
        fc.OptionError,
        "compile: optimizer = 'adamw', expected one of 'adam', 'sgd'",
    ),
    "loss": ({"loss": "hinge"}, fc.OptionError, "compile: loss = 'hinge', expected one of 'sparse_categorical"),
    "no loss": ({"loss": 3}, fc.ArgumentTypeError, "compile: loss = 3 is a int"),
    "metric": ({"metrics": ["auc"]}, fc.OptionError, "compile: metrics has 'auc', expected one of 'accuracy'"),
    "metrics": ({"metrics": "accuracy"}, fc.ArgumentTypeError, "compile: metrics = 'accuracy', expected a list"),
}


@pytest.mark.parametrize("name", WRONG_COMPILES)
def test_compile_refuses(name):
    keywords, kind, text = WRONG_COMPILES[name]
    with pytest.raises(kind, match=f"^{text}"):
        classifier().compile(**keywords)


def test_metrics_that_do_not_fit_the_loss_are_refused():
    model = classifier(metrics=["mse"])
    with pytest.raises(fc.OptionError, match="compile: metrics has 'mse', which does not fit"):
        model.fit(X, Y, verbose=0)
    model = classifier(loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(fc.OptionError, match=r"has a softmax, but the loss takes logits"):
        model.fit(X, Y, verbose=0)
