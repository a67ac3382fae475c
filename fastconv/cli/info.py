"""`fastconv info`: versions, devices, threads and the cache."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import fastconv as fc
from fastconv import _disk
from fastconv.dispatch import cuda, machine


def info() -> str:
    """Return what a report of a problem should tell, one fact a line."""
    devices = fc.devices()
    cpu = devices["cpu"]
    fma = "with" if cpu["fma"] else "without"
    folder, caching = cache()
    facts = {
        "fastconv": fc.__version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})",
        **{name: _version(name) for name in ("numba", "numpy", "scipy")},
        "CPU": f"{cpu['model']}, {cpu['cores']} cores",
        "vectors": f"{cpu['name']}, {cpu['vector_bytes']} bytes, {fma} fused multiply-add",
        "features": " ".join(cpu["features"]) or "none",
        "one core": rates(),
        "CUDA": cuda_devices(devices["cuda"]),
        "threads": str(fc.get_num_threads()),
        "cache folder": folder,
        "disk caching": caching,
    }
    width = max(map(len, facts))
    return "\n".join(f"{name.ljust(width)}  {fact}" for name, fact in facts.items())


def cuda_devices(found: list[dict[str, Any]]) -> str:
    """Return the CUDA devices, or why there are none."""
    if not found:
        return f"no devices: {cuda.missing()}"
    return ", ".join(f"{d['number']}: {d['name']}, compute capability {d['capability']}" for d in found)


def rates() -> str:
    """Return the machine's constants, which the planner compares algorithms by."""
    found = machine.current()
    reads = ", ".join(f"{name} {rate / 1e9:.3g}" for name, rate in zip(("L1", "L2", "memory"), found[1:4], strict=True))
    return f"{2 * found.multiply_adds / 1e9:.3g} GFLOP/s in float32; reads {reads} GB/s"


def cache() -> tuple[str, str]:
    """Return the cache folder, and whether compiled kernels are kept there."""
    root = _disk.root()
    if root is None:
        return "none", "off (FASTCONV_DISABLE_CACHE is set, or there is no home folder)"
    for folder in (root, root / "kernels"):
        if folder.exists() and not _disk.is_private(folder):
            return str(root), f"off ({folder} is no folder that only you can write to)"
    return str(root), "on" if root.exists() else "on (the folder will be made)"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
