"""The benchmarks: their data, their statistics, and a run on a tiny problem. No test looks at a time."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

import fastconv as fc
from fastconv.benchmarks import (
    compare,
    filters,
    first_call,
    measure,
    operations,
    problems,
    report,
    rivals,
    run,
    stats,
    timing,
)
from fastconv.errors import OptionError
from fastconv.geometry.conv import conv_geometry

TINY = 'n1ic2h6w6_oc3k3s1p1"tiny"'


@pytest.mark.parametrize("layer", problems.LAYERS.values(), ids=lambda layer: layer.name)
def test_layers_are_written_in_the_shortest_way(layer):
    p, text = layer.problem, layer.text.removesuffix("_c64")
    # Kernels know of complex arrays only their parts.
    dtype = {"complex64": "float32"}.get(p.dtype, p.dtype)
    for keywords in (p.keywords, layer.keywords):
        g = conv_geometry("test", p.axes, p.input_shape, p.weight_shape, **keywords, dtype=dtype)
        assert g.problem == text


def test_layers_differ():
    texts = [layer.text for layer in problems.LAYERS.values() if not layer.name.startswith("gaussian.")]
    assert len(set(texts)) == len(texts)


def test_suites_hold_known_layers_once():
    for name, layers in problems.SUITES.items():
        assert layers, name
        assert len(set(layers)) == len(layers), name
        assert set(layers) <= set(problems.LAYERS), name
    assert len(problems.SUITES["headline"]) == 24


def test_suite_that_is_unknown_is_an_error():
    with pytest.raises(OptionError, match="headline"):
        problems.suite("headlines")


def test_layer_takes_names_and_problems():
    assert problems.layer(TINY).name == "tiny"
    assert problems.layer("n1ic2h6w6_oc3k3s1p1").name == "n1ic2h6w6_oc3k3s1p1"
    assert problems.layer("lenet.conv1") is problems.LAYERS["lenet.conv1"]
    with pytest.raises(OptionError):
        problems.layer("no.such")


def test_draw_makes_the_gaussian_of_rank_one():
    _, weight = problems.draw(problems.LAYERS["gaussian.15x15"])
    assert fc.separate(weight[0, 0]).rank == 1
    assert weight.sum() == pytest.approx(1, rel=1e-5)


def test_statistics_are_exact():
    assert stats.median([3.0, 1.0, 2.0]) == 2
    assert stats.median([4.0, 1.0]) == 2.5
    assert stats.quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2, 4)
    assert stats.quartiles([7.0]) == (7, 7)
    assert stats.geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4, rel=1e-15)
    assert np.isnan(stats.geometric_mean([]))


def test_interleave_rotates_the_order():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    found = timing.interleave(calls, 3)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    # The first three turns find how often to loop.
    assert "".join(turns) == "abc" + "abc" + "bca" + "cab"
    assert all(len(samples.seconds) == 3 and samples.loops >= 1 for samples in found.values())


def test_interleave_probes_around_each_sample():
    values = iter(range(1, 100))
    found = timing.interleave({"a": lambda: None, "b": lambda: None}, 2, lambda: float(next(values)), ["b"])
    assert found["a"].probes == []
    assert found["b"].probes == [1.5, 3.5]


def test_run_writes_what_it_measured(tmp_path, capsys):
    target, page = tmp_path / "a.json", tmp_path / "a.md"
    arguments = ["--problem", TINY, "--repeats", "2", "--threads", "1,2", "--rivals", "fastconv-direct,copy"]
    before = fc.get_num_threads()
    assert run.main([*arguments, "--json", str(target), "--markdown", str(page)]) == 0
    assert fc.get_num_threads() == before
    found = json.loads(target.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "target", "versions", "date"} <= set(found["machine"])
    assert found["command"].endswith("--rivals fastconv-direct,copy")
    assert [record["threads"] for record in found["results"]] == [1, 2]
    for record in found["results"]:
        assert record["gate"] == "green"
        assert record["macs"] == 3 * 36 * 2 * 9
        assert {name: len(samples) for name, samples in record["samples"].items()} == {
            "call": 2, "plan": 2, "fastconv-direct": 2, "copy": 2,
        }  # fmt: skip
        seconds = record["seconds"]
        assert record["ratios"]["copy"]["plan"] == seconds["copy"] / seconds["plan"]
    printed = capsys.readouterr().out
    assert "geometric mean" in printed
    assert "tiny" in page.read_text(encoding="utf-8")
    assert run.main(["--compare", str(target), str(target)]) == 0


class Wrong(rivals.Rival):
    name = "wrong"

    def make(self, layer, arrays, threads):
        y = fc.conv2d(*arrays, **layer.keywords)
        y[0, 0, 0, 0] += 1
        return lambda: y


def test_measure_times_nothing_on_a_red_gate():
    record = measure.measure(problems.layer(TINY), [Wrong()], 1, 2)
    assert record["gate"].startswith("call: 1 of 108 elements differ")
    assert "seconds" not in record
    assert "WRONG" in report.text(report.ratios([record]))
    assert any("WRONG RESULT" in line for line in report.summary([record]))


def test_rivals_agree_with_the_reference():
    layer = problems.layer("n1ic1h9w8_oc1k3s1p1")
    arrays = problems.draw(layer)
    tried = [r for r in rivals.RIVALS.values() if r.independent and r.available() and r.refusal(layer) is None]
    assert [r.name for r in tried][-1] == "scipy"
    for rival in tried:
        try:
            result = np.asarray(rival.make(layer, arrays, 1)())
        except fc.UnsupportedError:
            continue
        fc.testing.assert_close(result, fc.testing.reference(*arrays, **layer.keywords), terms=9, factor=8)


@pytest.mark.parametrize(
    "text", ["n1ic2h9w8_oc1k3s1p1", "n1ic1h9w8_oc1k3s2p1", "n1ic1h9w8_oc1k3s1p0", "n1ic1h9w8_oc1k4s1p2"]
)
def test_filters_refuse_what_they_cannot_do(text):
    assert rivals.RIVALS["scipy"].refusal(problems.layer(text))
    assert rivals.RIVALS["opencv"].refusal(problems.layer(text))


def test_find_names_the_rivals():
    with pytest.raises(OptionError, match="torch"):
        rivals.find("touch")


def made_up(seconds, spread=0.01):
    record = {"name": "tiny", "problem": "n1", "threads": 1, "gate": "green"}
    box = {who: [s * (1 - spread), s * (1 + spread)] for who, s in seconds.items()}
    return {"machine": {"cpu": "x"}, "results": [record | {"seconds": seconds, "quartiles": box}]}


@pytest.mark.parametrize(
    ("plan", "spread", "code", "verdict"),
    [
        (1.0, 0.01, 0, ""),
        (1.05, 0.01, 0, ""),
        (1.3, 0.01, 1, "SLOWER"),
        (1.3, 0.2, 0, ""),
        (0.7, 0.01, 0, "faster"),
    ],
)
def test_compare_flags_what_is_slower_beyond_the_noise(tmp_path, capsys, plan, spread, code, verdict):
    before = made_up({"call": 1.0, "plan": 1.0, "torch": 1.0}, spread)
    # A slower rival is not our concern.
    after = made_up({"call": 1.0, "plan": plan, "torch": 2.0}, spread)
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, content in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    assert compare.compare(*map(str, paths)) == code
    assert {c.who: c.verdict for c in compare.changes(before, after)}["plan"] == verdict
    assert "rivals, which should not have changed: 2.000" in capsys.readouterr().out


def test_compare_flags_a_red_gate(tmp_path):
    before = made_up({"call": 1.0})
    after = copy.deepcopy(before)
    after["results"].append({"name": "other", "problem": "n2", "threads": 1, "gate": "call: differs"})
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, content in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    assert compare.compare(*map(str, paths)) == 1


def test_compare_refuses_other_files(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(OptionError, match="not a result"):
        compare.read(str(path))


def test_scaling_is_one_thread_over_many():
    one = {"name": "tiny", "threads": 1, "gate": "green", "seconds": {"call": 3.0}}
    two = {"name": "tiny", "threads": 2, "gate": "green", "seconds": {"call": 2.0}}
    assert [row[-1] for row in report.scaling([one, two])] == ["speed-up", "1.50", "1.50"]
    assert report.scaling([one]) == []


def test_first_call_counts_the_compilations(tmp_path):
    found = first_call.first_call(problems.layer(TINY), str(tmp_path / "cache"))
    assert found["empty"]["compilations"] > 0
    assert found["warm"]["compilations"] == 0
    rows, lines = first_call.table({"first_calls": [found], "imports": {"numpy": 0.1, "fastconv": 0.15}})
    assert rows[1][0] == "tiny"
    assert "1.50 times" in lines[0]


def test_peak_is_a_rate():
    from numba.core import config

    from fastconv.benchmarks import peak

    rate = peak.gflops(1000)
    assert np.isnan(rate) if config.DISABLE_JIT else rate > 0


def test_filters_beside_scipy(monkeypatch):
    monkeypatch.setattr(filters, "SIZES", (40,))
    monkeypatch.setattr(filters, "KERNELS", (3, 11))
    monkeypatch.setattr(filters, "CORNER", 20)
    found = filters.measure(list, 1, 2)
    rows, lines = filters.table(found)
    assert len(rows) == 1 + 3 * 2 * 3
    assert all(float(row[-1]) > 0 for row in rows[1:])
    assert lines[-1].startswith("1 thread(s) beside SciPy: geometric mean")
    monkeypatch.setattr(fc.signal, "correlate2d", lambda image, *args: np.zeros(image.shape))
    rows, lines = filters.table(filters.measure(list, 1, 2))
    assert {row[4] for row in rows[1:]} == {"WRONG"}
    assert lines == ["no result was right"]


def test_operations_are_checked_and_timed(monkeypatch):
    monkeypatch.setattr(operations, "POOLED", ((1, 3, 8, 8),))
    found = operations.measure("pool", list, [1], 2)
    assert len(found["operations"]) == 18
    assert all(record["seconds"]["fastconv"] > 0 < record["seconds"]["copy"] for record in found["operations"])
    rows, lines = operations.table(found)
    assert len(rows) == 19
    assert lines


def test_wrong_operation_has_no_times(monkeypatch):
    wrong = operations.Case("sum", "1x1", lambda: np.ones(3), {"peer": lambda: np.zeros(3)}, 1e-5, 12)
    monkeypatch.setitem(operations.SUITES, "pool", lambda: iter([wrong]))
    rows, lines = operations.table(operations.measure("pool", list, [1], 2))
    assert "WRONG" in rows[1]
    assert lines == ["no result was right"]
