"""Copies of one element and of whole vectors, merged into the loop that calls them."""

from __future__ import annotations

from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import Lanes, literals
from fastconv.kernels.cpu.row_ops import copy_row_twin

N = types.intp


@intrinsic(prefer_literal=True)
def _copy_element(typing, BITS, dst, src):
    """dst[0] = src[0]"""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        v.store_scalar(v.load_scalar(v.pointer(args[2])), v.pointer(args[1]))
        return context.get_dummy_value()

    return types.void(BITS, N, N), codegen


@intrinsic(prefer_literal=True)
def _copy_vectors(typing, BITS, NV, dst, src):
    """dst[i] = src[i] for the elements of NV vectors"""
    values = literals(BITS, NV)
    if values is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, values[0])
        dst, src = v.pointer(args[2]), v.pointer(args[3])
        for row in [(v.load(v.at(src, j * v.VL)), v.at(dst, j * v.VL)) for j in range(values[1])]:
            v.store(*row)
        return context.get_dummy_value()

    return types.void(BITS, NV, N, N), codegen


def copy_vectors_twin(BITS, NV, dst, src):
    """Python twin of `copy_vectors`."""
    copy_row_twin(BITS, dst, src, NV * targets.current().lanes(BITS))


def copy_element_twin(BITS, dst, src):
    """Python twin of `copy_element`."""
    copy_row_twin(BITS, dst, src, 1)


if config.DISABLE_JIT:
    copy_element, copy_vectors = copy_element_twin, copy_vectors_twin
else:
    copy_element, copy_vectors = _copy_element, _copy_vectors
