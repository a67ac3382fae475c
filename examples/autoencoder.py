"""Four ways back from pooling, in an autoencoder: which draws the image best from the same small code?

Down: convolutions and max pooling, to 7 x 7 x 4 numbers. Up: nearest neighbours, a bed of nails (the number in a
corner, zeros beside it), max unpooling (the number where the maximum was) or a transposed convolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import data
import fastconv as fc
from fastconv import nn

CODE = 4


class Pooling(nn.Layer):
    """2 x 2 max pooling that keeps where the maxima were, and what it was given."""

    def _result(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        return sample[0] // 2, sample[1] // 2, sample[2]

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the maxima."""
        self.x = x
        y, self.indices = fc.max_pool2d(x, 2, return_indices=True, layout="channels_last")
        return y

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray:
        """Return the gradient at the input."""
        return fc.grad.max_pool2d_vjp(dy, self.x, 2, layout="channels_last")[0]


class Unpooling(nn.Layer):
    """Images twice as large: each number at the place of the maximum in a pooling, or, without one, in a corner."""

    def __init__(self, pooling: Pooling | None = None):
        super().__init__()
        self.pooling = pooling

    def _result(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        return 2 * sample[0], 2 * sample[1], sample[2]

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the numbers, with zeros between them."""
        self.x = x
        if self.pooling is None:
            return fc.bed_of_nails_unpool2d(x, 2, layout="channels_last")
        return fc.max_unpool2d(x, self.pooling.indices, 2, layout="channels_last")

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray:
        """Return the gradient at the input."""
        if self.pooling is None:
            return fc.grad.bed_of_nails_unpool2d_vjp(dy, self.x, 2, layout="channels_last")[0]
        return fc.grad.max_unpool2d_vjp(dy, self.x, self.pooling.indices, 2, layout="channels_last")[0]


# From the pooling that is to be undone, and its channels, to a layer.
WAYS: dict[str, Callable[[Pooling, int], nn.Layer]] = {
    "nearest": lambda pooling, channels: nn.UpSampling2D(2),
    "bed of nails": lambda pooling, channels: Unpooling(),
    "max unpooling": lambda pooling, channels: Unpooling(pooling),
    "transposed conv": lambda pooling, channels: nn.Conv2DTranspose(channels, 2, strides=2),
}


def autoencoder(up: Callable[[Pooling, int], nn.Layer], name: str) -> nn.Sequential:
    """Return an encoder, and a decoder that goes up in one of the ways."""
    first, second = Pooling(), Pooling()
    return nn.Sequential(
        [
            nn.Conv2D(16, 3, padding="same", activation="swish", input_shape=(28, 28, 1)),
            first,
            nn.Conv2D(CODE, 3, padding="same", activation="swish"),
            second,
            up(second, CODE),
            nn.Conv2D(16, 3, padding="same", activation="swish"),
            up(first, 16),
            nn.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ],
        name=name,
    )


def draw(rows: dict[str, np.ndarray], path) -> None:
    """Draw rows of images (count, 28, 28, 1) below each other."""
    from matplotlib.figure import Figure

    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(2.2 + count * 0.9, len(rows) * 0.95), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        axes.imshow(np.hstack(np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)), constant_values=1)), cmap="gray")
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train the four, compare their errors, and draw what they make of the same images."""
    parser = data.parser(__doc__, epochs=10, test_every=5)
    parser.add_argument("--out", default="pictures", help="folder for the picture, default: pictures")
    options = parser.parse_args()
    images, out = data.load(options), data.folder(options.out)

    chosen = np.linspace(0, len(images.x_test) - 1, 10).astype(int)
    pictures, table = {"image": images.x_test[chosen]}, []
    for name, up in WAYS.items():
        nn.set_random_seed(options.seed)
        model = autoencoder(up, name)
        model.compile(optimizer=nn.optimizers.Adam(0.003), loss="mse")
        print(f"\n{name}")
        start = time.perf_counter()
        model.fit(images.x, images.x, batch_size=32, epochs=options.epochs)
        seconds = time.perf_counter() - start
        train, test = model.evaluate(images.x, images.x)[0], model.evaluate(images.x_test, images.x_test)[0]
        table.append(f"{name:16}{model.count_params():>12,}{seconds:>10.1f}{train:>14.5f}{test:>14.5f}")
        pictures[name] = model.predict(images.x_test[chosen])

    print(f"\n{'way up':16}{'parameters':>12}{'seconds':>10}{'train error':>14}{'test error':>14}")
    print(*table, sep="\n")
    print("Errors are mean squares. Max unpooling is also told where the maxima were: more than the code has.")
    draw(pictures, out / "autoencoder.png")
    print(f"saved {out / 'autoencoder.png'}")


if __name__ == "__main__":
    main()
