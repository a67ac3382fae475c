"""`fastconv bench --device cuda`: the measurement on a device that is none, and what is said where there is none."""

from __future__ import annotations

import json

import pytest

from fastconv.benchmarks import device, run
from fastconv.benchmarks.problems import layer
from tests.cuda.runtimes import Native, installed
from tests.cuda_tools.native import AVAILABLE
from tests.cuda_tools.requirements import NEEDS_TOOLCHAIN

SMALL = ("n1ic1h8w8_oc2k3s1p1", "n1ic2h8w8_oc2k3s2p0")


@pytest.mark.cuda
def test_without_a_device_it_says_so(capsys, tmp_path):
    file = tmp_path / "found.json"
    assert run.main(["--device", "cuda", "--problem", SMALL[0], "--json", str(file)]) == 0
    assert "no times on a CUDA device: " in capsys.readouterr().out
    assert json.loads(file.read_text())["cuda"] == []


@pytest.mark.cuda
def test_suites_of_the_cpu_are_refused():
    with pytest.raises(ValueError, match="suite 'signal' is of the CPU"):
        run.main(["--device", "cuda", "--suite", "signal"])


def on_a_device(test):
    """Mark what needs kernels that run on the host."""
    unavailable = pytest.mark.skipif(not AVAILABLE, reason="kernels are retargeted to Linux on x86")
    for mark in (*NEEDS_TOOLCHAIN, unavailable):
        test = mark(test)
    return test


@on_a_device
def test_layers_are_checked_and_timed():
    with installed(Native()):
        found = device.measure([layer(text) for text in SMALL], lambda items: items, 2)
    json.dumps(found)
    assert [record["gate"] for record in found["cuda"]] == ["green", "green"]
    for record in found["cuda"]:
        assert {"cuda", "cuda with copies", "cpu"} <= set(record["seconds"])
        assert len(record["samples"]["cuda"]) == 2
        assert record["gflops"] == pytest.approx(2e-9 * record["macs"] / record["seconds"]["cuda"])
    rows, lines = device.table(found)
    assert len(rows) == 3
    assert any("beside cpu: geometric mean" in line for line in lines)


@on_a_device
def test_wrong_results_are_not_timed(monkeypatch):
    monkeypatch.setattr(device, "reference", lambda *_, **__: 0)
    with installed(Native()):
        found = device.measure([layer(SMALL[0])], lambda items: items, 2)
    (record,) = found["cuda"]
    assert "seconds" not in record
    assert any(line.startswith("WRONG RESULT") for line in device.table(found)[1])
