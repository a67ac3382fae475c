"""The demo's pools and unpoolings, each checked against its definition in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.cli.demo_steps import seconds

FACTOR = 4
REPEATS = 7
# Averages of 16 float32 numbers in [0, 1]; all else is exact.
BOUND = 1e-6


class Pooling(NamedTuple):
    """One operation: what it is called, the call, and the same in NumPy."""

    name: str
    title: str
    run: Callable[[], np.ndarray]
    reference: Callable[[], np.ndarray]


class PoolRow(NamedTuple):
    """An operation, measured and checked; times in seconds."""

    operation: Pooling
    measured: float
    numpy: float
    error: float

    @property
    def passed(self) -> bool:
        """Whether the result is that of NumPy."""
        return self.error <= BOUND


def poolings(photo: np.ndarray) -> list[Pooling]:
    """Return the pools of a photograph (1, 3, H, W), and the ways back to its size."""
    f = min(FACTOR, *photo.shape[2:])
    H, W = (n // f * f for n in photo.shape[2:])
    x = np.ascontiguousarray(photo[:, :, :H, :W])
    blocks = x.reshape(1, 3, H // f, f, W // f, f)
    small, indices = fc.max_pool2d(x, f, return_indices=True)

    def unpooled() -> np.ndarray:
        out = np.zeros((3, H * W), x.dtype)
        np.put_along_axis(out, indices.reshape(3, -1), small.reshape(3, -1), 1)
        return out.reshape(x.shape)

    def nails() -> np.ndarray:
        out = np.zeros_like(x)
        out[:, :, ::f, ::f] = small
        return out

    size = f"{f}x{f}"
    return [
        Pooling("max", f"max pooling {size}", lambda: fc.max_pool2d(x, f), lambda: blocks.max((3, 5))),
        Pooling("avg", f"average pooling {size}", lambda: fc.avg_pool2d(x, f), lambda: blocks.mean((3, 5))),
        Pooling(
            "nearest",
            "nearest neighbour",
            lambda: fc.nearest_unpool2d(small, f),
            lambda: small.repeat(f, 2).repeat(f, 3),
        ),
        Pooling("nails", "bed of nails", lambda: fc.bed_of_nails_unpool2d(small, f), nails),
        Pooling("unpool", "max unpooling", lambda: fc.max_unpool2d(small, indices, f), unpooled),
    ]


def compute(photo: np.ndarray, tell: Callable[[str], None]) -> tuple[list[PoolRow], dict[str, np.ndarray]]:
    """Return the rows, and the results by name."""
    rows, results = [], {}
    for operation in poolings(photo):
        tell(operation.title)
        actual, expected = operation.run(), operation.reference()
        error = float(np.abs(actual - expected).max()) if actual.shape == expected.shape else float("inf")
        times = seconds(operation.run, REPEATS), seconds(operation.reference, REPEATS)
        rows.append(PoolRow(operation, *times, error))
        results[operation.name] = actual
    return rows, results


def table(rows: list[PoolRow]) -> str:
    """Return the rows as a table."""
    lines = [f"{'pooling and unpooling':24}  {'measured ms':>11}  {'vs NumPy':>8}  {'error':>7}"]
    for row in rows:
        ratio = row.numpy / row.measured
        verdict = "ok" if row.passed else "FAIL"
        lines.append(
            f"{row.operation.title:24}  {row.measured * 1e3:11.3f}  {ratio:7,.1f}x  {row.error:7.0e}  {verdict}"
        )
    return "\n".join(lines)


def draw(figure: Any, results: dict[str, np.ndarray], rows: list[PoolRow], show: Callable[..., None]) -> None:
    """Draw the results side by side, each under its title; `show` draws an image."""
    for axes, row in zip(figure.subplots(1, len(rows)).flat, rows, strict=True):
        show(axes, np.clip(results[row.operation.name][0].transpose(1, 2, 0), 0, 1), "gray")
        axes.set_title(f"{row.operation.title[0].upper()}{row.operation.title[1:]}, {row.measured * 1e3:.2f} ms")
