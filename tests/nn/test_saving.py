"""Models in files: they come back as they were, and what is no such file says why."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from tests.nn.models import classifier, drawn_weights, images, many_layers

X, Y = images()


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: classifier().save(tmp_path / "m"), lambda: nn.load_model(tmp_path / "m")):
        with pytest.raises(ImportError, match=r'^safetensors is missing; pip install "fastconv\[nn\]"'):
            call()


@pytest.fixture(name="library")
def _library():
    return pytest.importorskip("safetensors")


@pytest.mark.usefixtures("library")
def test_model_comes_back(tmp_path):
    path = tmp_path / "model.safetensors"
    last = [nn.Dropout(0.25, seed=1), nn.Flatten(name="flat"), nn.Dense(3, "softmax", kernel_initializer="he_normal")]
    model = drawn_weights(many_layers("float32", last))
    model.compile(nn.optimizers.SGD(0.5, 0.9, True), "categorical_crossentropy", ["accuracy", "mse"])
    model.save(path)
    replaced = classifier()
    assert replaced.load(path) is replaced
    for loaded in (nn.load_model(path), nn.Sequential.load(str(path)), replaced):
        assert [(layer.name, layer.get_config()) for layer in loaded.layers] == [
            (layer.name, layer.get_config()) for layer in model.layers
        ]
        x = np.random.default_rng(0).normal(size=(3, 8, 8, 2))
        np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
        assert loaded.optimizer.get_config() == model.optimizer.get_config()
        one_hot = np.eye(3)[[0, 1, 2]]
        assert loaded.evaluate(x, one_hot) == model.evaluate(x, one_hot)
        loaded.fit(x, one_hot, verbose=0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("library")
def test_model_without_compile_and_of_doubles_comes_back(tmp_path):
    model = nn.Sequential([nn.Dense(2, dtype="float64", input_shape=(3,), trainable=False)])
    model.save(tmp_path / "m")
    loaded = nn.load_model(tmp_path / "m")
    assert loaded.loss is None
    assert not loaded.layers[0].trainable
    assert loaded.get_weights()[0].tobytes() == model.get_weights()[0].tobytes()


def changed(source, target, **metadata):
    """Write a copy of a file with other metadata, or arrays."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(source, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        found = file.metadata()
    tensors |= metadata.pop("tensors", {})
    save_file(tensors, target, metadata={k: v for k, v in (found | metadata).items() if v is not None})


@pytest.mark.usefixtures("library")
def test_files_that_are_no_models_say_why(tmp_path):
    path, other = tmp_path / "m", tmp_path / "other"
    classifier().save(path)
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        other.write_bytes(whole[:size])
        with pytest.raises(fc.ModelFileError, match=r"^load_model: .*other is no whole safetensors file"):
            nn.load_model(other)
    damaged = bytearray(whole)
    damaged[:8] = b"\xff" * 8
    other.write_bytes(damaged)
    with pytest.raises(fc.ModelFileError, match="is no whole safetensors file"):
        nn.load_model(other)
    description = json.loads(fc_metadata(path))
    description["layers"][0]["class"] = "Conv9D"
    wrong = {
        "has the format 'pt', expected 'fastconv.nn'": {"format": "pt"},
        "has the format None": {"format": None},
        "has the format version 2, this release reads 1": {"format_version": "2"},
        "describes no model of this release": {"model": "{"},
        "there is no class 'Conv9D'": {"model": json.dumps(description)},
        r"conv2d/kernel is \(2, 2\) float32, expected \(3, 3, 1, 4\)": {
            "tensors": {"conv2d/kernel": np.ones((2, 2), "f4")}
        },
        "conv2d/bias is .* float64, expected .* float32": {"tensors": {"conv2d/bias": np.ones(4)}},
        "has .*'more'.* too many": {"tensors": {"more": np.ones(4)}},
    }
    for text, metadata in wrong.items():
        changed(path, other, **metadata)
        with pytest.raises(ValueError, match=text) as caught:
            nn.load_model(other)
        assert isinstance(caught.value, fc.ModelFileError)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        nn.load_model(tmp_path / "nothing")
    with pytest.raises(fc.ArgumentTypeError, match="load_model: path = 3"):
        nn.load_model(3)
    with pytest.raises(fc.OptionError, match="save: sequential is not built"):
        nn.Sequential([nn.Flatten()]).save(path)


def fc_metadata(path):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return file.metadata()["model"]
