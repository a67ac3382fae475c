"""PTX kept on disk: processes that test the same kernel, at the same time or later, compile it once.

A file is named by the kernel's builder and literals; its folder by all sources that kernels import, and the compilers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from fastconv import _disk, _jit
from tests.cuda_tools import compile as toolchain


def ptx(name: str, capability: toolchain.Capability, compiled: Callable[[], str]) -> str:
    """Return the PTX of a kernel of that name: what is in its file, or else what `compiled` returns."""
    folder = _folder()
    if folder is None:
        return compiled()
    path = folder / f"{_disk.hashed(repr((name, capability)).encode())}.ptx"
    with contextlib.suppress(OSError):
        return path.read_text()
    text = compiled()
    with contextlib.suppress(OSError):
        _disk.put(path, text.encode())
    return text


@cache
def _folder() -> Path | None:
    tag = _jit.source_tag("ptx", version("numba-cuda"), toolchain.compilers())
    return tag and _disk.make_folder("ptx", tag)
