"""Both gradients of convolutions beside PyTorch's autograd: layers of LeNet-5, VGG-16, MobileNet and a small CNN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastconv as fc
from fastconv import grad
from fastconv.benchmarks.case import LAYOUTS, Call, Case, arranged, draw
from fastconv.testing import problem

# Network and layer; the first layer of a network has a gradient of its input here, too.
LAYERS = {
    "lenet.conv1": "n32ic1h28w28_oc6k5s1p2",
    "lenet.conv2": "n32ic6h14w14_oc16k5s1p0",
    "fashion.conv1": "n32ic1h28w28_oc32k3s1p0",
    "fashion.conv2": "n32ic32h13w13_oc32k3s1p0",
    "vgg16.conv1": "n1ic3h224w224_oc64k3s1p1",
    "vgg16.conv2": "n1ic64h224w224_oc64k3s1p1",
    "vgg16.conv4": "n1ic128h112w112_oc128k3s1p1",
    "vgg16.conv6": "n1ic256h56w56_oc256k3s1p1",
    "vgg16.conv9": "n1ic512h28w28_oc512k3s1p1",
    "vgg16.conv11": "n1ic512h14w14_oc512k3s1p1",
    "mobilenet.conv1": "n1ic3h224w224_oc32k3s2p1",
    "mobilenet.dw1": "n1ic32h112w112_oc32k3s1p1g32",
    "mobilenet.pw1": "n1ic32h112w112_oc64k1s1p0",
    "mobilenet.dw2": "n1ic64h112w112_oc64k3s2p1g64",
    "mobilenet.pw3": "n1ic128h56w56_oc128k1s1p0",
    "mobilenet.dw5": "n1ic256h28w28_oc256k3s1p1g256",
    "mobilenet.pw6": "n1ic512h14w14_oc512k1s1p0",
    "mobilenet.pw13": "n1ic1024h7w7_oc1024k1s1p0",
}


def gradients() -> Iterator[Case]:
    """Yield the gradients of input and weight together."""
    for layout in LAYOUTS:
        for name, text in LAYERS.items():
            p = problem(text)
            x, weight = draw(*p.input_shape), draw(*p.weight_shape)
            words: dict[str, Any] = p.keywords | {"layout": layout}
            array, tensor = arranged(x, layout)
            dy = np.ones_like(fc.conv2d(array, weight, **words))
            dy[...] = np.random.default_rng(1).standard_normal(dy.shape, np.float32)

            def ours(dy: Any = dy, x: Any = array, weight: Any = weight, words: Any = words) -> Any:
                return grad.conv2d_vjp(dy, x, weight, **words)[:2]

            rivals = _torch(tensor, weight, dy, layout, p.keywords) if tensor is not None else {}
            yield Case(name, f"{text} {layout}", ours, rivals, 1e-4, 2 * x.nbytes + dy.nbytes)


def _torch(tensor: Any, weight: np.ndarray, dy: np.ndarray, layout: str, words: dict[str, Any]) -> dict[str, Call]:
    import torch

    last = layout == "channels_last"
    x, w, gradient = tensor.detach().requires_grad_(), torch.from_numpy(weight), torch.from_numpy(dy)
    if last:
        w, gradient = w.contiguous(memory_format=torch.channels_last), gradient.movedim(-1, 1)
    w.requires_grad_()
    kept = {name: words[name] for name in ("stride", "dilation", "groups")}
    y = torch.nn.functional.conv2d(x, w, None, padding=[pair[0] for pair in words["padding"]], **kept)

    def call() -> Any:
        dx, dw = torch.autograd.grad(y, (x, w), gradient, retain_graph=True)
        return (dx.movedim(1, -1) if last else dx), dw

    return {"torch": call}
