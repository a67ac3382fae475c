"""Options of the benchmarks, and the pairs of problem and backend that they run.

`pytest bench/ --benchmark-group-by=param:problem` lays the backends of a problem side by side. `--suite` takes the
suites of `fastconv bench` that are layers or operations, `--threads` the number of threads, `--device` cpu, cuda or
both.
"""

from __future__ import annotations

import itertools

import pytest

import fastconv as fc
from fastconv.benchmarks import operations
from fastconv.benchmarks.problems import SUITES, suite
from fastconv.benchmarks.rivals import RIVALS
from fastconv.dispatch import cuda

# A measure of memory, no convolution.
LEFT_OUT = ("copy",)
ON_DEVICE = ("cuda", "cuda with copies")

# What runs without `--suite`: layers, and the first cases of some operations.
LAYERS = "quick,gaussian,lenet"
OPERATIONS = {"separable": 2, "pooled": 1, "pool": 3, "window": 2, "unpool": 4, "transposed": 3, "ndimage": 3}


def pytest_addoption(parser):
    group = parser.getgroup("fastconv")
    group.addoption("--suite", help="suites of `fastconv bench`, separated by commas (default: a few cases of each)")
    group.addoption("--threads", type=int, default=1, help="number of threads (default: 1)")
    group.addoption("--rounds", type=int, default=10, help="samples of each benchmark (default: 10)")
    group.addoption("--device", default="cpu", help="cpu, cuda or cpu,cuda (default: cpu)")


def devices(config):
    found = config.getoption("device").split(",")
    if set(found) - {"cpu", "cuda"}:
        raise pytest.UsageError(f"--device: expected cpu, cuda or cpu,cuda, got {','.join(found)!r}")
    return found


def pytest_report_header(config):
    if "cuda" in devices(config) and (missing := cuda.missing()) is not None:
        return f"fastconv: the CUDA rows are skipped: {missing}"
    return None


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        given = metafunc.config.getoption("suite")
        names = (given or LAYERS).split(",")
        if unknown := set(names) - set(SUITES) - set(operations.SUITES):
            known = ", ".join((*SUITES, *operations.SUITES))
            raise pytest.UsageError(f"--suite: {min(unknown)!r} is none of {known}")
        if "case" in metafunc.fixturenames:
            _operations(metafunc, dict.fromkeys(names) if given else OPERATIONS)
        else:
            _layers(metafunc, names)


def _layers(metafunc, names):
    on = devices(metafunc.config)
    rivals = [rival for rival in RIVALS.values() if rival.name not in LEFT_OUT and rival.available()]
    pairs = []
    for layer in dict.fromkeys(layer for name in names if name in SUITES for layer in suite(name)):
        backends = ON_DEVICE if "cuda" in on else ()
        if "cpu" in on:
            able = (rival.name for rival in rivals if rival.refusal(layer) is None)
            backends = ("fastconv", "fastconv-plan", *able, *backends)
        pairs += [pytest.param(layer, backend, id=f"{layer.title}/{backend}") for backend in backends]
    metafunc.parametrize(("problem", "backend"), pairs)


def _operations(metafunc, suites):
    """Make a row for each backend of the first so many cases of suites; a case is made again when it runs."""
    rows = []
    for name, count in suites.items() if "cpu" in devices(metafunc.config) else ():
        if name not in operations.SUITES:
            continue
        for i, case in enumerate(itertools.islice(operations.SUITES[name](), count)):
            problem = f"{name}: {case.name}, {case.problem}"
            rows += [
                pytest.param((name, i), problem, backend, id=f"{problem}/{backend}")
                for backend in ("fastconv", *case.rivals)
            ]
    metafunc.parametrize(("case", "problem", "backend"), rows)


@pytest.fixture
def threads(request):
    """Set and return the number of threads of fastconv; a rival sets its own."""
    n = request.config.getoption("threads")
    with fc.threads(n):
        yield n
