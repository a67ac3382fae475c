"""VGG-16 (Simonyan and Zisserman 2014): its layers, weights, multiplications, what its outputs see, and one image.

The weights are drawn, not learned: this is about sizes and time.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import fastconv as fc
from fastconv import nn

# Convolutions of each block, and their filters.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def vgg16(with_head: bool) -> nn.Sequential:
    """Return the network, with or without its three dense layers, which have nine tenths of its weights."""
    model = nn.Sequential([nn.Input((224, 224, 3))], name="VGG-16")
    for block, (count, filters) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            model.add(nn.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv{i}"))
        model.add(nn.MaxPooling2D(2, 2, name=f"block{block}_pool"))
    if with_head:
        model.add(nn.Flatten())
        model.add(nn.Dense(4096, activation="relu"))
        model.add(nn.Dense(4096, activation="relu"))
        model.add(nn.Dense(1000, activation="softmax"))
    return model


def seen(model: nn.Sequential) -> None:
    """Print what part of the image an output of the last layer of each block sees."""
    windows = [layer for layer in model.layers if isinstance(layer, nn.Conv2D | nn.MaxPooling2D)]
    sizes = [
        {"kernel_size": 3, "padding": 1} if isinstance(layer, nn.Conv2D) else {"kernel_size": 2, "stride": 2}
        for layer in windows
    ]
    print("\nAn output sees so many pixels of the image, and the next one begins so many pixels on:")
    for layer, field in zip(windows, fc.receptive_field(sizes), strict=True):
        if isinstance(layer, nn.MaxPooling2D):
            print(f"  {layer.name:12} {field.size:4} {field.stride:4}   output {layer.output_shape[1:]}")


def main() -> None:
    """Build the network, print its table, and run one image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-head", action="store_true", help="without the dense layers: 56 MiB of weights, not 528")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    nn.set_random_seed(options.seed)
    model = vgg16(not options.no_head)
    model.summary()
    seen(model)

    image = np.random.default_rng(options.seed).random((1, 224, 224, 3), dtype=np.float32)
    for run in ("first", "second"):
        start = time.perf_counter()
        output = model(image)
        print(f"\n{run} image: {time.perf_counter() - start:.2f} s, {fc.get_num_threads()} threads", end="")
    print(f"\nbefore the head {model.get_layer('block5_pool').output_shape[1:]}, output {output.shape}")
    if not options.no_head:
        print(f"the {output.shape[1]} outputs sum to {output.sum():.6f}")


if __name__ == "__main__":
    main()
