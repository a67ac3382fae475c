"""Measured choices: remembered, a snapshot for "auto", safe beside other processes, and never an error."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest

import fastconv as fc
from fastconv import _disk
from fastconv.api import convolve
from fastconv.dispatch import choose, machine, measure, plan, wisdom

NAMES = ("direct", "im2col")
X, W = np.ones((1, 4, 7, 9), np.float32), np.ones((3, 4, 3, 3), np.float32)


def forget():
    """Be a new process."""
    wisdom.forget()
    measure._fastest.clear()
    for memory in (choose.choose, plan.prepare):
        memory.cache_clear()
    convolve._seen.clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty cache folder of a new process."""
    found = tmp_path / "cache"
    # Not measured there.
    machine.current()
    monkeypatch.setattr(_disk, "root", lambda: found)
    monkeypatch.setattr(wisdom, "LIMIT", 100)
    forget()
    yield found
    monkeypatch.undo()
    forget()


def files(folder):
    return sorted(folder.glob("wisdom/*/*.json"))


def slowest(monkeypatch):
    """Let the slowest candidate by the model win each measurement."""
    monkeypatch.setattr(measure, "_measured", lambda predicted, *_: max(predicted, key=lambda name: predicted[name]))


def chosen(**keywords):
    return fc.plan_conv2d(X.shape, W, **keywords).algorithm


def test_choice_is_remembered_in_the_process_and_on_disk(folder, monkeypatch):
    by_model = chosen()
    slowest(monkeypatch)
    measured = chosen(algorithm="measure")
    assert measured != by_model
    assert len(files(folder)) == 1
    monkeypatch.setattr(measure, "_measured", lambda *_: pytest.fail("measured again"))
    assert chosen(algorithm="measure") == measured
    forget()
    assert chosen(algorithm="measure") == measured


def test_auto_follows_what_was_measured_before_the_process(folder, monkeypatch):
    by_model = chosen()
    slowest(monkeypatch)
    measured = chosen(algorithm="measure")
    # Not in the process that measures.
    choose.choose.cache_clear()
    plan.prepare.cache_clear()
    convolve._seen.clear()
    assert chosen() == by_model
    forget()
    assert chosen() == measured
    assert "chosen, it was measured to be the fastest" in str(fc.plan_conv2d(X.shape, W).explain())
    assert "it was measured" not in str(fc.explain(fc.conv2d, X, W))


def test_first_measurement_is_not_part_of_its_own_snapshot(folder, monkeypatch):
    """Else "auto" would depend on what was called before."""
    by_model = chosen()
    forget()
    slowest(monkeypatch)
    assert chosen(algorithm="measure") != by_model
    assert chosen() == by_model


def test_call_and_plan_are_measured_apart(folder, monkeypatch):
    slowest(monkeypatch)
    chosen(algorithm="measure")
    fc.conv2d(X, W, algorithm="measure")
    fc.conv2d(X, W, algorithm="measure", activation="relu")
    assert len(files(folder)) == 2
    fc.conv2d(X, W, algorithm="measure", precision="strict")
    assert len(files(folder)) == 3


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"schema": 1}',
        b'{"schema": 1, "problem": 5, "algorithm": "direct"}',
        b'{"schema": 99, "problem": "p", "algorithm": "direct"}',
        b'{"schema": 1, "problem": "q", "algorithm": "direct"}',
        b'{"schema": 1, "problem": "p", "algorithm": "fastest"}',
        b'{"schema": 1, "problem": "p", "algorithm": ["direct"]}',
        b'{"schema": 1, "problem": "p", "algorithm": {"direct": 1}}',
        b"[" * 50_000,
        b'{"schema": 1, "problem": "p", "algorithm": "direct"}' + b" " * 100_000,
        b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.",
    ],
)
def test_damaged_file_counts_as_missing_and_heals(folder, damage):
    wisdom.remember("p", "direct")
    (path,) = files(folder)
    assert wisdom.known("p", NAMES) == "direct"
    path.write_bytes(damage)
    wisdom.forget()
    assert wisdom.advice("p", NAMES) is None
    assert wisdom.known("p", NAMES) is None
    wisdom.remember("p", "im2col")
    assert wisdom.known("p", NAMES) == "im2col"


def test_snapshot_does_not_change(folder):
    wisdom.remember("p", "direct")
    wisdom.forget()
    assert wisdom.advice("p", NAMES) == "direct"
    wisdom.remember("p", "im2col")
    wisdom.remember("q", "im2col")
    assert wisdom.advice("p", NAMES) == "direct"
    assert wisdom.advice("q", NAMES) is None


def test_other_machine_or_version_is_not_believed(folder, monkeypatch):
    wisdom.remember("p", "direct")
    wisdom.forget()
    monkeypatch.setattr(machine, "identity", lambda: "another CPU")
    assert wisdom.advice("p", NAMES) is None
    wisdom.forget()
    monkeypatch.setattr(wisdom, "SCHEMA", wisdom.SCHEMA + 1)
    assert wisdom.known("p", NAMES) is None


def test_folder_that_cannot_be_used_is_no_error(folder, monkeypatch):
    folder.write_text("")
    wisdom.remember("p", "direct")
    assert wisdom.known("p", NAMES) is None
    monkeypatch.setattr(_disk, "root", lambda: None)
    wisdom.forget()
    wisdom.remember("p", "direct")
    assert wisdom.advice("p", NAMES) is None
    assert wisdom.known("p", NAMES) is None


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_folder_that_others_may_write_is_not_believed(folder):
    wisdom.remember("p", "direct")
    folder.chmod(0o777)
    wisdom.forget()
    assert wisdom.advice("p", NAMES) is None
    assert wisdom.known("p", NAMES) is None


def test_full_disk_leaves_nothing(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    wisdom.remember("p", "direct")
    assert wisdom.known("p", NAMES) is None
    assert not list(folder.rglob(".new-*"))


def test_number_of_files_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(wisdom, "LIMIT", 3)
    for i in range(5):
        wisdom.remember(str(i), "direct")
        wisdom.forget()
    assert len(files(folder)) == 3


def test_autotune_measures_in_this_thread_only(folder, monkeypatch):
    by_model = chosen()
    slowest(monkeypatch)
    with fc.autotune():
        with fc.autotune():
            measured = chosen()
        assert chosen() == measured != by_model
        assert chosen(algorithm="direct") == "direct"
        others = []
        thread = threading.Thread(target=lambda: others.append(chosen()))
        thread.start()
        thread.join()
        assert others == [by_model]
    assert chosen() == by_model


def test_autotune_ends_with_an_error(folder):
    with pytest.raises(fc.ShapeError), fc.autotune():
        fc.conv2d(X, W[:, :3])
    assert not measure.is_tuned()


def test_measuring_takes_the_fastest(folder, monkeypatch):
    """Each candidate takes the time that stands in a table, whatever it computes."""
    seconds = {"direct": 5.0, "im2col": 2.0}
    turns = []

    def call(prepared, *_):
        return lambda: turns.append(prepared.algorithm)

    able = measure.candidates
    monkeypatch.setattr(measure, "candidates", lambda *given: [c for c in able(*given) if c.row.name in seconds])
    monkeypatch.setattr(measure, "_call", call)
    monkeypatch.setattr(measure, "_seconds", lambda call: call() or seconds[turns[-1]])
    with fc.autotune():
        assert chosen() == "im2col"
    assert set(turns) == set(seconds)
    for path in files(folder):
        path.unlink()
    forget()
    # What the model chooses stays unless another is clearly faster.
    seconds["im2col"] = 4.99
    with fc.autotune():
        assert chosen() == "direct"


def test_transposed_convolutions_are_measured(folder, monkeypatch):
    monkeypatch.setattr(measure, "_measured", lambda predicted, *_: "direct" if "auto" in predicted else "")
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((2, 3, 3, 3), np.float32)
    expected = fc.conv_transpose2d(x, w, stride=2, algorithm="direct")
    with fc.autotune():
        np.testing.assert_array_equal(fc.conv_transpose2d(x, w, stride=2), expected)
    assert len(files(folder)) == 1


def write_and_read(algorithm):
    for i in range(60):
        text = str(i % 20)
        assert wisdom.known(text, NAMES) in (None, *NAMES)
        wisdom.remember(text, algorithm)
        assert wisdom.known(text, NAMES) in NAMES


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_write_at_once_agree(folder):
    children = []
    for i in range(8):
        child = os.fork()
        if not child:
            status = 1
            try:
                write_and_read(NAMES[i % 2])
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    stored = files(folder)
    assert len(stored) == 20
    assert {json.loads(path.read_text())["algorithm"] for path in stored} <= set(NAMES)
    assert not list(folder.rglob(".new-*"))
