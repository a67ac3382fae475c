"""Problems of any dtype on kernels of five element types: what is converted, and complex numbers as real products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastconv.api.factors import rank_one_factors
from fastconv.epilogue import ACTIVATIONS
from fastconv.errors import UnsupportedError
from fastconv.system import cast, empty

# The arrays that one real convolution takes as its weight: the weight, or (column, row).
Product: TypeAlias = Sequence[np.ndarray]


class Job(NamedTuple):
    """A prepared problem of real elements and how arrays of other dtypes are brought to it.

    Half precision is converted to float32 at the edge and rounded once at the end; integers are summed modulo 2**n,
    n at least their bits, which wraps as their own arithmetic does; an `activation` of integers is applied after that.
    Complex arrays run as two real convolutions where one of them is real, else as three [1]_: with P = re*re, Q = im*im
    and R = (re + im)*(re + im), the result is (P - Q) + (R - P - Q)i. Its error grows with the larger of both parts, so
    `strict` takes the four of the definition.

    References
    ----------
    .. [1] N. J. Higham, Stability of a method for multiplying complex matrices with three real matrix multiplications,
       SIAM J. Matrix Anal. Appl. 13, 1992, doi:10.1137/0613043
    """

    # A convolution's or a transposed convolution's, prepared: of either, `run_once` computes one real product.
    prepared: Any
    element: np.dtype
    complex_input: bool
    complex_weight: bool
    strict: bool
    activation: str | None
    # Input and weight are bytes, and stay so; sums, bias and residual have the dtype of `prepared`.
    in_bytes: bool = False

    def weights(
        self, function: str, w: np.ndarray, factors: tuple[np.ndarray, np.ndarray] | None = None
    ) -> list[Product]:
        """Return the weight of each real convolution, in the element type."""
        separable = self.prepared.algorithm == "separable"
        if not (separable or self.complex_input or self.complex_weight):
            return [(w if w.dtype == self.element or self.in_bytes else w.astype(self.element),)]
        with np.errstate(all="ignore"):
            return self._derived_weights(function, w, factors, separable)

    def _derived_weights(
        self, function: str, w: np.ndarray, factors: tuple[np.ndarray, np.ndarray] | None, separable: bool
    ) -> list[Product]:
        if separable and self.complex_weight:
            raise UnsupportedError(
                f'{function}: algorithm "separable" refused: it takes real kernels, weight has dtype {w.dtype}; '
                "depthwise, im2col, direct can"
            )
        if separable and factors is not None:
            column, row = (np.ascontiguousarray(f, self.element) for f in factors)
            return [(column, row)] * (2 if self.complex_input else 1)
        parts = [w] if not self.complex_weight else [w.real, w.imag]
        if self.complex_input and self.complex_weight:
            parts = [w.real, w.imag, *((w.imag, w.real) if self.strict else (self._sum(w),))]
        real = [np.ascontiguousarray(part, self.element) for part in parts]
        products: list[Product] = [rank_one_factors(function, a) if separable else (a,) for a in real]
        return products * 2 if self.complex_input and not self.complex_weight else products

    def run(
        self,
        convolve: Callable[..., None],
        x: np.ndarray,
        weights: Sequence[Product],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Fill `out` by `convolve(x, weight, bias, residual, out)`, a method of `prepared`, for each of the weights."""
        if out.dtype.kind == "c":
            self._run_complex(convolve, x, weights, bias, residual, out)
            return
        element, wide = self.element, self.in_bytes and out.dtype.itemsize == 8
        if self.in_bytes:
            element = self.prepared.dtype
        else:
            x = cast(x, element)
        # Sums of bytes fit in 32 bits; of what is added to them that is not known.
        added = (None, None) if wide else (bias, residual)
        arrays = [None if a is None else a.astype(element, copy=False) for a in added]
        target = out if out.dtype == element else empty(out.shape, element)
        convolve(x, weights[0], *arrays, target)
        if target is not out:
            # Float16 overflows to infinity, as its own arithmetic does.
            with np.errstate(all="ignore"):
                out[...] = target
        if wide:
            self._add(out, bias, residual)
        if self.activation is not None:
            out[...] = ACTIVATIONS[self.activation](out)

    @np.errstate(all="ignore")
    def _run_complex(
        self,
        convolve: Callable[..., None],
        x: np.ndarray,
        weights: Sequence[Product],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        parts = [x.real, x.imag] if self.complex_input else [x] * len(weights)
        if self.complex_input and self.complex_weight:
            parts += parts if self.strict else [self._sum(x)]
        sums = []
        for part, weight in zip(parts, weights, strict=True):
            sums.append(empty(out.shape, self.element))
            convolve(np.ascontiguousarray(part, self.element), weight, None, None, sums[-1])
        out.real, out.imag = _combined(sums)
        if len(sums) == 3 and not np.isfinite(out).all():
            # Of three products more is not finite than of four: sums of parts overflow, and infinities cancel.
            for part, weight, target in ((x.real, weights[1], sums[2]), (x.imag, weights[0], np.empty_like(sums[2]))):
                convolve(np.ascontiguousarray(part, self.element), weight, None, None, target)
            out.real, out.imag = _combined([*sums, target])
        self._add(out, bias, residual)

    def _sum(self, z: np.ndarray) -> np.ndarray:
        """Return the sums of both parts, not rounded to fewer digits than sums of products are."""
        return np.add(z.real, z.imag, dtype=self.element)

    def _add(self, out: np.ndarray, bias: np.ndarray | None, residual: np.ndarray | None) -> None:
        if bias is not None:
            channels_first = self.prepared.geometry.layout == "channels_first"
            out += bias.reshape(-1, *[1] * self.prepared.geometry.axes) if channels_first else bias
        if residual is not None:
            out += residual


def _combined(sums: Sequence[np.ndarray]) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Return the real and the imaginary part from the real convolutions of `Job.weights`."""
    if len(sums) == 1:
        return sums[0], 0.0
    if len(sums) == 2:
        return sums[0], sums[1]
    if len(sums) == 3:
        return sums[0] - sums[1], sums[2] - sums[0] - sums[1]
    return sums[0] - sums[1], sums[2] + sums[3]
