"""Writing images: into a file of another name, which takes the place of the old one when it is whole."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.cli.pictures import NPY, STREAM, TIFF, Picture
from fastconv.errors import OptionError

__all__ = ["check", "format_of", "writing"]


def format_of(path: str, wanted: str | None, picture: Picture) -> str:
    """Return the format to write: the one asked for, else that of the file's name, else the input's.

    Raises
    ------
    OptionError
        There is no such format.
    """
    if wanted is None and path == STREAM:
        return picture.format
    suffix = f".{wanted}" if wanted else Path(path).suffix
    suffix = suffix.lower()
    if suffix == ".npy":
        return NPY
    if suffix in (".tif", ".tiff"):
        return TIFF
    from PIL import Image

    Image.init()
    found = Image.registered_extensions().get(suffix)
    if found not in Image.SAVE:
        named = f"{suffix} is no image format" if suffix else "no suffix says the format"
        raise OptionError(f"{path}: {named}; .png, .tif, .npy are some")
    return str(found)


def check(path: str, file_format: str, dtype: np.dtype, picture: Picture) -> None:
    """Raise before the work if a place cannot be written to, or a format cannot hold the pixels.

    Raises
    ------
    OSError
        No such folder, or one that must not be written to.
    OptionError
        The format lacks the dtype.
    """
    if path == STREAM:
        if sys.stdout.isatty():
            raise OptionError("-o -: standard output is a terminal, give a file or a pipe")
    elif Path(path).is_dir():
        raise IsADirectoryError(21, "is a folder", path)
    else:
        folder = Path(path).resolve().parent
        if not folder.is_dir():
            raise FileNotFoundError(2, "no such folder", str(folder))
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "must not be written to", str(folder))
    if file_format in (NPY, TIFF) or dtype == np.uint8 or (file_format == "PNG" and dtype == np.uint16):
        return
    raise OptionError(f"{path}: {file_format} holds no {dtype} pixels; .tif and .npy do, or --dtype uint8")


@contextlib.contextmanager
def writing(path: str, file_format: str, dtype: np.dtype, picture: Picture) -> Iterator[np.ndarray]:
    """Yield an array of the picture's shape to fill; what it holds in the end is the file.

    Arrays and TIFF files are mapped, so that they may be larger than memory.
    """
    shape = picture.pixels.shape
    target = None if path == STREAM else Path(path).resolve()
    if target is None or (target.exists() and not target.is_file()):
        pixels, data = np.empty(shape, dtype), io.BytesIO()
        yield pixels
        _encode(data, pixels, file_format, picture)
        if target is None:
            sys.stdout.buffer.write(data.getvalue())
            sys.stdout.buffer.flush()
        else:
            target.write_bytes(data.getvalue())
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        if file_format in (NPY, TIFF):
            mapped = _mapped(partial, shape, dtype, file_format, picture)
            yield mapped
            mapped.flush()
            del mapped
        else:
            pixels = np.empty(shape, dtype)
            yield pixels
            with open(partial, "wb") as file:
                _encode(file, pixels, file_format, picture)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _mapped(partial: Path, shape: tuple[int, ...], dtype: np.dtype, file_format: str, picture: Picture) -> Any:
    if file_format == NPY:
        return np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
    import tifffile

    return tifffile.memmap(partial, shape=shape, dtype=dtype, **_tiff_tags(picture))


def _tiff_tags(picture: Picture) -> dict[str, Any]:
    channels = picture.pixels.shape[2] if picture.pixels.ndim == 3 else 1
    photometric = "separated" if picture.cmyk else "rgb" if picture.colours == 3 else "minisblack"
    tags: dict[str, Any] = {"photometric": photometric, "metadata": None, "iccprofile": picture.profile}
    extra = channels - {"separated": 4, "rgb": 3, "minisblack": 1}[photometric]
    if channels > 1:
        tags["planarconfig"] = "contig"
    if extra:
        tags["extrasamples"] = ["unassalpha" if picture.alpha else "unspecified"] * extra
    return tags


def _encode(file: Any, pixels: np.ndarray, file_format: str, picture: Picture) -> None:
    if file_format == NPY:
        np.save(file, pixels)
    elif file_format == TIFF:
        import tifffile

        tifffile.imwrite(file, pixels, **_tiff_tags(picture))
    elif pixels.dtype == np.uint16 and pixels.ndim == 3:
        import imagecodecs

        file.write(imagecodecs.png_encode(pixels))
    else:
        from PIL import Image

        pixels = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        image = Image.fromarray(pixels, mode="CMYK") if picture.cmyk else Image.fromarray(pixels)
        image.save(file, format=file_format, **({"icc_profile": picture.profile} if picture.profile else {}))
