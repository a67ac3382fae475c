"""The pullback of an activation: ``grad * f'(x)`` in one pass, as vectors.

One kernel an activation, since each is a few instructions. The derivatives are written so that no tail cancels:
sigmoid' = e / (1 + e)**2 with e = exp(-|x|), which PyTorch computes as y * (1 - y). Where a derivative is 0 by
definition, as that of relu, the gradient is 0 even if what comes from above is not finite. gelu' = Phi(x) + x * phi(x)
has the tail of Phi as a polynomial times exp(-x*x/2), which phi needs, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv._jit import njit
from fastconv.epilogue import LEAKY_SLOPE
from fastconv.kernels.cpu.activations import exp_parts
from fastconv.kernels.cpu.ir_builder import Lanes, literals
from fastconv.kernels.cpu.memory import elements
from fastconv.kernels.cpu.program import Program
from fastconv.kernels.cpu.row_ops import each_vector
from fastconv.kernels.reference import grad as reference

N = types.intp

# Elements of a task.
BLOCK = 4096

# exp(z*z) * erfc(z) / t as a polynomial in 2*t - 1, t = 3 / (3 + z): Chebyshev fits, relative errors 1e-8 and 3e-15.
# fmt: off
_SCALED_TAIL = {
    32: (
        0.3580023041045046, 0.29446481506229444, 0.1967426585347004, 0.10348916310363986, 0.03984410023022301,
        0.008941790037711348, -0.00041079034721675173, -0.0010091414858811312, -0.0001692835261658615,
        8.832780756899579e-05, 2.2609878525984694e-05, -6.551970299014129e-06,
    ),
    64: (
        0.3580023023627796, 0.2944648177232965, 0.19674278570141135, 0.10348908730000414, 0.039842587094740194,
        0.008942411545392045, -0.00040413886433117186, -0.001011354038781478, -0.00018276997405457747,
        9.225950033545992e-05, 3.585416763672052e-05, -1.0133513151783618e-05, -5.824528326919478e-06,
        1.5850013306034259e-06, 9.238246506102123e-07, -3.361551468904443e-07, -1.3874361762705105e-07,
        8.139904203118576e-08, 1.7816210011513444e-08, -1.9410487346982414e-08, -1.6974835746414827e-09,
        3.817915440607913e-09, 9.834540161127527e-11, -4.2770809741153424e-10,
    ),
}
# fmt: on

# exp(-x) is 0 beyond these.
_VANISHES = {32: 104.0, 64: 746.0}


def _tail(v: Lanes, z: Any) -> Any:
    """Return exp(-|z|)."""
    distance = v.call("fabs", [z])
    s, t, p = exp_parts(v, v.b.fmul(distance, v.splat(-1.0)))
    e = v.b.fmul(v.fma(s, p, s), t)
    return v.b.select(v.b.fcmp_ordered(">", distance, v.splat(_VANISHES[v.bits])), v.zero, e)


def _halves(v: Lanes, z: Any) -> tuple[Any, Any]:
    """Return sigmoid(z) and sigmoid(-z)."""
    b, e = v.b, _tail(v, z)
    large = b.fdiv(v.splat(1.0), b.fadd(v.splat(1.0), e))
    small = b.fmul(e, large)
    negative = b.fcmp_ordered("<", z, v.zero)
    return b.select(negative, small, large), b.select(negative, large, small)


def _relu(v: Lanes, g: Any, x: Any) -> Any:
    return v.b.select(v.b.fcmp_ordered("<=", x, v.zero), v.zero, g)


def _relu6(v: Lanes, g: Any, x: Any) -> Any:
    return v.b.select(v.b.fcmp_ordered(">=", x, v.splat(6.0)), v.zero, _relu(v, g, x))


def _leaky_relu(v: Lanes, g: Any, x: Any) -> Any:
    return v.b.select(v.b.fcmp_ordered(">", x, v.zero), g, v.b.fmul(g, v.splat(LEAKY_SLOPE)))


def _sigmoid(v: Lanes, g: Any, x: Any) -> Any:
    one, other = _halves(v, x)
    return v.b.fmul(g, v.b.fmul(one, other))


def _tanh(v: Lanes, g: Any, x: Any) -> Any:
    return v.b.fmul(_sigmoid(v, g, v.b.fadd(x, x)), v.splat(4.0))


def _silu(v: Lanes, g: Any, x: Any) -> Any:
    gate, rest = _halves(v, x)
    return v.b.fmul(g, v.b.fmul(gate, v.fma(x, rest, v.splat(1.0))))


def _gelu(v: Lanes, g: Any, x: Any) -> Any:
    b, one = v.b, v.splat(1.0)
    distance = b.fmul(v.call("fabs", [x]), v.splat(math.sqrt(0.5)))
    t = b.fdiv(v.splat(3.0), b.fadd(v.splat(3.0), distance))
    s = v.fma(t, v.splat(2.0), v.splat(-1.0))
    terms = _SCALED_TAIL[v.bits]
    q = v.splat(terms[-1])
    for term in terms[-2::-1]:
        q = v.fma(q, s, v.splat(term))
    e = _tail(v, b.fmul(distance, distance))
    tail = b.fmul(b.fmul(e, v.splat(0.5)), b.fmul(t, q))
    distribution = b.select(b.fcmp_ordered("<", x, v.zero), tail, b.fsub(one, tail))
    return b.fmul(g, v.fma(b.fmul(x, e), v.splat(1 / math.sqrt(2 * math.pi)), distribution))


def _gelu_tanh(v: Lanes, g: Any, x: Any) -> Any:
    b, scale, cube = v.b, 2 * math.sqrt(2 / math.pi), 0.044715
    square = b.fmul(x, x)
    inner = b.fmul(b.fmul(v.splat(scale), x), v.fma(v.splat(cube), square, v.splat(1.0)))
    gate, rest = _halves(v, inner)
    slope = v.fma(v.splat(3 * cube * scale), square, v.splat(scale))
    return b.fmul(g, v.fma(b.fmul(x, b.fmul(gate, rest)), slope, gate))


def _hardswish(v: Lanes, g: Any, x: Any) -> Any:
    b = v.b
    middle = b.fmul(g, b.fadd(b.fdiv(x, v.splat(3.0)), v.splat(0.5)))
    y = b.select(b.fcmp_ordered(">=", x, v.splat(3.0)), g, middle)
    return b.select(b.fcmp_ordered("<=", x, v.splat(-3.0)), v.zero, y)


_FORMULAS: dict[str, Callable[[Lanes, Any, Any], Any]] = {
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hardswish": _hardswish,
}
NAMES = tuple(_FORMULAS)


@intrinsic(prefer_literal=True)
def _pull_row(typing, BITS, INDEX, out, grad, x, n):
    """out[0:n] = grad[0:n] * derivative of activation INDEX at x[0:n]"""
    value = literals(BITS, INDEX)
    if value is None:
        return None
    bits, name = value[0], NAMES[value[1]]

    def codegen(context, builder, signature, args):
        v = Lanes(builder, bits)
        out, grad, x = (v.pointer(args[i]) for i in (2, 3, 4))

        def emit(i, row):
            row.store(_FORMULAS[name](v, row.load(v.at(grad, i)), row.load(v.at(x, i))), v.at(out, i))

        each_vector(v, args[5], emit)
        return context.get_dummy_value()

    return types.void(BITS, INDEX, N, N, N, N), codegen


def pull_row_twin(BITS, INDEX, out, grad, x, n):
    """Python twin of `pull_row`."""
    grad, x = elements(BITS, grad, n), elements(BITS, x, n)
    elements(BITS, out, n)[:] = reference.pullback(NAMES[INDEX], grad, x)


pull_row = pull_row_twin if config.DISABLE_JIT else _pull_row


@lru_cache(maxsize=128)
def build(name: str, dtype: str, size: int) -> Program:
    """Return the program that pulls `size` floats back through an activation; io = (grad, x, out)."""
    bits = 8 * np.dtype(dtype).itemsize
    return Program(_kernel(bits, NAMES.index(name)), np.array([size], np.int64), -(-size // BLOCK), 0, ())


@cache
def _kernel(BITS: int, INDEX: int) -> Any:
    size = BITS // 8

    @njit(fastmath=False)
    def pull(g, io, scratch, lo, hi):
        """Tasks are blocks of BLOCK elements."""
        first, end = lo * BLOCK, min(hi * BLOCK, g[0])
        pull_row(BITS, INDEX, io[2] + size * first, io[0] + size * first, io[1] + size * first, end - first)

    return pull
