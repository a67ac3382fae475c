"""Options of the benchmarks, and the pairs of problem and backend that they run.

`pytest bench/ --benchmark-group-by=param:problem` lays the backends of a problem side by side; `--suite` takes the
suites of `fastconv bench`, `--threads` the number of threads.
"""

from __future__ import annotations

import pytest

import fastconv as fc
from fastconv.benchmarks.problems import suite
from fastconv.benchmarks.rivals import RIVALS

# A measure of memory, no convolution.
LEFT_OUT = ("copy",)


def pytest_addoption(parser):
    group = parser.getgroup("fastconv")
    group.addoption("--suite", default="quick", help="suites of `fastconv bench`, separated by commas (default: quick)")
    group.addoption("--threads", type=int, default=1, help="number of threads (default: 1)")
    group.addoption("--rounds", type=int, default=10, help="samples of each benchmark (default: 10)")


def pytest_generate_tests(metafunc):
    if "backend" not in metafunc.fixturenames:
        return
    layers = [layer for name in metafunc.config.getoption("suite").split(",") for layer in suite(name)]
    rivals = [rival for rival in RIVALS.values() if rival.name not in LEFT_OUT and rival.available()]
    pairs = [
        pytest.param(layer, backend, id=f"{layer.title}/{backend}")
        for layer in layers
        for backend in (
            "fastconv",
            "fastconv-plan",
            *(rival.name for rival in rivals if rival.refusal(layer) is None),
        )
    ]
    metafunc.parametrize(("problem", "backend"), pairs)


@pytest.fixture
def threads(request):
    """Set and return the number of threads of fastconv; a rival sets its own."""
    n = request.config.getoption("threads")
    with fc.threads(n):
        yield n
