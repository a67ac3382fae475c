"""Training beside PyTorch: an epoch of the small CNN that courses teach, on drawn images of 28x28.

Both start anew at each turn and see the same images in the same order; PyTorch runs eagerly, at one thread and at as
many as fastconv, and its better time counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import nn
from fastconv.benchmarks.case import installed
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.stats import median

# Images of a turn, of which an epoch of Fashion-MNIST has EPOCH; images of a batch.
IMAGES, EPOCH, BATCH = 6400, 60_000, 32


def measure(progress: Callable[[list[Any]], Any], counts: list[int], repeats: int) -> dict[str, Any]:
    """Return the seconds that each takes for the images of an epoch, by number of threads."""
    rng = np.random.default_rng(0)
    x, y = rng.random((IMAGES, 28, 28, 1), np.float32), rng.integers(0, 10, IMAGES)
    turns = max(3, repeats // 3)
    seconds: dict[int, dict[str, list[float]]] = {n: {} for n in counts}
    for n, _ in progress([(n, turn) for n in counts for turn in range(turns)]):
        one = seconds[n]
        one.setdefault("fastconv", []).append(_ours(x, y, n))
        if installed("torch"):
            for threads in sorted({1, n}):
                one.setdefault(f"torch, {threads} thread(s)", []).append(_torch(x, y, threads))
    scale = EPOCH / IMAGES
    found = [
        {"threads": n, "seconds": {who: scale * median(each) for who, each in one.items()}}
        for n, one in seconds.items()
    ]
    return {"suite": "training", "training": found}


def table(found: dict[str, Any]) -> tuple[Table, list[str]]:
    """Return the table, and the lines that sum it up."""
    rows: Table = [("threads", "who", "an epoch of 60,000 images", "a step of 32", "ratio")]
    lines = []
    for record in found["training"]:
        n, seconds = record["threads"], record["seconds"]
        ours = seconds["fastconv"]
        for who, each in seconds.items():
            rows.append((str(n), who, time_text(each), time_text(each * BATCH / EPOCH), f"{each / ours:.2f}"))
        rivals = [each for who, each in seconds.items() if who != "fastconv"]
        if rivals:
            lines.append(f"{n} thread(s): {min(rivals) / ours:.2f} times as fast as PyTorch at its better thread count")
    return rows, lines


def _ours(x: np.ndarray, y: np.ndarray, threads: int) -> float:
    nn.set_random_seed(0)
    model = nn.Sequential(
        [
            nn.Conv2D(32, 3, activation="relu", input_shape=(28, 28, 1)),
            nn.MaxPooling2D(2),
            nn.Conv2D(32, 3, activation="relu"),
            nn.MaxPooling2D(2),
            nn.Flatten(),
            nn.Dense(128, activation="relu"),
            nn.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    with fc.threads(threads):
        model.fit(x[: 2 * BATCH], y[: 2 * BATCH], BATCH, verbose=0)
        start = time.perf_counter()
        model.fit(x, y, BATCH, verbose=0)
        return time.perf_counter() - start


def _torch(x: np.ndarray, y: np.ndarray, threads: int) -> float:
    import torch
    from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers = (Conv2d(1, 32, 3), ReLU(), MaxPool2d(2), Conv2d(32, 32, 3), ReLU(), MaxPool2d(2), Flatten())
    model = torch.nn.Sequential(*layers, Linear(800, 128), ReLU(), Linear(128, 10))
    optimizer, loss = torch.optim.Adam(model.parameters()), torch.nn.CrossEntropyLoss()
    images, labels = torch.from_numpy(np.moveaxis(x, -1, 1)), torch.from_numpy(y)

    def epoch(count: int) -> None:
        total, correct, order = 0.0, 0, torch.randperm(count)
        for i in range(0, count, BATCH):
            at = order[i : i + BATCH]
            optimizer.zero_grad()
            logits = model(images[at])
            value = loss(logits, labels[at])
            value.backward()
            optimizer.step()
            total += float(value.detach()) * len(at)
            correct += int((logits.argmax(1) == labels[at]).sum())

    epoch(2 * BATCH)
    start = time.perf_counter()
    epoch(len(x))
    return time.perf_counter() - start
