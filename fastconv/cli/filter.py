"""`fastconv filter`: an image through a kernel given by its name or in a file."""

from __future__ import annotations

import argparse
import math
import re

import numpy as np

import fastconv as fc
from fastconv.cli.filter_bands import BOUNDARIES, Filter, filtered
from fastconv.cli.picture_files import check, format_of, writing
from fastconv.cli.pictures import DTYPES, read
from fastconv.named_kernels import NAMES, named

__all__ = ["add_arguments", "kernels"]

# Those that ask for the length of the gradient; with -x or -y behind, for one derivative.
GRADIENTS = ("sobel", "scharr", "prewitt")
MEMORY = 2**27

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what `fastconv filter` takes."""
    command.description = (
        "Filter every colour of an image by a kernel, which is not flipped, as in OpenCV's filter2D. Opacity stays as "
        "it is. Integers are rounded to the nearest and clipped."
    )
    command.epilog = (
        "sobel, scharr and prewitt give the length of the gradient, sqrt(x*x + y*y); with -x or -y behind, one "
        "derivative (for 8 bits: --offset 128). Files: .npy, .tif of any dtype, and what Pillow reads; .npy and .tif "
        "may be larger than memory. example: fastconv filter photo.jpg --kernel gaussian:2.5 -o soft.png"
    )
    add = command.add_argument
    add("image", metavar="IMAGE", help="a file, or - for standard input")
    add("--kernel", required=True, metavar="NAME", help=f"{', '.join(NAMES)}, or a file .npy, .csv, .txt with numbers")
    add("-o", "--output", required=True, metavar="OUT", help="a file, whose suffix is the format, or - for stdout")
    add(
        "--boundary",
        type=_boundary,
        default="symmetric",
        metavar="NAME",
        help="outside: zeros, reflect (edge once), symmetric (edge twice), replicate, circular, or a name of "
        "scipy.ndimage but reflect (%(default)s)",
    )
    add("--scale", type=_number, default=1.0, metavar="F", help="factor of the result (1)")
    add("--offset", type=_number, default=0.0, metavar="F", help="added to the result, in the image's values (0)")
    add("--dtype", choices=DTYPES, metavar="NAME", help=f"of the result: {', '.join(DTYPES)} (that of the image)")
    add("--format", metavar="NAME", help="png, tif, npy, jpg, ... in the place of the suffix")
    add("--memory", type=_size, default=MEMORY, metavar="SIZE", help="of the arrays of one band of rows, as 64M (128M)")
    add("--threads", type=_count, metavar="N", help="number of threads (that of fastconv info)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Filter the image and write the result."""
    what = Filter(kernels(options.kernel), options.boundary, options.scale, options.offset)
    picture = read(options.image)
    dtype = picture.pixels.dtype.newbyteorder("=") if options.dtype is None else np.dtype(options.dtype)
    file_format = format_of(options.output, options.format, picture)
    check(options.output, file_format, dtype, picture)
    with (
        fc.threads(options.threads or fc.get_num_threads()),
        writing(options.output, file_format, dtype, picture) as out,
    ):
        for top, rows in filtered(picture.pixels, picture.colours, what, dtype, options.memory):
            out[top : top + len(rows)] = rows
    return 0


def kernels(text: str) -> list[np.ndarray]:
    """Return the kernel of a name; of a gradient that of each axis."""
    if text.strip().lower() in GRADIENTS:
        return [named(f"{text.strip()}-{axis}") for axis in "xy"]
    return [named(text)]


def _boundary(text: str) -> str:
    if text not in BOUNDARIES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(BOUNDARIES)}, got {text!r}")
    return BOUNDARIES[text]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return value


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([kmg]?)(i?b)?", text.lower(), re.ASCII)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected a size as 64M or 2G, got {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 4096, got {text!r}")
    return int(text)
