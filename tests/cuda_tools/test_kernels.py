"""Kernels written in Python, compiled and executed by every means: each tool finds what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_tools import compile as toolchain
from tests.cuda_tools import mutate, native, simulator
from tests.cuda_tools.ptx_emulator.elements import FaultError
from tests.cuda_tools.ptx_emulator.launch import run
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN, sample_kernels

pytestmark = NEEDS_TOOLCHAIN
samples = sample_kernels()

SMALL = (16, 16, 8, 4)
ON_HOST = pytest.mark.skipif(not native.AVAILABLE, reason="fibers are those of glibc on x86-64")


def emulated(kernel, signature, capability=(8, 0)):
    """Return a launcher that executes the kernel's PTX and wants it clean."""
    ptx = toolchain.to_ptx(kernel, signature, capability)
    return lambda grid, block, arguments: run(ptx, grid, block, arguments).assert_clean()


def linked(kernel, signature):
    """Return a launcher that executes the PTX after link-time optimisation."""
    ptx = toolchain.to_linked_ptx(kernel, signature)
    return lambda grid, block, arguments: run(ptx, grid, block, arguments).assert_clean()


def on_host(kernel, signature):
    """Return a launcher of the kernel for the host's processor."""
    return native.NativeKernel(toolchain.to_llvm(kernel, signature))


def simulated(kernel, signature):
    """Return a launcher of the Python source."""
    return lambda grid, block, arguments: simulator.run(
        kernel, grid, block, [a.reshape(-1) if isinstance(a, np.ndarray) else a for a in arguments]
    )


WAYS = [
    pytest.param(emulated, id="emulator"),
    pytest.param(lambda kernel, signature: emulated(kernel, signature, (9, 0)), id="emulator-sm_90"),
    pytest.param(linked, id="linked"),
    pytest.param(on_host, id="native", marks=ON_HOST),
    pytest.param(simulated, id="simulator"),
]


@pytest.mark.parametrize("way", WAYS)
def test_copy(way):
    x, out = np.arange(100, dtype=np.float32), np.full(100, np.nan, np.float32)
    way(samples.copy, samples.COPY)(2, samples.THREADS, [x, out, np.uint32(100)])
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("way", WAYS)
def test_arrays_of_numba(way):
    x, out = np.arange(100, dtype=np.float32), np.full(100, np.nan, np.float32)
    way(samples.scale_arrays, samples.ARRAYS)(2, samples.THREADS, [x, out])
    np.testing.assert_array_equal(out, 2 * x)


@pytest.mark.parametrize("way", WAYS)
def test_block_sums(way):
    x, out = np.arange(100, dtype=np.float32), np.full(2, np.nan, np.float32)
    way(samples.block_sums, samples.SUM)(2, samples.THREADS, [x, out, np.uint32(100)])
    np.testing.assert_array_equal(out, [x[:64].sum(), x[64:].sum()])


def product(launch, tile, M, N, K):
    """Launch a matrix product of small integers and compare it."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-4, 5, size).astype(np.float32) for size in ((M, K), (K, N)))
    out = np.full((M, N), np.nan, np.float32)
    MT, NT, _, R = tile
    launch((-(-N // NT), -(-M // MT)), MT * NT // R**2, [a, b, out, *map(np.uint32, (M, N, K))])
    np.testing.assert_array_equal(out, a @ b)


@pytest.mark.parametrize("way", WAYS)
def test_product(way):
    product(way(samples.product(*SMALL), samples.PRODUCT), SMALL, 9, 18, 10)


@ON_HOST
def test_product_of_a_real_size_on_the_host():
    tile = (64, 64, 8, 8)
    product(on_host(samples.product(*tile), samples.PRODUCT), tile, 256, 300, 576)


def test_the_emulator_counts_what_is_known():
    x, out = np.arange(128, dtype=np.float32), np.zeros(128, np.float32)
    report = run(toolchain.to_ptx(samples.copy, samples.COPY), 2, 64, [x, out, 128])
    loads, stores = report.memory("ld.global"), report.memory("st.global")
    assert (loads.requests, loads.cost, loads.ratio, loads.bytes) == (4, 16, 1, 512)
    assert stores.per_request == 4
    ptx = toolchain.to_ptx(samples.product(*SMALL), samples.PRODUCT)
    a = np.zeros((16, 16), np.float32)
    report = run(ptx, 1, 16, [a, a, a.copy(), 16, 16, 16])
    assert report.executed["fma"] == 16**3
    assert report.memory("ld.shared").ratio == 1


def test_the_emulator_names_the_thread_that_is_out_of_bounds():
    with pytest.raises(FaultError, match="28 threads, first block 1 thread 36"):
        run(toolchain.to_ptx(samples.copy, samples.COPY), 2, 64, [np.zeros(100, "f4"), np.zeros(128, "f4"), 128])


def judge(kernel):
    """Execute a matrix product whose sizes fill no tile."""
    product(emulated(kernel, samples.PRODUCT), SMALL, 9, 18, 10)


def test_seeded_bugs_are_caught():
    kernel = samples.product(*SMALL)
    judge(kernel)
    barriers, bounds = mutate.without_barriers(kernel), mutate.without_bounds(kernel)
    assert (len(barriers), len(bounds)) == (2, 6)
    others = [
        *mutate.divergent_barriers(kernel, "t < uint32(8)"),
        mutate.replaced(kernel, "uint32(k * N)", "uint32(k * K)", "wrong stride"),
        mutate.replaced(kernel, "m0 + uint32(tm", "m0 + uint32(tn", "rows and columns exchanged"),
    ]
    assert not mutate.survivors([*barriers, *bounds, *others], judge)


def test_a_race_is_caught_where_the_values_are_right():
    # The emulator runs the threads of these blocks in step, so nothing but its race check sees the missing barrier.
    kernel = samples.product(*SMALL)
    messages = [mutate.caught(mutant, judge) for mutant in mutate.without_barriers(kernel)]
    assert all("race in shared memory" in message for message in messages)


def test_a_judge_that_looks_at_nothing_lets_bugs_survive():
    mutants = mutate.without_barriers(samples.product(*SMALL))
    assert mutate.survivors(mutants, lambda kernel: None) == [mutant.name for mutant in mutants]


@pytest.mark.parametrize("text", ["not there", "m < M and k < K and"])
def test_a_replacement_must_apply(text):
    with pytest.raises(ValueError, match="occurs 0 times"):
        mutate.replaced(samples.product(*SMALL), text, "")


def test_a_mutant_of_a_closure_is_the_original_otherwise():
    kernel = samples.product(*SMALL)
    judge(mutate.replaced(kernel, "total[i, j] += x * y", "total[i, j] = total[i, j] + x * y").kernel)


def test_the_simulator_finds_an_index_out_of_bounds():
    with pytest.raises(IndexError, match="ctaid"):
        simulator.run(samples.copy, 2, 64, [np.zeros(100, "f4"), np.zeros(128, "f4"), np.uint32(128)])


def test_the_simulator_poisons_shared_memory():
    mutant = mutate.replaced(samples.block_sums, "partial[t] = float32(0)", "pass", "uninitialised")
    out = np.zeros(2, np.float32)
    simulator.run(mutant.kernel, 2, 64, [np.ones(70, "f4"), out, np.uint32(70)])
    np.testing.assert_array_equal(out, [64, np.nan])


def test_the_simulator_puts_twins_in_the_place_of_intrinsics():
    x, out = np.zeros(4, np.float32), np.zeros(4, np.float32)
    simulator.run(samples.through_intrinsic, 1, 4, [x, out], twins={samples.INTRINSIC: lambda array, i: array[i] + 7})
    np.testing.assert_array_equal(out, 7)


@pytest.mark.parametrize(
    ("name", "argument", "source"),
    [
        ("shfl_sync", 3, lambda n: n // 32 * 32 + 3),
        ("shfl_xor_sync", 9, lambda n: n ^ 9),
        ("shfl_up_sync", 2, lambda n: np.where(n % 32 < 2, n, n - 2)),
        ("shfl_down_sync", 2, lambda n: np.where(n % 32 > 29, n, n + 2)),
    ],
)
def test_shuffles_in_the_simulator_are_those_of_the_emulator(name, argument, source):
    kernel = samples.shuffle(name, argument)
    x = np.arange(64, dtype=np.float32)
    for way in (emulated, simulated):
        out = np.zeros(64, np.float32)
        way(kernel, samples.COPY)(1, 64, [x, out, np.uint32(64)])
        np.testing.assert_array_equal(out, x[source(np.arange(64))])


@ON_HOST
def test_the_host_reports_threads_that_end_before_a_barrier():
    mutant = mutate.divergent_barriers(samples.block_sums, "t < uint32(8)")[0]
    with pytest.raises(RuntimeError, match="56 of 64 threads end"):
        on_host(mutant.kernel, samples.SUM)(1, 64, [np.ones(64, "f4"), np.zeros(1, "f4"), np.uint32(64)])


@ON_HOST
def test_the_host_names_what_it_cannot_do():
    with pytest.raises(NotImplementedError, match=r"shfl"):
        on_host(samples.shuffle("shfl_xor_sync", 1), samples.COPY)
