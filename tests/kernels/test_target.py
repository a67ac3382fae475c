"""Targets other than this machine's: chosen by the features, and right where the machine can run them."""

from __future__ import annotations

import platform

import pytest
from numba.core import config

from fastconv.kernels.cpu import target
from tests import guard

needs_x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="targets of x86")
needs_jit = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="runs compiled kernels")

# LLVM splits vectors that are wider than the machine's.
AS_AVX512 = """
import numpy as np
from fastconv.kernels.cpu import target
# One tile of each kind, so that few kernels are compiled.
avx512 = target.AVX512._replace(outer_tiles=((14, 2),), row_tiles=((4, 4, 3), (1, 8, 0)))
target.current = lambda: avx512

import fastconv as fc
from fastconv.testing import reference
from tests import cases

assert fc.devices()["cpu"]["vector_bytes"] == 64
depthwise = ("depthwise whole tiles", "depthwise multiplier 2, stride 2, batch")
for name in ("3x3", "oc 37", "dilation 3, stride 2", "1x1", *depthwise):
    for layout in cases.LAYOUTS:
        a = cases.draw(cases.CASES[name], layout)
        expected = reference(a.x, a.w, a.b, residual=a.r, activation="relu", **a.keywords)
        out = cases.poisoned(expected)
        fc.conv2d(a.x, a.w, a.b, residual=a.r, activation="relu", out=out, precision="strict", **a.keywords)
        np.testing.assert_array_equal(out, expected, err_msg=f"{name} {layout}")
print("done")
"""


@needs_jit
@pytest.mark.skipif(target.current().name == "avx512", reason="all other tests run them on this machine")
def test_avx512_shapes_are_exact_on_any_machine(tmp_path):
    assert guard.run(AS_AVX512, FASTCONV_CACHE_DIR=str(tmp_path / "cache")) == "done\n"


@needs_x86
@pytest.mark.parametrize(
    ("features", "name"),
    [
        ("+sse,+sse2", "sse2"),
        ("+avx,+avx2", "sse2"),
        ("+avx,+avx2,+fma", "avx2"),
        ("+avx,+avx2,+fma,+avx512f", "avx2"),
        ("+avx,+avx2,+fma,+avx512f,+avx512vl", "avx512"),
        ("+avx2,+fma,-avx512f,+avx512vl", "avx2"),
    ],
)
def test_current_follows_the_features(monkeypatch, features, name):
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    monkeypatch.setattr(config, "ENABLE_AVX", 1)
    target.current.cache_clear()
    try:
        assert target.current().name == name
    finally:
        target.current.cache_clear()


@needs_x86
@pytest.mark.parametrize(
    ("features", "dots"),
    [
        ("+avx,+avx2,+fma", False),
        ("+avx,+avx2,+fma,+avxvnni", True),
        ("+avx,+avx2,+fma,+avx512f,+avx512vl", False),
        ("+avx,+avx2,+fma,+avx512f,+avx512vl,+avx512vnni", True),
        ("+sse,+sse2,+avxvnni", False),
    ],
)
def test_dot_products_follow_the_features(monkeypatch, features, dots):
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    monkeypatch.setattr(config, "ENABLE_AVX", 1)
    target.current.cache_clear()
    try:
        assert target.current().dots == dots
        assert any(name.endswith("vnni") for name in target.features()) == dots
    finally:
        target.current.cache_clear()


@pytest.mark.parametrize("t", [target.AVX512, target.AVX2, target.SSE2, target.NEON], ids=lambda t: t.name)
def test_tiles_fit_in_the_registers(t):
    assert t.lanes(32) == 2 * t.lanes(64) == t.vector_bytes // 4
    for MR, NV in t.outer_tiles:
        assert MR * NV + min(MR, NV) + 1 <= t.registers
    for R, NV, TAPS in t.row_tiles:
        # Unrolled rows keep a column of weights in registers, or load each where it is used.
        assert R * NV + NV + min(TAPS, 1) <= t.registers
