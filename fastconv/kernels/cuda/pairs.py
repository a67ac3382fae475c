"""Two elements in one load."""

from __future__ import annotations

from numba import types

from fastconv.kernels.cuda.runtime import SIMULATED

if SIMULATED:

    def load2(array, i):
        """array[i], array[i + 1], at a multiple of two elements, which no kernel writes meanwhile"""
        return array[int(i)], array[int(i) + 1]

else:
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
