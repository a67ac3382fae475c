"""Filter an image that is larger than the memory: from one zarr store into another, by dask, under a memory limit.

    python bench/dask_zarr.py --size 40000 --kernel 31 --chunk 2000 2000 --store /tmp/dask_zarr --memory 2

makes the image (float32, uncompressed chunks), unless it is there, and prints how fast the filter is beside the same
call on a block that fits into memory and beside the store alone, which is read and written without computing.
Each part runs in a process of its own with that limit on its data (RLIMIT_DATA, Linux): an allocation beyond it fails.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from dask.diagnostics import ProgressBar

import fastconv as fc
from fastconv.integrations.dask import correlate2d

PARTS = ("make", "memory", "store", "filter")
CORES = len(os.sched_getaffinity(0))


def main():
    """Run the parts, each in a process of its own, and print their rates."""
    options = arguments()
    if options.part:
        print(json.dumps(run(options)))
        return
    found = {}
    for part in PARTS:
        if part == "make" and is_made(options):
            continue
        print(f"{part}:", file=sys.stderr)
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part], stdout=subprocess.PIPE)
        if done.returncode:
            sys.exit(f"{part} failed with exit status {done.returncode}")
        found[part] = json.loads(done.stdout)
    report(options, found)


def arguments():
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40000, help="rows and columns of the image")
    parser.add_argument("--kernel", type=int, default=31, help="rows and columns of the dense kernel")
    parser.add_argument("--chunk", type=int, nargs=2, default=(2000, 2000), help="rows and columns of a chunk")
    parser.add_argument("--store", type=Path, required=True, help="folder for the image and the result")
    parser.add_argument("--memory", type=float, default=2.0, help="limit in GiB")
    parser.add_argument("--workers", type=int, default=2 * CORES, help="threads of dask: some wait for the disk")
    parser.add_argument("--keep", action="store_true", help="keep the results")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(options):
    """Do one part under the limit, and return what it measured."""
    # The kernels are compiled, or loaded from the cache, before the clock starts.
    fc.signal.correlate2d(np.ones((256, 256), np.float32), weights(options), "valid")
    limit = int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    start = cpu_seconds()
    result = {"make": make, "memory": in_memory, "store": copy, "filter": filtered}[options.part](options)
    cpu = cpu_seconds() - start
    # In KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"cpu": cpu, "peak": peak, **result}


def cpu_seconds():
    """Return what this process has taken of the CPU."""
    times = os.times()
    return times.user + times.system


def is_made(options):
    """Return whether the image is there, in these chunks."""
    path = options.store / "image.zarr"
    if not path.exists():
        return False
    image = zarr.open_array(path, mode="r")
    return image.shape == (options.size,) * 2 and image.chunks == tuple(options.chunk)


def create(options, name):
    """Return a new array in the store, without compression."""
    # Chunks that are all zeros are written like others, so that nobody has to look for them.
    return zarr.create_array(
        options.store / name,
        shape=(options.size,) * 2,
        chunks=tuple(options.chunk),
        dtype="float32",
        compressors=None,
        config={"write_empty_chunks": True},
        overwrite=True,
    )


def pixels(block_info):
    """Return a block of the image: noise, and steps at the borders of chunks would be seen."""
    location = block_info[None]["chunk-location"]
    rng = np.random.default_rng(location)
    return rng.random(block_info[None]["chunk-shape"], dtype=np.float32)


def weights(options):
    """Return a kernel that is no outer product."""
    K = options.kernel
    return (np.random.default_rng(1).random((K, K), dtype=np.float32) - np.float32(0.4)) / np.float32(K * K)


def stored(options, array, name):
    """Store a dask array, with a progress bar, and return the seconds."""
    target = create(options, name)
    start = time.perf_counter()
    with dask.config.set(scheduler="threads", num_workers=options.workers), ProgressBar(out=sys.stderr):
        da.store(array, target, lock=False)
    return time.perf_counter() - start


def make(options):
    """Write the image."""
    image = da.map_blocks(pixels, dtype=np.float32, chunks=blocks(options))
    return {"seconds": stored(options, image, "image.zarr")}


def blocks(options):
    """Return the chunks of the image."""
    return da.core.normalize_chunks(tuple(options.chunk), (options.size,) * 2)


def in_memory(options):
    """Filter a part of the image that fits, with all threads of fastconv."""
    size = min(options.size, 4000)
    block = zarr.open_array(options.store / "image.zarr", mode="r")[:size, :size]
    kernel, times = weights(options), []
    before = cpu_seconds()
    # As long as the other parts: what a core does in a second it may not do for ten.
    while sum(times) < 10:
        start = time.perf_counter()
        fc.signal.correlate2d(block, kernel, "same", "symm")
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "pixels": size * size, "cpu": (cpu_seconds() - before) / len(times)}


def copy(options):
    """Read and write the store, and compute nothing."""
    seconds = stored(options, da.from_zarr(options.store / "image.zarr"), "copy.zarr")
    if not options.keep:
        shutil.rmtree(options.store / "copy.zarr")
    return {"seconds": seconds}


def filtered(options):
    """Filter the store, and check some of the result."""
    image, kernel = da.from_zarr(options.store / "image.zarr"), weights(options)
    seconds = stored(options, correlate2d(image, kernel, "same", "symm"), "filtered.zarr")
    pad, error = options.kernel // 2, 0.0
    source = zarr.open_array(options.store / "image.zarr", mode="r")
    result = zarr.open_array(options.store / "filtered.zarr", mode="r")
    r, c = (n - 32 for n in options.chunk)
    around = source[r - pad : r + 64 + pad, c - pad : c + 64 + pad].astype(np.float64)
    expected = fc.signal.correlate2d(around, kernel.astype(np.float64), "valid")[:64, :64]
    if options.size > max(options.chunk) + 64 and options.kernel % 2:
        error = float(np.abs(result[r : r + 64, c : c + 64] - expected).max())
    if not options.keep:
        shutil.rmtree(options.store / "filtered.zarr")
    return {"seconds": seconds, "error": error}


def report(options, found):
    """Print the rates and the peak of memory."""
    size = options.size * options.size
    counts = {part: found[part].get("pixels", size) / 1e6 for part in PARTS if part in found}
    rates = {part: count / found[part]["seconds"] for part, count in counts.items()}
    K = options.kernel
    rows, columns = options.chunk
    print(f"{options.size} x {options.size} float32, {K}x{K} kernel, chunks of {rows} x {columns}, {CORES} cores")
    for part, title in (("memory", "in memory"), ("store", "store alone"), ("filter", "store and filter")):
        cpu = 1e3 * found[part]["cpu"] / counts[part]
        print(f"{title:16} {rates[part]:8.1f} Mpixel/s, {cpu:5.1f} ms of the CPU for each million")
    print(f"ratio to the smaller  {rates['filter'] / min(rates['memory'], rates['store']):.2f}")
    print(f"peak memory      {found['filter']['peak']:8.2f} GiB of {options.memory:g}")
    print(f"largest error    {found['filter']['error']:8.1e} at a corner of four chunks")


if __name__ == "__main__":
    main()
