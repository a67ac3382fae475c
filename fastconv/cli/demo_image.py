"""Reading the demo's photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SAMPLE = "grace_hopper.jpg"


def load(path: str | None, size: int) -> np.ndarray:
    """Return a picture as float32 of shape (1, 3, H, W) in [0, 1], reduced to `size` on its longer side.

    Parameters
    ----------
    path : str or None
        None is the photograph that Matplotlib ships.
    size : int

    Raises
    ------
    OSError
        The file is missing or no picture.
    """
    from PIL import Image, ImageOps

    with Image.open(sample() if path is None else path) as image:
        image = _plain(ImageOps.exif_transpose(image))
        if max(image.size) > size:
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
        pixels = np.asarray(image, np.float32)
    if pixels.ndim == 2:
        pixels = np.repeat(_stretched(pixels)[:, :, None], 3, axis=2)
    else:
        pixels = pixels / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def sample() -> Path:
    """Return the path of the photograph that Matplotlib ships."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "sample_data", SAMPLE)


def _plain(image: Any) -> Any:
    """Return a picture in mode RGB, or F if it is grey with more than 8 bits; what is transparent becomes white."""
    from PIL import Image

    if image.mode.startswith("I"):
        # Not every mode of 16 bits converts to F by itself.
        return image.convert("I").convert("F")
    if image.mode == "F":
        return image
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        front = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", front.size, "white"), front).convert("RGB")
    return image.convert("RGB")


def _stretched(grey: np.ndarray) -> np.ndarray:
    """Return grey values in [0, 1]; their range is unknown, since cameras of 12 bits write files of 16."""
    grey = np.nan_to_num(grey)
    low, high = float(grey.min()), float(grey.max())
    return (grey - np.float32(low)) / np.float32(high - low or 1)
