"""A Python kernel and its signature -> PTX, LLVM IR, cubin and machine code, without a GPU or its driver.

NVVM and ptxas come from NVIDIA's wheels (the extra ``cuda-dev``) or from a toolkit under ``CUDA_HOME``. NVVM must not
be newer than ptxas.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Capability = tuple[int, int]
# The oldest and the newest architecture that the kernels are judged on.
CAPABILITIES: tuple[Capability, ...] = ((8, 0), (9, 0))
_MODULES = ("numba_cuda",)
_LIBRARIES = ("libnvrtc", "libnvvm")
_TOOLS = ("ptxas", "cuobjdump", "nvdisasm")


class Assembled(NamedTuple):
    """A cubin, and what ptxas says about it."""

    cubin: bytes
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    barriers: int


def tool(name: str) -> str | None:
    """Return the path of one of NVIDIA's programs: from a wheel, from ``CUDA_HOME``, or from the search path."""
    found = sorted(Path(sysconfig.get_paths()["purelib"], "nvidia").glob(f"*/bin/{name}"))
    home = Path(os.environ.get("CUDA_HOME", "/nonexistent"), "bin", name)
    return next((str(path) for path in (*found, home) if path.exists()), None) or shutil.which(name)


@functools.cache
def missing() -> str | None:
    """Return the first part that compiling needs and that is not installed; None: all is there."""
    absent = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    absent += [name for name in _LIBRARIES if not _has_library(name)]
    absent += [name for name in _TOOLS if tool(name) is None]
    return f"{absent[0]} is not installed (extra cuda-dev)" if absent else None


def compilers() -> list[tuple[str, int, int]]:
    """Return what changes whenever one of NVIDIA's compilers does: their files, sizes and times."""
    files = [(str(path), path.stat()) for name in _LIBRARIES for path in _libraries(name)]
    return sorted((path, status.st_size, status.st_mtime_ns) for path, status in files)


def _has_library(name: str) -> bool:
    return any(True for _ in _libraries(name))


def _libraries(name: str) -> Iterator[Path]:
    folders = [Path(sysconfig.get_paths()["purelib"], "nvidia")]
    folders += [Path(home) for home in [os.environ.get("CUDA_HOME")] if home]
    return (path for folder in folders for path in folder.glob(f"**/{name}.so*"))


def to_ptx(kernel: Callable, signature: tuple, capability: Capability = (8, 0), **options: Any) -> str:
    """Return the PTX that NVVM writes; `options` are those of ``cuda.compile_ptx``: fastmath, launch_bounds, opt."""
    return _ptx(_python(kernel), signature, capability, tuple(sorted(options.items())))


@functools.cache
def _ptx(kernel: Callable, signature: tuple, capability: Capability, options: tuple) -> str:
    (code,) = _typed(kernel, signature, options).get_asm_strs(cc=capability)
    return code


@functools.cache
def _typed(kernel: Callable, signature: tuple, options: tuple) -> Any:
    """Return what Numba makes of a kernel, once for all capabilities, each of which NVVM then compiles."""
    from numba.cuda import compiler

    compiled = compiler._compile_pyfunc_with_fixup
    return compiled(kernel, signature, device=False, cc=CAPABILITIES[0], abi="numba", **dict(options))[0]


def to_llvm(kernel: Callable, signature: tuple, capability: Capability = (8, 0)) -> str:
    """Return the LLVM IR that goes into NVVM."""
    return _library(_python(kernel), signature, capability, lto=False).get_llvm_str()


def to_linked_ptx(kernel: Callable, signature: tuple, capability: Capability = (8, 0)) -> str:
    """Return the PTX after link-time optimisation: what numba-cuda loads on a device, where nvJitLink is installed."""
    library = _library(_python(kernel), signature, capability, lto=True)
    # Without a device numba-cuda does not set it by itself.
    library._lto = True
    ptx = library.get_lto_ptx(cc=capability)
    return ptx if isinstance(ptx, str) else ptx.decode()


def _library(kernel: Callable, signature: tuple, capability: Capability, lto: bool) -> Any:
    from numba.cuda import compiler

    compiled = compiler._compile_pyfunc_with_fixup
    return compiled(kernel, signature, device=False, cc=capability, abi="numba", launch_bounds=None, lto=lto)[0]


@functools.cache
def to_cubin(ptx: str, capability: Capability = (8, 0), flags: tuple[str, ...] = ()) -> Assembled:
    """Assemble PTX with ptxas.

    Raises
    ------
    RuntimeError
        What ptxas says about PTX that it refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        architecture = f"-arch=sm_{capability[0]}{capability[1]}"
        said = _output("ptxas", "-v", architecture, "-O3", *flags, str(source), "-o", str(target))
        cubin = target.read_bytes()

    def number(pattern: str) -> int:
        found = re.search(pattern, said)
        return int(found[1]) if found else 0

    return Assembled(
        cubin,
        registers=number(r"Used (\d+) registers"),
        stack=number(r"(\d+) bytes stack frame"),
        spill_stores=number(r"(\d+) bytes spill stores"),
        spill_loads=number(r"(\d+) bytes spill loads"),
        shared=number(r"(\d+) bytes smem"),
        barriers=number(r"used (\d+) barriers"),
    )


@functools.cache
def to_sass(cubin: bytes) -> str:
    """Return the machine code as cuobjdump lists it; cuobjdump calls nvdisasm."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return _output("cuobjdump", "-sass", file.name)


def _output(name: str, *arguments: str) -> str:
    """Run a program; return all that it says."""
    program = tool(name)
    if program is None:
        raise RuntimeError(f"{name} is not installed (extra cuda-dev)")
    path = os.pathsep.join([str(Path(program).parent), os.environ.get("PATH", "")])
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=os.environ | {"PATH": path})
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout + done.stderr


def _python(kernel: Callable) -> Callable:
    """Return the function behind a decorated kernel."""
    return getattr(kernel, "py_func", kernel)
