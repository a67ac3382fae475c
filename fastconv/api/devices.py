"""What the library runs on."""

from __future__ import annotations

import os
from typing import Any

from fastconv.dispatch import cuda, load, machine
from fastconv.threads import get_num_threads


def devices() -> dict[str, Any]:
    """Return the CPU and what of it is used, and the CUDA devices that numba-cuda sees.

    Returns
    -------
    dict
        ``"cpu"``: a dict of `model`, `cores` that this process may use, `threads` that it does use; `name` of the
        instruction set that kernels are compiled for, `vector_bytes`, `fma`, and `features`, those instructions of this
        CPU that they may use. ``"cuda"``: a list with a dict of each device: `number`, `name`, compute `capability`,
        `multiprocessors`, `clock_mhz`, `l2_bytes`, `peak_gflops` of float32 and `peak_gbytes` of its memory per second.
        It is empty without numba-cuda, its driver or a device.

    Examples
    --------
    >>> import fastconv as fc
    >>> sorted(fc.devices())
    ['cpu', 'cuda']
    """
    target = load.target()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = {
        "model": machine.cpu_model(),
        "cores": cores or 1,
        "threads": get_num_threads(),
        "name": target.name,
        "vector_bytes": target.vector_bytes,
        "fma": target.fma,
        "features": load.load("target:features")(),
    }
    return {"cpu": cpu, "cuda": cuda.kernels("runtime:devices")()}
