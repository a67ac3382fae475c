"""Named layers of known networks, and the suites made of them.

A layer is data: its name and its sizes in the notation of `fastconv.testing.problem`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.errors import OptionError
from fastconv.testing import Problem, problem

__all__ = ["LAYERS", "SUITES", "Layer", "draw", "layer", "suite"]


class Layer(NamedTuple):
    """A layer: its name and its problem; batch 1 and float32 unless the problem says otherwise."""

    name: str
    text: str

    @property
    def title(self) -> str:
        """Problem and name in one word."""
        return f'{self.text}"{self.name}"'

    @property
    def problem(self) -> Problem:
        """The arguments of the call."""
        return problem(self.text)

    @property
    def function(self) -> Callable[..., Any]:
        """The convolution: `fastconv.conv1d`, `conv2d` or `conv3d`."""
        found: Callable[..., Any] = getattr(fc, f"conv{self.problem.axes}d")
        return found

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords of the call as a user writes them: without defaults, and one number for what is equal."""
        given = {name: _shortest(value) for name, value in self.problem.keywords.items()}
        return {name: value for name, value in given.items() if value != _DEFAULTS[name]}


_DEFAULTS = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "layout": "channels_first",
    "padding_mode": "zeros",
}


def _shortest(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    parts = [_shortest(part) for part in value]
    return parts[0] if len(set(parts)) == 1 else tuple(parts)


# Ten problems of one and of three axes, and ten for the other dtypes: stems, bodies and ends of networks, strided,
# dilated, grouped, pointwise, and one filter on one channel.
_SERIES = """
n1ic1w4096_oc1k9s1p4 n1ic16w1024_oc32k3s1p1 n1ic64w512_oc64k5s1p2 n4ic128w256_oc128k3s1p1 n1ic4w8192_oc8k15s1p7
n1ic256w128_oc256k3s1p1 n1ic32w2000_oc32k7s1p6d2 n1ic64w1000_oc128k3s2p1 n1ic512w64_oc512k1s1p0
n1ic64w1024_oc64k3s1p1g64
"""
_VOLUMES = """
n1ic3d16h56w56_oc32k3s1p1 n1ic32d8h28w28_oc32k3s1p1 n1ic64d8h14w14_oc64k3s1p1 n1ic64d8h28w28_oc64k1s1p0
n1ic16d16h32w32_oc16k3s2p1 n1ic1d64h64w64_oc1k5s1p2 n1ic32d8h28w28_oc32k3s1p1g32
n1ic64d4h28w28_oc64kd3kh1kw1s1pd1ph0pw0 n1ic64d4h28w28_oc64kd1kh3kw3s1pd0ph1pw1 n2ic8d12h24w24_oc16k3s1p1
"""
_IMAGES = """
n1ic3h112w112_oc32k3s1p1 n1ic64h28w28_oc64k3s1p1 n1ic128h14w14_oc128k3s1p1 n1ic64h28w28_oc128k1s1p0
n1ic32h56w56_oc32k3s1p1g32 n1ic1h512w512_oc1k5s1p2 n1ic16h56w56_oc32k5s2p2 n1ic6h28w28_oc16k5s1p2
n1ic64h28w28_oc64k3s1p2d2 n4ic16h32w32_oc16k3s1p1
"""
_TYPES = {"float64": "f64", "complex64": "c64", "int32": "i32"}

_KERNEL_SIZES = (*range(3, 16, 2), 19, 23, 27, 31, 39, 47, 55, 63)

_TEXTS = {
    # K. Simonyan, A. Zisserman, 2015, arXiv:1409.1556, table 1, column D
    "vgg16.conv1_1": "n1ic3h224w224_oc64k3s1p1",
    "vgg16.conv1_2": "n1ic64h224w224_oc64k3s1p1",
    "vgg16.conv2_1": "n1ic64h112w112_oc128k3s1p1",
    "vgg16.conv2_2": "n1ic128h112w112_oc128k3s1p1",
    "vgg16.conv3_1": "n1ic128h56w56_oc256k3s1p1",
    "vgg16.conv3_2": "n1ic256h56w56_oc256k3s1p1",
    "vgg16.conv4_1": "n1ic256h28w28_oc512k3s1p1",
    "vgg16.conv4_2": "n1ic512h28w28_oc512k3s1p1",
    "vgg16.conv5": "n1ic512h14w14_oc512k3s1p1",
    # K. He et al., 2015, arXiv:1512.03385, table 1; the stride of a block at its 3x3, as in PyTorch
    "resnet50.conv1": "n1ic3h224w224_oc64k7s2p3",
    "resnet50.conv2_reduce": "n1ic256h56w56_oc64k1s1p0",
    "resnet50.conv2_3x3": "n1ic64h56w56_oc64k3s1p1",
    "resnet50.conv2_expand": "n1ic64h56w56_oc256k1s1p0",
    "resnet50.conv3_first": "n1ic128h56w56_oc128k3s2p1",
    "resnet50.conv3_shortcut": "n1ic256h56w56_oc512k1s2p0",
    "resnet50.conv3_reduce": "n1ic512h28w28_oc128k1s1p0",
    "resnet50.conv3_3x3": "n1ic128h28w28_oc128k3s1p1",
    "resnet50.conv3_expand": "n1ic128h28w28_oc512k1s1p0",
    "resnet50.conv4_first": "n1ic256h28w28_oc256k3s2p1",
    "resnet50.conv4_reduce": "n1ic1024h14w14_oc256k1s1p0",
    "resnet50.conv4_3x3": "n1ic256h14w14_oc256k3s1p1",
    "resnet50.conv4_expand": "n1ic256h14w14_oc1024k1s1p0",
    "resnet50.conv5_first": "n1ic512h14w14_oc512k3s2p1",
    "resnet50.conv5_reduce": "n1ic2048h7w7_oc512k1s1p0",
    "resnet50.conv5_3x3": "n1ic512h7w7_oc512k3s1p1",
    "resnet50.conv5_expand": "n1ic512h7w7_oc2048k1s1p0",
    # A. Howard et al., 2017, arXiv:1704.04861, table 1
    "mobilenet.conv1": "n1ic3h224w224_oc32k3s2p1",
    "mobilenet.depthwise1": "n1ic32h112w112_oc32k3s1p1g32",
    "mobilenet.pointwise1": "n1ic32h112w112_oc64k1s1p0",
    "mobilenet.depthwise2": "n1ic64h112w112_oc64k3s2p1g64",
    "mobilenet.pointwise2": "n1ic64h56w56_oc128k1s1p0",
    "mobilenet.depthwise4": "n1ic128h56w56_oc128k3s2p1g128",
    "mobilenet.pointwise6": "n1ic256h14w14_oc512k1s1p0",
    "mobilenet.depthwise7": "n1ic512h14w14_oc512k3s1p1g512",
    "mobilenet.pointwise7": "n1ic512h14w14_oc512k1s1p0",
    "mobilenet.pointwise13": "n1ic1024h7w7_oc1024k1s1p0",
    # Y. LeCun et al., 1998, doi:10.1109/5.726791, figure 2; images of 28x28 padded to 32x32
    "lenet.conv1": "n1ic1h28w28_oc6k5s1p2",
    "lenet.conv2": "n1ic6h14w14_oc16k5s1p0",
    # The two convolutions of the usual Keras model for Fashion-MNIST
    "fashion.conv1": "n1ic1h28w28_oc32k3s1p0",
    "fashion.conv2": "n1ic32h13w13_oc64k3s1p0",
    # Context modules: F. Yu, V. Koltun, 2015, arXiv:1511.07122
    "dilated.2": "n1ic64h56w56_oc64k3s1p2d2",
    "dilated.4": "n1ic64h56w56_oc64k3s1p4d4",
    "dilated.8": "n1ic64h56w56_oc64k3s1p8d8",
    "dilated.256_2": "n1ic256h28w28_oc256k3s1p2d2",
    **{f"image.{k}x{k}": f"n1ic1h1024w1024_oc1k{k}s1p{k // 2}" for k in range(3, 16, 2)},
    # One filter of every size that is an outer product, so that all algorithms can.
    **{f"kernel-size.{k}x{k}": f"n1ic1h512w512_oc1k{k}s1p{k // 2}" for k in _KERNEL_SIZES},
    "gaussian.15x15": "n1ic1h1024w1024_oc1k15s1p7",
    "small.8x8": "n1ic8h8w8_oc8k3s1p1",
    # One layer in batches of 1 to 64: from which on does a device pay, and its copies?
    **{f"batch.{n}": f"n{n}ic64h28w28_oc64k3s1p1" for n in (1, 2, 4, 8, 16, 32, 64)},
    **{f"series.{i}": text for i, text in enumerate(_SERIES.split())},
    **{f"volume.{i}": text for i, text in enumerate(_VOLUMES.split())},
    **{f"{name}.{i}": f"{text}_{end}" for name, end in _TYPES.items() for i, text in enumerate(_IMAGES.split())},
}

_HEADLINE = """
vgg16.conv1_1 vgg16.conv1_2 vgg16.conv2_2 vgg16.conv3_2 vgg16.conv4_2 vgg16.conv5
resnet50.conv1 resnet50.conv2_expand resnet50.conv3_shortcut resnet50.conv5_reduce
resnet50.conv2_3x3 resnet50.conv3_first resnet50.conv3_3x3 resnet50.conv4_3x3 resnet50.conv5_3x3
mobilenet.depthwise1 mobilenet.depthwise2 mobilenet.depthwise7 mobilenet.pointwise1 mobilenet.pointwise7
dilated.2 dilated.4
lenet.conv1 lenet.conv2
"""
_TEXTS |= {f"last.{name}": f"{_TEXTS[name]}_nhwc" for name in _HEADLINE.split()}

# Names of layers whose kernel is an outer product.
SMOOTH = ("gaussian.", "kernel-size.")

LAYERS: dict[str, Layer] = {name: Layer(name, text) for name, text in _TEXTS.items()}

_QUICK = "lenet.conv1 resnet50.conv4_3x3 mobilenet.depthwise7 mobilenet.pointwise1 dilated.2 image.5x5"
_FAMILIES: tuple[str, ...] = (
    "vgg16",
    "resnet50",
    "mobilenet",
    "lenet",
    "fashion",
    "dilated",
    "image",
    "gaussian",
    "kernel-size",
    "small",
    "batch",
)
_FAMILIES += ("series", "volume", "last", *_TYPES)

SUITES: dict[str, tuple[str, ...]] = {
    "headline": tuple(_HEADLINE.split()),
    "quick": tuple(_QUICK.split()),
    **{family: tuple(name for name in _TEXTS if name.startswith(f"{family}.")) for family in _FAMILIES},
}


def suite(name: str) -> list[Layer]:
    """Return the layers of a suite.

    Raises
    ------
    OptionError
        If there is no such suite.
    """
    if name not in SUITES:
        raise OptionError(f"suite: name = {name!r}, expected one of {', '.join(SUITES)}")
    return [LAYERS[each] for each in SUITES[name]]


def layer(text: str) -> Layer:
    """Return the layer of a name, or of a problem with or without a name in double quotes.

    Examples
    --------
    >>> from fastconv.benchmarks.problems import layer
    >>> layer("lenet.conv1").title
    'n1ic1h28w28_oc6k5s1p2"lenet.conv1"'
    """
    if text in LAYERS:
        return LAYERS[text]
    sizes, _, name = text.partition('"')
    problem(sizes)
    return Layer(name.rstrip('"') or sizes, sizes)


def draw(layer: Layer, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an input and a weight: normal deviates, of integers in steps of a quarter.

    The weight of a layer named in `SMOOTH` is a smoothing kernel.
    """
    rng = np.random.default_rng(seed)
    problem = layer.problem
    x, weight = (_deviates(rng, shape, problem.dtype) for shape in (problem.input_shape, problem.weight_shape))
    if layer.name.startswith(SMOOTH):
        column, row = (_bell(size) for size in problem.weight_shape[2:])
        weight[:] = np.outer(column, row)
    return x, weight


def _deviates(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = rng.standard_normal(shape)
    kind = np.dtype(dtype).kind
    return (values + 1j * rng.standard_normal(shape) if kind == "c" else 4 * values if kind == "i" else values).astype(
        dtype
    )


def _bell(size: int) -> np.ndarray:
    """Return a normal distribution of `size` points that spans three standard deviations to each side, with sum 1."""
    points = np.exp(-0.5 * np.square(np.linspace(-3, 3, size)))
    return np.asarray(points / points.sum())
