"""Depthwise, separable and pooled convolutions against PyTorch, over many drawn problems, exactly."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests import cases

torch = pytest.importorskip("torch")
functional = torch.nn.functional
pytestmark = pytest.mark.slow

COUNT = 1000


def tensor(array):
    return torch.from_numpy(array.astype("f8"))


def arranged(array, layout):
    """Return a batched channels_first array in `layout`."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "channels_last" else array


class Drawn:
    """One drawn problem: sizes of images, and the geometry of a square kernel that fits them."""

    def __init__(self, rng, i):
        self.rng, self.layout = rng, cases.LAYOUTS[i % 2]
        self.dtype = str(rng.choice(["float32", "float32", "float32", "float64"]))
        self.K, self.stride = int(rng.choice([1, 2, 3, 3, 5, 7])), int(rng.choice([1, 1, 2, 3]))
        self.dilation, self.padding = int(rng.choice([1, 1, 2])), int(rng.integers(0, 5))
        least = (self.K - 1) * self.dilation + 1
        self.N = int(rng.integers(1, 6))
        self.sizes = tuple(max(least, int(n)) for n in rng.integers(4, 40, 2))
        self.window = self.stride, self.padding, self.dilation

    def channels(self):
        return int(self.rng.choice([1, 3, 8, 16, 17, 32, 33, 40, 64]))

    def array(self, *shape):
        return self.rng.integers(-3, 4, shape).astype(self.dtype)

    def convolved(self, x, w, b, groups=1):
        stride, padding, dilation = self.window
        return functional.conv2d(
            tensor(x), tensor(w), tensor(b), stride=stride, padding=padding, dilation=dilation, groups=groups
        )

    def residual(self, sums):
        """Return an array to add in the arrangement of the call, or None, and the sums with it."""
        if self.rng.random() < 0.7:
            return None, sums
        added = self.array(*sums.shape)
        return arranged(added, self.layout), sums + tensor(added)

    def check(self, got, expected):
        named = (self.layout, self.dtype, self.N, self.sizes, self.K, self.window)
        np.testing.assert_array_equal(got, arranged(expected.numpy(), self.layout), err_msg=str(named))


@pytest.mark.parametrize("seed", [0, 1])
def test_depthwise_conv2d_equals_torch(seed):
    rng = np.random.default_rng(seed)
    for i in range(COUNT):
        p = Drawn(rng, i)
        C, M = p.channels(), int(rng.choice([1, 1, 1, 2, 3]))
        x, w, b = p.array(p.N, C, *p.sizes), p.array(C * M, 1, p.K, p.K), p.array(C * M)
        residual, sums = p.residual(p.convolved(x, w, b, C))
        more = {"layout": p.layout, "activation": "relu", "residual": residual}
        p.check(fc.depthwise_conv2d(arranged(x, p.layout), w, b, *p.window, **more), torch.relu(sums))


@pytest.mark.parametrize("seed", [0, 1])
def test_separable_conv2d_equals_torch(seed):
    rng = np.random.default_rng(seed)
    for i in range(COUNT):
        p = Drawn(rng, i)
        C, OC, M = p.channels(), p.channels(), int(rng.choice([1, 1, 1, 2]))
        x, w, first = p.array(p.N, C, *p.sizes), p.array(C * M, 1, p.K, p.K), p.array(C * M)
        mix, last = p.array(OC, C * M), p.array(OC)
        middle = torch.relu(p.convolved(x, w, first, C))
        residual, sums = p.residual(functional.conv2d(middle, tensor(mix)[:, :, None, None], tensor(last)))
        more = {"layout": p.layout, "activation": "relu", "residual": residual}
        more |= {"depthwise_bias": first, "depthwise_activation": "relu"}
        got = fc.separable_conv2d(arranged(x, p.layout), w, mix, last, *p.window, **more)
        p.check(got, torch.relu(sums))


@pytest.mark.parametrize("seed", [0, 1])
def test_plans_that_pool_equal_torch(seed):
    rng = np.random.default_rng(seed)
    for i in range(COUNT):
        p = Drawn(rng, i)
        G, size = int(rng.choice([1, 1, 1, 2])), int(rng.integers(1, 4))
        IC, OC = (-(-p.channels() // G) * G for _ in range(2))
        x, w, b = p.array(p.N, IC, *p.sizes), p.array(OC, IC // G, p.K, p.K), p.array(OC)
        residual, sums = p.residual(p.convolved(x, w, b, G))
        if min(sums.shape[2:]) < size:
            continue
        # Others round.
        algorithm = str(rng.choice(["direct", "im2col"]))
        more = {"layout": p.layout, "dtype": p.dtype, "pool": size, "algorithm": algorithm}
        plan = fc.plan_conv2d(arranged(x, p.layout).shape, w, b, *p.window, G, **more)
        p.check(plan(arranged(x, p.layout), residual=residual), functional.max_pool2d(sums, size))
