"""LeNet-5 (LeCun et al. 1998): the network that read the digits on cheques, with tanh and average pooling."""

from __future__ import annotations

import data
import fastconv as fc
from fastconv import nn


def lenet5() -> nn.Sequential:
    """Return the network; "same" stands for the border of the original's 32 x 32 images."""
    return nn.Sequential(
        [
            nn.Conv2D(6, 5, padding="same", activation="tanh", input_shape=(28, 28, 1), name="C1"),
            nn.AveragePooling2D(2, name="S2"),
            nn.Conv2D(16, 5, activation="tanh", name="C3"),
            nn.AveragePooling2D(2, name="S4"),
            nn.Conv2D(120, 5, activation="tanh", name="C5"),
            nn.Flatten(),
            nn.Dense(84, activation="tanh", name="F6"),
            nn.Dense(10, activation="softmax", name="output"),
        ],
        name="LeNet-5",
    )


def main() -> None:
    """Train it, save it, and draw what it has learned."""
    parser = data.parser(__doc__, epochs=5, test_every=5)
    parser.add_argument("--out", default="pictures", help="folder for pictures and the model, default: pictures")
    options = parser.parse_args()
    images, out = data.load(options), data.folder(options.out)

    nn.set_random_seed(options.seed)
    model = lenet5()
    model.summary()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    test = images.x_test, images.y_test
    history = model.fit(images.x, images.y, batch_size=32, epochs=options.epochs, validation_data=test)

    model.save(out / "lenet5.safetensors")
    loss, accuracy = nn.load_model(out / "lenet5.safetensors").evaluate(*test)
    print(f"\ntest, by the saved model: loss {loss:.4f}, accuracy {accuracy:.4f}")
    fc.viz.training(history, out / "lenet5_training.png")
    fc.viz.filters(model.get_layer("C1"), out / "lenet5_filters.png")
    fc.viz.feature_maps(model, images.x_test[0], out / "lenet5_feature_maps.png")
    fc.viz.confusion(images.y_test, model.predict(images.x_test), path=out / "lenet5_confusion.png")
    print(f"saved the model and four pictures in {out}")


if __name__ == "__main__":
    main()
