"""What this machine can do, measured: multiply-adds, bytes from each level of memory, a call from Python.

Two loops, written as IR and compiled by LLVM alone, which takes 20 ms where Numba would take ten times that. Each is
timed several times and the fastest time counts, since whatever disturbs a measurement makes it slower.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import config
from numba.core.registry import cpu_target

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I64, Lanes, const, counted

# Multiply-adds that do not wait for each other: enough to hide their latency, few enough for the registers.
_CHAINS = {True: 20, False: 12}
_TURNS = 20_000
# Vectors that one turn of the reading loop loads.
_LOADS = 8
_SAMPLES = 7
# Bytes that are read: from half of L1, from half of L2, and from beyond any L2.
_MEMORY_BYTES = 24 << 20
# Bytes that a timed pass reads at least.
_PASS_BYTES = 1 << 20


class Rates(NamedTuple):
    """Multiply-adds of one core in float32 numbers a second; bytes a second that it reads; calls from Python."""

    multiply_adds: float
    l1: float
    l2: float
    memory: float
    calls: float


def _module() -> str:
    """Return the IR of `multiply(turns, out)` and `read(passes, from, turns, out)`."""
    module = ir.Module("calibration")
    module.triple = llvm.get_process_triple()

    def begin(name: str, count: int) -> tuple[Lanes, Any]:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * count), name)
        return Lanes(ir.IRBuilder(function.append_basic_block("entry")), 32), function.args

    v, (turns, out) = begin("multiply", 2)
    factor, term = v.splat(0.9999999), v.splat(0.5)
    starts = [(v.vector, v.splat(float(i))) for i in range(_chains())]
    with counted(v.b, turns, starts) as (_, sums, after):
        after.extend(v.fma(total, factor, term) for total in sums)
    _finish(v, after, out)

    v, (passes, source, turns, out) = begin("read", 4)
    zeros = [(v.vector, v.zero)] * _LOADS
    with counted(v.b, passes, zeros) as (_, totals, after_pass):
        with counted(v.b, turns, [(v.vector, t) for t in totals]) as (i, sums, after):
            row = v.at(v.pointer(source), v.b.mul(i, const(_LOADS * v.VL)))
            after.extend(v.add(total, v.load(v.at(row, j * v.VL))) for j, total in enumerate(sums))
        after_pass.extend(after)
    _finish(v, after_pass, out)
    return str(module)


def _chains() -> int:
    return _CHAINS[targets.current().registers >= 32]


def _finish(v: Lanes, sums: list[Any], out: Any) -> None:
    """Store something that depends on all sums, and return."""
    total = sums[0]
    for one in sums[1:]:
        total = v.add(total, one)
    v.store(total, v.pointer(out))
    v.b.ret_void()


def _compiled() -> tuple[Any, Callable[..., None], Callable[..., None]]:
    """Return what keeps the machine code alive, and both functions."""
    # Numba has set up LLVM, and knows which CPU to compile for.
    codegen = cpu_target.target_context.codegen()
    name, features = codegen._get_host_cpu_name(), codegen._get_host_cpu_features()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=2)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_module()), machine)
    engine.finalize_object()
    found = []
    for function, count in (("multiply", 2), ("read", 4)):
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)
        found.append(kind(engine.get_function_address(function)))
    return engine, found[0], found[1]


def _fastest(call: Callable[[], Any]) -> float:
    """Return the time of the fastest of some calls, after one that does not count."""
    call()
    times = []
    for _ in range(_SAMPLES):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)


def measure() -> Rates | None:
    """Return the rates of the core that this runs on, in about 50 ms; None with the JIT off."""
    if config.DISABLE_JIT:
        return None
    target = targets.current()
    lanes, out = target.lanes(32), np.zeros(64, np.float32)
    end = out.ctypes.data
    engine, multiply, read = _compiled()
    adds = _TURNS * _chains() * lanes / _fastest(lambda: multiply(_TURNS, end))
    memory = np.ones(_MEMORY_BYTES // 4, np.float32)
    step = _LOADS * lanes * 4

    def bytes_a_second(size: int) -> float:
        turns, passes = size // step, max(1, _PASS_BYTES // size)
        return passes * turns * step / _fastest(lambda: read(passes, memory.ctypes.data, turns, end))

    found = Rates(
        adds,
        bytes_a_second(target.l1_bytes // 2),
        bytes_a_second(target.l2_bytes // 2),
        bytes_a_second(_MEMORY_BYTES),
        1 / _fastest(_python),
    )
    del engine
    return found


def _python() -> int:
    """Take the time of a call around its kernel, with what it consists of: tuples, dictionaries, small arrays."""
    seen, total = {(i, "conv2d"): i for i in range(4)}, 0
    for i in range(4):
        key = (i, "conv2d")
        total += seen[key] + int(np.empty(key[0] + 1).ctypes.data & 1)
    return total
