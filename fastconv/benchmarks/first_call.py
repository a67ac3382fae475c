"""What the first call costs: in fresh processes, with an empty cache and with the one that it has left.

Numba's own start is not ours: the process imports it and compiles and runs a trivial function before the clock starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
from fastconv.benchmarks.problems import LAYERS, Layer
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.stats import median

__all__ = ["LAYERS_TIMED", "first_call", "import_times", "measure", "table"]

LAYERS_TIMED = (
    "lenet.conv1",
    "vgg16.conv3_2",
    "resnet50.conv2_expand",
    "mobilenet.depthwise7",
    "image.5x5",
)
IMPORTS = 10
TIMEOUT = 300

_CALL = """
import json, sys, time
import numba, numpy as np
trivial = numba.njit(lambda x: x + 1)
trivial(1)
x_shape, w_shape, keywords = json.loads(sys.argv[1])
x, weight = np.ones(x_shape, np.float32), np.ones(w_shape, np.float32)
start = time.perf_counter()
import fastconv as fc
imported = time.perf_counter()
fc.conv2d(x, weight, **keywords)
first = time.perf_counter()
fc.conv2d(x, weight, **keywords)
second = time.perf_counter()
from fastconv._jit import compilations
print(json.dumps({"import": imported - start, "first": first - imported, "second": second - first,
                  "compilations": compilations()}))
"""

_IMPORT = """
import json, time
start = time.perf_counter()
import {module}
print(json.dumps(time.perf_counter() - start))
"""


def _child(code: str, *arguments: str, **environment: str) -> Any:
    """Return what a fresh interpreter prints; it sees the same package as this one."""
    path = os.pathsep.join(filter(None, (str(Path(fastconv.__file__).parent.parent), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise RuntimeError(f"first call: the process ended with status {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def first_call(layer: Layer, folder: str) -> dict[str, Any]:
    """Return times in seconds and the compilations of a layer's first call, with an empty cache and with a warm one."""
    problem = layer.problem
    arguments = json.dumps((problem.input_shape, problem.weight_shape, layer.keywords))
    environment = {"FASTCONV_CACHE_DIR": folder, "FASTCONV_DISABLE_CACHE": "0", "NUMBA_DISABLE_JIT": "0"}
    empty, warm = (_child(_CALL, arguments, **environment) for _ in range(2))
    return {"name": layer.name, "problem": layer.text, "empty": empty, "warm": warm}


def import_times(processes: int = IMPORTS) -> dict[str, float]:
    """Return the median seconds of `import numpy` and of `import fastconv`, in fresh processes in turns."""
    modules = ("numpy", "fastconv")
    times: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(processes):
        for module in modules:
            times[module].append(_child(_IMPORT.format(module=module)))
    return {module: median(seconds) for module, seconds in times.items()}


def measure(progress: Callable[[list[str]], Any]) -> dict[str, Any]:
    """Return the record of every layer and the import times."""
    records = []
    for name in progress(list(LAYERS_TIMED)):
        # Empty for each layer, which would else find the kernels of the one before.
        with tempfile.TemporaryDirectory() as folder:
            records.append(first_call(LAYERS[name], str(Path(folder, "cache"))))
    return {"first_calls": records, "imports": import_times()}


def table(found: dict[str, Any]) -> tuple[Table, list[str]]:
    """Return the table of first calls and the line about imports."""
    rows: Table = [("layer", "problem", "empty cache", "compiled", "warm cache", "compiled", "second call")]
    for record in found["first_calls"]:
        empty, warm = record["empty"], record["warm"]
        cells = (time_text(empty["first"]), str(empty["compilations"]), time_text(warm["first"]))
        rows.append(
            (record["name"], record["problem"], *cells, str(warm["compilations"]), time_text(warm["second"])),
        )
    numpy, own = found["imports"]["numpy"], found["imports"]["fastconv"]
    line = f"import numpy {time_text(numpy)}, import fastconv {time_text(own)}: {own / numpy:.2f} times as long"
    return rows, [line]
