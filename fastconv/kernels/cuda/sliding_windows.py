"""Maxima and averages over the windows that networks have, 2x2 and 3x3 with strides 1 and 2, in registers.

A thread has R rows of outputs, and with stride 1 two columns of them, so that it starts at every second element of a
row: it reads each row that its windows see once, in pairs where rows are made of them, reduces it along W, and adds it
to the outputs that see it. All loops are unrolled, so which output sees which row costs nothing; what stands outside
is where a search starts, or 0. All other windows are those of kernels/cuda/windows.py.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.memory import REAL, code_of, load, pointer
from fastconv.kernels.cuda.pairs import in_pairs, load2, store2
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS, ROWS = 128, 4
SIZES = 20


def sliding_windows(code: str, op: str, K: int, S: int, R: int, odd: int, pairs: bool, threads: int) -> Kernel:
    """Return the kernel of KxK windows with stride S.

    Parameters
    ----------
    op : {"max", "sum"}
        Maxima, or sums over the second of the two `reals`, of which the first is what stands outside.
    odd : int
        With pairs, 1 if windows start at odd places of a row.
    """
    real, MAX = REAL[code], op == "max"
    Q = 2 // S
    COLUMNS, LINES = odd + (Q - 1) * S + K, (R - 1) * S + K
    COLUMNS += COLUMNS % 2 if pairs else 0
    STEP = 2 if pairs else 1

    def slide_windows(x, out, g, reals):
        total, L, OQ, OG, OH, OW, H, W, XP, XH, XW, XL, PT, PL = g[:14]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q = quotient(i, g[14], g[15])
        lane = uint32(i - uint32(q * L))
        rest = quotient(q, g[16], g[17])
        ow = uint32(uint32(q - uint32(rest * OQ)) * uint32(Q))
        plane = quotient(rest, g[18], g[19])
        oh = uint32(uint32(rest - uint32(plane * OG)) * uint32(R))
        h = uint32(uint32(oh * uint32(S)) - PT)
        w = uint32(uint32(uint32(ow * uint32(S)) - PL) - uint32(odd))
        line = uint32(uint32(plane * XP) + uint32(lane * XL))
        line = uint32(uint32(line + uint32(h * XH)) + uint32(w * XW))
        acc, row = cuda.local.array((R, Q), real), cuda.local.array(COLUMNS, real)
        for r in range(R):
            for c in range(Q):
                acc[r, c] = reals[0]
        for k in range(LINES):
            for j in range(0, COLUMNS, STEP):
                row[j] = reals[0]
                if pairs:
                    row[j + 1] = reals[0]
                if h < H and uint32(w + uint32(j)) < W:
                    if pairs:
                        row[j], row[j + 1] = load2(x, uint32(line + uint32(j)))
                    else:
                        row[j] = load(x, uint32(line + uint32(uint32(j) * XW)))
            for c in range(Q):
                value = row[odd + c * S]
                for j in range(1, K):
                    v = row[odd + c * S + j]
                    if not MAX:
                        value += v
                    elif v > value or v != v:
                        value = v
                for r in range(R):
                    if k >= r * S and k < r * S + K:
                        if not MAX:
                            acc[r, c] += value
                        elif value > acc[r, c] or value != value:
                            acc[r, c] = value
            h, line = uint32(h + uint32(1)), uint32(line + XH)
        to = uint32(uint32(uint32(uint32(uint32(plane * OH) + oh) * OW) + ow) * L)
        to = uint32(to + lane)
        for r in range(R):
            if uint32(oh + uint32(r)) < OH:
                if not MAX:
                    for c in range(Q):
                        acc[r, c] /= reals[1]
                if pairs and Q == 2 and uint32(OW & uint32(1)) == 0:
                    store2(out, to, acc[r, 0], acc[r, Q - 1])
                else:
                    for c in range(Q):
                        if uint32(ow + uint32(c)) < OW:
                            out[uint32(to + uint32(uint32(c) * L))] = acc[r, c]
            to = uint32(to + uint32(OW * L))

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    return Kernel(slide_windows, (array, array, own, types.UniTuple(real, 2)), threads)


def run(
    stream: Any,
    op: str,
    x: Buffer,
    target: Buffer,
    outs: tuple[int, int],
    window: tuple[int, int],
    before: tuple[int, int],
    reals: tuple[float, float],
) -> None:
    """Fill `target` from x (P, 1, H, W, L) of any strides; `window` is (size, stride), `before` the padding."""
    P, _, H, W, L = x.shape
    (OH, OW), (K, S) = outs, window
    OQ, OG = -(-OW * S // 2), -(-OH // ROWS)
    total = P * OG * OQ * L
    if total:
        pairs = L == 1 and in_pairs(x)
        XP, _, XH, XW, XL = x.strides
        sizes = (total, L, OQ, OG, OH, OW, H, W, XP, XH, XW, XL, *before, *magics((L, OQ, OG)))
        literals = (code_of(x.dtype), op, K, S, ROWS, before[1] % 2 if pairs else 0, pairs, THREADS)
        arguments = (x, target, numbers(sizes), tuple(map(x.dtype.type, reals)))
        launch(stream, sliding_windows, literals, blocks_of(total, THREADS), arguments)
