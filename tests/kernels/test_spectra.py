"""Products of spectra against their Python twin and the definition, over ragged numbers of everything."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.kernels.cpu import spectra, target
from fastconv.kernels.cpu.program import address, table

TILES = [pytest.param((2, 2), marks=pytest.mark.targets), (3, 4), (4, 1)]


def vectors_of(spectrum, VL):
    """Return spectra (rows, columns, frequencies) as vectors (vectors, rows, columns, VL), the last one overlapping."""
    numbers = spectrum.view(spectrum.real.dtype)
    n = numbers.shape[-1]
    starts = [min(i, n - VL) for i in range(0, n, VL)]
    return np.ascontiguousarray([numbers[..., i : i + VL] for i in starts])


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("tile", TILES)
def test_contraction_is_a_matrix_product_at_each_frequency(tile, bits):
    rng, VL = np.random.default_rng(bits), target.current().lanes(bits)
    kernel = spectra.contraction(bits, *tile, VL)
    for OC, IC, T, F, together in ((1, 1, 1, VL // 2, 1), (2, 3, 5, VL + 3, 2), (7, 2, 4, 3 * VL // 2 + 1, 8)):
        w, x = (
            (rng.integers(-4, 5, (*shape, F)) + 1j * rng.integers(-4, 5, (*shape, F))).astype(f"c{bits // 4}")
            for shape in ((OC, IC), (IC, T))
        )
        ws, xs = vectors_of(w, VL), vectors_of(x, VL)
        y = np.full((OC, T, 2 * F), np.nan, f"f{bits // 8}")
        g = table((OC, IC, T, 2 * F, ws[0].nbytes, xs[0].nbytes, len(ws), together))
        kernel(g, table(map(address, (ws, xs, y))), 0, 0, -(-len(ws) // together))
        np.testing.assert_array_equal(y.view(w.dtype), np.einsum("oif,itf->otf", w, x))
        twin = np.full_like(y, np.nan)
        for f, start in enumerate(min(i, 2 * F - VL) for i in range(0, 2 * F, VL)):
            w_at, x_at, y_at = address(ws[f]), address(xs[f]), address(twin) + start * bits // 8
            one, two = (w_at, IC * VL, VL, 0, OC - 1), (x_at, VL, T * VL, 0, T - 1)
            spectra.contract_twin(OC, T, bits, *one, *two, IC, y_at, T * 2 * F, 2 * F)
        np.testing.assert_array_equal(twin, y)
