"""Reading machine code: the assembly of a kernel, and in it the loop where the time goes.

Speed is decided in the innermost loop: one fused multiply-add an accumulator and step, no spill. CONTRIBUTING.md says
what to look for, and the tests look for it on every register tile. x86 (AT&T syntax) and AArch64 are understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numba
import numpy as np
from numba import types
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# kernel(g, io, scratch, lo, hi), what `Program.kernel` and `Packer.kernel` are compiled for.
SIGNATURE = (types.int64[::1], types.int64[::1], types.intp, types.intp, types.intp)

_LABEL = re.compile(r"([.\w$]+):")
_FUSED = re.compile(r"vfn?m(add|sub)|fmla|fmls|fmadd|vpdpbusd")
_MULTIPLY, _ADD = re.compile(r"v?mulp[sd]"), re.compile(r"v?addp[sd]")
_ENDS = re.compile(r"(jmpq?|b|br|retq?|ud2)( |$)")
_JUMPS = re.compile(r"(j\w+|b|b\.\w+|cbn?z|tbn?z|br|retq?|ud2)( |$)")
# A comment's # is followed by a space, that of a constant is not.
_COMMENT = re.compile(r"\s*(##? |//|;).*")
# Without a frame pointer %rbp is a register like any other, but then a slot's constant offset is not negative.
_SLOT = re.compile(r"\(%rsp|-\d+\(%rbp\)|\[(sp|x29)")


class _Block(NamedTuple):
    labels: list[str]
    lines: list[str]


def of(kernel) -> str:
    """Return the assembly of a compiled function; one that has no signature yet is compiled for `SIGNATURE`.

    It is compiled anew, in a copy, since code that was loaded from the disk has no assembly.
    """
    options = {name: value for name, value in kernel.targetoptions.items() if name != "nopython"}
    fresh = numba.njit(**options)(kernel.py_func)
    texts = []
    for signature in kernel.signatures or [SIGNATURE]:
        fresh.compile(signature)
        texts.append(fresh.inspect_asm(signature))
    return "\n".join(texts)


def inner_loop(text: str) -> list[str]:
    """Return the instructions of the innermost loop with the most multiply-adds, in the order in which they stand.

    A loop is found by its jumps, not by its label: LLVM may enter it in the middle, or place part of it elsewhere.
    """
    blocks = _blocks(text)
    loops = [[line for i in loop for line in blocks[i].lines] for loop in _innermost(_edges(blocks))]
    return max(loops, key=lambda lines: (multiply_adds(lines), -len(lines)), default=[])


def multiply_adds(lines: Sequence[str]) -> int:
    """Count fused multiply-adds, dot products, and pairs of a packed multiplication and a packed addition."""
    fused, multiplies, adds = (sum(bool(p.match(line)) for line in lines) for p in (_FUSED, _MULTIPLY, _ADD))
    return fused + min(multiplies, adds)


def spills(lines: Sequence[str]) -> list[str]:
    """Return the instructions that touch the stack."""
    return [line for line in lines if _SLOT.search(line)]


def _blocks(text: str) -> list[_Block]:
    """Cut the text before labels and after jumps."""
    blocks, cut = [_Block([], [])], False
    for raw in text.splitlines():
        line = re.sub(r"\s+", " ", _COMMENT.sub("", raw)).strip()
        label = _LABEL.fullmatch(line)
        if not label and (not line or line.startswith(".")):
            continue
        if cut or (label and blocks[-1].lines):
            blocks.append(_Block([], []))
        if label:
            blocks[-1].labels.append(label[1])
        else:
            blocks[-1].lines.append(line)
        cut = not label and bool(_JUMPS.match(line))
    return blocks


def _edges(blocks: Sequence[_Block]) -> set[tuple[int, int]]:
    """Return the pairs (block, block that may follow)."""
    where = {label: i for i, block in enumerate(blocks) for label in block.labels}
    edges = set()
    for i, block in enumerate(blocks):
        last = block.lines[-1] if block.lines else ""
        target = re.split(r"[ ,]+", last)[-1]
        if target in where:
            edges.add((i, where[target]))
        if not _ENDS.match(last) and i + 1 < len(blocks):
            edges.add((i, i + 1))
    return edges


def _innermost(edges: set[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield the loops that hold no other: the cycles that are left when those round them are cut at their entries."""
    if not edges:
        return
    rows, columns = np.array(sorted(edges)).T
    size = 1 + max(rows.max(), columns.max())
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    component = connected_components(graph, connection="strong")[1]
    for c in np.unique(component[rows[component[rows] == component[columns]]]):
        inside = {(a, b) for a, b in edges if component[a] == component[b] == c}
        members = {a for a, _ in inside}
        entries = {b for a, b in edges if component[a] != c and component[b] == c} or {min(members)}
        nested = list(_innermost({(a, b) for a, b in inside if b not in entries}))
        yield from nested or [sorted(members)]
