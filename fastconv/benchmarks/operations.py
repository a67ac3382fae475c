"""Pools, unpooling, upsampling, transposed convolution and image filters beside other libraries.

Each case is a call of ours, the same call of each rival that is installed, and the bytes that it must move: the share
of the speed at which `numpy.copyto` moves as many says how far from memory's limit it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.benchmarks import fusions, gradients, nopython
from fastconv.benchmarks.case import LAYOUTS, Call, Case, Work, arranged, draw, installed
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.stats import geometric_mean, median, quartiles
from fastconv.benchmarks.timing import interleave

__all__ = ["SUITES", "measure", "results_of", "set_threads", "table"]


def _beside_torch(
    name: str, x: np.ndarray, layout: str, ours: Callable[..., Any], theirs: str, *arguments: Any, **options: Any
) -> Case:
    """Return the case of a function of torch.nn.functional that takes the same arguments."""
    array, tensor = arranged(x, layout)
    rivals: dict[str, Call] = {}
    if tensor is not None:
        import torch

        function = getattr(torch.nn.functional, theirs)

        def call() -> Any:
            with torch.no_grad():
                found = function(tensor, *arguments, **options)
            each = found if isinstance(found, tuple) else (found,)
            return tuple(y.movedim(1, -1) if layout == "channels_last" else y for y in each)

        rivals["torch"] = call
    size = "x".join(map(str, x.shape))
    return Case(
        name,
        f"{size} {layout}",
        lambda: ours(array, *arguments, **options, layout=layout),
        rivals,
        1e-5,
        x.nbytes,
    )


POOLED = ((1, 64, 224, 224), (1, 64, 112, 112), (8, 32, 28, 28), (32, 256, 7, 7))


def _pools() -> Iterator[Case]:
    windows = ((2, 2, 0), (3, 2, 1), (5, 1, 2))
    for layout, shape, (k, s, p) in itertools.product(LAYOUTS, POOLED, windows):
        x = draw(*shape)
        what = f"{k}x{k} s{s}"
        yield _beside_torch(f"max {what}", x, layout, fc.max_pool2d, "max_pool2d", k, s, p)
        with_indices = {"return_indices": True}
        yield _beside_torch(f"max {what} indices", x, layout, fc.max_pool2d, "max_pool2d", k, s, p, **with_indices)
        yield _beside_torch(f"avg {what}", x, layout, fc.avg_pool2d, "avg_pool2d", k, s, p)


def _windows() -> Iterator[Case]:
    x = draw(1, 16, 224, 224)
    for k, indices in itertools.product((3, 5, 9, 15, 31), (False, True)):
        name, options = f"max {k}x{k} s1", {"return_indices": True} if indices else {}
        name += " indices" * indices
        yield _beside_torch(name, x, "channels_first", fc.max_pool2d, "max_pool2d", k, 1, k // 2, **options)


def _unpools() -> Iterator[Case]:
    for layout, shape in itertools.product(LAYOUTS, ((1, 64, 112, 112), (8, 32, 28, 28))):
        x = draw(*shape)
        bilinear = {"mode": "bilinear", "align_corners": False}
        yield _beside_torch("nearest x2", x, layout, fc.interpolate, "interpolate", None, 2, mode="nearest")
        yield _beside_torch("bilinear x2", x, layout, fc.interpolate, "interpolate", None, 2, **bilinear)
        yield _beside_torch("bilinear x1.5", x, layout, fc.interpolate, "interpolate", None, 1.5, **bilinear)
        yield _max_unpool(x, layout)


def _max_unpool(x: np.ndarray, layout: str) -> Case:
    array, tensor = arranged(x, layout)
    values, indices = fc.max_pool2d(array, 2, return_indices=True, layout=layout)
    rivals: dict[str, Call] = {}
    if tensor is not None:
        import torch

        last = layout == "channels_last"
        v, i = (torch.from_numpy(a).movedim(-1, 1) if last else torch.from_numpy(a) for a in (values, indices))

        def call() -> Any:
            y = torch.nn.functional.max_unpool2d(v, i, [2, 2])
            return y.movedim(1, -1) if last else y

        rivals["torch"] = call
    size = "x".join(map(str, x.shape))
    moved = values.nbytes + indices.nbytes
    ours: Call = lambda: fc.max_unpool2d(values, indices, 2, layout=layout)  # noqa: E731
    return Case("max_unpool 2x2", f"to {size} {layout}", ours, rivals, 0.0, moved)


TRANSPOSED = (
    # Generators of DCGAN, and the way up of a U-Net: IC, size, OC, kernel, padding.
    (512, 4, 256, 4, 1),
    (256, 8, 128, 4, 1),
    (128, 16, 64, 4, 1),
    (64, 32, 3, 4, 1),
    (256, 28, 128, 2, 0),
    (128, 56, 64, 2, 0),
    (64, 112, 32, 2, 0),
)


def _transposed() -> Iterator[Case]:
    for layout, (IC, size, OC, k, p) in itertools.product(LAYOUTS, TRANSPOSED):
        x, weight = draw(1, IC, size, size), draw(IC, OC, k, k)
        array, tensor = arranged(x, layout)
        rivals: dict[str, Call] = {}
        if tensor is not None:
            rivals["torch"] = _torch_transposed(tensor, weight, p, layout)

        def ours(array: Any = array, weight: Any = weight, p: int = p, layout: str = layout) -> Any:
            return fc.conv_transpose2d(array, weight, stride=2, padding=p, layout=layout)

        what = f"{IC}x{size}x{size} to {OC} {layout}"
        macs = fc.count_ops(fc.conv_transpose2d, x.shape, weight.shape, stride=2, padding=p).macs
        yield Case(f"transposed {k}x{k} s2", what, ours, rivals, 1e-4, x.nbytes, Work(macs, 0))


def _torch_transposed(tensor: Any, weight: np.ndarray, padding: int, layout: str) -> Call:
    import torch

    last, w = layout == "channels_last", torch.from_numpy(weight)
    if last:
        w = w.contiguous(memory_format=torch.channels_last)

    def call() -> Any:
        with torch.no_grad():
            y = torch.nn.functional.conv_transpose2d(tensor, w, stride=2, padding=padding)
        return y.movedim(1, -1) if last else y

    return call


def _filters() -> Iterator[Case]:
    from scipy import ndimage

    x = draw(2048, 2048)
    bell = np.outer(*[np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2).astype(np.float32)] * 2)
    kernel = draw(5, 5)
    cv2: dict[str, Call] = _opencv(x, kernel) if installed("cv2") else {}
    calls: dict[str, Callable[[Any], Any]] = {
        "correlate 5x5": lambda m: m.correlate(x, kernel),
        "correlate 7x7 rank 1": lambda m: m.correlate(x, bell),
        "gaussian sigma 2": lambda m: m.gaussian_filter(x, 2),
        "sobel": lambda m: m.sobel(x),
        "prewitt": lambda m: m.prewitt(x),
        "laplace": lambda m: m.laplace(x),
        "uniform 9x9": lambda m: m.uniform_filter(x, 9),
        "uniform 31x31": lambda m: m.uniform_filter(x, 31),
        "maximum 9x9": lambda m: m.maximum_filter(x, 9),
        "maximum 31x31": lambda m: m.maximum_filter(x, 31),
        "minimum 9x9": lambda m: m.minimum_filter(x, 9),
    }
    for name, call in calls.items():
        rivals: dict[str, Call] = {"scipy": lambda call=call: call(ndimage)}  # type: ignore[misc]
        if name in cv2:
            rivals["opencv"] = cv2[name]
        yield Case(name, "2048x2048 float32", lambda call=call: call(fc.ndimage), rivals, 1e-4, x.nbytes)  # type: ignore[misc]


def _opencv(x: np.ndarray, kernel: np.ndarray) -> dict[str, Call]:
    """Return OpenCV's filters that have the same result, as reflecting borders as SciPy."""
    import cv2

    border = cv2.BORDER_REFLECT
    box = {k: np.ones((k, k), np.uint8) for k in (9, 31)}
    return {
        "correlate 5x5": lambda: cv2.filter2D(x, -1, kernel, borderType=border),
        "gaussian sigma 2": lambda: cv2.GaussianBlur(x, (17, 17), 2, borderType=border),
        "sobel": lambda: cv2.Sobel(x, -1, 1, 0, borderType=border),
        "laplace": lambda: cv2.Laplacian(x, -1, borderType=border),
        "uniform 9x9": lambda: cv2.blur(x, (9, 9), borderType=border),
        "uniform 31x31": lambda: cv2.blur(x, (31, 31), borderType=border),
        "maximum 9x9": lambda: cv2.dilate(x, box[9], borderType=border),
        "maximum 31x31": lambda: cv2.dilate(x, box[31], borderType=border),
        "minimum 9x9": lambda: cv2.erode(x, box[9], borderType=border),
    }


SUITES: dict[str, Callable[[], Iterator[Case]]] = {
    "pool": _pools,
    "window": _windows,
    "unpool": _unpools,
    "transposed": _transposed,
    "ndimage": _filters,
    "separable": fusions.separables,
    "pooled": fusions.pooled,
    "gradients": gradients.gradients,
    "njit": nopython.calls,
}


def measure(suite: str, progress: Callable[[list[Any]], Any], counts: list[int], repeats: int) -> dict[str, Any]:
    """Return a record for each case and number of threads; one whose results differ has no times."""
    work = [(n, case) for n in counts for case in SUITES[suite]()]
    records = []
    for n, case in progress(work):
        with fc.threads(n):
            set_threads(n)
            records.append(_measured(case, n, repeats))
    return {"suite": suite, "operations": records}


def set_threads(n: int) -> None:
    """Give the rivals so many threads."""
    if installed("torch"):
        import torch

        torch.set_num_threads(n)
    if installed("cv2"):
        import cv2

        cv2.setNumThreads(n)


def _measured(case: Case, threads: int, repeats: int) -> dict[str, Any]:
    record: dict[str, Any] = {"name": case.name, "problem": case.problem, "threads": threads, "seconds": None}
    found = results_of(case.ours())
    for rival in case.rivals.values():
        for a, b in zip(found, results_of(rival()), strict=True):
            bound = case.tolerance * max(1.0, float(np.abs(b).max()))
            if a.shape != b.shape or not np.abs(a.astype(np.float64) - b).max() <= bound:
                return record
    moved = case.input_bytes + sum(y.nbytes for y in found)
    source = np.ones(max(1, moved // 8), np.float32)
    target = np.empty_like(source)
    calls = {"fastconv": case.ours, **case.rivals, "copy": lambda: np.copyto(target, source)}
    times = {name: samples.seconds for name, samples in interleave(calls, repeats).items()}
    spread = {name: quartiles(seconds) for name, seconds in times.items()}
    seconds = {name: median(each) for name, each in times.items()}
    return record | {"seconds": seconds, "quartiles": spread, "bytes": moved}


def results_of(found: Any) -> list[np.ndarray]:
    """Return the arrays of a result, which may be one."""
    return [np.asarray(y) for y in (found if isinstance(found, tuple) else (found,))]


def table(found: dict[str, Any]) -> tuple[Table, list[str]]:
    """Return the table, and the lines that sum it up."""
    records = found["operations"]
    rivals = [r for r in ("torch", "scipy", "opencv", "plain") if any(r in (x["seconds"] or {}) for x in records)]
    rows: Table = [
        ("operation", "problem", "threads", "fastconv", *itertools.chain(*((r, "ratio") for r in rivals)), "of copy")
    ]
    ratios: dict[tuple[int, str], list[float]] = {}
    for record in records:
        head, seconds = (record["name"], record["problem"], str(record["threads"])), record["seconds"]
        if seconds is None:
            rows.append((*head, "WRONG", *[""] * (2 * len(rivals) + 1)))
            continue
        cells: list[str] = []
        for rival in rivals:
            ratio = seconds[rival] / seconds["fastconv"] if rival in seconds else None
            cells += [time_text(seconds.get(rival)), "" if ratio is None else f"{ratio:.2f}"]
            if ratio is not None:
                layout = record["problem"].split()[-1]
                ratios.setdefault((record["threads"], f"{rival}, {layout}"), []).append(ratio)
        rows.append((*head, time_text(seconds["fastconv"]), *cells, f"{seconds['copy'] / seconds['fastconv']:.0%}"))
    lines = [
        f"{n} thread(s) beside {who}: geometric mean {geometric_mean(each):.2f}, worst {min(each):.2f} of {len(each)}"
        for (n, who), each in ratios.items()
    ]
    nothing = "no rival is installed" if any(record["seconds"] for record in records) else "no result was right"
    return rows, lines or [nothing]
