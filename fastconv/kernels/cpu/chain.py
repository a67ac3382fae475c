"""Two kernels in a row on bands of rows: what the first makes of a band stays in cache until the second has used it.

The first one writes a band of its output, all channels, to a buffer in scratch; the second one reads it there. Kernels
are called by their address, so this one is compiled once, whatever they are. A band is a run of tasks of the first
kernel, whose output address is moved so that the band falls on the buffer; it is the whole input of the second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv._jit import njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu import window_fields
from fastconv.kernels.cpu.ir_builder import I32
from fastconv.kernels.cpu.program import Kernel, Program, aligned

N = types.intp
SIGNATURE = (types.int64[::1], types.int64[::1], N, N, N)

# Fields of g, before those of the first kernel and, from SECOND_AT on, of the second: bands of an image; byte offset of
# the buffer in the scratch; addresses of the kernels; tasks of a band; bytes from image to image and from band to band
# of the first's output as it is in the buffer, and of the second's; flags of a band; the second one of the last band;
# POOL: it is one of windows.
NAMES = (
    *("BANDS", "BUFFER_AT", "FIRST", "SECOND", "FIRST_TASKS", "SECOND_TASKS", "IMAGE", "BAND", "OUT_IMAGE", "OUT_BAND"),
    *("FLAGS", "LAST", "LAST_TASKS", "LAST_AT", "POOL", "SECOND_AT"),
)
(
    BANDS, BUFFER_AT, FIRST, SECOND, FIRST_TASKS, SECOND_TASKS, IMAGE, BAND, OUT_IMAGE, OUT_BAND, FLAGS,
    LAST, LAST_TASKS, LAST_AT, POOL, SECOND_AT,
) = range(len(NAMES))  # fmt: skip
FIRST_AT = len(NAMES)
# Behind the fields of a convolution in io: weight and bias of the second.
WEIGHT_2, BIAS_2 = len(F.IO_NAMES), len(F.IO_NAMES) + 1


@intrinsic
def _call_kernel(typing, address, g, io, scratch, lo, hi):
    """Call the compiled kernel at an address; Numba's own calling convention, no exceptions."""

    def codegen(context, builder, signature, args):
        flat = list(context.get_arg_packer(signature.args[1:]).as_arguments(builder, args[1:]))
        kind = ir.FunctionType(I32, [ir.PointerType(), ir.PointerType(), *(a.type for a in flat)])
        ignored = cgutils.alloca_once(builder, ir.PointerType())
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [ignored, ignored, *flat])
        return context.get_dummy_value()

    return types.void(N, g, io, N, N, N), codegen


# Kernels of the plain-Python mode, by the number that stands for their address.
PYTHON_KERNELS: dict[int, Callable[..., None]] = {}


def call_kernel_twin(address, g, io, scratch, lo, hi):
    """Python twin of `call_kernel`."""
    PYTHON_KERNELS[address](g, io, scratch, lo, hi)


call_kernel = call_kernel_twin if config.DISABLE_JIT else _call_kernel


@cache
def kernel_address(kernel: Any) -> int:
    """Return the address of a kernel, compiled or loaded now; the cache keeps it alive."""
    if config.DISABLE_JIT:
        PYTHON_KERNELS[id(kernel)] = kernel
        return id(kernel)
    kernel.compile(SIGNATURE)
    result = kernel.overloads[SIGNATURE]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


@cache
def kernel() -> Any:
    """Return the kernel of chains."""

    @njit()
    def chain(g, io, scratch, lo, hi):
        """Tasks are [image][band]."""
        first, second = np.zeros(len(F.IO_NAMES), np.int64), np.zeros(len(F.IO_NAMES), np.int64)
        buffer = scratch + g[BUFFER_AT]
        for t in range(lo, hi):
            image, band = t // g[BANDS], t % g[BANDS]
            first[: len(F.IO_NAMES)] = io[: len(F.IO_NAMES)]
            if not g[POOL]:
                first[F.RESIDUAL] = 0
            first[F.OUT] = buffer - image * g[IMAGE] - band * g[BAND]
            here = t * g[FIRST_TASKS]
            call_kernel(g[FIRST], g[FIRST_AT : g[SECOND_AT]], first, scratch, here, here + g[FIRST_TASKS])
            moved = image * g[OUT_IMAGE] + band * g[OUT_BAND]
            second[F.X] = buffer
            if g[POOL]:
                second[window_fields.OUT] = io[F.OUT] + moved
            else:
                second[F.WEIGHT], second[F.BIAS] = io[WEIGHT_2], io[BIAS_2]
                second[F.RESIDUAL] = io[F.RESIDUAL] + moved if io[F.RESIDUAL] else 0
                second[F.OUT], second[F.FLAGS] = io[F.OUT] + moved, io[F.FLAGS] + t * g[FLAGS]
            run, tasks, at = g[SECOND], g[SECOND_TASKS], g[SECOND_AT]
            if band == g[BANDS] - 1:
                run, tasks, at = g[LAST], g[LAST_TASKS], g[LAST_AT]
            if tasks:
                call_kernel(run, g[at:], second, scratch, np.int64(0), tasks)

    return chain


def build(
    first: Program,
    second: Program,
    sizes: dict[str, int],
    buffer_bytes: int,
    tasks: int,
    last: Program | None = None,
    pool: bool = False,
) -> Program:
    """Return the program of a chain; `sizes` are the fields of `g` that neither program knows.

    With `pool` the second program is one of windows, of the last band `last`, or nothing, and flags are the first's.
    """
    last = last if pool else second
    programs = [program for program in (first, second, last) if program is not None]
    at = aligned(max(program.scratch_bytes for program in programs) + 64)
    values = sizes | {"BUFFER_AT": at, "FIRST_AT": FIRST_AT, "POOL": pool, "FLAGS": second.flags}
    where = FIRST_AT
    for name, program in zip(("FIRST", "SECOND", "LAST"), programs, strict=False):
        values |= {name: kernel_address(program.kernel), f"{name}_AT": where}
        values |= {f"{name}_TASKS": program.tasks} if program is not first else {}
        where += len(program.g)
    head = np.array([values.get(name, 0) for name in NAMES], np.int64)
    flags = first.flags if pool else tasks * second.flags
    run: Kernel = kernel()
    tables = [table for program in programs for table in program.tables]
    return Program(run, np.concatenate([head, *(p.g for p in programs)]), tasks, at + buffer_bytes, (), tables, flags)


def moved_planes(program: Program, out_plane: int) -> Program:
    """Return the program of a channels_first convolution whose output planes lie `out_plane` elements apart."""
    g = program.g.copy()
    g[F.OUT_PLANE] = out_plane
    # The same for the matrix unit, whose rows are planes.
    if g[F.OUT_ROW]:
        g[F.OUT_ROW] = out_plane
    tables, tasks = [*program.tables, program.g], program.tasks
    return Program(program.kernel, g, tasks, program.scratch_bytes, (), tables, program.flags)
