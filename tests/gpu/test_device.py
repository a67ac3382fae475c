"""The checks of tests/cuda on a real device, and what only a device has: streams, other libraries, timing."""

from __future__ import annotations

import time

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import cuda as door
from fastconv.testing import assert_close, reference
from tests.cuda.checks import GROUPS

pytestmark = pytest.mark.gpu

X = np.random.default_rng(0).standard_normal((2, 16, 30, 31), dtype=np.float32)
W = np.random.default_rng(1).standard_normal((24, 16, 3, 3), dtype=np.float32)


@pytest.fixture(scope="module", autouse=True)
def device():
    """Skip where there is none, and say why."""
    missing = door.missing()
    if missing is not None:
        pytest.skip(missing)


@pytest.mark.parametrize("group", GROUPS)
def test_checks(group, subtests):
    for name, check in GROUPS[group].CHECKS.items():
        with subtests.test(name):
            check()


@pytest.mark.parametrize("group", [name for name, module in GROUPS.items() if hasattr(module, "LARGE")])
def test_large_checks(group, subtests):
    for name, check in GROUPS[group].LARGE.items():
        with subtests.test(name):
            check()


def test_result_is_of_the_library_of_the_input():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    expected = reference(X, W, padding=((1, 1), (1, 1)))
    x, w = torch.from_numpy(X).cuda(), torch.from_numpy(W).cuda()
    y = fc.conv2d(x, w, padding=1)
    assert isinstance(y, torch.Tensor)
    assert y.is_cuda
    assert_close(y.cpu().numpy(), expected, terms=144)
    # Strided: no copy is made, and the values are right.
    last = x.to(memory_format=torch.channels_last)
    assert_close(fc.conv2d(last, w, padding=1).cpu().numpy(), expected, terms=144)


def test_call_waits_for_the_stream_of_the_caller():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    stream = torch.cuda.Stream()
    x = torch.zeros(X.shape, device="cuda")
    w = torch.from_numpy(W).cuda()
    fc.conv2d(x, w)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        # The device is busy while the input is written and the convolution queued.
        torch.cuda._sleep(100_000_000)
        x.copy_(torch.from_numpy(X), non_blocking=True)
        start = time.perf_counter()
        y = fc.conv2d(x, w)
        queued = time.perf_counter() - start
        result = y.cpu().numpy()
    assert_close(result, reference(X, W), terms=144)
    assert queued < 0.02


def test_cupy_arrays_stay_cupy_arrays():
    cupy = pytest.importorskip("cupy")
    y = fc.conv2d(cupy.asarray(X), cupy.asarray(W))
    assert isinstance(y, cupy.ndarray)
    assert_close(cupy.asnumpy(y), reference(X, W), terms=144)


def test_numba_arrays_stay_on_the_device():
    from numba import cuda

    x = cuda.to_device(X)
    y = fc.conv2d(x, W)
    assert cuda.is_cuda_array(y)
    assert_close(y.copy_to_host(), reference(X, W), terms=144)
    assert_close(fc.conv2d(x[:, :, ::2, 1:], W).copy_to_host(), reference(X[:, :, ::2, 1:], W), terms=144)


@pytest.mark.parametrize(
    ("shape", "weight"),
    [((8, 64, 56, 56), (64, 64, 3, 3)), ((4, 256, 14, 14), (512, 256, 3, 3)), ((16, 3, 224, 224), (64, 3, 7, 7))],
)
def test_large_layers(shape, weight):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(shape, dtype=np.float32), rng.standard_normal(weight, dtype=np.float32)
    expected = fc.conv2d(x, w, padding=1, precision="strict")
    assert_close(fc.conv2d(x, w, padding=1, device="cuda"), expected, terms=int(np.prod(weight[1:])), factor=32)


def test_devices_tell_what_they_are():
    (first, *_) = fc.devices()["cuda"]
    assert first["peak_gflops"] > 100
    assert first["multiprocessors"] > 0
