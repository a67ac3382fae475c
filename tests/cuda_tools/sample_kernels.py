"""Kernels on which the tools are tried: a copy, a reduction through shared memory, a tiled matrix product.

They are plain functions of Numba's CUDA dialect. Importing this needs numba-cuda.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from numba import cuda, float32, types, uint32

from tests.cuda_tools import rebuild

POINTER = types.CPointer(types.float32)
U32 = types.uint32
COPY = (POINTER, POINTER, U32)
SUM = (POINTER, POINTER, U32)
PRODUCT = (POINTER, POINTER, POINTER, U32, U32, U32)
DIVIDE = (types.CPointer(types.uint64), types.CPointer(types.uint64), U32)
ARRAYS = (types.Array(types.float32, 1, "C"), types.Array(types.float32, 1, "C"))
THREADS = 64


def copy(x, out, size):
    i = uint32(cuda.blockIdx.x * uint32(64) + cuda.threadIdx.x)
    if i < size:
        out[i] = x[i]


def scale_arrays(x, out):
    i = cuda.grid(1)
    if i < x.size:
        out[i] = x[i] * float32(2)


def block_sums(x, out, size):
    partial = cuda.shared.array(64, float32)
    t = uint32(cuda.threadIdx.x)
    i = uint32(cuda.blockIdx.x * uint32(64) + t)
    partial[t] = float32(0)
    if i < size:
        partial[t] = x[i]
    cuda.syncthreads()
    half = uint32(32)
    while half > uint32(0):
        if t < half:
            partial[t] += partial[uint32(t + half)]
        cuda.syncthreads()
        half = uint32(half >> uint32(1))
    if t == uint32(0):
        out[cuda.blockIdx.x] = partial[0]


@cache
def product(MT: int, NT: int, KT: int, R: int) -> Callable:
    """C = A B in tiles of MT x NT; a thread has R x R outputs, and R is a multiple of 4."""
    ROWS, COLS, GROUPS = MT // R, NT // R, R // 4
    LANES, A_LOADS, B_LOADS = ROWS * COLS, MT * KT // (ROWS * COLS), NT * KT // (ROWS * COLS)
    A_SIZE, B_SIZE = MT * KT, NT * KT

    def matrix_product(a, b, out, M, N, K):
        left = cuda.shared.array(A_SIZE, float32, alignment=16)
        right = cuda.shared.array(B_SIZE, float32, alignment=16)
        total = cuda.local.array((R, R), float32)
        t = uint32(cuda.threadIdx.x)
        m0 = uint32(uint32(cuda.blockIdx.y) * uint32(MT))
        n0 = uint32(uint32(cuda.blockIdx.x) * uint32(NT))
        tm = uint32(uint32(t // uint32(COLS)) * uint32(4))
        tn = uint32(uint32(t % uint32(COLS)) * uint32(4))
        for i in range(R):
            for j in range(R):
                total[i, j] = float32(0)
        for k0 in range(uint32(0), K, uint32(KT)):
            for q in range(A_LOADS):
                e = uint32(t + uint32(q * LANES))
                m = uint32(m0 + uint32(e % uint32(MT)))
                k = uint32(k0 + uint32(e // uint32(MT)))
                left[e] = float32(0)
                if m < M and k < K:
                    left[e] = a[uint32(uint32(m * K) + k)]
            for q in range(B_LOADS):
                e = uint32(t + uint32(q * LANES))
                n = uint32(n0 + uint32(e % uint32(NT)))
                k = uint32(k0 + uint32(e // uint32(NT)))
                right[e] = float32(0)
                if n < N and k < K:
                    right[e] = b[uint32(uint32(k * N) + n)]
            cuda.syncthreads()
            for k in range(KT):
                for i in range(R):
                    for j in range(R):
                        x = left[tm + uint32(k * MT + i // 4 * (MT // GROUPS) + i % 4)]
                        y = right[tn + uint32(k * NT + j // 4 * (NT // GROUPS) + j % 4)]
                        total[i, j] += x * y
            cuda.syncthreads()
        for i in range(R):
            for j in range(R):
                m = uint32(m0 + uint32(tm + uint32(i // 4 * (MT // GROUPS) + i % 4)))
                n = uint32(n0 + uint32(tn + uint32(j // 4 * (NT // GROUPS) + j % 4)))
                if m < M and n < N:
                    out[uint32(uint32(m * N) + n)] = total[i, j]

    return matrix_product


# Stands for an intrinsic, which only a compiler knows.
INTRINSIC = object()


def through_intrinsic(x, out):
    t = cuda.threadIdx.x
    out[t] = INTRINSIC(x, t)


@cache
def shuffle(name: str, argument: int) -> Callable:
    """Every thread stores the value of another lane of its warp."""

    def kernel(x, out, size):
        t = uint32(cuda.threadIdx.x)
        out[t] = cuda.shfl_sync(0xFFFFFFFF, x[t], argument)

    return rebuild.renamed(kernel, "shfl_sync", name)


def halves_in_float64(x, out, size):
    i = uint32(cuda.threadIdx.x)
    # The literal is a float64, and so is the product.
    out[i] = x[i] * 0.3


def indexed_local_array(x, out, size):
    i = uint32(cuda.threadIdx.x)
    table = cuda.local.array(64, float32)
    for n in range(64):
        table[n] = x[n] * x[uint32(n + i)]
    # An index that is known only when the kernel runs keeps the array in memory.
    out[i] = table[uint32(i % size)] + table[uint32(size % uint32(61))]


def narrow_shared_loads(x, out, size):
    i = uint32(cuda.threadIdx.x)
    row = cuda.shared.array(64, float32)
    row[i] = x[i]
    cuda.syncthreads()
    total = float32(0)
    for n in range(uint32(0), size):
        total += row[uint32(uint32(i * n) % uint32(64))] * total
    out[i] = total


def divides_64_bits(x, out, size):
    i = uint32(cuda.threadIdx.x)
    out[i] = x[i] // x[uint32(i + size)]
