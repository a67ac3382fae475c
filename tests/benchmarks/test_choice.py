"""The bench of the default choice: its problems, its figure, and a run on two tiny problems."""

from __future__ import annotations

import json

import pytest

from fastconv.benchmarks import choice, run
from fastconv.geometry.conv import conv_geometry


def tiny(entry, layout="channels_first"):
    shape = (1, 2, 6, 7) if layout == "channels_first" else (1, 6, 7, 2)
    g = conv_geometry(
        "test", 2, shape, (3, 2, 1, 1), stride=1, padding=0, dilation=1, groups=1, layout=layout, dtype="float32"
    )
    return g, entry


def test_drawn_problems_are_those_of_the_seed():
    one = choice.drawn(40, 5)
    assert one == choice.drawn(40, 5)
    assert one != choice.drawn(40, 6)
    assert {entry for _, entry in one} == {"call", "plan"}
    assert {g.layout for g, _ in one} == {"channels_first", "channels_last"}
    assert {g.axes for g, _ in one} == {1, 2, 3}
    assert any(g.G > 1 for g, _ in one)


def test_choice_is_measured_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(choice, "drawn", lambda count, seed: [tiny("call"), tiny("plan", "channels_last")])
    monkeypatch.setattr(choice, "ROUNDS", 1)
    path = tmp_path / "found.json"
    assert run.main(["--suite", "choice", "--count", "2", "--json", str(path)]) == 0
    assert "of 2 drawn problems (seed 0)" in capsys.readouterr().out
    first, second = json.loads(path.read_text())["choices"]
    assert (first["entry"], second["entry"]) == ("call", "plan")
    assert all(record["chosen"] in record["seconds"] for record in (first, second))


def test_figure_counts_choices_that_are_nearly_the_best():
    def record(direct, im2col):
        return {"problem": "p", "entry": "call", "chosen": "direct", "seconds": {"direct": direct, "im2col": im2col}}

    choices = [record(1.0, 1.0), record(1.15, 1.0), record(2.0, 1.0), record(1.0, 5.0)]
    rows, lines = choice.table({"seed": 0, "choices": choices})
    assert lines[0].startswith("75.0% of 4 drawn problems")
    assert rows[1][-1] == "2.00"
    assert "worst 2.00" in lines[1]


def test_wrong_result_fails(monkeypatch, capsys):
    wrong = {"problem": "p", "entry": "call", "chosen": "direct", "seconds": {}, "wrong": "im2col: far off"}
    monkeypatch.setattr(choice, "measure", lambda *_: {"seed": 0, "choices": [wrong]})
    assert run.main(["--suite", "choice"]) == 1
    assert "WRONG RESULT: p: im2col: far off" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--count", "0"], ["--seed", "x"]])
def test_wrong_counts_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        run.main(["--suite", "choice", *arguments])
    assert arguments[0] in capsys.readouterr().err
