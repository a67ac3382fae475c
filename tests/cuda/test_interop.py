"""Arrays of other libraries on the device, read by their interfaces: strides, addresses, devices, streams."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers
from tests.cuda.runtimes import DeviceArray, Emulated, Native, installed
from tests.cuda_tools.native import AVAILABLE
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = [*NEEDS_TOOLCHAIN, pytest.mark.skipif(not AVAILABLE, reason="kernels are retargeted to Linux on x86")]

X, W = integers((2, 3, 6, 7), 1), integers((4, 3, 3, 3), 2)
EXPECTED = definition("conv2d", X, W, {})


class Foreign(DeviceArray):
    """An array of another library, with what its interface says changed."""

    def __init__(self, values, **changed):
        super().__init__(values)
        self.changed = changed

    @property
    def __cuda_array_interface__(self):
        return super().__cuda_array_interface__ | self.changed


@pytest.fixture(scope="module")
def device():
    with installed(Native()) as native:
        yield native


def test_strides_that_are_given_though_contiguous(device):
    # Numba takes such arrays for strided ones.
    x = Foreign(X, strides=X.strides)
    np.testing.assert_array_equal(fc.conv2d(x, Foreign(W)).copy_to_host(), EXPECTED)


@pytest.mark.parametrize("axes", [(0, 1, 3, 2), (1, 0, 2, 3), (0, 3, 2, 1)])
def test_any_order_of_axes(device, axes):
    x = np.ascontiguousarray(X.transpose(axes)).transpose(np.argsort(axes))
    np.testing.assert_array_equal(fc.conv2d(Foreign(x), W).copy_to_host(), EXPECTED)


def test_part_of_an_array(device):
    whole = integers((4, 5, 9, 16), 3)
    part = whole[1:3, ::2, 2:8, 1:15:2]
    expected = definition("conv2d", np.ascontiguousarray(part), W, {})
    np.testing.assert_array_equal(fc.conv2d(Foreign(part), W).copy_to_host(), expected)


def test_axes_of_one_element_have_any_stride(device):
    one = X[:1]
    x = Foreign(one, strides=(12345, *one.strides[1:]))
    np.testing.assert_array_equal(fc.conv2d(x, W).copy_to_host(), EXPECTED[:1])


def test_negative_strides_are_refused(device):
    with pytest.raises(fc.UnsupportedError, match="no negative strides"):
        fc.conv2d(Foreign(X[:, :, ::-1]), W)


def test_too_many_elements_are_refused(device):
    x = Foreign(X[:1, :, :1, :1], shape=(1, 3, 70000, 70000), strides=(0, 0, 280000, 4))
    with pytest.raises(fc.UnsupportedError, match="fewer than 2"):
        fc.conv2d(x, W)


def test_another_device_is_refused(device):
    class Elsewhere(Foreign):
        def __dlpack_device__(self):
            return (2, 1)

    with pytest.raises(fc.UnsupportedError, match="input is on CUDA device 1, expected device 0"):
        fc.conv2d(Elsewhere(X), W)


def test_inputs_stay_as_they_are():
    x, w = X.copy(), W.copy()
    x.flags.writeable = w.flags.writeable = False
    with installed(Emulated()):
        # The emulator faults on a write to a read-only array.
        got = fc.conv2d(Kept(x), Kept(w), padding=1, activation="relu")
    np.testing.assert_array_equal(got.copy_to_host(), definition("conv2d", X, W, {"padding": 1}, activation="relu"))


class Kept(DeviceArray):
    """An array that the emulated device knows."""

    def __init__(self, values):
        super().__init__(values)
        from fastconv.kernels.cuda.runtime import current

        current().memory[values.__array_interface__["data"][0]] = self
