"""The algorithms of convolution, special ones first, direct last: the planner takes the cheapest that can."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.algorithm import Algorithm
from fastconv.dispatch.blocking import Blocking, gemm_blocking, words_blocking
from fastconv.dispatch.blocking_bf16x3 import Bf16Blocking, bf16_blocking
from fastconv.dispatch.blocking_depthwise import DepthwiseBlocking, depthwise_blocking
from fastconv.dispatch.blocking_fft import TRANSFORM_PACK_CYCLES, fft_blocking
from fastconv.dispatch.blocking_pixels import PixelsBlocking, pixels_blocking
from fastconv.dispatch.blocking_turned import TurnedBlocking, turned_blocking
from fastconv.dispatch.blocking_winograd import planned_ops, winograd_blocking
from fastconv.dispatch.cost import direct_ops, fft_ops, separable_ops
from fastconv.geometry.conv import ConvGeometry

PANELS = "panels [tile][k/16][m][16] / rows [tile][k][n]"


def _always(g: ConvGeometry) -> str | None:
    return None


def _pointwise(g: ConvGeometry) -> str | None:
    kernel = (g.KD, g.KH, g.KW)[-g.axes :]
    return None if set(kernel) == {1} else f"kernel must be {'x'.join('1' * g.axes)}, got {'x'.join(map(str, kernel))}"


def _depthwise(g: ConvGeometry) -> str | None:
    if g.IC and g.G == g.IC:
        return None
    return f"groups must equal the input channels, got groups = {g.G}, IC = {g.IC}"


def _separable(g: ConvGeometry) -> str | None:
    return _depthwise(g) if g.axes == 2 else f"kernels must have 2 axes, got {g.axes}"


def _winograd(g: ConvGeometry) -> str | None:
    axes = "HW" if g.axes > 1 else "W"
    strides, rates, kernel = ([getattr(g, f"{letter}{axis}") for axis in axes] for letter in "SDK")
    along = " and ".join(axes)
    if g.dtype not in ("float32", "float64"):
        return f"arrays must be float32 or float64, got {g.dtype}"
    if max(strides) > 1:
        return f"stride must be 1 along {along}, got {'x'.join(map(str, strides))}"
    if max(rates) > 1:
        return f"dilation must be 1 along {along}, got {'x'.join(map(str, rates))}"
    if set(kernel) - {1, 3, 5} or set(kernel) == {1}:
        rule = "3 or 5 taps" if g.axes == 1 else "3 or 5 taps along H or W, and 1, 3 or 5 along the other"
        return f"kernel must have {rule}, got {'x'.join(map(str, kernel))}"
    if g.KD > 1 and g.ICG % 16:
        return f"with a kernel of {g.KD} taps in depth the channels of a group must be a multiple of 16, got {g.ICG}"
    return None if g.ICG else "there must be input channels, got 0"


def _fft(g: ConvGeometry) -> str | None:
    if np.dtype(g.dtype).kind != "f":
        return f"integers are summed exactly, got dtype {g.dtype}"
    if (g.KD, g.KH, g.KW) == (1, 1, 1):
        return "kernel must have more than one tap"
    return None if g.IC else "there are no input channels"


def _bf16x3(g: ConvGeometry) -> str | None:
    if g.dtype != "float32":
        return f"arrays must be float32, got {g.dtype}"
    if not load.target().matrix_unit:
        return "this CPU has no matrix unit for bfloat16 (Intel AMX), or the system does not grant it"
    return None if g.ICG else "there must be input channels, got 0"


def _bf16_blocking(g: ConvGeometry, target: Any) -> Bf16Blocking:
    return bf16_blocking(g, target, terms=1)


def _direct_blocking(g: ConvGeometry, target: Any) -> Blocking:
    return words_blocking(g, target, columns=False) if g.weight_dtype else gemm_blocking(g, target, columns=False)


def _columns_blocking(g: ConvGeometry, target: Any) -> Blocking:
    return words_blocking(g, target, columns=True) if g.weight_dtype else gemm_blocking(g, target, columns=True)


def _depthwise_blocking(g: ConvGeometry, target: Any) -> DepthwiseBlocking | TurnedBlocking | PixelsBlocking:
    if g.layout == "channels_last":
        return pixels_blocking(g, target)
    rows, turned = depthwise_blocking(g, target, separable=False), turned_blocking(g, target)
    return turned if turned and turned.cycles < rows.cycles else rows


def _separable_blocking(g: ConvGeometry, target: Any) -> DepthwiseBlocking:
    return depthwise_blocking(g, target, separable=True)


TABLE: tuple[Algorithm, ...] = (
    Algorithm(
        "depthwise",
        "conv_depthwise:program",
        _depthwise,
        _depthwise_blocking,
        direct_ops,
        "as it is / rows [tile][k][n]",
        exact=True,
        automatic="",
        source="Chollet 2017, arXiv:1610.02357; XNNPACK dwconv2d-chw",
        backends=("cpu", "cuda"),
    ),
    Algorithm(
        "separable",
        "conv_separable:program",
        _separable,
        _separable_blocking,
        separable_ops,
        "as it is / rows [tile][k][n]",
        exact=False,
        automatic="the kernels must have rank 1, which only their values tell; ask by name, or pass the factors",
        source="Treitel and Shanks 1971, doi:10.1109/TGE.1971.271457",
    ),
    Algorithm(
        "fft",
        "conv_fft:program",
        _fft,
        fft_blocking,
        fft_ops,
        "spectra [tile of frequencies][oc][ic][VL]",
        exact=False,
        automatic="",
        source="Stockham 1966, doi:10.1145/1464182.1464209; Oppenheim and Schafer 2010, section 8.7.3",
        pack_cycles=TRANSFORM_PACK_CYCLES,
    ),
    Algorithm(
        "bf16x3",
        "bf16_packing:program",
        _bf16x3,
        bf16_blocking,
        direct_ops,
        "steps of k [tile][step][high, low][half][16][32]",
        exact=False,
        automatic="",
        source="Henry, Tang and Heinecke 2019, arXiv:1904.06376",
        rough=_bf16_blocking,
    ),
    Algorithm(
        "pointwise",
        "conv_im2col:program",
        _pointwise,
        _columns_blocking,
        direct_ops,
        PANELS,
        exact=True,
        automatic="",
        source="Goto and van de Geijn 2008, doi:10.1145/1356052.1356053",
        backends=("cpu", "cuda"),
    ),
    Algorithm(
        "im2col",
        "conv_im2col:program",
        _always,
        _columns_blocking,
        direct_ops,
        PANELS,
        exact=True,
        automatic="",
        source="Chellapilla, Puri and Simard 2006",
        backends=("cpu", "cuda"),
    ),
    Algorithm(
        "winograd",
        "conv_winograd:program",
        _winograd,
        winograd_blocking,
        planned_ops,
        "transformed [tile][p][k][n]",
        exact=False,
        automatic="",
        source="Lavin and Gray 2016, arXiv:1509.09308; Barabasz et al. 2020, arXiv:1803.10986",
        backends=("cpu", "cuda"),
    ),
    Algorithm(
        "direct",
        "conv_direct:program",
        _always,
        _direct_blocking,
        direct_ops,
        PANELS,
        exact=True,
        automatic="",
        source="Georganas et al. 2018, doi:10.1109/SC.2018.00069; Dukhan 2019, arXiv:1907.02129",
        backends=("cpu", "cuda"),
    ),
)

ROWS: dict[str, Algorithm] = {row.name: row for row in TABLE}

# Names of the contract; those that are not in the table are refused with a reason.
NAMES = ("auto", "direct", "im2col", "pointwise", "depthwise", "separable", "winograd", "fft", "bf16x3", "measure")
