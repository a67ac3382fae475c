"""What the library says that it runs on."""

from __future__ import annotations

import os

import pytest

import fastconv as fc


@pytest.mark.targets
def test_devices_names_the_cpu():
    found = fc.devices()
    cpu = found["cpu"]
    assert cpu["vector_bytes"] in (16, 32, 64)
    assert cpu["threads"] == fc.get_num_threads()
    assert 1 <= cpu["cores"] <= os.cpu_count()
    assert cpu["model"]
    assert found["cuda"] == []


def test_devices_lists_features_of_the_instruction_set():
    cpu = fc.devices()["cpu"]
    needed = {"avx512": {"avx512f", "avx512vl"}, "avx2": {"avx2", "fma"}, "sse2": set(), "neon": set()}
    assert needed[cpu["name"]] <= set(cpu["features"])
