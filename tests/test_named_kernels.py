"""Filters by name: their numbers are the textbook's, and what is wrong is an error of one line."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import fastconv as fc
from fastconv.named_kernels import MOST_TAPS, named

# Brighter to the right by 1 a pixel; and brighter downwards.
RIGHT, DOWN = np.tile(np.arange(7.0), (7, 1)), np.tile(np.arange(7.0), (7, 1)).T


def middle(image, kernel):
    return ndimage.correlate(image, kernel)[3, 3]


@pytest.mark.parametrize(("name", "slope"), [("sobel", 8), ("scharr", 32), ("prewitt", 6)])
def test_gradients_point_to_where_it_gets_brighter(name, slope):
    assert middle(RIGHT, named(name)) == slope
    assert middle(DOWN, named(name)) == 0
    assert middle(DOWN, named(f"{name}-y")) == slope
    assert middle(RIGHT, named(f"{name}-y")) == 0
    assert np.array_equal(named(f"{name.upper()}-X"), named(name))


def test_sobel_prewitt_and_laplacian_are_those_of_scipy():
    image = np.random.default_rng(0).integers(0, 9, (9, 9)).astype("f8")
    for name, function in (("sobel", ndimage.sobel), ("prewitt", ndimage.prewitt)):
        assert np.array_equal(ndimage.correlate(image, named(name)), function(image, axis=1))
        assert np.array_equal(ndimage.correlate(image, named(f"{name}-y")), function(image, axis=0))
    assert np.array_equal(ndimage.correlate(image, named("laplacian")), ndimage.laplace(image))


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.0, 2.5, 3.2])
def test_gaussian_is_that_of_scipy(sigma):
    kernel = named(f"gaussian:{sigma}")
    assert kernel.shape[0] == kernel.shape[1] == 2 * int(4 * sigma + 0.5) + 1
    image = np.random.default_rng(0).random((30, 30))
    np.testing.assert_allclose(ndimage.correlate(image, kernel), ndimage.gaussian_filter(image, sigma), rtol=1e-13)


def test_kernels_have_the_sums_that_they_should():
    sums = {"gaussian:2.5:15": 1, "gaussian:1e-9:4": 1, "box:4": 1, "sharpen": 1, "emboss": 1, "identity": 1}
    sums |= {"laplacian": 0, "sobel": 0, "scharr-y": 0}
    for text, total in sums.items():
        kernel = named(text)
        assert kernel.dtype == np.float64
        assert kernel.sum() == pytest.approx(total, abs=1e-12), text
    assert named("gaussian:2.5:15").shape == (15, 15)
    assert fc.separate(named("gaussian:2.5:15")).rank == fc.separate(named("box:9")).rank == 1
    assert np.array_equal(ndimage.correlate(RIGHT, named("identity")), RIGHT)
    assert middle(RIGHT + DOWN, named("emboss")) == RIGHT[3, 3] + DOWN[3, 3] + 12
    assert (named("box:2") == 0.25).all()


def test_a_shape_is_taken_where_none_is_written():
    assert named("gaussian:2.5", (15, 15)).shape == (15, 15)
    assert np.array_equal(named("gaussian:2.5", (15, 15)), named("gaussian:2.5:15"))
    assert named("gaussian:1", (1, 5)).shape == (1, 5)
    assert (named("box", (2, 5)) == 0.1).all()
    for text, shape in (("sobel", (5, 5)), ("box:3", (5, 5)), ("gaussian:1:3", (5, 5))):
        with pytest.raises(fc.OptionError, match="is 3 x 3, expected 5 x 5"):
            named(text, shape)


def test_kernels_from_files(tmp_path):
    kernel = np.random.default_rng(0).random((3, 5))
    np.save(tmp_path / "k.npy", kernel)
    np.savetxt(tmp_path / "k.csv", kernel, delimiter=",", fmt="%.18e", header="a filter")
    np.savetxt(tmp_path / "k.TXT", kernel, fmt="%.18e")
    np.save(tmp_path / "ints.npy", np.eye(3, dtype="i2"))
    for name in ("k.npy", "k.csv", "k.TXT"):
        assert np.array_equal(named(str(tmp_path / name)), kernel), name
    assert named(str(tmp_path / "ints.npy")).dtype == np.float64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sobol", "expected one of sobel"),
        ("", "expected one of sobel"),
        ("laplacian-y", "expected one of sobel"),
        ("sobel:3", "expected one of sobel"),
        ("gaussian", "expected gaussian:SIGMA"),
        ("gaussian:", "expected gaussian:SIGMA"),
        ("gaussian:1:2:3", "expected gaussian:SIGMA"),
        ("gaussian:0", "expected a number above 0"),
        ("gaussian:-1", "expected a number above 0"),
        ("gaussian:nan", "expected a number above 0"),
        ("gaussian:inf", "expected a number above 0"),
        ("gaussian:wide", "expected a number above 0"),
        ("gaussian:1e300", f"at most {MOST_TAPS} taps"),
        ("gaussian:300", f"at most {MOST_TAPS} taps, got 2401"),
        ("gaussian:1:0", f"a whole number from 1 to {MOST_TAPS}"),
        ("box", "expected box:K"),
        ("box:0", f"a whole number from 1 to {MOST_TAPS}"),
        ("box:2048", f"a whole number from 1 to {MOST_TAPS}"),
        ("box:" + "9" * 5000, f"a whole number from 1 to {MOST_TAPS}"),
        ("box:3:3", "expected box:K"),
        ("box:1.5", f"a whole number from 1 to {MOST_TAPS}"),
        ("no such file.npy", "No such file"),
        ("no such file.csv", "No such file"),
    ],
)
def test_what_is_wrong_is_one_line(text, message):
    with pytest.raises(fc.OptionError, match=message) as caught:
        named(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ragged.csv", b"1,2\n3", "different lengths"),
        ("words.txt", b"one two", "could not convert"),
        ("empty.csv", b"# nothing\n", "shape \\(0,\\)"),
        ("nan.csv", b"1,nan", "NaN or infinities"),
        ("no.npy", b"text", "holds no array"),
        ("nothing.npy", b"", "holds no array"),
        ("binary.csv", b"\xff\xfe\x00", "holds no array"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(fc.OptionError, match=message) as caught:
        named(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((0, 3)), np.array([["a"]]), np.array([[1j]])])
def test_arrays_that_are_no_kernels_are_refused(tmp_path, array):
    np.save(tmp_path / "k.npy", array)
    with pytest.raises(fc.OptionError, match="expected"):
        named(str(tmp_path / "k.npy"))
    np.save(tmp_path / "object.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(fc.OptionError, match="holds no array"):
        named(str(tmp_path / "object.npy"))
