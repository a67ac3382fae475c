"""Run a CUDA kernel on the host's processor: its LLVM IR from before NVVM, compiled for the host by llvmlite.

Blocks run one after another, their threads as fibers (fibers.ll), so a layer of real size takes a second. It finds
wrong results; races, bounds and alignment are what the emulator is for. Linux with glibc on x86-64, no instructions of
a warp.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.cuda_tools.arguments import Size, flattened, three

AVAILABLE = sys.platform == "linux" and platform.machine() == "x86_64"
_FIBERS = Path(__file__).with_name("fibers.ll")
_STACK, _CONTEXT = 1 << 16, 1024
# In glibc's ucontext_t: where to go at the end, the stack, its size.
_LINK, _STACK_START, _STACK_SIZE = 8, 16, 32
_SPECIAL = {"tid": "thread_index", "ctaid": "block_index", "ntid": "block_size", "nctaid": "grid_size"}
_ASM = re.compile(r'call ([^@\n]*?) asm\s+(?:sideeffect\s+)?"([^"]*)", "[^"]*"\s*\(([^\n]*)\)')
_READ_ONLY = re.compile(r"ld\.global\.nc(?:\.v(\d))?\.([fub])(\d+) ")
_KERNEL = re.compile(r'@("[^"]+"|[\w$.]+), !"kernel"')


class NativeKernel:
    """A kernel for the host.

    Parameters
    ----------
    llvm : str
        What `compile.to_llvm` returns.

    Raises
    ------
    NotImplementedError
        It names the inline assembly or the intrinsic that has no counterpart here.
    """

    def __init__(self, llvm: str) -> None:
        # llvmlite comes with Numba.
        import llvmlite.binding as binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        text, self.types = retarget(llvm)
        module = binding.parse_assembly(text)
        module.verify()
        host = binding.Target.from_default_triple().create_target_machine(
            opt=3, cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), jit=True
        )
        options = binding.create_pipeline_tuning_options(speed_level=3)
        passes = binding.create_pass_builder(host, options)
        passes.getModulePassManager().run(module, passes)
        self.engine = binding.create_mcjit_compiler(module, host)
        self.engine.finalize_object()
        sweep = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, *[ctypes.c_int] * 3)
        self.sweep = sweep(self.engine.get_function_address("sweep"))
        self.fiber = self.engine.get_function_address("fiber")

    def __call__(self, grid: int | Sequence[int], block: int | Sequence[int], arguments: Sequence[Any]) -> None:
        """Run the kernel; arrays are contiguous, and changed in place.

        Raises
        ------
        RuntimeError
            Some threads of a block end while others wait at a barrier.
        """
        raw = self._raw(arguments)
        grid, block = three(grid), three(block)
        ctypes.c_void_p.from_address(self.engine.get_global_value_address("arguments")).value = raw.ctypes.data
        self._set("block_size", block)
        self._set("grid_size", grid)
        fibers = _Fibers(int(np.prod(block)), self.fiber, self.engine.get_global_value_address("scheduler"))
        for z, y, x in np.ndindex(*grid[::-1]):
            self._set("block_index", (x, y, z))
            fibers.reset()
            left = fibers.count
            while left:
                ended = self.sweep(fibers.contexts, _CONTEXT, fibers.done.ctypes.data, *block)
                if ended not in (0, left):
                    raise RuntimeError(f"{ended} of {left} threads end while the others wait: block {(x, y, z)}")
                left -= ended

    def _set(self, name: str, values: Size) -> None:
        (ctypes.c_int * 3).from_address(self.engine.get_global_value_address(name))[:] = values

    def _raw(self, arguments: Sequence[Any]) -> Any:
        """Return the parameters as words of 64 bits, each in the lowest bytes of its word."""
        flat = flattened(arguments, len(self.types), _address)
        words = np.zeros(len(flat), np.uint64)
        for n, (value, kind) in enumerate(zip(flat, self.types, strict=True)):
            dtype = {"float": "f4", "double": "f8"}.get(kind) or ("i8" if int(value) < 0 else "u8")
            words[n : n + 1].view(dtype)[0] = value
        return words


class _Fibers:
    """Contexts and stacks of the threads of a block."""

    def __init__(self, count: int, entry: int, scheduler: int) -> None:
        self.count, self.entry, self.scheduler = count, entry, scheduler
        self.libc = ctypes.CDLL(None)
        self.libc.getcontext.argtypes = [ctypes.c_void_p]
        self.libc.makecontext.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        self.memory = np.zeros(count * (_STACK + _CONTEXT) + 64, np.uint8)
        self.contexts = -(-self.memory.ctypes.data // 64) * 64
        self.stacks = self.contexts + count * _CONTEXT
        self.done = np.zeros(count, np.uint8)

    def reset(self) -> None:
        """Put every thread at the start of the kernel."""
        self.done[:] = 0
        word = ctypes.c_uint64
        for n in range(self.count):
            context = self.contexts + n * _CONTEXT
            self.libc.getcontext(context)
            word.from_address(context + _LINK).value = self.scheduler
            word.from_address(context + _STACK_START).value = self.stacks + n * _STACK
            word.from_address(context + _STACK_SIZE).value = _STACK
            self.libc.makecontext(context, self.entry, 0)


def _address(array: Any) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("arrays of a native kernel are contiguous")
    return array.ctypes.data


def retarget(llvm: str) -> tuple[str, list[str]]:
    """Return the IR for the host, with the fibers, and the types of the kernel's parameters."""
    kernel = _KERNEL.search(llvm)
    if not kernel:
        raise ValueError("no kernel in the module")
    text = re.sub(r"^(?:target (?:triple|datalayout) = |!|@\"?llvm\.used).*$", "", llvm, flags=re.MULTILINE)
    text = re.sub(r", !\w+(?:\.\w+)* !\d+", "", text)
    text = _specials(_assembly(text))
    text = _mathematics(text)
    left = re.search(r"llvm\.nvvm\.[\w.]+", text)
    if left:
        raise NotImplementedError(f"intrinsic without a counterpart on the host: {left[0]}")
    if "external addrspace(3)" in text:
        raise NotImplementedError("dynamic shared memory on the host")
    head = re.search(rf"define void @{re.escape(kernel[1])}\(([^)]*)\)", text)
    if not head:
        raise ValueError(f"no definition of {kernel[1]}")
    types = ["ptr" if "*" in p else p.split()[0] for p in head[1].split(", ") if p]
    return text + _call(kernel[1], types) + _FIBERS.read_text(), types


def _call(name: str, types: list[str]) -> str:
    """Return a function that calls the kernel with words of 64 bits."""
    lines = ["", "define void @kernel_from(ptr %a) {"]
    for n, kind in enumerate(types):
        lines += [f"  %p{n} = getelementptr i64, ptr %a, i64 {n}", f"  %v{n} = load {kind}, ptr %p{n}"]
    values = ", ".join(f"{kind} %v{n}" for n, kind in enumerate(types))
    return "\n".join([*lines, f"  call void @{name}({values})", "  ret void", "}", ""])


def _specials(text: str) -> str:
    """Replace special registers by loads, and the barrier of a block by a change of fibers."""
    register = r'"?llvm\.nvvm\.read\.ptx\.sreg\.(tid|ctaid|ntid|nctaid)\.([xyz])"?'
    used = set(re.findall(register, text))
    text = re.sub(rf"^declare [^\n]*(?:{register}|llvm\.nvvm\.barrier0)[^\n]*$", "", text, flags=re.MULTILINE)
    text = re.sub(register, r"special_\1_\2", text)
    text = re.sub(r'"?llvm\.nvvm\.barrier0"?', "barrier", text)
    for name, axis in sorted(used):
        text += (
            f"\ndefine internal i32 @special_{name}_{axis}() alwaysinline {{\n"
            f"  %p = getelementptr i32, ptr @{_SPECIAL[name]}, i64 {'xyz'.index(axis)}\n"
            "  %v = load i32, ptr %p\n  ret i32 %v\n}\n"
        )
    return text


def _assembly(text: str) -> str:
    """Replace read-only loads, the only inline assembly that has a counterpart, by loads."""
    helpers: dict[str, str] = {}

    def load(match: re.Match[str]) -> str:
        read = _READ_ONLY.match(match[2])
        if not read:
            raise NotImplementedError(f"inline assembly without a counterpart on the host: {match[2]}")
        count = int(read[1] or 1)
        kind = {"f32": "float", "f64": "double"}.get(read[2] + read[3], f"i{read[3]}")
        name = f"read_only_{count}_{kind}"
        helpers[name] = _vector_load(name, count, kind)
        return f"call {match[1]} @{name}({match[3]})"

    return _ASM.sub(load, text) + "".join(helpers.values())


def _vector_load(name: str, count: int, kind: str) -> str:
    result = f"{{{', '.join([kind] * count)}}}" if count > 1 else kind
    lines, last = [f"\ndefine internal {result} @{name}(ptr %p) alwaysinline {{"], "undef"
    for n in range(count):
        lines += [f"  %p{n} = getelementptr {kind}, ptr %p, i64 {n}", f"  %v{n} = load {kind}, ptr %p{n}"]
        if count > 1:
            lines.append(f"  %r{n} = insertvalue {result} {last}, {kind} %v{n}, {n}")
            last = f"%r{n}"
    return "\n".join([*lines, f"  ret {result} {last if count > 1 else '%v0'}", "}", ""])


def _mathematics(text: str) -> str:
    """Call the functions of the host's libm instead of libdevice's."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))

    def function(match: re.Match[str]) -> str:
        if not hasattr(libm, match[1]):
            raise NotImplementedError(f"function without a counterpart on the host: __nv_{match[1]}")
        return f"@{match[1]}"

    return re.sub(r'@"?__nv_(?:fast_)?(\w+)"?', function, text)
