"""What is computed in one pass beside two calls of PyTorch: separable blocks, and convolutions with their pooling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastconv as fc
from fastconv.benchmarks.case import LAYOUTS, Call, Case, Work, arranged, draw

# (C, size of the image, stride, OC) of MobileNet-v1; (IC, size, OC) of VGG-16's layers before a pooling.
_BLOCKS = (
    *((32, 112, 1, 64), (64, 112, 2, 128), (128, 56, 1, 128), (128, 56, 2, 256), (256, 28, 1, 256)),
    *((256, 28, 2, 512), (512, 14, 1, 512), (512, 14, 2, 1024), (1024, 7, 1, 1024)),
)
_POOLED = ((64, 224, 64), (128, 112, 128), (256, 56, 256), (512, 28, 512), (512, 14, 512))


def separables() -> Iterator[Case]:
    """Yield `separable_conv2d` with a relu between, beside a depthwise and a pointwise convolution."""
    for layout in LAYOUTS:
        for C, size, stride, OC in _BLOCKS:
            x, one, two = draw(1, C, size, size), draw(C, 1, 3, 3) / 3, draw(OC, C, 1, 1) / C**0.5
            array, tensor = arranged(x, layout)

            def ours(x: Any = array, one: Any = one, two: Any = two, stride: int = stride, layout: str = layout) -> Any:
                more: dict[str, Any] = {
                    "padding": 1,
                    "layout": layout,
                    "depthwise_activation": "relu",
                    "activation": "relu",
                }
                return fc.separable_conv2d(x, one, two, None, stride, **more)

            def steps(torch: Any, x: Any, one: Any = one, two: Any = two, stride: int = stride) -> Any:
                f = torch.nn.functional
                return f.relu(f.conv2d(f.relu(f.conv2d(x, one, None, stride, 1, groups=len(one))), two))

            rivals = _torch(tensor, (one, two), layout, steps)
            dense = fc.count_ops(fc.conv2d, x.shape, (OC, C, 3, 3), stride=stride, padding=1).macs
            taken = fc.count_ops(fc.separable_conv2d, x.shape, one.shape, two.shape, stride=stride, padding=1)
            what, work = f"{C}x{size}x{size} to {OC} {layout}", Work(taken.macs, dense - taken.multiplies)
            yield Case(f"separable 3x3 s{stride}", what, ours, rivals, 1e-4, x.nbytes, work)


def pooled() -> Iterator[Case]:
    """Yield a plan with relu and 2x2 maximum pooling, beside three calls."""
    for layout in LAYOUTS:
        for IC, size, OC in _POOLED:
            x, weight = draw(1, IC, size, size), draw(OC, IC, 3, 3) / (3 * IC**0.5)
            array, tensor = arranged(x, layout)
            plan = fc.plan_conv2d(array.shape, weight, padding=1, activation="relu", layout=layout, pool=2)

            def ours(plan: Any = plan, array: Any = array) -> Any:
                return plan(array)

            def steps(torch: Any, x: Any, weight: Any) -> Any:
                f = torch.nn.functional
                return f.max_pool2d(f.relu(f.conv2d(x, weight, None, 1, 1)), 2)

            rivals = _torch(tensor, (weight,), layout, steps)
            macs = fc.count_ops(fc.conv2d, x.shape, weight.shape, padding=1).macs
            what = f"{IC}x{size}x{size} to {OC} {layout}"
            yield Case("3x3, relu, pool 2x2", what, ours, rivals, 1e-4, x.nbytes, Work(macs, 0))


def _torch(tensor: Any, weights: tuple[Any, ...], layout: str, steps: Callable[..., Any]) -> dict[str, Call]:
    """Return PyTorch's call of the steps, if it is installed."""
    if tensor is None:
        return {}
    import torch

    last = layout == "channels_last"
    arrays = [torch.from_numpy(w) for w in weights]
    if last:
        arrays = [w.contiguous(memory_format=torch.channels_last) for w in arrays]

    def call() -> Any:
        with torch.no_grad():
            y = steps(torch, tensor, *arrays)
        return y.movedim(1, -1) if last else y

    return {"torch": call}
