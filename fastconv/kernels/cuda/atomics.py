"""Integer atomics through pointers, which Numba has for arrays only; their Python twins for the simulator."""

from __future__ import annotations

from numba import types

from fastconv.kernels.cuda.runtime import SIMULATED

if SIMULATED:
    from threading import Lock

    _lock = Lock()

    def atomic_max(array, i, value):
        """array[i] = max(array[i], value)"""
        with _lock:
            array[int(i)] = max(array[int(i)], value)

    def atomic_exchange(array, i, value):
        """array[i] = value, and return what was there"""
        with _lock:
            former = array[int(i)]
            array[int(i)] = value
        return former

else:
    from numba.cuda.extending import intrinsic

    from fastconv.kernels.cuda.memory import U32, address

    @intrinsic
    def atomic_max(typing, array, i, value):
        """array[i] = max(array[i], value)"""

        def codegen(context, builder, signature, args):
            place = address(context, builder, signature.args[0], args[0], args[1])
            builder.atomic_rmw("umax", place, args[2], "monotonic")
            return context.get_dummy_value()

        return types.void(array, U32, U32), codegen

    @intrinsic
    def atomic_exchange(typing, array, i, value):
        """array[i] = value, and return what was there"""

        def codegen(context, builder, signature, args):
            place = address(context, builder, signature.args[0], args[0], args[1])
            return builder.atomic_rmw("xchg", place, args[2], "monotonic")

        return U32(array, U32, U32), codegen
