"""Instructions of a whole warp: shuffles, votes, warp barriers, matrix loads and products."""

from __future__ import annotations

import numpy as np

from tests.cuda_tools.ptx_emulator.conversion import from_bf16
from tests.cuda_tools.ptx_emulator.elements import Array, FaultError, PTXError
from tests.cuda_tools.ptx_emulator.machine import WARP, Machine, Mask, Operation
from tests.cuda_tools.ptx_emulator.parser import Instruction, vector

_LANE = np.arange(WARP)
_GROUP, _IN_GROUP = _LANE // 4, _LANE % 4


def _check_members(m: Machine, i: Instruction, mask: Mask, members: Array) -> None:
    """Report lanes that a ``.sync`` instruction names and that do not execute it."""
    here = np.ones(m.count, np.bool_) if mask is None else mask
    named = np.zeros(m.count, np.bool_)
    warps = np.unique(m.clock.warp[here])
    of_warp = np.zeros(len(m.clock.warps), np.uint32)
    of_warp[m.clock.warp[here]] = members[here]
    inside = np.isin(m.clock.warp, warps)
    named[inside] = (of_warp[m.clock.warp[inside]] >> m.in_warp[inside].astype(np.uint32) & np.uint32(1)).astype(
        np.bool_
    )
    if (absent := named & ~here & m.live).any():
        m.findings[f"named lanes do not take part: {i.text}"] += int(absent.sum())
    if (strange := here & ~named).any():
        m.findings[f"lane is not in its own member mask: {i.text}"] += int(strange.sum())


def _shfl(m: Machine, i: Instruction, mask: Mask) -> None:
    """Exchange registers; `c` holds the clamp and the mask of the segments."""
    value = m.full(i.operands[1], "b32")
    by, c = (m.full(operand, "u32").astype(np.int64) for operand in i.operands[2:4])
    lane, clamp, segment = m.in_warp, c & 31, c >> 8 & 31
    low = lane & segment
    high = low | clamp & ~segment & 31
    by = by & 31
    source = {"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": low | by & ~segment & 31}[
        next(part for part in i.parts if part in ("up", "down", "bfly", "idx"))
    ]
    inside = source >= (lane & segment | clamp & ~segment & 31 if "up" in i.parts else 0)
    if "up" not in i.parts:
        inside &= source <= high
    source = m.lanes - lane + np.where(inside, source, lane)
    _check_members(m, i, mask, m.full(i.operands[4], "b32"))
    here = np.ones(m.count, np.bool_) if mask is None else mask
    absent = here & ((source >= m.count) | ~here[np.minimum(source, m.count - 1)])
    if absent.any():
        m.findings[f"value of a lane that does not take part: {i.text}"] += int(absent.sum())
    names = i.operands[0].split("|")
    m.assign(names[0], value[np.minimum(source, m.count - 1)], mask)
    if len(names) > 1:
        m.assign(names[1], inside, mask)


def _vote(m: Machine, i: Instruction, mask: Mask) -> None:
    here = np.ones(m.count, np.bool_) if mask is None else mask
    if "sync" in i.parts:
        _check_members(m, i, mask, m.full(i.operands[2], "b32"))
    yes = m.predicate(i.operands[1]) & here
    ballots, present = (np.zeros(len(m.clock.warps), np.uint32) for _ in range(2))
    bit = np.uint32(1) << m.in_warp.astype(np.uint32)
    np.bitwise_or.at(ballots, m.clock.warp[yes], bit[yes])
    np.bitwise_or.at(present, m.clock.warp[here], bit[here])
    how = next((part for part in i.parts if part in ("ballot", "any", "all", "uni")), "")
    uniform = (ballots == 0) | (ballots == present)
    result = {"ballot": ballots, "any": ballots != 0, "all": ballots == present, "uni": uniform}[how]
    m.assign(i.operands[0], result[m.clock.warp], mask)


def _activemask(m: Machine, i: Instruction, mask: Mask) -> None:
    present = np.zeros(len(m.clock.warps), np.uint32)
    lanes = m.active(mask)
    np.bitwise_or.at(present, m.clock.warp[lanes], np.uint32(1) << m.in_warp[lanes].astype(np.uint32))
    m.assign(i.operands[0], present[m.clock.warp], mask)


def _bar_warp(m: Machine, i: Instruction, mask: Mask) -> None:
    _check_members(m, i, mask, m.full(i.operands[0], "b32"))
    m.clock.warps[np.unique(m.clock.warp[m.active(mask)])] += 1


def _whole_warps(m: Machine, i: Instruction, mask: Mask) -> None:
    lanes = m.active(mask)
    if len(lanes) % WARP or m.clock.threads % WARP or (lanes.reshape(-1, WARP) % WARP != _LANE).any():
        raise FaultError(f"only a part of a warp executes {i.text}")


def _mma(m: Machine, i: Instruction, mask: Mask) -> None:
    """D = A B + C on tensor cores; the sums are in float64 here, so the last bits may differ from a device's."""
    _whole_warps(m, i, mask)
    element, shape = i.parts[-2], next((part for part in i.parts if part.startswith("m16n8k")), "")
    sizes = {"tf32": ("4", "8"), "bf16": ("8", "16"), "f16": ("8", "16")}.get(element, ())
    if shape.removeprefix("m16n8k") not in sizes or i.kind != "f32":
        raise PTXError(f"instruction is not emulated: {i.text}")
    depth = int(shape.removeprefix("m16n8k"))
    a, b, c = (
        [m.full(name, kind).reshape(-1, WARP) for name in vector(operand)]
        for operand, kind in zip(i.operands[1:], ("b32", "b32", "f32"), strict=True)
    )
    left, right = _fragments(a, b, depth, element)
    product = np.matmul(left, right)
    for n, name in enumerate(vector(i.operands[0])):
        total = product[:, _GROUP + 8 * (n // 2), 2 * _IN_GROUP + n % 2] + c[n]
        m.assign(name, total.astype(np.float32).reshape(-1), mask)


def _fragments(a: list[Array], b: list[Array], depth: int, element: str) -> tuple[Array, Array]:
    """Return the matrices that the registers of a warp hold: 16 x depth and depth x 8, of every warp."""
    warps = len(a[0])
    left, right = np.zeros((warps, 16, depth)), np.zeros((warps, depth, 8))
    if element == "tf32":
        for n, bits in enumerate(a):
            left[:, _GROUP + 8 * (n % 2), _IN_GROUP + 4 * (n // 2)] = _tf32(bits)
        for n, bits in enumerate(b):
            right[:, _IN_GROUP + 4 * n, _GROUP] = _tf32(bits)
        return left, right
    for half in range(2):
        column = 2 * _IN_GROUP + half
        for n, bits in enumerate(a):
            left[:, _GROUP + 8 * (n % 2), column + 8 * (n // 2)] = _half(bits, half, element)
        for n, bits in enumerate(b):
            right[:, column + 8 * n, _GROUP] = _half(bits, half, element)
    return left, right


def _tf32(bits: Array) -> Array:
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def _half(bits: Array, half: int, element: str) -> Array:
    word = (bits >> np.uint32(16 * half)).astype(np.uint16)
    return from_bf16(word) if element == "bf16" else word.view(np.float16)


def _ldmatrix(m: Machine, i: Instruction, mask: Mask) -> None:
    """Load 8 x 8 matrices of 16-bit elements: lane 8 n + r has the address of row r of matrix n."""
    _whole_warps(m, i, mask)
    if "trans" in i.parts or "m8n8" not in i.parts:
        raise PTXError(f"instruction is not emulated: {i.text}")
    rows = m.address(i.operands[1])
    lanes = m.active(mask)
    first = lanes // WARP * WARP
    if (rows[lanes] % np.uint64(16)).any():
        raise FaultError(f"misaligned row of a matrix: {i.text}")
    for n, name in enumerate(vector(i.operands[0])):
        address = rows[first + 8 * n + m.in_warp[lanes] // 4] + (m.in_warp[lanes] % 4 * 4).astype(np.uint64)
        (values,) = m.memory.load("shared", address, "b32", 1, lanes, i.text)
        full = np.zeros(m.count, np.uint32)
        full[lanes] = values
        m.assign(name, full, mask)


OPERATIONS: dict[str, Operation] = {
    "shfl": _shfl,
    "vote": _vote,
    "activemask": _activemask,
    "bar": _bar_warp,
    "barrier": _bar_warp,
    "mma": _mma,
    "ldmatrix": _ldmatrix,
}
