"""`fastconv filter`: pixels beside SciPy's, files of every format, and errors of one line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from fastconv.cli import filter_bands, pictures
from fastconv.cli.filter_bands import BOUNDARIES, Filter, filtered
from fastconv.cli.main import main
from fastconv.named_kernels import named

ROOT = Path(__file__).resolve().parents[2]
# By the names of numpy.pad, which also repeats what is smaller than the kernel; SciPy does not always.
PADS = {"zeros": "constant", "reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}
LIMITS = {"uint8": (0, 255), "uint16": (0, 65535), "int16": (-32768, 32767)}


def draw(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    low, high = LIMITS[dtype]
    return rng.integers(low, high + 1, shape).astype(dtype)


def correlated(plane: np.ndarray, kernel: np.ndarray, boundary: str) -> np.ndarray:
    KH, KW = kernel.shape
    pads = ((KH // 2, KH - 1 - KH // 2), (KW // 2, KW - 1 - KW // 2))
    padded = np.pad(plane.astype(np.float64), pads, mode=PADS[boundary])
    whole = ndimage.correlate(padded, kernel, mode="constant")
    return whole[pads[0][0] :, pads[1][0] :][: plane.shape[0], : plane.shape[1]]


def expected(pixels: np.ndarray, kernel: str, boundary: str) -> np.ndarray:
    """Return the sums in double precision, of two-dimensional pixels or of each channel."""
    planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
    found = []
    for c in range(planes.shape[2]):
        if kernel in ("sobel", "scharr", "prewitt"):
            x, y = (correlated(planes[:, :, c], named(f"{kernel}-{axis}"), boundary) for axis in "xy")
            found.append(np.sqrt(x * x + y * y))
        else:
            found.append(correlated(planes[:, :, c], named(kernel), boundary))
    return np.stack(found, axis=2).reshape(pixels.shape)


def check(found: np.ndarray, sums: np.ndarray, dtype: str) -> None:
    assert found.dtype == dtype
    if np.dtype(dtype).kind == "f":
        np.testing.assert_allclose(found, sums, rtol=0, atol=1e-5 * np.abs(sums).max())
        return
    # Rounded to the nearest, or to the next one where the sum was half-way but for its rounding error.
    assert np.abs(found - sums.clip(*LIMITS[dtype])).max() <= 0.5 + 1e-3


def run(tmp_path: Path, pixels: np.ndarray, *options: str) -> np.ndarray:
    np.save(tmp_path / "in.npy", pixels)
    assert main(["filter", str(tmp_path / "in.npy"), "-o", str(tmp_path / "out.npy"), *options]) == 0
    return np.load(tmp_path / "out.npy")


@pytest.mark.parametrize("boundary", PADS)
@pytest.mark.parametrize(
    ("dtype", "shape", "kernel"),
    [
        ("uint8", (17, 23), "sobel"),
        ("uint8", (9, 8, 3), "gaussian:1.5"),
        ("uint16", (14, 11), "box:6"),
        ("int16", (5, 7, 2), "emboss"),
        ("float32", (12, 13), "scharr-y"),
        ("float64", (2, 3), "gaussian:2"),
        ("float32", (1, 1), "laplacian"),
    ],
)
def test_filter_is_scipys(tmp_path, dtype, shape, kernel, boundary):
    pixels = draw(dtype, *shape)
    found = run(tmp_path, pixels, "--kernel", kernel, "--boundary", boundary)
    check(found, expected(pixels, kernel, boundary), dtype)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("symmetric", "reflect"),
        *((name, name) for name in ("constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-wrap")),
    ],
)
def test_boundaries_are_those_of_scipy(name, mode):
    x = draw("float64", 9, 10)
    ((_, found),) = filtered(x, 1, Filter([named("box:4")], BOUNDARIES[name]), x.dtype, 2**20)
    np.testing.assert_allclose(found, ndimage.correlate(x, named("box:4"), mode=mode), atol=1e-12)


@pytest.mark.parametrize("boundary", PADS)
@pytest.mark.parametrize("kernel", ["sobel", "box:4", "gaussian:2"])
def test_bands_are_the_whole(kernel, boundary):
    pixels = draw("uint8", 41, 12, 3)
    what = Filter([named(kernel)], boundary)
    ((_, whole),) = filtered(pixels, 3, what, pixels.dtype, 2**30)
    bands = list(filtered(pixels, 3, what, pixels.dtype, 1))
    assert [top for top, _ in bands] == list(range(41))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in bands]), whole)


def test_memory_limits_the_rows_of_a_band():
    pixels = draw("float32", 400, 50)
    what = Filter([named("sobel-x")])
    heights = [len(rows) for _, rows in filtered(pixels, 1, what, pixels.dtype, 40_000)]
    assert sum(heights) == 400
    assert 1 < heights[0] * 50 * (4 + 4 + 4 + 4) < 40_000
    assert len(set(heights[:-1])) == 1


def test_alpha_is_kept(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = draw("uint8", 20, 15, 4)
    image.fromarray(pixels).save(tmp_path / "in.png")
    assert main(["filter", str(tmp_path / "in.png"), "--kernel", "box:3", "-o", str(tmp_path / "out.png")]) == 0
    found = np.asarray(image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(found[:, :, 3], pixels[:, :, 3])
    check(found[:, :, :3], expected(pixels[:, :, :3], "box:3", "symmetric"), "uint8")


def test_alpha_in_another_dtype_is_as_opaque():
    alpha = np.array([[[9, 0], [9, 255], [9, 128]]], np.uint8)
    (((_, wide),), ((_, real),)) = (
        filtered(alpha, 1, Filter([named("identity")]), np.dtype(dtype), 2**20) for dtype in ("uint16", "float32")
    )
    np.testing.assert_array_equal(wide[0, :, 1], [0, 65535, 128 * 257])
    np.testing.assert_allclose(real[0, :, 1], [0, 1, 128 / 255], rtol=1e-6)
    np.testing.assert_array_equal(wide[0, :, 0], [9, 9, 9])


@pytest.mark.parametrize(("text", "suffix"), [("1 0 -1\n2 0 -2", ".txt"), ("1,0,-1\n2,0,-2\n", ".csv"), (None, ".npy")])
def test_custom_kernel_comes_from_a_file(tmp_path, text, suffix):
    kernel, path = np.array([[1.0, 0, -1], [2, 0, -2]]), tmp_path / f"kernel{suffix}"
    if text is None:
        np.save(path, kernel)
    else:
        path.write_text(text, encoding="utf-8")
    pixels = draw("float64", 8, 9)
    found = run(tmp_path, pixels, "--kernel", str(path))
    np.testing.assert_allclose(found, ndimage.correlate(pixels, kernel, mode="reflect"), atol=1e-12)


def test_scale_offset_and_dtype(tmp_path):
    pixels = draw("uint8", 8, 9)
    x = correlated(pixels, named("sobel-x"), "symmetric")
    check(run(tmp_path, pixels, "--kernel", "sobel-x", "--scale", "0.25", "--offset", "128"), x / 4 + 128, "uint8")
    check(run(tmp_path, pixels, "--kernel", "sobel-x", "--dtype", "int16"), x, "int16")


def test_integers_are_clipped_and_nan_becomes_0(tmp_path):
    assert run(tmp_path, np.full((3, 3), 200.0), "--kernel", "identity", "--scale=2", "--dtype", "uint8").max() == 255
    assert run(tmp_path, np.full((3, 3), 2.0), "--kernel", "identity", "--scale=-2", "--dtype", "uint8").max() == 0
    assert run(tmp_path, np.full((3, 3), np.nan), "--kernel", "identity", "--dtype", "uint8").max() == 0
    wide = np.full((3, 3), 2**31 - 1, np.int32)
    assert run(tmp_path, wide, "--kernel", "identity").min() == 2**31 - 1
    assert run(tmp_path, np.full((2, 2), np.inf), "--kernel", "box:1", "--dtype", "int32").min() == 2**31 - 1


@pytest.mark.parametrize(
    ("dtype", "shape", "name"),
    [
        ("uint8", (6, 7), "a.png"),
        ("uint8", (6, 7, 3), "a.bmp"),
        ("uint16", (6, 7), "a.png"),
        ("uint16", (6, 7, 3), "a.png"),
        ("uint16", (6, 7, 4), "a.png"),
        ("uint8", (6, 7, 4), "a.tif"),
        ("uint16", (6, 7, 3), "a.tiff"),
        ("float32", (6, 7), "a.tif"),
        ("float64", (6, 7, 3), "a.tif"),
        ("float32", (6, 7, 3), "a.npy"),
    ],
)
def test_files_keep_what_they_hold(tmp_path, dtype, shape, name):
    pytest.importorskip("PIL")
    pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    pixels = draw(dtype, *shape)
    np.save(tmp_path / "in.npy", pixels)
    one = ["--kernel", "identity", "-o", str(tmp_path / name)]
    assert main(["filter", str(tmp_path / "in.npy"), *one]) == 0
    assert main(["filter", str(tmp_path / name), "--kernel", "identity", "-o", str(tmp_path / "out.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), pixels)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"in.npy", name, "out.npy"})


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"planarconfig": "separate"}, {"byteorder": ">"}])
def test_tiff_of_every_kind_is_read(tmp_path, options):
    tifffile = pytest.importorskip("tifffile")
    pixels = draw("uint16", 3, 20, 15)
    stored = pixels if "planarconfig" in options else np.moveaxis(pixels, 0, -1)
    tifffile.imwrite(tmp_path / "in.tif", stored, photometric="rgb", **options)
    found = pictures.read(str(tmp_path / "in.tif"))
    assert not found.alpha
    np.testing.assert_array_equal(found.pixels, np.moveaxis(pixels, 0, -1))


def test_large_files_are_mapped(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "in.tif", draw("float32", 8, 9))
    np.save(tmp_path / "in.npy", draw("float32", 8, 9))
    assert all(isinstance(pictures.read(str(tmp_path / n)).pixels, np.memmap) for n in ("in.tif", "in.npy"))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "CMYK"])
def test_modes_of_pillow_are_read(tmp_path, mode):
    image = pytest.importorskip("PIL.Image")
    first = image.fromarray(draw("uint8", 6, 7, 3)).convert("RGB").convert("L" if mode == "LA" else "RGB").convert(mode)
    first.save(tmp_path / "in.tif")
    pytest.importorskip("tifffile")
    found = pictures.read(str(tmp_path / "in.tif"))
    channels = {"1": 1, "P": 3, "LA": 2, "CMYK": 4}[mode]
    assert found.pixels.shape == ((6, 7) if channels == 1 else (6, 7, channels))
    assert found.alpha == (mode == "LA")


def test_streams(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels, data = draw("uint8", 20, 15, 3), io.BytesIO()
    image.fromarray(pixels).save(data, format="PNG")
    command = [sys.executable, "-m", "fastconv", "filter", "-", "--kernel", "box:3", "-o", "-"]
    done = subprocess.run(command, cwd=ROOT, input=data.getvalue(), capture_output=True, timeout=120, check=True)
    assert done.stderr == b""
    found = image.open(io.BytesIO(done.stdout))
    assert found.format == "PNG"
    check(np.asarray(found), expected(pixels, "box:3", "symmetric"), "uint8")


def test_output_may_be_the_input(tmp_path):
    pixels, path = draw("float32", 30, 20), str(tmp_path / "a.npy")
    np.save(path, pixels)
    assert main(["filter", path, "--kernel", "box:5", "-o", path, "--memory", "4k"]) == 0
    check(np.load(path), expected(pixels, "box:5", "symmetric"), "float32")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file")
def test_a_device_is_written_to_and_stays(tmp_path):
    np.save(tmp_path / "a.npy", draw("uint8", 4, 5))
    assert main(["filter", str(tmp_path / "a.npy"), "--kernel", "box:3", "-o", os.devnull, "--format", "npy"]) == 0
    assert not Path(os.devnull).is_file()


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", draw("uint8", 4, 5))
    (tmp_path / "b.npy").write_bytes(b"old")

    def fail(*arguments):
        raise MemoryError("no more")

    monkeypatch.setattr(filter_bands, "_filtered", fail)
    assert main(["filter", str(tmp_path / "a.npy"), "--kernel", "box:3", "-o", str(tmp_path / "b.npy")]) == 1
    assert (tmp_path / "b.npy").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


def failed(arguments: list[str], capsys, code: int) -> str:
    assert main(["filter", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["missing.png", "--kernel", "sobel", "-o", "b.png"], 1, "missing.png: No such file or directory"),
        ([".", "--kernel", "sobel", "-o", "b.png"], 1, "Is a directory"),
        (["no.png", "--kernel", "sobel", "-o", "b.png"], 1, "no.png: not an image to filter"),
        (["no.npy", "--kernel", "sobel", "-o", "b.png"], 1, "no.npy: not an image to filter"),
        (["c.npy", "--kernel", "sobel", "-o", "b.npy"], 1, "complex64 is none of uint8"),
        (["v.npy", "--kernel", "sobel", "-o", "b.npy"], 1, "(2, 2, 2, 2), expected (H, W) or (H, W, C)"),
        (["a.npy", "--kernel", "sobels", "-o", "b.png"], 1, "kernel = 'sobels', expected one of sobel"),
        (["a.npy", "--kernel", "k.txt", "-o", "b.png"], 1, "k.txt"),
        (["a.npy", "--kernel", "sobel", "-o", "none/b.png"], 1, "no such folder"),
        (["a.npy", "--kernel", "sobel", "-o", "."], 1, "."),
        (["a.npy", "--kernel", "sobel", "-o", "b.xyz"], 1, ".xyz is no image format"),
        (["a.npy", "--kernel", "sobel", "-o", "b"], 1, "no suffix says the format"),
        (["a.npy", "--kernel", "sobel", "-o", "b.jpg", "--dtype", "uint16"], 1, "JPEG holds no uint16 pixels"),
        (["a.npy", "--kernel", "sobel", "-o", "b.png", "--boundary", "mirrored"], 2, "expected one of zeros"),
        (["a.npy", "--kernel", "sobel", "-o", "b.png", "--memory", "much"], 2, "expected a size as 64M"),
        (["a.npy", "--kernel", "sobel", "-o", "b.png", "--scale", "nan"], 2, "expected a number"),
        (["a.npy", "--kernel", "sobel", "-o", "b.png", "--threads", "0"], 2, "from 1 to 4096"),
        (["a.npy", "-o", "b.png"], 2, "--kernel"),
        (["a.npy", "--kernel", "sobel"], 2, "--output"),
    ],
)
def test_errors_have_one_line(arguments, code, text, tmp_path, monkeypatch, capsys):
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", draw("uint8", 5, 6))
    np.save("c.npy", np.zeros((5, 6), np.complex64))
    np.save("v.npy", np.zeros((2, 2, 2, 2)))
    Path("no.png").write_bytes(b"\x89PNG\r\n\x1a\nno image at all")
    Path("no.npy").write_bytes(b"\x93NUMPY")
    assert text in failed(arguments, capsys, code)
    assert not Path("b.png").exists()


def test_images_with_several_frames_are_refused(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    frames = [image.fromarray(draw("uint8", 5, 6) // n) for n in (1, 2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    arguments = [str(tmp_path / "a.gif"), "--kernel", "sobel", "-o", str(tmp_path / "b.gif")]
    assert "2 frames, expected one" in failed(arguments, capsys, 1)


def test_missing_packages_are_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "PIL", None)
    error = failed([str(tmp_path / "a.png"), "--kernel", "sobel", "-o", str(tmp_path / "b.npy")], capsys, 1)
    assert error == 'fastconv filter: PIL is missing; pip install "fastconv[image]"\n'
