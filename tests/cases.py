"""Named convolution problems: the one table that all tests of the 2-D engine run.

Odd and prime sizes, every argument alone and in the combinations that share code. Data are small integers, so every
order of summation gives the same float, and results compare exactly.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.testing import problem

LAYOUTS = ("channels_first", "channels_last")
# Algorithms that round sums of small integers, too.
ROUNDING = ("winograd", "fft")

CASES = {
    "1x1": "n1ic23h9w13_oc19k1s1p0",
    "1x1 batch": "n3ic8h5w7_oc16k1s1p0",
    "1x1 stride 2": "n1ic7h9w13_oc5k1s2p0",
    "1x1 padding": "n1ic5h6w7_oc4k1s1p1",
    "1x1 many channels": "n1ic601h3w5_oc13k1s1p0",
    "3x3": "n1ic15h13w12_oc17k3s1p1",
    "3x3 valid": "n1ic3h27w37_oc23k3s1p0",
    "3x3 batch": "n5ic3h7w11_oc8k3s1p1",
    "3x3 two vectors": "n2ic16h8w32_oc32k3s1p1",
    "5x2": "n1ic7h10w9_oc6kh5kw2s1p0",
    "2x5": "n1ic7h10w9_oc6kh2kw5s1ph1pw2",
    "1x7": "n1ic4h5w23_oc7kh1kw7s1ph0pw3",
    "7x1": "n1ic4h23w5_oc7kh7kw1s1ph3pw0",
    "7x7 stride 2": "n1ic3h23w29_oc11k7s2p3",
    "11x11 stride 4": "n1ic3h35w35_oc7k11s4p2",
    "padding top": "n1ic5h8w9_oc6k3s1pt1pb0pl0pr0",
    "padding bottom": "n1ic5h8w9_oc6k3s1pt0pb1pl0pr0",
    "padding left": "n1ic5h8w9_oc6k3s1pt0pb0pl1pr0",
    "padding right": "n1ic5h8w9_oc6k3s1pt0pb0pl0pr1",
    "padding uneven, stride 2": "n1ic3h12w13_oc5k3s2pt0pb1pl2pr3",
    "padding beyond the kernel": "n1ic3h6w5_oc4k2s1p5",
    "padding beyond the kernel, stride 3": "n1ic2h5w4_oc4k3s3p7",
    "crop top": "n1ic3h11w10_oc4k3s1pt-2pb1pl1pr1",
    "crop all": "n1ic3h11w13_oc4k3s1pt-1pb-2pl-3pr-1",
    "crop left, stride 2": "n1ic3h11w13_oc4k3s2pt1pb1pl-3pr2",
    "stride 1x2": "n1ic4h13w17_oc9k3sh1sw2p1",
    "stride 2x1": "n1ic4h13w17_oc9k3sh2sw1p1",
    "stride 2": "n1ic9h21w23_oc13k3s2p1",
    "stride 3": "n1ic4h19w23_oc9k5s3p2",
    "stride beyond the kernel": "n1ic3h17w19_oc6k2s5p0",
    "stride beyond the input": "n1ic3h4w5_oc6k3s7p1",
    "dilation 1x2": "n1ic4h13w17_oc9k3s1p2dh1dw2",
    "dilation 2x1": "n1ic4h13w17_oc9k3s1p2dh2dw1",
    "dilation 3": "n1ic4h19w23_oc9k3s1p3d3",
    "dilation 2, stride 3": "n1ic4h19w23_oc9k4s3p2d2",
    "dilation 3, stride 2": "n1ic4h19w23_oc9k3s2p3d3",
    "dilation 4, stride 2x4": "n1ic2h23w27_oc5k3sh2sw4p4d4",
    "groups 2": "n1ic6h9w10_oc10k3s1p1g2",
    "groups 3, batch, stride 2": "n2ic9h11w12_oc15k3s2p1g3",
    "groups 4, whole vectors": "n1ic32h7w8_oc64k3s1p1g4",
    "groups 1x1": "n2ic12h5w7_oc20k1s1p0g4",
    "depthwise": "n1ic9h13w14_oc9k3s1p1g9",
    "depthwise whole tiles": "n2ic32h16w48_oc32k3s1p1g32",
    "depthwise stride 2": "n1ic19h15w17_oc19k3s2p1g19",
    "depthwise 5x5": "n1ic7h19w33_oc7k5s1p2g7",
    "depthwise 2x2": "n1ic7h9w29_oc7k2s1p0g7",
    "depthwise 7x7": "n1ic5h23w31_oc5k7s1p3g5",
    "depthwise dilation 2": "n1ic5h21w29_oc5k5s1p4d2g5",
    "depthwise dilation 3, stride 2": "n1ic5h21w29_oc5k5s2p4d3g5",
    "depthwise uneven": "n1ic6h9w11_oc6kh4kw3sh1sw2pt3pb0pl-1pr2g6",
    "depthwise multiplier 3": "n1ic5h9w10_oc15k3s1p1g5",
    "depthwise multiplier 2, stride 2, batch": "n2ic7h9w11_oc14k3s2p1g7",
    "depthwise 1x1": "n1ic7h5w6_oc7k1s1p0g7",
    "depthwise wide": "n1ic2h9w701_oc2k3s1p1g2",
    "depthwise tall": "n1ic2h301w9_oc2k5s1p2g2",
    "one image": "n1ic1h37w41_oc1k5s1p2",
    "ic 1": "n1ic1h15w17_oc12k3s1p1",
    "oc 1": "n1ic12h15w17_oc1k3s1p1",
    "oc 37": "n1ic6h7w9_oc37k3s1p1",
    "ic 300": "n1ic300h5w6_oc10k3s1p1",
    "ic 300, groups, batch": "n2ic600h3w4_oc26k3s1p1g2",
    "wide": "n1ic2h5w701_oc6k3s1p1",
    "wide stride 2": "n1ic2h5w1403_oc3k3s2p1",
    "tall": "n1ic2h301w5_oc6k3s1p1",
    "one pixel": "n1ic6h1w1_oc9k1s1p0",
    "one pixel, padded": "n2ic6h1w1_oc9k3s1p1",
    "kernel as large as the input": "n2ic5h6w7_oc9kh6kw7s1p0",
    "kernel as large as the padded input": "n1ic3h4w5_oc6kh8kw7s1ph2pw1",
    "dilated kernel as large as the input": "n1ic3h7w9_oc6kh3kw5s1p0dh3dw2",
    "n 0": "n0ic3h7w8_oc4k3s1p1",
    "c 0": "n2ic0h5w6_oc4k3s1p1",
    "all": "n3ic12h17w29_oc18kh3kw5sh2sw1pt2pb1pl3pr0dh2dw3g3",
}
# A dozen of them that reach every kernel family, few enough to be run again and again.
FEW = (
    *("1x1", "3x3 two vectors", "oc 37", "stride 3", "dilation 3, stride 2", "groups 3, batch, stride 2", "ic 300"),
    *("depthwise whole tiles", "depthwise 5x5", "depthwise multiplier 2, stride 2, batch", "crop all", "all"),
)
# Small enough for kernels that run as plain Python.
TINY = {
    "3x3": "n1ic2h4w5_oc3k3s1p1",
    "1x1": "n2ic3h2w3_oc5k1s1p0",
    "crop, stride 2, dilation 3, groups 2": "n1ic4h9w10_oc2kh2kw3s2pt-1pb0pl1pr2d3g2",
    "depthwise": "n1ic3h6w5_oc3k3s1p1g3",
    "depthwise multiplier 2, stride 2": "n1ic2h5w6_oc4k3s2p1g2",
}


# Algorithms that round sums of small integers, too; tests of their own hold them to their bounds.
ROUNDED = ("winograd", "fft")


class Arrays(NamedTuple):
    """One drawn problem: ``conv2d(x, w, b, residual=r, **keywords)``."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    r: np.ndarray
    keywords: dict[str, Any]


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = "float32") -> np.ndarray:
    """Return integers from -4 to 4."""
    return rng.integers(-4, 5, shape).astype(dtype)


def rank_one(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = "float32") -> np.ndarray:
    """Return kernels of rank 1 from powers of 2, so that factors are exact whatever they are scaled with."""
    OC, _, KH, KW = shape
    column, row = (rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0, 4.0], (OC, n)) for n in (KH, KW))
    return (column[:, None, :, None] * row[:, None, None, :]).astype(dtype)


def draw(text: str, layout: str = "channels_first", dtype: Any = "float32", separable: bool = False) -> Arrays:
    """Return integer-valued arrays for a problem's name; `separable`: kernels of rank 1, where it is depthwise."""
    p, rng = problem(text), np.random.default_rng(zlib.crc32(text.encode()))
    keywords = p.keywords | {"layout": layout}
    x = integers(rng, p.input_shape, dtype)
    w = (rank_one if separable and p.weight_shape[1] == 1 else integers)(rng, p.weight_shape, dtype)
    if layout == "channels_last":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    b, shape = integers(rng, (len(w),), dtype), fc.testing.reference(x, w, **keywords).shape
    return Arrays(x, w, b, integers(rng, shape, dtype), keywords)


def able(a: Arrays) -> list[str]:
    """Return the algorithms that can do a problem exactly; `separable` only if `rank_one` made the weight."""
    lines = fc.explain(fc.conv2d, a.x, a.w, **a.keywords).lines
    names = [line.algorithm for line in lines if not line.refused and line.algorithm not in ROUNDED]
    if "separable" in names:
        powers = np.isin(np.frexp(np.abs(a.w))[0], (0.0, 0.5)).all()
        if not powers or max(map(np.linalg.matrix_rank, a.w[:, 0])) > 1:
            names.remove("separable")
    return names


def poisoned(like: np.ndarray) -> np.ndarray:
    """Return an array of NaN of the same shape and dtype."""
    return np.full(like.shape, np.nan, like.dtype)


def random_problem(rng: np.random.Generator) -> str:
    """Return the name of a small problem with everything drawn; a third of them are depthwise."""
    G, depthwise = int(rng.choice([1, 1, 2, 3])), rng.random() < 1 / 3
    IC = int(rng.integers(1, 40)) if depthwise else G * int(rng.integers(1, 10))
    G = IC if depthwise else G
    OC = G * int(rng.choice([1, 1, 2, 3] if depthwise else [1, 2, 5, 8, 11, 24]))
    N, (KH, KW), (SH, SW), (DH, DW) = int(rng.integers(1, 3)), *rng.integers(1, [6, 4, 4], (2, 3)).T.tolist()
    H, W = rng.integers(1, [24, 60]).tolist()
    PT, PB, PL, PR = rng.integers(-1, 4, 4).tolist()
    # As much more at the end as the kernel needs to fit in, and no side cropped away.
    PT, PL = (max(p, 0) if size < 3 else p for p, size in ((PT, H), (PL, W)))
    PB, PR = (max(p, 0) if size < 3 else p for p, size in ((PB, H), (PR, W)))
    PB += max(0, DH * (KH - 1) + 1 - (H + PT + PB))
    PR += max(0, DW * (KW - 1) + 1 - (W + PL + PR))
    sizes = f"n{N}ic{IC}h{H}w{W}_oc{OC}kh{KH}kw{KW}sh{SH}sw{SW}pt{PT}pb{PB}pl{PL}pr{PR}dh{DH}dw{DW}"
    return sizes + (f"g{G}" if G > 1 else "")
