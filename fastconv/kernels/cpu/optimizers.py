"""The steps of optimizers: one pass over weights, gradients and running means, in vectors.

A task is a block of BLOCK elements of one of the weights, of which a table in g tells the sizes and addresses. The
operations are elementwise and IEEE's own, in a fixed order, so neither threads nor blocks change a bit. Running means
below the smallest normal number become 0: once a gradient is gone they would decay through the denormals, with which
CPUs compute up to a hundred times slower. Formulas: Keras 3's `Adam` and `SGD`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv._jit import njit
from fastconv.kernels.cpu.ir_builder import Lanes, literals
from fastconv.kernels.cpu.memory import elements
from fastconv.kernels.cpu.program import Program
from fastconv.kernels.cpu.row_ops import each_vector

N = types.intp
# 16 kB in float32.
BLOCK = 4096

# Of each weight, g has the first block, the size, and the addresses of weight, first and second mean; then COUNT.
FIELDS = 5

# Formula -> how many coefficients and running means it has.
KINDS = {"descent": (1, 0), "momentum": (4, 1), "adam": (4, 2)}
NAMES = tuple(KINDS)


class Steps(NamedTuple):
    """A program over some weights, and how many coefficients it reads."""

    program: Program
    coefficients: int


def build(kind: str, dtype: str, table: tuple[tuple[int, ...], ...]) -> Steps:
    """Return the step for weights (size, address of the weight, addresses of its means).

    io = (coefficients, gradient of each weight).
    """
    coefficients, means = KINDS[kind]
    blocks, rows = 0, []
    for size, *addresses in table:
        rows += [blocks, size, *addresses, *[0] * (2 - means)]
        blocks += -(-size // BLOCK)
    g = np.array([len(table), *rows], np.int64)
    return Steps(Program(_kernel(8 * np.dtype(dtype).itemsize, NAMES.index(kind)), g, blocks, 0, ()), coefficients)


@cache
def _kernel(BITS: int, KIND: int) -> Any:
    element = BITS // 8

    @njit(fastmath=False)
    def step(g, io, scratch, lo, hi):
        """Tasks are blocks of the weights, one weight after the other."""
        w = 0
        for block in range(lo, hi):
            while w + 1 < g[0] and g[1 + FIELDS * (w + 1)] <= block:
                w += 1
            row = 1 + FIELDS * w
            first = (block - g[row]) * BLOCK
            n, at = min(BLOCK, g[row + 1] - first), first * element
            update(BITS, KIND, g[row + 2] + at, g[row + 3] + at, g[row + 4] + at, io[1 + w] + at, io[0], n)

    return step


def _flushed(v: Lanes, x: Any) -> Any:
    """Return x, 0 where it is denormal; NaN stays."""
    tiny = v.splat(float(np.finfo(f"f{v.bits // 8}").tiny))
    return v.b.select(v.b.fcmp_ordered("<", v.call("fabs", [x]), tiny), v.zero, x)


def _descent(v: Lanes, c: Any, p: Any, means: list[Any], g: Any) -> tuple[Any, ...]:
    return (v.b.fsub(p, v.b.fmul(c[0], g)),)


def _momentum(v: Lanes, c: Any, p: Any, means: list[Any], g: Any) -> tuple[Any, ...]:
    b = v.b
    m = _flushed(v, b.fsub(b.fmul(c[1], means[0]), b.fmul(c[0], g)))
    return b.fadd(p, b.fsub(b.fmul(c[2], m), b.fmul(c[3], g))), m


def _adam(v: Lanes, c: Any, p: Any, means: list[Any], g: Any) -> tuple[Any, ...]:
    b, (m, s) = v.b, means
    m = _flushed(v, b.fadd(m, b.fmul(b.fsub(g, m), c[1])))
    s = _flushed(v, b.fadd(s, b.fmul(b.fsub(b.fmul(g, g), s), c[2])))
    change = b.fdiv(b.fmul(m, c[0]), b.fadd(v.call("sqrt", [s]), c[3]))
    return b.fsub(p, change), m, s


_FORMULAS = (_descent, _momentum, _adam)


@intrinsic(prefer_literal=True)
def _update(typing, BITS, KIND, weight, first, second, gradient, coefficients, n):
    """Step n elements of a weight and its means by formula KIND."""
    values = literals(BITS, KIND)
    if values is None:
        return None
    bits, kind = values
    count, means = KINDS[NAMES[kind]]

    def codegen(context, builder, signature, args):
        v = Lanes(builder, bits)
        arrays = [v.pointer(args[2 + i]) for i in range(1 + means)]
        gradient, table = v.pointer(args[5]), v.pointer(args[6])
        c = [v.broadcast(v.load_scalar(v.at(table, i))) for i in range(count)]

        def one(i, row):
            p, *kept = (row.load(v.at(a, i)) for a in arrays)
            for value, a in zip(_FORMULAS[kind](v, c, p, kept, row.load(v.at(gradient, i))), arrays, strict=True):
                row.store(value, v.at(a, i))

        each_vector(v, args[7], one, repeatable=False)
        return context.get_dummy_value()

    return types.void(BITS, KIND, *[N] * 6), codegen


@np.errstate(all="ignore")
def update_twin(BITS, KIND, weight, first, second, gradient, coefficients, n):
    """Python twin of `update`."""
    count, means = KINDS[NAMES[KIND]]
    p, *kept = (elements(BITS, a, n) for a in (weight, first, second)[: 1 + means])
    g, c = elements(BITS, gradient, n), elements(BITS, coefficients, count)
    tiny = np.finfo(p.dtype).tiny

    def flushed(x):
        return np.where(np.abs(x) < tiny, p.dtype.type(0), x)

    if KIND == 0:
        p -= c[0] * g
    elif KIND == 1:
        kept[0][:] = flushed(c[1] * kept[0] - c[0] * g)
        p += c[2] * kept[0] - c[3] * g
    else:
        kept[0][:] = flushed(kept[0] + (g - kept[0]) * c[1])
        kept[1][:] = flushed(kept[1] + (g * g - kept[1]) * c[2])
        p -= kept[0] * c[0] / (np.sqrt(kept[1]) + c[3])


update = update_twin if config.DISABLE_JIT else _update
