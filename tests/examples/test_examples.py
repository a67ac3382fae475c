"""Every example runs, and prints the shapes, counts and numbers that it is there to show."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiles

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
PICTURES = {
    "fashion_cnn": ["feature_maps", "filters", "training", "confusion"],
    "lenet5": ["feature_maps", "filters", "training", "confusion"],
    "autoencoder": [],
    "translation": [],
    "hand_filters": [],
}
NUMBER = r"\d+\.\d+"


# As a user runs it, but that the planner knows the tiles that it knows here.
RUN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def run(name, *arguments, cwd):
    """Return what an example prints, in a folder of its own."""
    few = ["-c", tiles.setup() + RUN] if tiles.setup() else []
    command = [sys.executable, "-W", "error", *few, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES)))}
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(line):
    """Return the numbers of a row of a table behind its name."""
    return [float(text.replace(",", "")) for text in re.findall(r"(?<![\w.])[\d,]+(?:\.\d+)?", line)]


def row(text, name):
    """Return the numbers of the row of a name."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(name + " ")]
    return numbers(line.strip().removeprefix(name))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a file of 84 images of ten classes, sorted by class."""
    rng = np.random.default_rng(0)
    y = np.sort(np.arange(84) % 10)
    x = rng.integers(0, 60, (84, 28, 28), np.uint8)
    for image, label in zip(x, y, strict=True):
        image[2 * label + 2 : 2 * label + 6] += 150
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, x=x, y=y.astype(np.uint8))
    return path


def needs(*packages):
    for package in packages:
        pytest.importorskip(package)


def test_mnist_swish(images, tmp_path):
    # The one that needs nothing but a file of images.
    text = run("mnist_swish", "--data", images, "--epochs", 1, cwd=tmp_path)
    assert "67 images to learn from, 17 for the test" in text
    for count in ("78", "456", "201,684", "850"):
        assert re.search(rf"│ +{count} │", text), count
    assert "Total params: 203,068" in text
    rows = re.findall(r"^((?:\d\.\d\d ){10}) +\[((?:[01] ?){10})\]$", text, re.MULTILINE)
    assert len(rows) == 5
    for predicted, truth in rows:
        assert sum(map(float, predicted.split())) == pytest.approx(1, abs=0.06)
        assert sorted(truth.split()) == ["0"] * 9 + ["1"]
    # The test images are those at the multiples of 5; the first eight or nine are of class 0.
    assert [truth.split().index("1") for _, truth in rows] == [0, 0, 1, 1, 2]


@pytest.mark.slow
def test_fashion_cnn(images, tmp_path):
    needs("matplotlib")
    text = run("fashion_cnn", "--data", images, "--epochs", 2, cwd=tmp_path)
    assert "72 images to learn from, 12 for the test" in text
    shapes = dict(re.findall(r"^(\w+) +(\(1, .*\))$", text, re.MULTILINE))
    assert shapes == {
        "conv2d": "(1, 26, 26, 32)",
        "max_pooling2d": "(1, 13, 13, 32)",
        "conv2d_1": "(1, 11, 11, 32)",
        "max_pooling2d_1": "(1, 5, 5, 32)",
        "flatten": "(1, 800)",
        "dense": "(1, 128)",
        "dense_1": "(1, 10)",
    }
    for name, count in (("CNN", 113_386), ("dense", 101_770)):
        parameters, seconds, train, test = numbers(re.search(rf"^{name} +[\d,]+ .*$", text, re.MULTILINE)[0])
        assert parameters == count
        assert seconds >= 0
        assert 0 <= min(train, test) <= max(train, test) <= 1
    assert len(list((tmp_path / "pictures").glob("fashion_*.png"))) == 4


@pytest.mark.slow
def test_lenet5(images, tmp_path):
    needs("matplotlib", "safetensors")
    text = run("lenet5", "--data", images, "--epochs", 1, "--out", "here", cwd=tmp_path)
    for shape, count in (("28, 28, 6", "156"), ("10, 10, 16", "2,416"), ("1, 1, 120", "48,120"), ("84", "10,164")):
        assert re.search(rf"\(None, {shape}\) +│ +{count} │", text), shape
    assert "Total params: 61,706" in text
    last = re.findall(rf"val_loss ({NUMBER}), val_accuracy ({NUMBER})", text)[-1]
    assert re.search(rf"by the saved model: loss {last[0]}, accuracy {last[1]}", text)
    found = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert found == ["lenet5.safetensors", *(f"lenet5_{n}.png" for n in sorted(PICTURES["lenet5"]))]


@pytest.mark.slow
def test_vgg16_shapes(tmp_path):
    text = run("vgg16_shapes", "--no-head", cwd=tmp_path)
    assert "Total params: 14,714,688" in text
    assert "before the head (7, 7, 512), output (1, 7, 7, 512)" in text
    assert re.search(r"block5_pool +212 +32 +output \(7, 7, 512\)", text)


@pytest.mark.slow
def test_vgg16_shapes_with_its_head(tmp_path):
    text = run("vgg16_shapes", cwd=tmp_path)
    assert "Total params: 138,357,544" in text
    assert "Total MACs: 15,470,264,320" in text
    assert "before the head (7, 7, 512), output (1, 1000)" in text
    assert float(re.search(rf"outputs sum to ({NUMBER})", text)[1]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_autoencoder(images, tmp_path):
    needs("matplotlib")
    text = run("autoencoder", "--data", images, "--epochs", 2, cwd=tmp_path)
    rows = {name: row(text, name) for name in ("nearest", "bed of nails", "max unpooling", "transposed conv")}
    assert [int(found[0]) for found in rows.values()] == [1_477, 1_477, 1_477, 2_585]
    assert all(0 < error < 0.5 for found in rows.values() for error in found[2:])
    # Before training every way has the same encoder; what they do with its numbers differs.
    assert len({tuple(found[2:]) for found in rows.values()}) == 4
    assert (tmp_path / "pictures" / "autoencoder.png").is_file()


@pytest.mark.slow
def test_translation(images, tmp_path):
    needs("matplotlib")
    text = run("translation", "--data", images, cwd=tmp_path)
    differences = [float(d) for d in re.findall(r"^  \d pixels: (\S+)$", text, re.MULTILINE)]
    assert len(differences) == 4
    assert max(differences) < 1e-5
    assert row(text, "global maximum") == [0, 0, 0, 0]
    assert all(change > 0 for change in row(text, "convolution"))
    assert (tmp_path / "pictures" / "translation.png").is_file()


@pytest.mark.slow
def test_hand_filters(images, tmp_path):
    needs("matplotlib")
    text = run("hand_filters", "--data", images, cwd=tmp_path)
    assert "283,024 multiplications at once, 29,792 in two passes" in text
    assert float(re.search(r"largest difference of the results (\S+)$", text, re.MULTILINE)[1]) < 1e-5
    assert "dilation 4: the same 9 numbers see 9 x 9 pixels" in text
    assert (tmp_path / "pictures" / "hand_filters.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_cnn", "mnist_swish", "lenet5", "autoencoder"])
def test_examples_learn_from_digits_by_default(name, tmp_path):
    needs("matplotlib", "sklearn", "safetensors")
    text = run(name, "--epochs", 1, "--limit", 210, cwd=tmp_path)
    assert text.startswith("scikit-learn's digits: 1")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start"), [("translation", "scikit-learn's digits"), ("hand_filters", "image 427 x")])
def test_examples_show_what_comes_with_scikit_learn(name, start, tmp_path):
    needs("matplotlib", "sklearn", "PIL")
    assert run(name, cwd=tmp_path).startswith(start)


def loader():
    """Return examples/data.py as a module."""
    spec = importlib.util.spec_from_file_location("examples_data", EXAMPLES / "data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("every", "limit"), [(7, None), (5, None), (5, 50)])
def test_data_splits_by_index(images, every, limit, capsys):
    data = loader()
    arguments = ["--data", str(images), "--test-every", str(every)] + (["--limit", str(limit)] if limit else [])
    split = data.load(data.parser("").parse_args(arguments))
    with np.load(images) as file:
        x, y = file["x"], file["y"]
    if limit:
        chosen = [int(i * 84 / limit) for i in range(limit)]
        x, y = x[chosen], y[chosen]
    test = [i for i in range(len(x)) if i % every == 0]
    train = [i for i in range(len(x)) if i % every]
    np.testing.assert_array_equal(np.rint(split.x_test[..., 0] * 255), x[test])
    np.testing.assert_array_equal(np.rint(split.x[..., 0] * 255), x[train])
    np.testing.assert_array_equal(split.y_test, y[test])
    np.testing.assert_array_equal(split.y, y[train])
    assert split.x.dtype == np.float32
    assert split.x.max() <= 1


def test_data_refuses_other_files(tmp_path):
    path = tmp_path / "wrong.npz"
    np.savez(path, x=np.zeros((3, 8, 8), np.uint8), y=np.zeros(3))
    with pytest.raises(SystemExit, match=r"x is uint8 \(3, 8, 8\) .* expected uint8 \(N, 28, 28\)"):
        loader().read(str(path))


def test_readme_names_every_example():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - {"data.py"}
    assert set(re.findall(r"^\| \[(\w+\.py)\]", text, re.MULTILINE)) == scripts
