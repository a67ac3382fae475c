"""A convolutional network beside a plain dense one: accuracy, time, and what each layer sees of an image.

Made for Fashion-MNIST (--data fashion.npz); with scikit-learn's digits it runs in some seconds.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import data
import fastconv as fc
from fastconv import nn

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def cnn() -> nn.Sequential:
    """Return the convolutional network."""
    return nn.Sequential(
        [
            nn.Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)),
            nn.MaxPooling2D((2, 2)),
            nn.Conv2D(32, (3, 3), activation="relu"),
            nn.MaxPooling2D((2, 2)),
            nn.Flatten(),
            nn.Dense(128, activation="relu"),
            nn.Dense(10, activation="softmax"),
        ],
        name="CNN",
    )


def dense() -> nn.Sequential:
    """Return the network without convolutions."""
    layers = [nn.Flatten(input_shape=(28, 28, 1)), nn.Dense(128, activation="relu"), nn.Dense(10, activation="softmax")]
    return nn.Sequential(layers, name="dense")


class Clock(nn.Callback):
    """Times the training of each epoch, then looks at the test images."""

    def __init__(self, images: data.Split):
        self.images, self.seconds, self.test = images, [], {"val_loss": [], "val_accuracy": []}

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop, and evaluate."""
        self.seconds.append(time.perf_counter() - self.start)
        for values, value in zip(
            self.test.values(), self.model.evaluate(self.images.x_test, self.images.y_test), strict=True
        ):
            values.append(value)


def train(make, images: data.Split, options: argparse.Namespace):
    """Return a trained network, its history with that of the test images, and its row of the table."""
    nn.set_random_seed(options.seed)
    model = make()
    model.summary()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock(images)
    history = model.fit(images.x, images.y, batch_size=32, epochs=options.epochs, callbacks=[clock])
    curves = history.history | clock.test
    last = curves["accuracy"][-1], curves["val_accuracy"][-1]
    row = f"{model.name:8}{model.count_params():>12,}{median(clock.seconds):>12.2f}{last[0]:>17.4f}{last[1]:>15.4f}"
    return model, curves, row


def main() -> None:
    """Train both networks, and draw what the convolutional one sees."""
    parser = data.parser(__doc__, epochs=5, test_every=7)
    parser.add_argument("--image", type=int, default=0, help="which test image to look at")
    parser.add_argument("--out", default="pictures", help="folder for pictures, default: pictures")
    options = parser.parse_args()
    images = data.load(options)

    model, curves, first = train(cnn, images, options)
    second = train(dense, images, options)[2]
    print(f"\n{options.epochs} epochs, {fc.get_num_threads()} threads, seconds: the median of the epochs")
    print(f"{'network':8}{'parameters':>12}{'s per epoch':>12}{'train accuracy':>17}{'test accuracy':>15}")
    print(first, second, sep="\n")
    print("The train accuracy is that of the last epoch, while the network learned.\n")

    image = images.x_test[options.image][None]
    for layer, maps in zip(model.layers, model.feature_maps(image), strict=True):
        print(f"{layer.name:18}{maps.shape}")
    out = data.folder(options.out)
    fc.viz.feature_maps(model, image, out / "fashion_feature_maps.png")
    fc.viz.filters(model.layers[0], out / "fashion_filters.png")
    fc.viz.training(curves, out / "fashion_training.png")
    names = NAMES if options.data else None
    fc.viz.confusion(images.y_test, model.predict(images.x_test), names, out / "fashion_confusion.png")
    print(f"\nsaved four pictures in {out}")


if __name__ == "__main__":
    main()
