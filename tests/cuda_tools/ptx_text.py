"""Small kernels in PTX, for tests of single instructions: they need no compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import dtype_of, size_of
from tests.cuda_tools.ptx_emulator.launch import Report, run

# Registers have at least 16 bits, and the small floats travel as bits.
_REGISTER = {"f16": "b16", "bf16": "b16", "tf32": "b32", "u8": "u16", "s8": "s16", "b8": "b16"}


def module(body: str, parameters: str = "", declarations: str = "") -> str:
    """Return a kernel with registers %r, %rd, %f, %fd, %h, %p numbered from 0 to 31."""
    registers = "".join(
        f"    .reg .{kind} {name}<32>;\n"
        for name, kind in (("%r", "b32"), ("%rd", "b64"), ("%f", "f32"), ("%fd", "f64"), ("%h", "b16"), ("%p", "pred"))
    )
    return (
        ".version 8.0\n.target sm_80\n.address_size 64\n"
        f".visible .entry k({parameters})\n{{\n{registers}{declarations}\n{body}\n    ret;\n}}\n"
    )


def with_arrays(body: str, count: int, declarations: str = "") -> str:
    """Return a kernel of `count` pointers, in %rd0 and following; %r0 is the thread, %rd30 four times that."""
    names = ", ".join(f".param .u64 p{n}" for n in range(count))
    loads = "\n".join(f"    ld.param.u64 %rd{n}, [p{n}];" for n in range(count))
    head = "    mov.u32 %r0, %tid.x;\n    mul.wide.u32 %rd30, %r0, 4;"
    return module(f"{loads}\n{head}\n{body}", names, declarations)


def computed(instruction: str, inputs: Sequence[tuple[str, Any]], kind: str) -> Any:
    """Execute one instruction once for every element of its inputs, and return %d.

    Parameters
    ----------
    instruction : str
        PTX on the registers %a, %b, %c and %d.
    inputs : sequence of (str, array)
        Element types and values of %a, %b and %c.
    kind : str
        Element type of %d; "pred" comes back as uint32.
    """
    size = len(inputs[0][1])
    store = "u32" if kind == "pred" else kind
    kinds = [*(name for name, _ in inputs), store]
    lines, declarations = [], []
    for n, (letter, each) in enumerate(zip([*"abc"[: len(inputs)], "d"], kinds, strict=True)):
        if letter != "d" or kind != "pred":
            declarations.append(f"    .reg .{_REGISTER.get(each, each)} %{letter};")
        lines.append(f"    mul.wide.u32 %rd30, %r0, {size_of(each)};\n    add.s64 %rd{10 + n}, %rd{n}, %rd30;")
        if letter != "d":
            lines.append(f"    ld.global.{_memory(each)} %{letter}, [%rd{10 + n}];")
    lines.append(f"    {instruction};")
    if kind == "pred":
        declarations.append("    .reg .pred %d;")
        lines.append("    selp.u32 %r1, 1, 0, %d;")
    source = "%r1" if kind == "pred" else "%d"
    lines.append(f"    st.global.{_memory(store)} [%rd{9 + len(kinds)}], {source};")
    arrays = [np.asarray(values).astype(dtype_of(name)) for name, values in inputs]
    out = np.full(size, 7, dtype_of(store))
    report = execute(with_arrays("\n".join(lines), len(kinds), "\n".join(declarations)), size, [*arrays, out])
    report.assert_clean()
    return out


def _memory(kind: str) -> str:
    """Return the type under which a small float is loaded and stored."""
    return {"f16": "b16", "bf16": "b16", "tf32": "b32"}.get(kind, kind)


def execute(ptx: str, threads: int, arrays: Sequence[Any], blocks: int = 1, **options: Any) -> Report:
    """Run a kernel on arrays."""
    return run(ptx, blocks, threads, arrays, **options)
