"""The rounding errors of every algorithm, in units of rounding, beside their bounds: ``python -m tests.accuracy``.

Each algorithm runs on the same kinds of input in each dtype, and is held against the definition in extended precision:
numbers alike in size, numbers of one sign, sums that cancel, numbers of all sizes, denormals. Prints the tables of
docs/numerics.md; with ``--write`` puts them there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import fastconv as fc
from fastconv.api import convolve as calls
from fastconv.dispatch import blocking_winograd, choose, plan
from fastconv.geometry.conv import conv_geometry
from fastconv.kernels.reference.conv import conv

PAGE = Path(__file__).resolve().parents[1] / "docs" / "numerics.md"
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
# Errors of these are relative to max(|x|) * sum(|w|), as they mix neighbouring outputs.
MIXED = ("winograd", "fft")


class Way(NamedTuple):
    """An algorithm on a problem."""

    name: str
    algorithm: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    keywords: Any = MappingProxyType({})
    # Of Winograd: the smallest tiles, or the largest.
    tile: int | None = None


_3X3, _ONE, _DEPTH = (
    ((1, 32, 18, 20), (16, 32, 3, 3)),
    ((1, 288, 9, 10), (16, 288, 1, 1)),
    ((1, 16, 24, 26), (16, 1, 7, 7)),
)
WAYS = (
    Way("direct", "direct", *_3X3),
    Way("im2col", "im2col", *_3X3),
    Way("pointwise", "pointwise", *_ONE),
    Way("depthwise", "depthwise", *_DEPTH, {"groups": 16}),
    Way("separable", "separable", *_DEPTH, {"groups": 16}),
    Way("winograd F(2x2)", "winograd", *_3X3, tile=0),
    Way("winograd F(4x4)", "winograd", *_3X3, tile=-1),
    Way("fft", "fft", *_3X3),
    Way("fft 7x7", "fft", *_DEPTH, {"groups": 16}),
    Way("bf16x3", "bf16x3", *_3X3),
    Way("one bfloat16", "bf16x3", *_3X3, {"precision": "bf16"}),
)
DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64")


def dtype_of(name: str) -> np.dtype:
    """Return a dtype by name, or raise ModuleNotFoundError."""
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def limits(dtype: np.dtype) -> tuple[float, float]:
    """Return the unit of rounding and the smallest denormal of a dtype, of a complex one's parts."""
    if dtype.name == "bfloat16":
        return 2.0**-8, 2.0**-133
    info = np.finfo(dtype)
    return float(info.eps) / 2, float(info.smallest_subnormal)


# Inputs. Each draws x and w in double precision; where a weight is an outer product, it stays one.


def alike(rng: Any, dtype: np.dtype, draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return normal numbers."""
    return draw(lambda shape: rng.standard_normal(shape))


def of_one_sign(rng: Any, dtype: np.dtype, draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers between 0 and 1."""
    return draw(lambda shape: rng.random(shape))


def cancelling(rng: Any, dtype: np.dtype, draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return sums that are a thousandth of their terms: almost the same everywhere, by kernels whose sum is 0."""
    x, w = draw(lambda shape: rng.standard_normal(shape))
    axes = (1, 2, 3) if w.shape[1] > 1 else 3
    return 1 + x / 1024, w - w.mean(axes, keepdims=True)


def of_all_sizes(rng: Any, dtype: np.dtype, draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of both signs whose logarithms are spread over the range of the dtype."""
    most = {"float16": (-3, 0.7), "float64": (-70, 70)}.get(dtype.name, (-8, 8))
    return draw(lambda shape: rng.choice([-1, 1], shape) * 10.0 ** rng.uniform(*most, shape))


def denormal(rng: Any, dtype: np.dtype, draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs between 0 and 4000 times the smallest number, which make sums alike."""
    x, w = draw(lambda shape: rng.standard_normal(shape))
    return np.round(x * 1000) * limits(dtype)[1], w


INPUTS = {f.__name__.replace("_", " "): f for f in (alike, of_one_sign, cancelling, of_all_sizes, denormal)}


def arrays(way: Way, kind: str, dtype: np.dtype, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and w of a kind."""
    rng = np.random.default_rng(seed)

    def draw(numbers: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
        OC, _, KH, KW = way.w_shape
        w = numbers(way.w_shape)
        if way.algorithm == "separable":
            w = numbers((OC, 1, KH, 1)) * numbers((OC, 1, 1, KW))
        return numbers(way.x_shape), w

    def both() -> tuple[np.ndarray, np.ndarray]:
        return INPUTS[kind](rng, dtype, draw)

    x, w = both()
    if dtype.kind == "c":
        # A factor of both, so that weights stay of rank 1.
        more = both()
        x, w = x + 1j * more[0], w + 1j * more[1]
    return x.astype(dtype), w.astype(dtype)


class Errors(NamedTuple):
    """Largest and RMS error relative to the magnitude of the sums, and the largest to the largest output, in units.

    `bound` is that of the first; of denormals, all are in units and the smallest number.
    """

    largest: float
    rms: float
    of_output: float
    bound: float


def measured(way: Way, kind: str, name: str, seed: int = 0) -> Errors | None:
    """Return the errors of an algorithm, None where it refuses."""
    dtype = dtype_of(name)
    x, w = arrays(way, kind, dtype, seed)
    with tiles(way.tile):
        try:
            got = fc.conv2d(x, w, algorithm=way.algorithm, **way.keywords)
            bound = bound_of(way, x, w)
        except fc.UnsupportedError:
            return None
    u, smallest = limits(dtype)
    exact, magnitude = exact_sums(way, x, w)
    error = np.abs(got.astype(exact.dtype) - exact).astype(np.float64)
    if kind == "denormal":
        # Below the normal numbers an operation is off by a part of the smallest one.
        share = error / (u * magnitude + smallest)
        return Errors(float(share.max()), _rms(share), 0.0, bound / u)
    share = error / np.where(magnitude == 0, 1, magnitude)
    largest = float(np.abs(exact).max())
    return Errors(float(share.max()) / u, _rms(share) / u, float(error.max()) / largest / u, bound / u)


def exact_sums(way: Way, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums in extended precision, and what errors are relative to."""
    wide = np.clongdouble if x.dtype.kind == "c" else np.longdouble
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": way.keywords.get("groups", 1)}
    g = conv_geometry("accuracy", 2, x.shape, w.shape, **options, layout="channels_first", padding_mode="zeros")
    xs, ws = (a.astype(wide) for a in (x, w))
    exact = conv(xs, ws, g, accumulate=wide, dtype=wide)
    magnitude = conv(np.abs(xs), np.abs(ws), g, accumulate=np.longdouble, dtype=np.longdouble)
    if way.algorithm in MIXED:
        magnitude = np.abs(xs).max() * np.abs(ws).sum((1, 2, 3)).reshape(-1, 1, 1) + 0 * magnitude
    return exact, magnitude.astype(np.float64)


def bound_of(way: Way, x: np.ndarray, w: np.ndarray) -> float:
    """Return the bound that `explain` shows."""
    lines = fc.explain(fc.conv2d, x, w, algorithm=way.algorithm, **way.keywords).lines
    (bound,) = [line.error_bound for line in lines if line.algorithm == way.algorithm]
    return bound


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


@contextmanager
def tiles(which: int | None) -> Iterator[None]:
    """Let Winograd's menu have only the smallest tile (0) or the largest (-1)."""
    if which is None:
        yield
        return
    menu, memories = (
        blocking_winograd.tile_menu,
        (
            *(calls._seen.clear, choose.choose.cache_clear, plan.prepare.cache_clear),
            blocking_winograd.winograd_blocking.cache_clear,
        ),
    )
    try:
        with mock.patch.object(blocking_winograd, "tile_menu", lambda g: [menu(g)[which]]):
            for forget in memories:
                forget()
            yield
    finally:
        for forget in memories:
            forget()


# The tables.


def tables() -> str:
    """Return the tables of all dtypes."""
    return "\n\n".join(f"### {name}\n\n{table(name)}" for name in DTYPES)


def table(name: str) -> str:
    """Return the table of a dtype."""
    kinds = list(INPUTS)
    lines = [f"| algorithm | bound | {' | '.join(kinds)} |", "|---" * (len(kinds) + 2) + "|"]
    for way in WAYS:
        found = [measured(way, kind, name) for kind in kinds]
        if found[0] is None:
            continue
        lines.append(f"| {way.name} | {_number(found[0].bound)} | {' | '.join(map(_cell, found))} |")
    return "\n".join(lines)


def _cell(errors: Errors | None) -> str:
    if errors is None:
        return "refused"
    return " / ".join(map(_number, (errors.largest, errors.rms, *([errors.of_output] if errors.of_output else []))))


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"put them in {PAGE.name}")
    text = tables()
    print(text)
    if parser.parse_args().write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
