"""Kernels made by hand: Sobel's edges, Gauss's blur in two cheap passes, and the reach of a dilated kernel.

Without --data the image is a photograph that comes with scikit-learn.
"""

from __future__ import annotations

import numpy as np

import data
import fastconv as fc

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
SIGMA, RADIUS = 3.0, 9
DILATIONS = (1, 4)


def photograph() -> np.ndarray:
    """Return a photograph as grey float32 (H, W) from 0 to 1."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg").astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def kernel(taps: np.ndarray) -> np.ndarray:
    """Return a kernel (KH, KW) as a weight (OC, IC, KH, KW) of one output and one input channel."""
    return np.ascontiguousarray(taps, np.float32)[np.newaxis, np.newaxis]


def gradient(x: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Return how steep an image is: the length of Sobel's two differences."""
    both = np.concatenate([kernel(SOBEL), kernel(SOBEL.T)])
    dx, dy = fc.conv2d(x, both, padding="same", padding_mode="replicate", dilation=dilation)
    return np.hypot(dx, dy)


def draw(pictures: dict[str, np.ndarray], path) -> None:
    """Draw the results, each from its darkest to its brightest pixel; around grey where some are negative."""
    from matplotlib.figure import Figure

    H, W = next(iter(pictures.values())).shape
    figure = Figure(figsize=(12, 8.0 * H / W + 0.7), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(2, 3).flat, pictures.items(), strict=True):
        low = -np.abs(picture).max() if picture.min() < 0 else 0
        axes.imshow(picture, cmap="gray", vmin=low, vmax=np.abs(picture).max())
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Filter an image, print what the filters cost, and draw the results."""
    parser = data.parser(__doc__)
    parser.add_argument("--image", type=int, default=0, help="which test image of --data")
    parser.add_argument("--out", default="pictures", help="folder for the picture, default: pictures")
    options = parser.parse_args()
    image = photograph() if options.data is None else data.load(options).x_test[options.image, :, :, 0]
    x = image[np.newaxis]
    same = {"padding": "same", "padding_mode": "replicate"}

    print(f"image {image.shape[0]} x {image.shape[1]}")
    across = fc.conv2d(x, kernel(SOBEL), **same)[0]
    print(f"sobel: from {across.min():.2f} (darker to the right) to {across.max():.2f} (brighter)")

    row = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2).astype(np.float32)
    row /= row.sum()
    whole = kernel(np.outer(row, row))
    blurred = fc.conv2d(x, whole, **same)[0]
    passes = fc.spatially_separable_conv2d(x, row, row, **same)[0]
    multiplies = fc.count_ops(fc.conv2d, x.shape, whole.shape, padding="same").multiplies
    print(f"gauss: {multiplies:,} multiplications at once, {2 * row.size * image.size:,} in two passes,")
    print(f"       largest difference of the results {np.abs(blurred - passes).max():.1e}")
    separation = fc.separate(whole[0, 0])
    print(f"       rank of the kernel {separation.rank}; of Sobel's {fc.separate(SOBEL).rank}")

    for dilation in DILATIONS:
        field = fc.receptive_field([{"kernel_size": 3, "dilation": dilation}])[-1]
        print(f"dilation {dilation}: the same 9 numbers see {field.size} x {field.size} pixels")

    pictures = {
        "image": image,
        "Sobel, left to right": across,
        "Sobel, length of both": gradient(x),
        f"Gauss, sigma {SIGMA:g}": passes,
        "image - Gauss: the details": image - passes,
        f"Sobel, dilation {DILATIONS[-1]}": gradient(x, DILATIONS[-1]),
    }
    out = data.folder(options.out) / "hand_filters.png"
    draw(pictures, out)
    print(f"saved {out}")


if __name__ == "__main__":
    main()
