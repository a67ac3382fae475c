"""The one place for Numba's options, the fastmath set and the on-disk cache of compiled kernels.

Numba's own cache hashes only the file of the kernel, so after an edit of a helper, or an upgrade, stale machine code is
run; a damaged file raises out of the user's call; and processes that save at once can link a signature to the code of
another. Here a compiled kernel is one file whose name is a hash of everything the code depends on: all sources that
kernels import, versions, options, the kernel's bytecode and closure, the CPU, the signature. Files are written under
another name and renamed, and carry a checksum. So there is no index to go stale and nothing to lock, a file is either
whole and right or a miss, and every trouble with the disk means compiling, never an error.

Layout: <cache folder>/kernels/<digest of the sources>/<function>-<hash>.nbc
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache, update_wrapper
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from fastconv import _disk
from fastconv._compiler import HelperCompiler, KernelCompiler
from fastconv._disk import hashed
from fastconv.interrupts import fork_without, uninterrupted

__all__ = ["FASTMATH", "KernelCache", "compilations", "helper", "inline", "njit", "source_tag"]

F = TypeVar("F", bound=Callable[..., Any])

# What sums may do: fuse and reorder. Never more: NaN, infinities and signed zeros must survive.
FASTMATH = frozenset({"contract", "reassoc"})

# Settings of Numba that change the machine code without changing a source.
_SETTINGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype, numba.types.Type)
_compiled = 0


def njit(*, fastmath: Collection[str] | bool = FASTMATH) -> Callable[[F], F]:
    """Return the decorator that compiles a kernel, without the GIL and cached on disk.

    `fastmath=False` is for maxima and comparisons. With NUMBA_DISABLE_JIT=1 the function is returned as it is.
    """
    if fastmath is True or not FASTMATH.issuperset(fastmath or ()):
        raise ValueError(f"njit: fastmath must be False or a subset of {sorted(FASTMATH)}, got {fastmath!r}")
    flags = set(fastmath or ())

    def decorate(function: F) -> F:
        if config.DISABLE_JIT:
            return function
        tag = _tag(function, flags)
        if tag is not None:
            function = _renamed(function, f"{function.__qualname__}_{tag[:16]}")
        dispatcher = numba.njit(
            nogil=True,
            error_model="numpy",
            fastmath=flags or False,
            pipeline_class=KernelCompiler,
            no_cfunc_wrapper=True,
        )(function)
        if hasattr(dispatcher, "_cache"):
            dispatcher._cache = KernelCache(function.__name__, tag)
        dispatcher.compile = _whole(dispatcher.compile)
        return dispatcher

    return decorate


def _whole(compile: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `Dispatcher.compile` so that an interrupt does not stop it."""

    def whole(sig: Any) -> Any:
        # Who compiles a function that calls this one has the lock, for which another thread would wait.
        if global_compiler_lock.is_locked():
            return compile(sig)
        return uninterrupted(lambda: compile(sig))

    return whole


# A child forked meanwhile would have half of a compilation, and a lock that no one releases.
fork_without(global_compiler_lock)


def _renamed(function: Any, qualname: str) -> Any:
    """Return a copy of a function under another name, from which Numba makes the symbols of the machine code.

    Numba only numbers them within a process: two closures of one line, compiled by different processes, would have the
    same symbols and meet in a third process.
    """
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    update_wrapper(copy, function)
    copy.__qualname__ = qualname
    return copy


def inline(function: F) -> F:
    """Decorate a small function that is merged into the kernels that call it (and is never cached by itself)."""
    return numba.njit(inline="always", error_model="numpy")(function)


def helper(function: F) -> F:
    """Decorate a function of a few numbers that kernels call often, each time at the same types.

    It is compiled once in a process, where an `inline` one is copied, and typed anew, at each call in the source; LLVM
    merges it all the same. It is stored with the kernels that call it, so its name, too, tells closures apart.
    """
    if config.DISABLE_JIT:
        return function
    name = hashed(_describe(function).encode())[:16]
    function = _renamed(function, f"{function.__qualname__}_{name}")
    dispatcher = numba.njit(
        error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=HelperCompiler
    )(function)
    dispatcher.helps = True
    return dispatcher


def compilations() -> int:
    """Return how many kernels this process has compiled, that is, did not find on disk."""
    return _compiled


class KernelCache:
    """What a dispatcher asks before and tells after it compiles: one file per signature and processor.

    `tag` hashes what the code depends on beside those; None: nothing is stored. `reduce` and `rebuild` are Numba's way
    from a compilation to bytes and back, and `is_whole` whether that loses nothing.
    """

    def __init__(self, name: str, tag: str | None):
        self._name = re.sub(r"\W", "", name)[:40]
        self._tag = tag

    @property
    def cache_path(self) -> str | None:
        """The folder of the files, which Numba shows in its statistics."""
        return None if self._tag is None else str(_folder())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the stored compilation of a signature, or None."""
        if self._tag is None:
            return None
        try:
            target_context.refresh()
            path = self._path(sig, target_context.codegen())
            result = self.rebuild(target_context, _read(path))
            # A last guard: code for other types would compute nonsense without any error.
            if tuple(result.signature.args) != _arguments(sig):
                return None
            _mark_used()
            return result
        except Exception:
            return None

    def save_overload(self, sig: Any, result: Any) -> None:
        """Count the compilation and store it if that is possible."""
        global _compiled
        _compiled += 1
        if self._tag is None:
            return
        with contextlib.suppress(Exception):
            if not self.is_whole(result):
                return
            path = self._path(sig, result.codegen)
            if _make_folder():
                payload = self.reduce(result)
                _disk.put(path, bytes.fromhex(hashed(payload)) + payload)

    def is_whole(self, result: Any) -> bool:
        """Return whether another process can use a compilation: no addresses of this one are compiled in."""
        return not (result.library.has_dynamic_globals or result.lifted)

    def reduce(self, result: Any) -> bytes:
        """Return a compilation as bytes."""
        return dumps(result._reduce())

    def rebuild(self, target_context: Any, payload: bytes) -> Any:
        """Return the compilation of these bytes."""
        from numba.core.compiler import CompileResult

        return CompileResult._rebuild(target_context, *pickle.loads(payload))

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = repr((self._tag, codegen.magic_tuple(), _arguments(sig)))
        return _folder() / f"{self._name}-{hashed(key.encode())}.nbc"

    def enable(self) -> None:
        """Do nothing; Numba's interface has it."""

    def disable(self) -> None:
        """Forget the files: neither load nor save."""
        self._tag = None

    def flush(self) -> None:
        """Forget the files, since Numba calls this to force a new compilation."""
        self._tag = None


# What the code of a kernel depends on.


@lru_cache(maxsize=1)
def _digest() -> str:
    """Hash every source that kernels may import (tests/test_layering.py), and the versions of what compiles them.

    The first kernel calls this while the package is imported, so what is read is what runs, even if the package is
    upgraded under a living process.
    """
    package = Path(__file__).parent
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag)
    return _disk.source_digest(versions, [*package.glob("*.py"), *(package / "kernels").rglob("*.py")])


def _tag(function: Any, flags: set[str]) -> str | None:
    """Hash all that one kernel depends on but its signature and the CPU; None means that it cannot be cached."""
    try:
        if _disk.root() is None:
            return None
        settings = [str(getattr(config, name, None)) for name in _SETTINGS]
        return hashed(_digest().encode(), repr((sorted(flags), settings)).encode(), _describe(function).encode())
    except Exception:
        return None


def source_tag(*parts: object) -> str | None:
    """Hash the sources, and what else tells a kernel apart, by its `repr`; None: nothing can be stored."""
    try:
        return None if _disk.root() is None else hashed(_digest().encode(), repr(parts).encode())
    except Exception:
        return None


def _describe(value: Any) -> str:
    """Return a text that is the same in every process for a value that a kernel sees, by closure or as a global."""
    if isinstance(value, _PLAIN):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, tuple):
        return f"({','.join(map(_describe, value))})"
    # A dispatcher and an intrinsic stand for the function that they were made from.
    function = getattr(value, "py_func", getattr(value, "_defn", value))
    if not isinstance(function, FunctionType):
        raise TypeError(f"a kernel that sees a {type(value).__name__} is not cached")
    cells = [_describe(cell.cell_contents) for cell in function.__closure__ or ()]
    values = [(n, _describe(v)) for n, v in _plain_globals(function)]
    defaults = _describe(function.__defaults__)
    return repr(
        (function.__module__, function.__qualname__, _describe_code(function.__code__), cells, values, defaults)
    )


def _plain_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the constants of its module that a function names; they may depend on the machine."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, _PLAIN):
            yield name, value


def _describe_code(code: CodeType) -> str:
    constants = [_describe_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_firstlineno, code.co_code, code.co_names, code.co_varnames, constants))


# Numba's side. All use of what is private to Numba is here and in njit; if it changes, an exception means "uncached".


def _arguments(sig: Any) -> tuple[Any, ...]:
    from numba.core import sigutils

    return tuple(sigutils.normalize_signature(sig)[0])


def dumps(value: Any) -> bytes:
    """Return what Numba's pickler makes of a value, which may hold code."""
    from numba.core.serialize import dumps as numba_dumps

    found: bytes = numba_dumps(value)
    return found


# The disk.


def _folder() -> Path:
    root = _disk.root()
    if root is None:
        raise OSError("no cache folder")
    return root / "kernels" / _digest()


def _make_folder() -> bool:
    """Create the folder if it is missing and tell whether it may be used."""
    is_new = not _folder().is_dir()
    folder = _disk.make_folder("kernels", _digest())
    if folder is None:
        return False
    if is_new:
        _disk.remove_old(folder)
    _mark_used()
    return True


@lru_cache(maxsize=1)
def _mark_used() -> None:
    """Set the folder's time, by which old ones are found; once per process."""
    with contextlib.suppress(OSError):
        os.utime(_folder())


def _read(path: Path) -> bytes:
    data = _disk.read("kernels", path.parent.name, path.name)
    checksum, payload = data[: _disk.DIGEST_BYTES], data[_disk.DIGEST_BYTES :]
    if checksum.hex() != hashed(payload):
        raise ValueError(f"{path} is damaged")
    return payload
