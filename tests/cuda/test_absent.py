"""CUDA asked for where there is none, and never looked for where it is not asked for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv.geometry.arrays import on_device

pytestmark = pytest.mark.cuda

X, W = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_absent_cuda_names_what_is_missing():
    if fc.devices()["cuda"]:
        pytest.skip("there is a device")
    with pytest.raises(fc.UnsupportedError) as raised:
        fc.conv2d(X, W, device="cuda")
    message = str(raised.value)
    assert message.startswith('conv2d: device = "cuda"')
    assert 'pip install "fastconv[cuda]"' in message
    assert "\n" not in message


def test_calls_on_the_cpu_import_no_cuda():
    run(
        "import sys, numpy as np, fastconv as fc; x = np.ones((1, 1, 3, 3), 'f4'); fc.conv2d(x, x); fc.max_pool2d(x, 2)"
        "; assert not [m for m in sys.modules if m.startswith('fastconv.kernels.cuda')]"
    )


class Exporter:
    def __init__(self, device):
        self.device = device

    def __dlpack__(self, **_):
        raise AssertionError

    def __dlpack_device__(self):
        return (self.device, 0)


@pytest.mark.parametrize(("device", "expected"), [(1, False), (2, True), (3, False), (10, False), (13, True)])
def test_exporter_is_on_the_device_where_it_says_so(device, expected):
    assert on_device(Exporter(device)) is expected
