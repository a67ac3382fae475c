"""What a device would get: kernels compiled as a launch compiles them, kept on disk, and their arguments."""

from __future__ import annotations

import ctypes
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fastconv import _disk
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

pytestmark = NEEDS_TOOLCHAIN

# A compilation takes a second and more.
SECONDS = 0.2


@pytest.fixture
def device(monkeypatch, tmp_path):
    """Let numba-cuda compile for a device of compute capability 8.0 that is not there, with an empty cache."""
    from numba.cuda import codegen, dispatcher

    there = SimpleNamespace(compute_capability=(8, 0))
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: there)
    monkeypatch.setattr(codegen.devices, "get_context", lambda *_: SimpleNamespace(device=there))
    monkeypatch.setattr(codegen.runtime.runtime, "get_version", lambda: (13, 0))
    monkeypatch.setattr(dispatcher._Kernel, "bind", lambda self: self._codelibrary.get_cubin(cc=(8, 0)))
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path))
    _disk.root.cache_clear()
    yield there
    _disk.root.cache_clear()


def cubin_of(dispatcher):
    (kernel,) = dispatcher.overloads.values()
    return kernel._codelibrary.get_cubin(cc=(8, 0)).code


def test_kernels_are_kept_on_disk(device, tmp_path):
    from fastconv.kernels.cuda import activations
    from fastconv.kernels.cuda.compiled import compiled

    literals = ("f", "relu", activations.THREADS)
    compiled.cache_clear()
    first, _ = compiled(activations.elementwise, *literals)
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
    compiled.cache_clear()
    start = time.perf_counter()
    second, kernel = compiled(activations.elementwise, *literals)
    assert time.perf_counter() - start < SECONDS
    assert sum(second._cache_hits.values()) == 1
    assert cubin_of(second) == cubin_of(first)
    assert second.specialized
    assert kernel.threads == activations.THREADS
    # Another kernel is another file; for another device it would be one more.
    compiled(activations.elementwise, "f", "relu6", activations.THREADS)
    assert len(list(tmp_path.rglob("*.nbc"))) == 2
    compiled.cache_clear()


def test_arguments_reach_the_kernel():
    from numba import types
    from numba.cuda.dispatcher import _Kernel

    kernel, found = SimpleNamespace(extensions=[]), []
    kernel._prepare_args = lambda *given: _Kernel._prepare_args(kernel, *given)
    kinds = (types.CPointer(types.float32), types.UniTuple(types.uint32, 2), types.UniTuple(types.float32, 2))
    given = (0x7F00_0000_1000, (np.uint32(7), np.uint32(2**32 - 1)), (np.float32(0.5), np.float32(np.inf)))
    for kind, value in zip(kinds, given, strict=True):
        kernel._prepare_args(kind, value, 0, [], found)
    assert found[0] == given[0]
    assert [type(argument) for argument in found[1:]] == [ctypes.c_uint32] * 2 + [ctypes.c_float] * 2
    assert [argument.value for argument in found[1:]] == [7, 2**32 - 1, 0.5, np.inf]
