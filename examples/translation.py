"""What a shift of the image does: a convolution's maps shift with it, pooled maps change less, a global maximum not.

Equivariance: conv(shift(x)) == shift(conv(x)). Invariance: pool(shift(x)) == pool(x), nearly, for shifts within the
window.
"""

from __future__ import annotations

import numpy as np

import data
import fastconv as fc

# Edges in four directions, (OC, IC, KH, KW).
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
DIAGONAL = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], np.float32)
KERNELS = np.stack([SOBEL, SOBEL.T, DIAGONAL, np.fliplr(DIAGONAL)])[:, np.newaxis]
SHIFTS = (1, 2, 3, 4)


def shift(x: np.ndarray, pixels: int) -> np.ndarray:
    """Return images, or maps, moved to the right; what leaves on one side comes back on the other."""
    return np.roll(x, pixels, axis=-1)


def edges(x: np.ndarray) -> np.ndarray:
    """Return the maps of a convolution with relu; its border is the other side of the image."""
    return fc.conv2d(x, KERNELS, padding="same", padding_mode="circular", activation="relu")


STAGES = {
    "image": lambda x: x,
    "convolution": edges,
    "max pooling 2": lambda x: fc.max_pool2d(edges(x), 2),
    "max pooling 4": lambda x: fc.max_pool2d(edges(x), 4),
    "max pooling 7": lambda x: fc.max_pool2d(edges(x), 7),
    "global maximum": lambda x: fc.global_max_pool(edges(x)),
}


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Return the size of the difference, relative to that of what was there before."""
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


def draw(image: np.ndarray, pixels: int, path) -> None:
    """Draw what each stage but the last makes of an image, of the shifted one, and the difference."""
    from matplotlib.figure import Figure

    stages = list(STAGES.items())[:-1]
    figure = Figure(figsize=(2.1 * len(stages), 6.4), layout="constrained")
    grid = figure.subplots(3, len(stages))
    for (name, stage), column in zip(stages, grid.T, strict=True):
        first, second = stage(image)[0, 0], stage(shift(image, pixels))[0, 0]
        top = first.max()
        for axes, picture in zip(column[:2], (first, second), strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=top)
        column[2].imshow(second - first, cmap="RdBu_r", vmin=-top, vmax=top)
        column[0].set_title(name, fontsize=10)
    for axes, name in zip(grid[:, 0], ("image", f"{pixels} to the right", "difference"), strict=True):
        axes.set_ylabel(name)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the numbers and draw the picture."""
    parser = data.parser(__doc__)
    parser.add_argument("--image", type=int, default=0, help="which test image to draw")
    parser.add_argument("--out", default="pictures", help="folder for the picture, default: pictures")
    options = parser.parse_args()
    images = data.load(options)
    x = images.x_test.transpose(0, 3, 1, 2)

    print("\nEquivariance: largest difference between conv(shift(x)) and shift(conv(x))")
    for pixels in SHIFTS:
        difference = np.abs(edges(shift(x, pixels)) - shift(edges(x), pixels)).max()
        print(f"  {pixels} pixels: {difference:.1e}")

    print("\nInvariance: how much the numbers change, relative to their size, when the image moves")
    print(f"  {'pixels':16}" + "".join(f"{pixels:>8}" for pixels in SHIFTS))
    for name, stage in STAGES.items():
        print(f"  {name:16}" + "".join(f"{change(stage(x), stage(shift(x, n))):>8.2f}" for n in SHIFTS))

    out = data.folder(options.out) / "translation.png"
    draw(x[options.image : options.image + 1], 2, out)
    print(f"\nsaved {out}")


if __name__ == "__main__":
    main()
