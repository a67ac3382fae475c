"""Dask's schedulers: threads, processes, and a cluster that loses a worker on the way."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

import fastconv as fc

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
ours = pytest.importorskip("fastconv.integrations.dask")


def counted(block, in2):
    """Return the block, and in its first element how many threads a call may use."""
    block = block.copy()
    block[...] = fc.get_num_threads()
    return block


def problem():
    """Return an array in chunks, its filtered version, and what SciPy makes of it."""
    rng = np.random.default_rng(0)
    x, kernel = rng.integers(0, 99, (60, 50)).astype(np.int32), rng.integers(-9, 9, (5, 4)).astype(np.int32)
    y = ours.maximum_filter(ours.correlate2d(da.from_array(x, chunks=16), kernel, "same", "wrap"), 3)
    return y, scipy.ndimage.maximum_filter(scipy.signal.correlate2d(x, kernel, "same", "wrap"), 3)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_of_one_process(scheduler):
    y, expected = problem()
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(y.compute(), expected)


def test_tasks_compute_with_as_many_threads_as_dask_is_told():
    graph = pytest.importorskip("fastconv.integrations.dask.graph")
    x = da.zeros((8, 8), chunks=4)
    axes = [graph.Axis(8, 8, 3, 1, 1, 1, "zeros")] * 2

    def run():
        operation = graph.Operation("c", counted, axes, {}, {}, {"in2": np.ones(3)}, x.dtype, lambda block: ({}, None))
        return {int(block[0, 0]) for block in dask.compute(*graph.apply(x, operation).to_delayed().ravel())}

    assert run() == {1}
    with dask.config.set({"fastconv.threads": 3}):
        assert run() == {3}
    with (
        dask.config.set({"fastconv.threads": 0}),
        pytest.raises(fc.OptionError, match=r"dask.config: fastconv.threads = 0"),
    ):
        run()


@pytest.mark.slow
def test_processes():
    y, expected = problem()
    with dask.config.set(scheduler="processes", num_workers=2):
        np.testing.assert_array_equal(y.compute(), expected)


def slowed(block):
    """Return a block after a while, in which a worker can be lost."""
    time.sleep(0.3)
    return block


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker_has_the_right_result():
    distributed = pytest.importorskip("distributed")
    rng = np.random.default_rng(1)
    x, kernel = rng.integers(0, 99, (120, 96)).astype(np.int32), rng.integers(-9, 9, (5, 7)).astype(np.int32)
    images = rng.integers(-9, 9, (2, 3, 40, 40)).astype(np.float32)
    weight = rng.integers(-3, 4, (4, 3, 3, 3)).astype(np.float32)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        source = da.from_array(x, chunks=24).map_blocks(slowed, meta=np.zeros((0, 0), x.dtype))
        filtered = ours.correlate2d(source, kernel, "same", "symm")
        convolved = ours.conv2d(da.from_array(images, chunks=(1, 3, 16, 16)), weight, padding=1, stride=2)
        workers = {address: info["id"] for address, info in client.scheduler_info()["workers"].items()}
        processes = client.run(os.getpid)
        assert len(workers) == len(processes) == 2
        futures = client.compute([filtered, convolved])
        killed = threading.Event()

        def kill():
            time.sleep(1.5)
            os.kill(next(iter(processes.values())), signal.SIGKILL)
            killed.set()

        threading.Thread(target=kill).start()
        results = client.gather(futures)
        assert killed.wait(0)
    np.testing.assert_array_equal(results[0], scipy.signal.correlate2d(x, kernel, "same", "symm"))
    np.testing.assert_array_equal(results[1], fc.testing.reference(images, weight, padding=1, stride=2))
