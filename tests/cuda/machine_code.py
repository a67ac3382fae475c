"""What holds for the machine code of every kernel, and a table of it.

``python -m tests.cuda.machine_code`` writes docs/cuda-kernels.md: every kernel that the checks launch, for two
generations of devices, with what ptxas and the disassembly say.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from tests.cuda.checks import GROUPS
from tests.cuda.runtimes import Emulated, installed, kernel_name, kernel_of, ptx_of
from tests.cuda_tools import compile as toolchain
from tests.cuda_tools import sass

TARGET = Path(__file__).resolve().parent.parent.parent / "docs" / "cuda-kernels.md"
HEADER = (
    "kernel",
    "threads",
    "registers",
    "shared memory",
    "instructions",
    "main loop",
    "FMA in it",
    "at most of peak",
)
INTRODUCTION = """# The machine code of the CUDA kernels

Written by `python -m tests.cuda.machine_code` from what NVVM and ptxas make of every kernel that the tests launch. No
kernel spills, has local memory, divides 64-bit integers, or computes in float64 unless its arrays are float64: tests
hold that. "Of peak" is the share of the float32 peak that the issue slots of the main loop allow at most, where that is
made of multiply-adds: a model (tests/cuda_tools/README.md), no measurement.
"""


def assemble(key: tuple[Any, tuple], capability: toolchain.Capability) -> tuple[toolchain.Assembled, str]:
    """Return the cubin of (builder, literals) and its PTX, and hold what holds for every kernel."""
    ptx = ptx_of(kernel_of(*key), capability)
    code = toolchain.to_cubin(ptx, capability)
    spilled = code.stack + code.spill_stores + code.spill_loads
    assert not spilled, f"stack {code.stack} B, spills {code.spill_stores} B stored, {code.spill_loads} B loaded"
    divisions = re.findall(r"\b(?:div|rem)\.[us]64\b", ptx)
    assert not divisions, f"64-bit divisions: {divisions}"
    if "d" not in key[1]:
        wide = re.findall(r"\b[a-z0-9.]+\.f64\b", ptx)
        assert not wide, f"float64 instructions: {sorted(set(wide))}"
    return code, ptx


def launched() -> dict[str, tuple[Any, tuple]]:
    """Return (builder, literals) of all kernels that the checks launch, and of the menu of tiles, by name."""
    from fastconv.kernels.cuda import chain, conv_depthwise, conv_direct

    found: dict[str, tuple[Any, tuple]] = {}
    for group in GROUPS.values():
        with installed(Emulated()) as device, warnings.catch_warnings():
            warnings.simplefilter("error")
            for check in group.CHECKS.values():
                check()
        found |= {kernel_name(*key): key for key in device.launched}
    menu = [(conv_direct.implicit_gemm, (code, tile, True, False)) for code in "fd" for tile in conv_direct.TILES[code]]
    menu += [(conv_direct.implicit_gemm, ("f", tile, True, False)) for tile in conv_direct.TILES["tf32"]]
    tiles, square = conv_direct.TILES["f"][1:], conv_depthwise.Window(4, 3, 3, 1, unit=True)
    for tile in tiles:
        menu.append((chain.depthwise_pointwise, ("f", "f", tile, square, True, False, None)))
        menu.append((chain.depthwise_pointwise, ("f", "f", tile, square._replace(unit=False), True, True, None)))
    # The larger tiles, for which the problems of the checks are too small.
    found |= {kernel_name(*key): key for key in menu}
    return dict(sorted(found.items()))


def row(name: str, key: tuple[Any, tuple], capability: toolchain.Capability) -> tuple[str, ...]:
    """Return a kernel's line of the table."""
    from fastconv.kernels.cuda.runtime import built

    assembled, _ = assemble(key, capability)
    code = sass.MachineCode(assembled, capability)
    loop = share = peak = ""
    if code.loops():
        loop = str(len(code.main_loop()))
        if code.share() >= 0.4:
            share, peak = f"{code.share():.1%}", f"{code.predict().peak:.0%}"
    threads = str(built(key[0], *key[1]).threads)
    sizes = (str(assembled.registers), str(assembled.shared), str(len(code.instructions)))
    return f"`{name}`", threads, *sizes, loop, share, peak


def main() -> None:
    """Write the tables."""
    kernels, parts = launched(), [INTRODUCTION]
    for capability in toolchain.CAPABILITIES:
        rows = [HEADER, ("---",) * len(HEADER), *(row(name, key, capability) for name, key in kernels.items())]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
        parts.append(f"## Compute capability {capability[0]}.{capability[1]}\n\n{table}\n")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
