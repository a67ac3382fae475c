"""Wrong arguments of fastconv.viz, and no matplotlib; none of these draws."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

MODEL = nn.Sequential([nn.Conv2D(2, 3, input_shape=(8, 8, 1)), nn.Flatten(), nn.Dense(3)])
IMAGE = np.ones((8, 8, 1))
CURVE = {"loss": [1.0, 0.5]}

CALLS = {
    "feature_maps": lambda **k: fc.viz.feature_maps(MODEL, IMAGE, **k),
    "filters": lambda **k: fc.viz.filters(MODEL.layers[0], **k),
    "training": lambda **k: fc.viz.training(CURVE, **k),
    "confusion": lambda **k: fc.viz.confusion([0, 1], [0, 1], **k),
}


@pytest.mark.parametrize("name", CALLS)
def test_missing_matplotlib_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(fc.MissingExtraError) as caught:
        CALLS[name]()
    assert str(caught.value) == f'{name}: matplotlib is missing; pip install "fastconv[viz]"'


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, fc.ArgumentTypeError, "path = 3, expected None, a string or a Path"),
        (b"a.png", fc.ArgumentTypeError, "expected None, a string or a Path"),
        ("picture", fc.OptionError, "path = 'picture', expected a name in .png, .pdf or .svg"),
        ("picture.jpeg", fc.OptionError, "expected a name in .png, .pdf or .svg"),
    ],
)
def test_wrong_paths(name, path, error, message):
    with pytest.raises(error, match=f"^{name}: ") as caught:
        CALLS[name](path=path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fc.viz.feature_maps(3, IMAGE), fc.ArgumentTypeError, "feature_maps: model = 3, expected"),
        (
            lambda: fc.viz.feature_maps(MODEL, np.ones((9, 8, 1))),
            fc.ShapeError,
            r"feature_maps: image has shape \(9, 8, 1\), expected \(8, 8, 1\), or a batch of one",
        ),
        (lambda: fc.viz.feature_maps(MODEL, np.ones((2, 8, 8, 1))), fc.ShapeError, r"has shape \(2, 8, 8, 1\)"),
        (lambda: fc.viz.feature_maps(MODEL, 1.0), fc.ShapeError, "feature_maps: image = 1.0 is a scalar"),
        (lambda: fc.viz.feature_maps(nn.Sequential(), IMAGE), fc.OptionError, "no layers"),
        (lambda: fc.viz.feature_maps(MODEL, IMAGE, maps=0), fc.OptionError, "maps = 0"),
        (lambda: fc.viz.filters(MODEL.layers[2]), fc.ArgumentTypeError, "filters: layer = <Dense dense>, expected a"),
        (lambda: fc.viz.filters(nn.Conv2D(2, 3)), fc.OptionError, 'filters: layer "conv2d" .* is not built'),
        (lambda: fc.viz.filters(MODEL.layers[0], kernels=True), fc.ArgumentTypeError, "kernels = True"),
        (lambda: fc.viz.training([1.0]), fc.ArgumentTypeError, "training: history = .*, expected what fit returns"),
        (lambda: fc.viz.training({}), fc.OptionError, "training: history has no epoch"),
        (lambda: fc.viz.training({"loss": []}), fc.OptionError, "training: history has no epoch"),
        (lambda: fc.viz.training({"loss": ["a"]}), fc.ArgumentTypeError, "training: history has 'loss'"),
        (lambda: fc.viz.training({"loss": 1.0}), fc.ArgumentTypeError, "training: history has 'loss'"),
        (lambda: fc.viz.confusion([0, 1], [0]), fc.ShapeError, r"labels.shape = \(2,\), predictions.shape = \(1,\)"),
        (lambda: fc.viz.confusion(np.zeros(0, int), np.zeros(0, int)), fc.ShapeError, "at least one"),
        (lambda: fc.viz.confusion([0.0], [0]), fc.DtypeError, "confusion: labels has dtype float64"),
        (lambda: fc.viz.confusion([0], [0.5]), fc.DtypeError, r"predictions .* expected integers, or numbers of shape"),
        (lambda: fc.viz.confusion([-1], [0]), fc.OptionError, "confusion: labels has -1, expected classes from 0"),
        (lambda: fc.viz.confusion([[0]], [0]), fc.ShapeError, r"labels has shape \(1, 1\), expected \(N,\)"),
        (lambda: fc.viz.confusion([0, 2], [0, 1], ["a", "b"]), fc.OptionError, "names has 2 classes, but .* class 2"),
        (lambda: fc.viz.confusion([0], [0], "ab"), fc.ArgumentTypeError, "names = 'ab', expected strings"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
