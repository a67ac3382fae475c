"""The multiply-add peak of one core, measured: a loop that lives in registers.

As many independent chains as hide the latency of a multiply-add (4 cycles, 2 to 4 pipes), each one instruction a turn,
on vectors of the width that the kernels use. A clock that changes with load, or a neighbour on the core, moves this
peak as it moves a kernel, so the share of a peak that is taken right before and after holds still.
"""

from __future__ import annotations

import math
import time
from typing import Any

from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from fastconv._jit import njit
from fastconv.kernels.cpu import target

__all__ = ["gflops"]

# About 0.2 ms.
TURNS = 60_000


def _sizes() -> tuple[int, int]:
    """Return the float32 numbers in a vector, and the chains: with two constants they fit in the registers."""
    cpu = target.current()
    return cpu.lanes(32), 20 if cpu.registers >= 32 else 12


@intrinsic
def _chains(typingctx: Any, turns: Any) -> Any:
    """Run `turns` turns of the loop and return a number that depends on all of it."""
    lanes, chains = _sizes()
    vector, integer = ir.VectorType(ir.FloatType(), lanes), ir.IntType(64)
    factor, term = (ir.Constant(vector, [value] * lanes) for value in (0.9999999, 0.5))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(vector, [vector] * 3)
        # Without the instruction it becomes a multiplication and an addition.
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{lanes}f32")
        before, loop = builder.block, builder.append_basic_block("loop")
        after = builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        turn = builder.phi(integer)
        turn.add_incoming(ir.Constant(integer, 0), before)
        sums = [builder.phi(vector) for _ in range(chains)]
        stepped = [builder.call(fma, [value, factor, term]) for value in sums]
        for i, (value, step) in enumerate(zip(sums, stepped, strict=True)):
            value.add_incoming(ir.Constant(vector, [float(i)] * lanes), before)
            value.add_incoming(step, loop)
        following = builder.add(turn, ir.Constant(integer, 1))
        turn.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, after)
        builder.position_at_end(after)
        total = stepped[0]
        for step in stepped[1:]:
            total = builder.fadd(total, step)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(turns), generate


@njit()
def _run(turns: int) -> Any:
    return _chains(turns)


def gflops(turns: int = TURNS) -> float:
    """Return the float32 multiply-add rate of this core now, in GFLOP/s; NaN with the JIT off."""
    if config.DISABLE_JIT:
        return math.nan
    lanes, chains = _sizes()
    start = time.perf_counter()
    _run(turns)
    return turns * chains * lanes * 2 / (time.perf_counter() - start) / 1e9
