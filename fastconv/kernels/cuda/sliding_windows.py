"""Maxima and averages over the windows that networks have, 2x2 and 3x3 with strides 1 and 2, in registers.

A thread goes down R rows of outputs, and with stride 1 two columns of them, so that it starts at every second element
of a row. It reads each row that its windows see once, in pairs where rows are made of them, reduces it along W, and
keeps it as long as another output sees it. What stands outside is where a search starts, or 0. All other windows are
those of kernels/cuda/windows.py.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.memory import REAL, code_of, device, load, pointer
from fastconv.kernels.cuda.pairs import in_pairs, load2, store2
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
# Rows of outputs of a thread, by the stride.
ROWS = {1: 8, 2: 4}
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
    Q, KEPT = 2 // S, K - S
    COLUMNS = odd + (Q - 1) * S + K
    COLUMNS += COLUMNS % 2 if pairs else 0
    STEP = 2 if pairs else 1

    @device
    def combined(a, b):
        if MAX:
            return b if (b > a) | (b != b) else a
        return a + b

    @device
    def reduced(x, line, inside, w, W, XW, outside):
        """The windows of a row: those of the first and of the last column."""
        row = cuda.local.array(COLUMNS, real)
        for j in range(0, COLUMNS, STEP):
            row[j] = outside
            if pairs:
                row[j + 1] = outside
            if inside and uint32(w + uint32(j)) < W:
                if pairs:
                    row[j], row[j + 1] = load2(x, uint32(line + uint32(j)))
                else:
                    row[j] = load(x, uint32(line + uint32(uint32(j) * XW)))
        first, last = row[odd], row[odd + (Q - 1) * S]
        for j in range(1, K):
            first, last = combined(first, row[odd + j]), combined(last, row[odd + (Q - 1) * S + j])
        return first, last

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
        end = min(uint32(oh + uint32(R)), OH)
        h = uint32(uint32(oh * uint32(S)) - PT)
        w = uint32(uint32(uint32(ow * uint32(S)) - PL) - uint32(odd))
        line = uint32(uint32(plane * XP) + uint32(lane * XL))
        line = uint32(uint32(line + uint32(h * XH)) + uint32(w * XW))
        to = uint32(uint32(uint32(uint32(uint32(plane * OH) + oh) * OW) + ow) * L)
        to = uint32(to + lane)
        rows = cuda.local.array((K, 2), real)
        for k in range(KEPT):
            rows[S + k, 0], rows[S + k, 1] = reduced(x, line, h < H, w, W, XW, reals[0])
            h, line = uint32(h + uint32(1)), uint32(line + XH)
        while oh < end:
            for k in range(KEPT):
                rows[k, 0], rows[k, 1] = rows[S + k, 0], rows[S + k, 1]
            for k in range(KEPT, K):
                rows[k, 0], rows[k, 1] = reduced(x, line, h < H, w, W, XW, reals[0])
                h, line = uint32(h + uint32(1)), uint32(line + XH)
            first, last = rows[0, 0], rows[0, 1]
            for k in range(1, K):
                first, last = combined(first, rows[k, 0]), combined(last, rows[k, 1])
            if not MAX:
                first, last = first / reals[1], last / reals[1]
            if pairs and Q == 2 and uint32(OW & uint32(1)) == 0:
                store2(out, to, first, last)
            else:
                out[to] = first
                if Q == 2 and uint32(ow + uint32(1)) < OW:
                    out[uint32(to + L)] = last
            oh, to = uint32(oh + uint32(1)), uint32(to + uint32(OW * L))

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
    OQ, OG = -(-OW * S // 2), -(-OH // ROWS[S])
    total = P * OG * OQ * L
    if total:
        pairs = L == 1 and in_pairs(x)
        XP, _, XH, XW, XL = x.strides
        sizes = (total, L, OQ, OG, OH, OW, H, W, XP, XH, XW, XL, *before, *magics((L, OQ, OG)))
        literals = (code_of(x.dtype), op, K, S, ROWS[S], before[1] % 2 if pairs else 0, pairs, THREADS)
        arguments = (x, target, numbers(sizes), tuple(map(x.dtype.type, reals)))
        launch(stream, sliding_windows, literals, blocks_of(total, THREADS), arguments)
