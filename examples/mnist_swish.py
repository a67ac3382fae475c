"""Two small convolutions with the swish activation on MNIST, and what the network thinks of the first test images."""

from __future__ import annotations

import numpy as np

import data
from fastconv import nn


def main() -> None:
    """Train the network and print its predictions."""
    options = data.parser(__doc__, epochs=10, test_every=5).parse_args()
    images = data.load(options)

    nn.set_random_seed(options.seed)
    model = nn.Sequential(
        [
            nn.Conv2D(3, (5, 5), activation="swish", input_shape=(28, 28, 1)),
            nn.Conv2D(6, (5, 5), activation="swish"),
            nn.Flatten(),
            nn.Dense(84, activation="swish"),
            nn.Dense(10, activation="softmax"),
        ]
    )
    model.summary()
    # One number for each class: the truth is an array of the outputs' shape.
    y, y_test = np.eye(10)[images.y], np.eye(10)[images.y_test]
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(images.x, y, batch_size=32, epochs=options.epochs, validation_data=(images.x_test, y_test))
    loss, accuracy = model.evaluate(images.x_test, y_test)
    print(f"\ntest: loss {loss:.4f}, accuracy {accuracy:.4f}")

    print("\nThe first five test images: what is predicted, and the truth")
    for predicted, truth in zip(model.predict(images.x_test[:5]), y_test, strict=False):
        print(" ".join(f"{p:4.2f}" for p in predicted), " ", truth.astype(int))


if __name__ == "__main__":
    main()
