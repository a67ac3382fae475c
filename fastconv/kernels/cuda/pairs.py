"""Two elements in one load or store."""

from __future__ import annotations

from numba import types

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.runtime import SIMULATED

if SIMULATED:

    def load2(array, i):
        """array[i], array[i + 1], at a multiple of two elements, which no kernel writes meanwhile"""
        return array[int(i)], array[int(i) + 1]

    def store2(array, i, a, b):
        """array[i], array[i + 1] = a, b, at a multiple of two elements"""
        array[int(i)], array[int(i) + 1] = a, b

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import I32, U32, address, read_only

    @intrinsic
    def load2(typing, array, i):
        """array[i], array[i + 1], at a multiple of two elements, which no kernel writes meanwhile"""

        def codegen(context, builder, signature, args):
            vector = read_only(builder, address(context, builder, signature.args[0], args[0], args[1]), 2)
            values = [builder.extract_element(vector, I32(k)) for k in range(2)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(array.dtype, 2)(array, U32), codegen

    @intrinsic
    def store2(typing, array, i, a, b):
        """array[i], array[i + 1] = a, b, at a multiple of two elements"""

        def codegen(context, builder, signature, args):
            place = address(context, builder, signature.args[0], args[0], args[1])
            vector = ir.Constant(ir.VectorType(place.type.pointee, 2), ir.Undefined)
            for k in range(2):
                vector = builder.insert_element(vector, args[2 + k], I32(k))
            size = array.dtype.bitwidth // 4
            builder.store(vector, builder.bitcast(place, vector.type.as_pointer()), align=size)
            return context.get_dummy_value()

        return types.void(array, U32, array.dtype, array.dtype), codegen


def in_pairs(x: Buffer) -> bool:
    """Return whether the rows of an array (P, D, H, W, L) are made of aligned pairs of elements."""
    even = all(step % 2 == 0 or n == 1 for n, step in zip(x.shape[:3], x.strides[:3], strict=True))
    aligned = not isinstance(x.pointer, int) or x.pointer % (2 * x.dtype.itemsize) == 0
    return x.strides[3] == 1 and x.shape[3] % 2 == 0 and even and aligned
