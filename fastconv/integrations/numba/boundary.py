"""From nopython code to Python and back: an intrinsic that boxes the arguments, makes a call and unboxes the result.

Numba's own ``objmode`` does the same, but not in ``prange``, and what it raises inside ``try`` is lost and leaves
garbage as the result. Here the intrinsic returns whether the call failed, so that nopython code can raise.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from fastconv.integrations.numba.calls import Call, keep


def caller(call: Call, result: types.Type) -> Any:
    """Return an intrinsic of one tuple, the arguments of `call`, which returns (failed, result)."""

    @intrinsic
    def boundary(context, values):
        def generate(target, builder, sig, args):
            return _Boundary(target, builder).cross(call, sig.args[0], args[0], sig.return_type)

        return signature(types.Tuple((types.boolean, result)), values), generate

    return boundary


class _Boundary:
    """The code of one call, with the GIL."""

    def __init__(self, target: Any, builder: Any):
        self.target = target
        self.builder = builder
        self.api = target.get_python_api(builder)
        # Where boxing finds dtypes; not inside the GIL, since this returns if there are none.
        self.environment = target.get_env_manager(builder)
        self.failed = cgutils.alloca_once_value(builder, cgutils.true_bit)

    def cross(self, call: Call, types_of: types.BaseTuple, values: Any, returned: types.BaseTuple) -> Any:
        builder, api = self.builder, self.api
        result = returned[1]
        # Where the call fails this stays null, which is nothing to release.
        slot = cgutils.alloca_once(builder, self.target.get_value_type(result), zfill=True)
        gil = api.gil_ensure()
        # Behind a parallel loop in which something failed, Python has an exception already.
        before = self.taken_error()
        objects = [self.boxed(kind, builder.extract_value(values, i)) for i, kind in enumerate(types_of)]
        with builder.if_then(self.all_there(objects), likely=True):
            function = self.function(call)
            with builder.if_then(self.all_there([function]), likely=True):
                made = api.call_function_objargs(function, objects)
                with builder.if_then(self.all_there([made]), likely=True):
                    self.unboxed(result, made, slot)
        for item in objects:
            api.decref(item)
        with builder.if_then(builder.load(self.failed), likely=False):
            self.keep_error()
        api.err_restore(*map(builder.load, before))
        api.gil_release(gil)
        failed = self.target.cast(builder, builder.load(self.failed), types.boolean, types.boolean)
        return self.target.make_tuple(builder, returned, [failed, builder.load(slot)])

    def boxed(self, kind: types.Type, value: Any) -> Any:
        """Return a new Python object."""
        if isinstance(kind, types.Array):
            return self.boxed_array(kind, value)
        # Boxing takes over a reference.
        self.target.nrt.incref(self.builder, kind, value)
        return self.api.from_native_value(kind, value, self.environment)

    def boxed_array(self, kind: types.Array, value: Any) -> Any:
        """Return the array that came from Python, or a new one of the same memory.

        As Numba does it, but for the class: that unpickles it for each array, which takes a microsecond.
        """
        builder, api = self.builder, self.api
        cls, dtype = (self.constant(each) for each in (kind.box_type, as_dtype(kind.dtype)))
        integer = ir.IntType(32)
        adapt = ir.FunctionType(api.pyobj, [api.voidptr, api.pyobj, integer, integer, api.pyobj])
        address = builder.bitcast(cgutils.alloca_once_value(builder, value), api.voidptr)
        numbers = (integer(kind.ndim), integer(int(kind.mutable)))
        function = api._get_function(adapt, "NRT_adapt_ndarray_to_python_acqref")
        return builder.call(function, [address, cls, *numbers, dtype])

    def constant(self, value: Any) -> Any:
        """Return a Python object that the function keeps alive."""
        return self.environment.read_const(self.environment.add_const(value))

    def unboxed(self, kind: types.Type, made: Any, slot: Any) -> None:
        native = self.api.to_native_value(kind, made)
        self.api.decref(made)
        with self.builder.if_then(self.builder.not_(native.is_error), likely=True):
            self.builder.store(native.value, slot)
            self.builder.store(cgutils.false_bit, self.failed)

    def all_there(self, objects: list[Any]) -> Any:
        there = cgutils.true_bit
        for item in objects:
            there = self.builder.and_(there, cgutils.is_not_null(self.builder, item))
        return there

    def function(self, call: Call) -> Any:
        """Return the Python function of a call, made when it is first needed in a process; null if it cannot be."""
        builder, api = self.builder, self.api
        # Null in the code that Numba keeps on disk: no address of this process is compiled in.
        known = ir.GlobalVariable(builder.module, api.pyobj, builder.module.get_unique_name("fastconv_call"))
        known.initializer = ir.Constant(api.pyobj, None)
        known.linkage = "internal"
        with builder.if_then(cgutils.is_null(builder, builder.load(known)), likely=False):
            builder.store(self.unpickled(call), known)
        return builder.load(known)

    def unpickled(self, value: Any) -> Any:
        return self.api.unserialize(self.api.serialize_object(value))

    def taken_error(self) -> list[Any]:
        """Return where the type, value and traceback of Python's exception are, which it has no longer; or nulls."""
        parts = [cgutils.alloca_once(self.builder, self.api.pyobj, zfill=True) for _ in range(3)]
        self.api.err_fetch(*parts)
        return parts

    def keep_error(self) -> None:
        """Give the error that Python has set in this thread to `keep`."""
        builder, api = self.builder, self.api
        parts = self.taken_error()
        normalize = ir.FunctionType(ir.VoidType(), [api.pyobj.as_pointer()] * 3)
        builder.call(api._get_function(normalize, "PyErr_NormalizeException"), parts)
        kind, error, frames = (builder.load(part) for part in parts)
        with builder.if_then(cgutils.is_not_null(builder, frames)):
            attach = ir.FunctionType(ir.IntType(32), [api.pyobj] * 2)
            builder.call(api._get_function(attach, "PyException_SetTraceback"), [error, frames])
        kept = self.unpickled(keep)
        with builder.if_then(self.all_there([kept, error])):
            api.decref(api.call_function_objargs(kept, [error]))
            api.decref(kept)
        for item in (kind, error, frames):
            api.decref(item)
