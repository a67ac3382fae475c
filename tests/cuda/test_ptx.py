"""Every kernel compiles to PTX for two generations of devices, without a device."""

from __future__ import annotations

import importlib.util

import pytest

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"),
]


def kernels():
    """Return (name, kernel) of every kernel for float32, and some for the other types."""
    from fastconv.kernels.cuda import activations, conv_direct, moves, packing

    tiles = [(code, tile, deep) for code in "fd" for tile in conv_direct.TILES[code] for deep in (False, True)]
    tiles.append(("e", conv_direct.TILES["e"][-1], False))
    found = [
        (f"conv-{code}-{tile.BM}x{tile.BN}-{deep}", conv_direct.implicit_gemm(code, tile, deep))
        for code, tile, deep in tiles
    ]
    found += [(f"pack-{code}", packing.transpose(code, packing.THREADS)) for code in "fde"]
    found += [(f"gather-{code}", moves.gather(code, moves.THREADS)) for code in "HIL"]
    names = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hardswish")
    found += [(f"{name}-f", activations.elementwise("f", name, activations.THREADS)) for name in names]
    return found + [(f"gelu-{code}", activations.elementwise(code, "gelu", activations.THREADS)) for code in "de"]


def ptx_of(kernel, cc):
    from numba import cuda, types

    try:
        bounds = (kernel.threads, kernel.blocks)
        return cuda.compile_ptx(kernel.function, types.void(*kernel.types), cc=cc, launch_bounds=bounds)[0]
    except Exception as error:
        if type(error).__name__ == "DynamicLibNotFoundError":
            pytest.skip(str(error).splitlines()[0])
        raise


def check(name, kernel, cc):
    ptx = ptx_of(kernel, cc)
    assert ".visible .entry" in ptx, name
    assert ".local" not in ptx, name
    if "-d" not in name and "-L" not in name:
        assert ".f64" not in ptx, name
    assert "div.u64" not in ptx, name
    assert "div.s64" not in ptx, name


def test_kernels_of_float32_compile():
    for name, kernel in kernels():
        if name in ("conv-f-32x64-False", "pack-f", "gather-I", "silu-f"):
            check(name, kernel, (8, 0))


@pytest.mark.slow
@pytest.mark.parametrize("cc", [(8, 0), (9, 0)])
def test_every_kernel_compiles(cc):
    for name, kernel in kernels():
        check(name, kernel, cc)
