"""Every public operation takes arrays of every kind without a copy, and refuses the same kinds in the same words."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import fastconv as fc
from fastconv.geometry.arrays import as_input, on_device
from tests.exporters import REFUSED, SHARED, Dlpack
from tests.operations import OTHERS, operations

OPERATIONS = {operation.name: operation for operation in operations()}
# Whose kernels other tests compile, too.
SOME = ("conv2d", "max_pool2d", "signal.correlate2d", "ndimage.maximum_filter", "plan_conv2d")


def test_every_public_operation_is_here():
    functions = {name for name in fc.__all__ if callable(getattr(fc, name)) and name[0].islower()}
    functions |= {f"grad.{name}" for name in fc.grad.__all__} | {f"signal.{name}" for name in fc.signal.__all__}
    functions |= {f"ndimage.{name}" for name in fc.ndimage.__all__}
    functions |= {f"activations.{name}" for name in fc.activations.__all__}
    known = {name if "." in name or not name.endswith(("_input", "_weight")) else f"grad.{name}" for name in OPERATIONS}
    assert functions - known == OTHERS
    assert known - functions == {"nn.predict"}


@pytest.mark.parametrize("kind", SHARED)
def test_memory_is_shared(kind):
    values = np.arange(24, dtype="f4").reshape(2, 3, 4)
    exported, memory = SHARED[kind](values)
    assert not on_device(exported)
    taken = as_input("conv2d", "input", exported)
    assert type(taken) is np.ndarray
    assert np.shares_memory(taken, memory)
    np.testing.assert_array_equal(taken, values)


def peak(call, arrays):
    """Return the result of a call, and the most memory that it takes beyond what is there."""
    tracemalloc.start()
    try:
        result = call(*arrays)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bits(result):
    parts = result if isinstance(result, tuple) else (result,)
    assert all(type(part) in (np.ndarray, type(None), str) for part in parts)
    return [part.tobytes() if isinstance(part, np.ndarray) else part for part in parts]


def check_kind(name, kind):
    _, call, arrays = OPERATIONS[name]
    call(*arrays)
    expected, most = peak(call, arrays)
    exported = [SHARED[kind](array)[0] for array in arrays]
    before = [array.tobytes() for array in arrays]
    found, used = peak(call, exported)
    assert bits(found) == bits(expected)
    # The objects of a conversion take some hundred bytes, a copy of the smallest array 4096.
    assert used < most + 2500, f"{used} bytes, {most} for an ndarray"
    assert [array.tobytes() for array in arrays] == before


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("name", SOME)
def test_operation_takes_the_kind_without_a_copy(name, kind):
    check_kind(name, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in SOME])
def test_every_operation_takes_the_kind_without_a_copy(name, kind):
    check_kind(name, kind)


@pytest.mark.parametrize("kind", REFUSED)
def test_every_operation_refuses_the_kind(kind):
    make, message = REFUSED[kind]
    for name, call, arrays in OPERATIONS.values():
        given = [make(array) for array in arrays]
        with pytest.raises((fc.DtypeError, fc.UnsupportedError), match=message) as caught:
            call(*given)
        assert "\n" not in str(caught.value), name


def test_host_objects_with_dlpack_are_not_taken_for_device_arrays():
    x, w = np.ones((1, 1, 4, 4), "f4"), np.ones((1, 1, 3, 3), "f4")
    for device in ((1, 0), (3, 0), (11, 0)):
        assert not on_device(Dlpack(x, device))
    assert isinstance(fc.conv2d(Dlpack(x), Dlpack(w)), np.ndarray)
    assert on_device(Dlpack(x, (2, 0)))
