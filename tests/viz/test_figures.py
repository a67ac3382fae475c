"""The pictures: what is drawn where, that nothing is cut, and the files."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import fastconv as fc
from fastconv import nn
from tests.viz.pictures import assert_all_text_is_inside, png_size


def network():
    """Return a small network with layers of every kind of output, and an image."""
    nn.set_random_seed(1)
    model = nn.Sequential(
        [
            nn.Conv2D(6, 3, activation="relu", input_shape=(22, 22, 1)),
            nn.MaxPooling2D(2),
            nn.Conv2D(70, 3),
            nn.Flatten(),
            nn.Dense(50, activation="relu"),
            nn.Dense(3, activation="softmax"),
        ]
    )
    return model, np.random.default_rng(0).random((22, 22), dtype=np.float32)


def test_feature_maps_draws_every_layer(tmp_path):
    model, image = network()
    figure = fc.viz.feature_maps(model, image, tmp_path / "maps.png")
    outputs = model.feature_maps(image[np.newaxis, ..., np.newaxis])
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[0].startswith("input, 22 x 22 x 1, from ")
    assert titles[1].startswith("conv2d (Conv2D), 20 x 20 x 6, from 0 to ")
    assert titles[3].endswith(", the first 64 maps")
    assert titles[-1].startswith("dense_1 (Dense), 3, from ")
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 0, 0, 0]
    first = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(first[:20, :20], outputs[0][0, :, :, 0])
    pooled = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(pooled[:20:2, :20:2], outputs[1][0, :, :, 0])
    np.testing.assert_allclose([bar.get_height() for bar in figure.axes[-1].patches], outputs[-1][0], rtol=1e-6)
    np.testing.assert_allclose(figure.axes[-2].patches[0].get_data().values, outputs[-2][0])
    assert_all_text_is_inside(figure)
    assert png_size(tmp_path / "maps.png") == tuple(figure.canvas.get_width_height())


@pytest.mark.parametrize("shape", [(22, 22), (22, 22, 1), (1, 22, 22, 1)])
def test_feature_maps_takes_an_image_in_every_shape(shape):
    model, image = network()
    figure = fc.viz.feature_maps(model, image.reshape(shape), maps=2)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), image)


def test_feature_maps_pixels_are_square():
    model, image = network()
    figure = fc.viz.feature_maps(model, image)
    W, H = figure.get_size_inches()
    for axes in figure.axes:
        for drawn in axes.images:
            rows, columns = drawn.get_array().shape
            box = axes.get_position()
            assert box.width * W / columns == pytest.approx(box.height * H / rows)


def test_feature_maps_builds_a_model_and_draws_one_pixel_maps_as_bars():
    model = nn.Sequential([nn.Conv2D(5, 4)])
    figure = fc.viz.feature_maps(model, np.ones((4, 4, 3)))
    assert [len(axes.images) for axes in figure.axes] == [1, 0]
    assert "1 x 1 x 5" in figure.axes[1].get_title("left")
    assert len(figure.axes[1].patches) == 5


@pytest.mark.parametrize(
    ("layer", "channels", "grid"),
    [
        (nn.Conv2D(4, 3), 1, (1, 4)),
        (nn.Conv2D(4, (2, 3)), 5, (5, 4)),
        (nn.Conv2D(40, 3), 33, (32, 32)),
        (nn.Conv2DTranspose(3, 3), 2, (2, 3)),
        (nn.DepthwiseConv2D(3, depth_multiplier=2), 3, (1, 6)),
        (nn.SeparableConv2D(9, 3), 4, (1, 4)),
    ],
)
def test_filters_draws_a_grid_of_kernels(layer, channels, grid, tmp_path):
    nn.Sequential([nn.Input((9, 9, channels)), layer])
    figure = fc.viz.filters(layer, tmp_path / "filters.png")
    image = figure.axes[0].images[0]
    sheet = image.get_array()
    KH, KW = layer.kernel_size
    fine = -(-20 // max(KH, KW))
    gap = round(0.25 * max(KH, KW) * fine)
    assert sheet.shape == (grid[0] * (KH * fine + gap) - gap, grid[1] * (KW * fine + gap) - gap)
    weight = layer.get_weights()[0]
    np.testing.assert_allclose(sheet[: KH * fine : fine, : KW * fine : fine], weight[:, :, 0, 0], rtol=1e-6)
    if isinstance(layer, nn.Conv2D) and channels > 1:
        below = sheet[KH * fine + gap :, : KW * fine][: KH * fine : fine, ::fine]
        np.testing.assert_allclose(below, weight[:, :, 1, 0], rtol=1e-6)
    assert image.norm.vmin == -image.norm.vmax
    assert_all_text_is_inside(figure)
    assert png_size(tmp_path / "filters.png") == tuple(figure.canvas.get_width_height())


@pytest.mark.parametrize("epochs", [1, 3])
def test_training_draws_a_curve_for_each_number(epochs, tmp_path):
    rising = [0.5 + 0.1 * i for i in range(epochs)]
    history = nn.History()
    for i in range(epochs):
        history.append(i, {"loss": 2.0 / (i + 1), "accuracy": rising[i], "val_loss": 2.0, "val_accuracy": 0.5})
    figure = fc.viz.training(history, tmp_path / "training.png")
    loss, accuracy = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "accuracy"]
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]
    np.testing.assert_array_equal(accuracy.lines[0].get_data(), [np.arange(1, epochs + 1), rising])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [2.0] * epochs)
    assert_all_text_is_inside(figure)
    assert png_size(tmp_path / "training.png") == tuple(figure.canvas.get_width_height())


def test_training_draws_validation_alone_and_nan():
    figure = fc.viz.training({"val_loss": [1.0, np.nan, 0.5]})
    assert [line.get_label() for line in figure.axes[0].lines] == ["validation"]
    figure.canvas.draw()


NAMES = ["T-shirt/top", "Trouser", "Ankle boot"]


@pytest.mark.parametrize("names", [None, NAMES, ["a", "b", "c", "never seen"]])
def test_confusion_counts(names, tmp_path):
    labels, found = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]
    scores = np.eye(3)[found] + 0.1
    for predictions in (found, scores, np.array(found, np.uint8)):
        figure = fc.viz.confusion(labels, predictions, names, tmp_path / "confusion.png")
        (axes,) = figure.axes
        counts = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
        assert counts == {(0, 0): 1, (0, 1): 1, (1, 1): 1, (2, 2): 2, (2, 0): 1}
        np.testing.assert_allclose(axes.images[0].get_array()[2, :3], [1 / 3, 0, 2 / 3])
        assert axes.get_title("left") == "4 of 6 right: 66.7%"
        assert [label.get_text() for label in axes.get_yticklabels()] == (names or ["0", "1", "2"])
        assert_all_text_is_inside(figure)
    assert png_size(tmp_path / "confusion.png") == tuple(figure.canvas.get_width_height())


@pytest.mark.parametrize("classes", [1, 2, 31, 100])
def test_confusion_of_few_and_of_many_classes(classes):
    figure = fc.viz.confusion(np.arange(classes), np.arange(classes))
    assert_all_text_is_inside(figure)
    assert figure.get_size_inches().max() < 20


@pytest.mark.parametrize("suffix", ["pdf", "svg", "PNG"])
def test_other_files_are_written(suffix, tmp_path):
    fc.viz.training({"loss": [1.0]}, str(tmp_path / f"a.{suffix}"))
    assert (tmp_path / f"a.{suffix}").stat().st_size > 500


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fc.viz.training({"loss": [1.0]}, tmp_path / "nowhere" / "a.png")


def test_pictures_leave_pyplot_alone():
    code = "import sys, fastconv as fc; fc.viz.training({'loss': [1.0]}); print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["maps", "kernels", "curves", "confusions"])
def test_examples_in_the_documentation_run(name):
    found = doctest.testmod(importlib.import_module(f"fastconv.viz.{name}"), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
