from __future__ import annotations

import builtins
import functools
import re
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv.cli import demo, demo_image, demo_steps
from fastconv.cli.main import main

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")


def pixels(mode: str) -> np.ndarray:
    """Return 20 x 28 random pixels; "I;16" are of 12 bits."""
    rng = np.random.default_rng(0)
    if mode in ("I;16", "I;16B"):
        return rng.integers(0, 4096, (20, 28)).astype(np.uint16)
    if mode == "F":
        return rng.normal(0, 50, (20, 28)).astype(np.float32)
    bands = Image.getmodebands(mode)
    return rng.integers(0, 256, (20, 28, bands) if bands > 1 else (20, 28)).astype(np.uint8)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(pixels("RGB")).save(path)
    return path


def test_demo_writes_a_sheet_and_every_row_passes(picture, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    assert main(["demo", str(picture), "-o", str(output), "--size", "16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.endswith("FAIL")]
    rows = [line for line in lines if line.endswith(" ok")]
    assert len(rows) > 20
    assert sum(" > " in row for row in rows) == len(demo_steps.steps())
    text = "\n".join(rows)
    assert all(name in text for name in ("direct", "im2col", "depthwise", "separable", "pointwise", "Gaussian 15x15"))
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 500


def test_demo_with_a_wrong_result_exits_1(picture, tmp_path, capsys, monkeypatch):
    right = fc.conv2d

    @functools.wraps(right)
    def wrong(*arguments, **keywords):
        result = right(*arguments, **keywords)
        if keywords.get("algorithm") == "im2col":
            result[..., -1, -1] = np.nan
        return result

    sepia = demo_steps._sepia
    monkeypatch.setattr(demo_steps, "steps", lambda: (sepia,))
    monkeypatch.setattr(demo, "steps", demo_steps.steps)
    monkeypatch.setattr(fc, "conv2d", wrong)
    monkeypatch.setattr("fastconv.cli.demo_sheet.save", lambda *arguments: None)
    assert main(["demo", str(picture), "-o", str(tmp_path / "sheet.png")]) == 1
    captured = capsys.readouterr()
    (row,) = [line for line in captured.out.splitlines() if line.endswith("FAIL")]
    assert "im2col" in row
    assert re.search(r"fastconv demo: 1 of \d+ results are wrong", captured.err)


def test_demo_without_its_file_exits_1_with_one_line(tmp_path, capsys):
    path = tmp_path / "missing.jpg"
    assert main(["demo", str(path)]) == 1
    assert capsys.readouterr() == ("", f"fastconv demo: {path}: No such file or directory\n")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_demo_with_no_picture_exits_1_with_one_line(content, tmp_path, capsys):
    path = tmp_path / "wrong.png"
    path.write_bytes(content)
    assert main(["demo", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error


def test_demo_without_the_output_folder_fails_before_it_works(picture, tmp_path, capsys):
    assert main(["demo", str(picture), "-o", str(tmp_path / "missing" / "sheet.png")]) == 1
    assert capsys.readouterr() == ("", f"fastconv demo: {tmp_path / 'missing'}: no such folder\n")


@pytest.mark.parametrize("missing", ["matplotlib", "PIL"])
def test_demo_names_its_extra(missing, picture, monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **keywords)

    monkeypatch.delitem(sys.modules, "fastconv.cli.demo_sheet", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["demo", str(picture)]) == 1
    assert capsys.readouterr().err == f'fastconv demo: {missing} is missing; pip install "fastconv[demo]"\n'


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "F"])
def test_load_takes_every_mode(mode, tmp_path):
    path = tmp_path / "picture.tif"
    image = Image.fromarray(pixels("L" if mode in ("1", "P") else mode.replace("B", "") if "16" in mode else mode))
    (image if image.mode == mode or "16" in mode else image.convert(mode)).save(path)
    photo = demo_image.load(str(path), 1024)
    assert (photo.shape, photo.dtype) == ((1, 3, 20, 28), np.float32)
    assert photo.flags.c_contiguous
    assert photo.min() >= 0
    assert 0.5 < photo.max() <= 1


def test_load_reads_values_and_reduces(tmp_path):
    values = pixels("RGB")
    Image.fromarray(values).save(tmp_path / "a.png")
    photo = demo_image.load(str(tmp_path / "a.png"), 28)
    np.testing.assert_array_equal(photo[0], (values.transpose(2, 0, 1) / np.float32(255)))
    assert demo_image.load(str(tmp_path / "a.png"), 16).shape == (1, 3, 11, 16)


def test_load_shows_what_is_transparent_as_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (demo_image.load(str(tmp_path / "a.png"), 16) == 1).all()


def test_load_takes_the_sample():
    assert demo_image.load(None, 64).shape[1] == 3


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 3}, {"groups": 2}])
def test_correlate_is_the_reference(options):
    from fastconv.testing import reference

    rng = np.random.default_rng(0)
    x = rng.integers(-5, 6, (1, 4, 9, 11)).astype(np.float64)
    weight = rng.integers(-5, 6, (6, 4 // options.get("groups", 1), 3, 5)).astype(np.float64)
    dilation = options.get("dilation", 1)
    expected = reference(x, weight, padding=(dilation, 2 * dilation), **options)
    np.testing.assert_array_equal(demo_steps.correlate(x, weight, **options), expected)


def test_relative_error_fails_on_nan_and_shape():
    ones = np.ones((2, 2))
    assert demo.relative_error(ones, ones) == 0
    assert not demo.relative_error(np.full((2, 2), np.nan), ones) <= demo.BOUND
    assert not demo.relative_error(ones[:1], ones) <= demo.BOUND


def test_progress_without_tqdm_prints_lines(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with demo.Progress(2) as progress:
        progress.tell("first")
        progress.advance()
        progress.tell("second")
    assert capsys.readouterr() == ("", "0/2 first\n1/2 second\n")
