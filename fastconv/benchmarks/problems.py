"""Named layers of known networks, and the suites made of them.

A layer is data: its name and its sizes in the notation of `fastconv.testing.problem`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

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
    "gaussian.15x15": "n1ic1h1024w1024_oc1k15s1p7",
    "small.8x8": "n1ic8h8w8_oc8k3s1p1",
}

LAYERS: dict[str, Layer] = {name: Layer(name, text) for name, text in _TEXTS.items()}

_HEADLINE = """
vgg16.conv1_1 vgg16.conv1_2 vgg16.conv2_2 vgg16.conv3_2 vgg16.conv4_2 vgg16.conv5
resnet50.conv1 resnet50.conv2_expand resnet50.conv3_shortcut resnet50.conv5_reduce
resnet50.conv2_3x3 resnet50.conv3_first resnet50.conv3_3x3 resnet50.conv4_3x3 resnet50.conv5_3x3
mobilenet.depthwise1 mobilenet.depthwise2 mobilenet.depthwise7 mobilenet.pointwise1 mobilenet.pointwise7
dilated.2 dilated.4
lenet.conv1 lenet.conv2
"""
_QUICK = "lenet.conv1 resnet50.conv4_3x3 mobilenet.depthwise7 mobilenet.pointwise1 dilated.2 image.5x5"
_FAMILIES = ("vgg16", "resnet50", "mobilenet", "lenet", "fashion", "dilated", "image", "gaussian", "small")

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
    """Return an input and a weight: normal deviates, but the smoothing kernel of its name for a "gaussian" layer."""
    rng = np.random.default_rng(seed)
    problem = layer.problem
    x = rng.standard_normal(problem.input_shape).astype(problem.dtype)
    weight = rng.standard_normal(problem.weight_shape).astype(problem.dtype)
    if layer.name.startswith("gaussian."):
        column, row = (_bell(size) for size in problem.weight_shape[2:])
        weight[:] = np.outer(column, row)
    return x, weight


def _bell(size: int) -> np.ndarray:
    """Return a normal distribution of `size` points that spans three standard deviations to each side, with sum 1."""
    points = np.exp(-0.5 * np.square(np.linspace(-3, 3, size)))
    return np.asarray(points / points.sum())
