"""Reading images: `.npy` by NumPy, TIFF by tifffile, 16-bit colour PNG by imagecodecs, all else by Pillow."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

__all__ = ["STREAM", "Picture", "read"]

# In the place of a file name: standard input or output.
STREAM = "-"

NPY, TIFF = "npy", "tiff"
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")

_NPY_START = b"\x93NUMPY"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ICC_TAG = 34675
# What Pillow has no arrays for, or what is no intensity, by what it is converted to.
_CONVERTED = {
    **dict.fromkeys(("P", "RGBX", "YCbCr", "LAB", "HSV"), "RGB"),
    **dict.fromkeys(("PA", "RGBa"), "RGBA"),
    "1": "L",
    "La": "LA",
}


class Picture(NamedTuple):
    """An image in memory, or mapped from its file.

    Attributes
    ----------
    pixels : ndarray of shape (H, W) or (H, W, C)
    alpha : bool
        The last channel is opacity.
    format : str
        "npy", "tiff" or Pillow's name.
    cmyk : bool
        The channels are inks.
    profile : bytes or None
        ICC profile.
    """

    pixels: np.ndarray
    alpha: bool
    format: str
    cmyk: bool = False
    profile: bytes | None = None

    @property
    def colours(self) -> int:
        """How many channels there are but alpha; 1 for two dimensions."""
        return (self.pixels.shape[2] if self.pixels.ndim == 3 else 1) - self.alpha


def read(path: str) -> Picture:
    """Return the image in a file, or in what standard input gives for "-".

    Arrays and TIFF files are mapped, not loaded: they may be larger than memory.

    Raises
    ------
    OSError
        No file, or no single image of a dtype in `DTYPES`, in one line.
    """
    source: Any = path
    if path == STREAM:
        source = io.BytesIO(sys.stdin.buffer.read())
    elif Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        # A pipe cannot be read twice.
        source = io.BytesIO(Path(path).read_bytes())
    with _opened(source) as file:
        start = file.read(8)
        file.seek(0)
    with _one_line("standard input" if path == STREAM else path):
        picture = _decoded(source, start)
        pixels = picture.pixels
        if pixels.dtype.name not in DTYPES:
            raise ValueError(f"{pixels.dtype.name} is none of {', '.join(DTYPES)}")
        if pixels.ndim not in (2, 3) or not pixels.size:
            raise ValueError(f"its shape is {pixels.shape}, expected (H, W) or (H, W, C)")
        return picture


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[BinaryIO]:
    """Yield the file of a path, or a stream as it is."""
    if isinstance(source, io.BytesIO):
        yield source
    else:
        with open(source, "rb") as file:
            yield file


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn whatever decoders raise into an error that names the file."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        text = "no image that Pillow knows" if type(error).__name__ == "UnidentifiedImageError" else str(error)
        raise OSError(f"{name}: not an image to filter: {text or type(error).__name__}") from error


def _decoded(source: Any, start: bytes) -> Picture:
    if start.startswith(_NPY_START):
        mapped = not isinstance(source, io.BytesIO)
        pixels = np.load(source, mmap_mode="r") if mapped else np.load(source, allow_pickle=False)
        return Picture(pixels, False, NPY)
    if start.startswith(_TIFF_STARTS):
        found = _from_tiff(source)
        if found is not None:
            return found
    return _by_pillow(source)


def _from_tiff(source: Any) -> Picture | None:
    """Return the image of a TIFF file, or None for palettes, inks and the like, which Pillow converts."""
    import tifffile

    # What it finds odd in a file goes to standard error.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(source) as file:
        page = file.pages[0]
        if page.axes not in ("YX", "YXS", "SYX") or page.photometric.name not in ("MINISBLACK", "RGB"):
            return None
        if len(file.pages) > 1:
            raise ValueError(f"{len(file.pages)} pages, expected one")
        extra = [sample.name for sample in page.extrasamples]
        if "ASSOCALPHA" in extra and page.dtype != np.uint8:
            raise ValueError("its colours are multiplied by alpha, which is read with 8 bits only")
        if "ASSOCALPHA" in extra or page.dtype == np.bool_:
            return None
        mapped = page.is_memmappable and not isinstance(source, io.BytesIO)
        pixels = tifffile.memmap(source, mode="r") if mapped else page.asarray(out="memmap")
        pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
        tag = page.tags.get(_ICC_TAG)
        return Picture(pixels, extra == ["UNASSALPHA"], TIFF, profile=tag and tag.value)


def _by_pillow(source: Any) -> Picture:
    from PIL import Image, ImageOps

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(source) as image:
            # A photograph of a telephone, with a preview behind it.
            is_photo = image.format == "MPO"
            if (frames := getattr(image, "n_frames", 1)) > 1 and not is_photo:
                raise ValueError(f"{frames} frames, expected one")
            _check_memory(4 * image.width * image.height)
            file_format = "JPEG" if is_photo else str(image.format)
            profile = image.info.get("icc_profile")
            if _has_16_bit_colours(image):
                pixels = _by_imagecodecs(source)
                return Picture(pixels, pixels.shape[2] in (2, 4), file_format, profile=profile)
            image = _plain(ImageOps.exif_transpose(image))
            pixels = np.asarray(image)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if image.mode.startswith("I") and (file_format == "PNG" or image.mode != "I"):
        pixels = pixels.astype(np.uint16)
    return Picture(pixels, image.mode in ("LA", "RGBA"), file_format, image.mode == "CMYK", profile)


def _check_memory(size: int) -> None:
    """Raise if what a decoder is about to fill does not fit in this machine's memory."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if size > memory:
            rule = "TIFF and .npy files are read in parts"
            raise ValueError(f"{size / 2**30:.0f} GiB of pixels, more than this machine has memory; {rule}")


def _has_16_bit_colours(image: Any) -> bool:
    """Return whether Pillow would drop the lower 8 bits of each colour."""
    return image.format == "PNG" and not image.mode.startswith("I") and "16" in str(image.tile[0][3])


def _by_imagecodecs(source: Any) -> np.ndarray:
    import imagecodecs

    data = source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()
    return np.asarray(imagecodecs.png_decode(data))


def _plain(image: Any) -> Any:
    """Return an image in a mode of intensities, with alpha if anything in it is transparent."""
    if "transparency" in image.info and image.mode in ("P", "L", "RGB", "1"):
        return image.convert("LA" if image.mode in ("L", "1") else "RGBA")
    return image.convert(_CONVERTED[image.mode]) if image.mode in _CONVERTED else image
