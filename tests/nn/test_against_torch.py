"""Training beside PyTorch: the same weights, batches and optimizers give the same models."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
STEPS = 6


def first(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def lenet(dtype):
    ours = nn.Sequential(
        [
            nn.Conv2D(4, 5, activation="tanh", padding="same", dtype=dtype, input_shape=(12, 12, 2)),
            nn.AveragePooling2D(2, dtype=dtype),
            nn.Conv2D(6, 3, activation="relu", dtype=dtype),
            nn.MaxPooling2D(2, dtype=dtype),
            nn.Flatten(dtype=dtype),
            nn.Dense(16, activation="sigmoid", dtype=dtype),
            nn.Dense(5, activation="softmax", dtype=dtype),
        ]
    )
    t = torch.nn
    theirs = [
        *(t.Conv2d(2, 4, 5, padding=2), t.Tanh(), t.AvgPool2d(2), t.Conv2d(4, 6, 3), t.ReLU(), t.MaxPool2d(2)),
        *(t.Flatten(), t.Linear(24, 16), t.Sigmoid(), t.Linear(16, 5)),
    ]
    return ours, t.Sequential(*theirs)


def mobile(dtype):
    ours = nn.Sequential(
        [
            nn.Input((12, 12, 2)),
            nn.Conv2D(4, 3, 2, use_bias=False, dtype=dtype),
            nn.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype),
            nn.Activation("relu6", dtype=dtype),
            nn.DepthwiseConv2D(3, activation="swish", depth_multiplier=2, dtype=dtype),
            nn.Conv2D(6, 1, activation="hardswish", groups=2, dtype=dtype),
            nn.GlobalAveragePooling2D(dtype=dtype),
            nn.Dense(5, dtype=dtype),
        ]
    )
    t = torch.nn
    theirs = [
        *(t.Conv2d(2, 4, 3, 2, bias=False), t.BatchNorm2d(4, momentum=0.1), t.ReLU6()),
        *(t.Conv2d(4, 8, 3, groups=4), t.SiLU(), t.Conv2d(8, 6, 1, groups=2), t.Hardswish()),
        *(t.AdaptiveAvgPool2d(1), t.Flatten(), t.Linear(6, 5)),
    ]
    return ours, t.Sequential(*theirs)


def upwards(dtype):
    ours = nn.Sequential(
        [
            nn.Input((12, 12, 2)),
            nn.Conv2D(4, 3, 2, activation="gelu", dtype=dtype),
            nn.UpSampling2D(2, interpolation="bilinear", dtype=dtype),
            nn.Conv2DTranspose(3, 3, 2, activation="leaky_relu", dtype=dtype),
            nn.UpSampling2D(2, dtype=dtype),
            nn.MaxPooling2D(3, 2, dtype=dtype),
            nn.Flatten(dtype=dtype),
            nn.Dense(5, dtype=dtype),
        ]
    )
    t = torch.nn
    theirs = [
        *(t.Conv2d(2, 4, 3, 2), t.GELU(), t.Upsample(scale_factor=2, mode="bilinear"), t.ConvTranspose2d(4, 3, 3, 2)),
        *(t.LeakyReLU(), t.Upsample(scale_factor=2), t.MaxPool2d(3, 2), t.Flatten(), t.Linear(1200, 5)),
    ]
    return ours, t.Sequential(*theirs)


OPTIMIZERS = {
    "adam": (lambda: nn.optimizers.Adam(0.01, epsilon=1e-3), lambda p: KerasAdam(p, lr=0.01, eps=1e-3)),
    "sgd": (lambda: nn.optimizers.SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (lambda: nn.optimizers.SGD(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "nesterov": (
        lambda: nn.optimizers.SGD(0.1, 0.9, True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ),
}


class KerasAdam(torch.optim.Adam):
    """PyTorch adds epsilon to the corrected root; so that it is the same, it shrinks with the correction."""

    def step(self):
        for group in self.param_groups:
            t = 1 + max((float(s["step"]) for s in self.state.values()), default=0)
            group["eps"] = 1e-3 / np.sqrt(1 - group["betas"][1] ** t)
        return super().step()


def trained_by_torch(model, optimizer, x, y):
    losses = []
    for i in range(STEPS):
        part = slice(8 * i, 8 * i + 8)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(first(x[part])), torch.from_numpy(y[part]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("network", [lenet, mobile, upwards])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_is_that_of_pytorch(network, name, dtype):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    ours, theirs = network(dtype)
    theirs = theirs.to(getattr(torch, dtype))
    state = [v.numpy() for k, v in theirs.state_dict().items() if "num_batches" not in k]
    ours.set_weights(state, layout="OIHW")
    x = RNG.normal(size=(8 * STEPS, 12, 12, 2)).astype(dtype)
    y = RNG.integers(0, 5, 8 * STEPS)
    mine, other = OPTIMIZERS[name]
    logits = ours.layers[-1].activation is None
    ours.compile(mine(), nn.losses.SparseCategoricalCrossentropy(from_logits=logits))
    losses = [ours.train_on_batch(x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8])[0] for i in range(STEPS)]
    expected = trained_by_torch(theirs, other(theirs.parameters()), x, y)
    bound = 2e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(losses, expected, rtol=bound)
    after = [(k, v.numpy()) for k, v in theirs.state_dict().items() if "num_batches" not in k]
    for (key, b), a, before in zip(after, ours.get_weights(layout="OIHW"), state, strict=True):
        if "running_var" in key:
            # PyTorch's moving variance is of n - 1.
            continue
        np.testing.assert_allclose(a, b, atol=bound * max(1.0, np.abs(before).max()), err_msg=key)


def test_fit_learns_as_well_as_pytorch():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, 600)
    x = rng.normal(size=(600, 12, 12, 2)).astype("f4")
    for label in range(5):
        x[y == label, 2 * label : 2 * label + 3, :, 0] += 0.7
    torch.manual_seed(0)
    nn.set_random_seed(0)
    ours, theirs = lenet("float32")
    ours.compile(nn.optimizers.Adam(0.005))
    ours.fit(x[:500], y[:500], epochs=6, verbose=0)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.005)
    for _ in range(6):
        for rows in np.array_split(rng.permutation(500), 16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(theirs(first(x[rows])), torch.from_numpy(y[rows])).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (theirs(first(x[500:])).argmax(1).numpy() == y[500:]).mean()
    assert ours.evaluate(x[500:], y[500:])[1] > min(accuracy, 0.95) - 0.08
    assert accuracy > 0.6
