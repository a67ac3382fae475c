"""What algorithms save, pictures of results, and results read again. No test looks at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastconv as fc
from fastconv.benchmarks import compare, device, plot, plot_sizes, results, run, savings, stats
from fastconv.errors import OptionError

MACHINE = {
    "cpu": "x",
    "cores": 2,
    "target": {"name": "y"},
    "system": "z",
    "versions": {},
    "load": 0,
    "date": "2026-01-01",
}


def result(**more):
    return {"command": "fastconv bench", "machine": MACHINE, "results": [], **more}


def batch(n, factor=1.0):
    """Return a record of a device that is faster from 2 on, with its copies from 8 on."""
    times = {"cpu": n * 1e-3, "cuda": 1.5e-3 + n * 1e-5, "cuda with copies": 4e-3 + n * 3e-4}
    seconds = {who: factor * s for who, s in times.items()}
    more = {"samples": {who: [s, s, s] for who, s in seconds.items()}, "gflops": 1.0, "peak_share": None}
    problem = f"n{n}ic64h28w28_oc64k3s1p1"
    return {"name": f"batch.{n}", "problem": problem, "macs": n, "gate": "green", "seconds": seconds, **more}


def on_device(factor=1.0):
    records = [batch(n, factor) for n in (1, 2, 4, 8, 16)]
    return result(cuda=records, device={"name": "made up"}, missing=None)


def sized(k, direct, separable, fft):
    seconds = {"call": 1.0, "fastconv-direct": 2 * direct, "fastconv-depthwise": direct}
    seconds |= {"fastconv-separable": separable, "fastconv-fft": fft}
    record = {"name": f"kernel-size.{k}x{k}", "problem": f"n1ic1h512w512_oc1k{k}s1p{k // 2}", "threads": 1}
    record |= {
        "algorithm": "direct",
        "gate": "green",
        "macs": k,
        "bytes": 8,
        "saved": 1.0,
        "float32": True,
        "skipped": {},
    }
    return record | {"seconds": seconds, "ratios": {}, "gflops": {"call": 1.0}, "peak_share": {}}


def by_size():
    records = [sized(3, 1, 2, 5), sized(7, 3, 2, 5), sized(15, 9, 3, 5), sized(31, 30, 5, 4.5)]
    return result(results=records, peak_gflops=100.0, read_gbytes={"l2": 50.0, "memory": 10.0})


def saved(gate="green"):
    record = {"name": "fft", "problem": "p", "threads": 1, "multiplies": {"direct": 100, "method": 10}}
    record |= {"predicted": {"direct": 8.0, "method": 2.0}, "default": "im2col", "gate": gate}
    times = {"direct": 9.0, "method": 3.0, "default": 6.0}
    return record | ({"seconds": times} if gate == "green" else {})


def test_crossover_is_where_one_stays_below():
    assert stats.crossover([1, 2, 3, 4], [5, 5, 5, 5], [6, 4, 6, 4]) == 4
    assert stats.crossover([1, 2], [5, 5], [4, 4]) == 1
    assert stats.crossover([1, 2], [5, 5], [4, 5]) is None
    assert stats.crossover([], [], []) is None


@pytest.mark.parametrize("method", savings.METHODS)
def test_both_sides_of_a_saving_are_the_same_numbers(method, monkeypatch):
    for name, value in (("KERNELS", (5,)), ("LARGE_KERNELS", (15,)), ("BLOCKS", ((3, 12, 5),)), ("BODIES", ((3, 12),))):
        monkeypatch.setattr(savings, name, value)
    monkeypatch.setattr(savings, "DILATIONS", (2,))
    monkeypatch.setattr(savings, "IMAGE", 40)
    (case,) = savings.METHODS[method]()
    x, weight, keywords = case.dense
    expected = fc.testing.reference(x, weight, **keywords)
    fc.testing.assert_close(case.saver.call(), expected, terms=weight[0].size, factor=32)
    dense = fc.count_ops(fc.conv2d, x.shape, weight.shape, **keywords).multiplies
    assert 0 < case.saver.ops.multiplies < (2 if method == "winograd" else 1) * dense
    assert case.saver.predicted > 0


def test_savings_are_measured_and_written(monkeypatch, tmp_path, capsys):
    x, weight = np.ones((1, 1, 6, 6), np.float32), np.ones((1, 1, 3, 3), np.float32)
    right = savings.Saving(
        "separable", "3x3", savings._side(x, weight, "separable", padding=1), (x, weight, {"padding": 1})
    )
    wrong = right._replace(problem="wrong", dense=(x, 2 * weight, {"padding": 1}))
    monkeypatch.setattr(savings, "METHODS", {"separable": lambda: iter([right, wrong])})
    path = tmp_path / "a.json"
    assert run.main(["--suite", "savings", "--repeats", "2", "--json", str(path)]) == 1
    first, second = json.loads(path.read_text(encoding="utf-8"))["savings"]
    assert first["multiplies"] == {"direct": 36 * 9, "method": 36 * 6}
    assert set(first["seconds"]) == set(first["quartiles"]) == {"direct", "method", "default"}
    assert "seconds" not in second
    out = capsys.readouterr().out
    assert "1.5 times fewer multiplications" in out
    assert "WRONG RESULT: separable, wrong" in out


def test_savings_are_ratios_to_direct_summation():
    rows, lines = savings.table(result(savings=[saved(), saved("off")]))
    assert rows[1][5:8] == ("10x", "4x", "3x")
    assert rows[1][-1] == "2.00"
    assert "WRONG" in rows[2]
    assert lines[0].startswith("1 thread(s), fft: 10 times fewer")


def test_kernel_sizes_have_crossings():
    found = by_size()
    sizes = [size for _, _, size in plot_sizes.crossings(found, 1)]
    assert sizes == [7, 15, 31]
    _, lines = results.shown(found)
    assert "1 thread(s): an FFT is faster than direct summation from 15x15 on" in lines


def test_batches_have_crossings():
    found = on_device()
    assert device.crossings(found["cuda"]) == {"cuda": 2, "cuda with copies": 8}
    _, lines = results.shown(found)
    assert "with copies the device is faster than the CPU from a batch of 8 on" in lines
    other = {**batch(4), "problem": "n4ic8h28w28_oc64k3s1p1"}
    assert device.batches([batch(1), other]) is None
    assert device.crossings([batch(1), other]) == {}


@pytest.mark.parametrize(
    ("found", "kind"),
    [(by_size(), "kernel-size"), (on_device(), "device"), (result(savings=[saved()]), "savings"), (result(), "floor")],
)
def test_picture_suits_the_result(found, kind):
    assert plot.kind_of(found) == kind


def test_plot_takes_a_kind_and_a_file():
    assert plot.split("roofline:a.png") == ("roofline", "a.png")
    assert plot.split("C:\\a.png") == (None, "C:\\a.png")
    assert plot.split("a.png") == (None, "a.png")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (by_size(), "{}"),
        (by_size(), "roofline:{}"),
        (by_size(), "floor:{}"),
        (on_device(), "{}"),
        (result(savings=[saved()]), "{}"),
    ],
)
def test_pictures_are_drawn_from_a_file(found, text, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    source, picture = tmp_path / "a.json", tmp_path / "a.png"
    source.write_text(json.dumps(found), encoding="utf-8")
    assert run.main(["--from", str(source), "--plot", text.format(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_picture_of_what_is_not_there_is_an_error(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(OptionError, match="the kind roofline"):
        plot.draw(on_device(), f"roofline:{tmp_path / 'a.png'}")


@pytest.mark.parametrize(("factor", "code"), [(1.3, 1), (1.0, 0), (0.7, 0)])
def test_compare_reads_records_of_a_device(factor, code, tmp_path, capsys):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, content in zip(paths, (on_device(), on_device(factor)), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    assert compare.compare(*map(str, paths)) == code
    out = capsys.readouterr().out
    assert out.count("SLOWER") == (15 if factor > 1 else 0)
    assert "rivals" not in out
