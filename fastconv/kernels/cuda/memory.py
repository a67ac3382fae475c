"""Loads that a kernel's Python cannot say: through the read-only cache, of 16 bytes, and from base + constant.

Each has a Python twin of the same name for the simulator. An element type is named by the letter of its NumPy dtype:
"e", "f" and "d" are floats of 2, 4 and 8 bytes, "i" and "l" integers of 4 and 8. Half precision is only stored: sums
are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types

from fastconv.kernels.cuda.runtime import SIMULATED

ELEMENT = {
    "b": types.int8,
    "B": types.uint8,
    "h": types.int16,
    "H": types.uint16,
    "i": types.int32,
    "I": types.uint32,
    "l": types.int64,
    "L": types.uint64,
    "e": types.float16,
    "f": types.float32,
    "d": types.float64,
}
# In what a kernel computes.
REAL = {"e": types.float32, "f": types.float32, "d": types.float64, "i": types.int32, "l": types.int64}
REAL_CODE = {"e": "f", "f": "f", "d": "d", "i": "i", "l": "l"}
# NumPy's letters of these depend on the system.
_NAMES = {"i": "int32", "I": "uint32", "l": "int64", "L": "uint64"}
_CODES = {name: code for code, name in _NAMES.items()}
# For shared memory that is read in vectors; the simulator takes no alignment.
ALIGNMENT = None if SIMULATED else 16

U32 = types.uint32


def pointer(code: str) -> Any:
    """Return the type of a pointer to elements."""
    return types.CPointer(ELEMENT[code])


if SIMULATED:
    if "numba_cuda" not in str(cuda.__file__):
        from numba.cuda.simulator.kernelapi import FakeCUDAShared

        _array = FakeCUDAShared.array

        # The simulator that comes with Numba does not know the keyword. It tells arrays apart by the line of the call,
        # which is now here: a kernel has one.
        FakeCUDAShared.array = lambda self, shape, dtype, alignment=None: _array(self, shape, dtype)

    def as_real(bits):
        """The float32 of 32 bits"""
        return np.uint32(bits).view(np.float32)

    def as_bits(x):
        """The 32 bits of a float32"""
        return np.float32(x).view(np.uint32)

    def load(array, i):
        """array[i], which no kernel writes meanwhile"""
        return array[int(i)]

    def load2(array, i, OFFSET):
        """array[i + OFFSET : +2], at a multiple of 8 bytes, which no kernel writes meanwhile"""
        at = int(i) + OFFSET
        return array[at], array[at + 1]

    def load4(array, i, OFFSET):
        """array[i + OFFSET : +4], at a multiple of 16 bytes, which no kernel writes meanwhile"""
        at = int(i) + OFFSET
        return array[at], array[at + 1], array[at + 2], array[at + 3]

    def store_at(array, i, OFFSET, value):
        """array[i + OFFSET] = value"""
        array[int(i) + OFFSET] = value

    def store4(array, i, OFFSET, a, b, c, d):
        """array[i + OFFSET : +4] = a, b, c, d, at a multiple of 16 bytes"""
        for k, value in enumerate((a, b, c, d)):
            array[int(i) + OFFSET + k] = value

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    I32, I64 = ir.IntType(32), ir.IntType(64)

    def address(context: Any, builder: Any, kind: Any, value: Any, index: Any = None, offset: Any = None) -> Any:
        """Return a pointer to element index + offset: the index is extended once, the constant can be an immediate."""
        is_pointer = isinstance(kind, types.CPointer)
        place = value if is_pointer else context.make_array(kind)(context, builder, value).data
        for part in (index, offset):
            if part is not None:
                place = builder.gep(place, [part if part.type == I64 else builder.zext(part, I64)])
        return place

    def read_only(builder: Any, place: Any, lanes: int = 1) -> Any:
        """Return an element, or a vector of 16 bytes, of global memory, by ld.global.nc."""
        element = place.type.pointee
        kind = element if lanes == 1 else ir.VectorType(element, lanes)
        place = builder.addrspacecast(builder.bitcast(place, kind.as_pointer()), kind.as_pointer(1))
        value = builder.load(place)
        value.align = _bytes(element) * lanes
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    def _bytes(element: Any) -> int:
        widths = {"half": 2, "float": 4, "double": 8}
        return widths.get(str(element)) or element.width // 8

    def lanes_of(builder: Any, load: Any, place: Any) -> list[Any]:
        """Return 4 elements, in as few vectors of 16 bytes as hold them."""
        lanes = min(4, 16 // _bytes(place.type.pointee))
        values = []
        for first in range(0, 4, lanes):
            vector = load(builder, builder.gep(place, [I64(first)]), lanes)
            values += [builder.extract_element(vector, I32(k)) for k in range(lanes)]
        return values

    def _bitcast(source: Any, target: Any, doc: str) -> Any:
        def change(typing, x):
            def codegen(context, builder, signature, args):
                return builder.bitcast(args[0], context.get_value_type(target))

            return target(source), codegen

        change.__doc__ = doc
        return intrinsic(change)

    as_real = _bitcast(types.uint32, types.float32, "the float32 of 32 bits")
    as_bits = _bitcast(types.float32, types.uint32, "the 32 bits of a float32")

    @intrinsic
    def load(typing, array, i):
        """array[i], which no kernel writes meanwhile"""

        def codegen(context, builder, signature, args):
            return read_only(builder, address(context, builder, signature.args[0], args[0], args[1]))

        return array.dtype(array, U32), codegen

    @intrinsic
    def load2(typing, array, i, OFFSET):
        """array[i + OFFSET : +2], at a multiple of 8 bytes, which no kernel writes meanwhile"""

        def codegen(context, builder, signature, args):
            vector = read_only(builder, address(context, builder, signature.args[0], *args), 2)
            values = [builder.extract_element(vector, I32(k)) for k in range(2)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(array.dtype, 2)(array, U32, types.int64), codegen

    @intrinsic
    def load4(typing, array, i, OFFSET):
        """array[i + OFFSET : +4], at a multiple of 16 bytes, which no kernel writes meanwhile"""

        def codegen(context, builder, signature, args):
            values = lanes_of(builder, read_only, address(context, builder, signature.args[0], *args))
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(array.dtype, 4)(array, U32, types.int64), codegen

    @intrinsic
    def store_at(typing, array, i, OFFSET, value):
        """array[i + OFFSET] = value"""

        def codegen(context, builder, signature, args):
            builder.store(args[3], address(context, builder, signature.args[0], *args[:3]))
            return context.get_dummy_value()

        return types.void(array, U32, types.int64, array.dtype), codegen

    @intrinsic
    def store4(typing, array, i, OFFSET, a, b, c, d):
        """array[i + OFFSET : +4] = a, b, c, d, at a multiple of 16 bytes"""

        def codegen(context, builder, signature, args):
            place = address(context, builder, signature.args[0], *args[:3])
            lanes = min(4, 16 // _bytes(place.type.pointee))
            for first in range(0, 4, lanes):
                vector = ir.Constant(ir.VectorType(place.type.pointee, lanes), ir.Undefined)
                for k in range(lanes):
                    vector = builder.insert_element(vector, args[3 + first + k], I32(k))
                at = builder.bitcast(builder.gep(place, [I64(first)]), vector.type.as_pointer())
                builder.store(vector, at, align=16)
            return context.get_dummy_value()

        return types.void(array, U32, types.int64, *[array.dtype] * 4), codegen


def as_dtype(code: str) -> np.dtype:
    """Return the NumPy dtype of an element."""
    return np.dtype(_NAMES.get(code, code))


def code_of(dtype: np.dtype) -> str:
    """Return the letter of a dtype, the same on every system."""
    return _CODES.get(dtype.name, dtype.char)


def device(function: Any) -> Any:
    """Decorate a function that is merged into the kernels that call it."""
    return function if SIMULATED else cuda.jit(device=True, inline="always")(function)
