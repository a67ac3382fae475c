"""Compiling ahead of time. Kernels are not really compiled but in the slow test."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.api import warmup
from fastconv.cli.main import main
from fastconv.dispatch import load, menu

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compiled(monkeypatch):
    """Return the kernels that are compiled, without compiling any."""
    found = []
    original = load.load
    names = load.load("activations:NAMES")

    def row_function(bits, name):
        found.append(names[names.index(name)])

    replaced = {"precompile:precompile": found.append, "activations:row_function": row_function}
    monkeypatch.setattr(load, "load", lambda name: replaced.get(name) or original(name))
    monkeypatch.setattr(menu, "_run", lambda g, candidate: found.append(f"{candidate.row.name} {g.problem}"))
    monkeypatch.setattr(warmup, "_operations", lambda dtype, layouts: iter(()))
    return found


@pytest.fixture
def few(compiled, monkeypatch):
    """Return the kernels that are compiled, of few: to find all takes a second."""
    all_kernels = warmup.convolution_kernels
    monkeypatch.setattr(warmup, "convolution_kernels", lambda *given: itertools.islice(all_kernels(*given), 3))
    return compiled


def test_warmup_compiles_each_kernel_once(compiled):
    done = fc.warmup(layouts="channels_last")
    assert done.kernels == len(compiled) == len(set(map(id, compiled))) > 10
    assert done.compiled == 0
    assert done.seconds > 0
    assert {"sigmoid", "gelu"} <= set(compiled)


def test_dtypes_stand_for_those_of_their_kernels(few):
    assert warmup._elements(["float16", "complex64", np.float32]) == [np.dtype("float32")]
    assert warmup._elements("uint8") == warmup._elements(np.dtype("int16")) == [np.dtype("int16")]
    assert warmup._elements(()) == []
    fc.warmup(["int32"], layouts=["channels_first"])
    assert few
    assert "sigmoid" not in few


@pytest.mark.parametrize("dtypes", ["float8", ["float32", "text"], None, 5, [[1]]])
def test_wrong_dtypes_are_refused(dtypes):
    with pytest.raises(fc.DtypeError, match=r"^warmup: dtypes = "):
        fc.warmup(dtypes)


def test_wrong_layout_is_refused():
    with pytest.raises(fc.OptionError, match=r"^warmup: layout = 'NHWC'"):
        fc.warmup(layouts=["NHWC"])


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_progress_is_shown_on_a_terminal_only(has_tqdm, monkeypatch, capsys):
    work = [(f"kernel {i}", i) for i in range(25)]
    if not has_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    else:
        pytest.importorskip("tqdm")
    assert list(warmup._shown(work, True)) == work
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(warmup._shown(work, True)) == work
    assert ("kernel 20" if has_tqdm else "20/25 kernel 20") in capsys.readouterr().err
    assert list(warmup._shown(work, False)) == work
    assert capsys.readouterr().err == ""


def test_command_tells_what_it_did(few, capsys):
    assert main(["warmup", "--dtypes", "float64", "--layouts", "channels_last"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{len(few)} kernels, 0 of them compiled now, in ")
    assert main(["warmup", "--dtypes", "float8"]) == 1
    assert capsys.readouterr().err.startswith("fastconv warmup: warmup: dtypes = 'float8'")


USE = """
import json, numpy as np, fastconv as fc
x, w = np.ones((2, 32, 30, 33), np.float32), np.ones((48, 32, 3, 3), np.float32)
for keywords in ({}, {"padding": 1, "stride": 2}, {"activation": "silu"}, {"algorithm": "im2col"}):
    fc.conv2d(x, w, **keywords)
    fc.conv2d(np.ascontiguousarray(np.moveaxis(x, 1, -1)), w, layout="channels_last", **keywords)
fc.conv2d(np.ones((1, 32, 9, 9), np.float32), np.ones((48, 32, 1, 1), np.float32))
fc.depthwise_conv2d(x, w[:32, :1])
fc.conv1d(x[:, :, 0], w[..., 0])
fc.conv_transpose2d(x[:1], w[:32], stride=2)
fc.max_pool2d(x, 2), fc.max_pool2d(x, 3, 1, return_indices=True), fc.avg_pool2d(x, 3, 2)
fc.interpolate(x, scale_factor=2), fc.interpolate(x, size=(20, 20), mode="bilinear")
fc.fold(fc.unfold(x, 3), (30, 33), 3), fc.nearest_unpool2d(x, 2), fc.activations.tanh(x)
from fastconv._jit import compilations
print(json.dumps(compilations()))
"""


@pytest.mark.slow
def test_nothing_is_compiled_after_a_warmup(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FASTCONV_CACHE_DIR": str(tmp_path / "cache")}

    def run(code):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=900)
        return json.loads(done.stdout)

    warm = "import json, fastconv as fc; print(json.dumps(fc.warmup()[:2]))"
    kernels, first = run(warm)
    assert kernels >= first > 50
    assert run(USE) == 0
    assert run(warm) == [kernels, 0]
