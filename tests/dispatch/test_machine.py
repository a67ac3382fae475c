"""The machine's constants: kept, the same for all of a process, and never an error."""

from __future__ import annotations

import json
import os

import pytest

from fastconv import _disk
from fastconv.dispatch import load, machine

FAST = machine.Machine(*[2.0**n for n in (36, 36, 35, 34, 17)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty cache folder, in which the constants are those of FAST when they are measured."""
    found = tmp_path / "cache"
    monkeypatch.setattr(_disk, "root", lambda: found)
    monkeypatch.setattr(machine, "_measured", lambda: FAST)
    machine.forget()
    yield found
    machine.forget()


def stored(folder):
    (path,) = (folder / "machine").iterdir()
    return path


def test_constants_are_measured_once_and_kept(folder, monkeypatch):
    assert machine.current() == FAST
    assert json.loads(stored(folder).read_text())["rates"] == FAST._asdict()
    machine.forget()
    monkeypatch.setattr(machine, "_measured", lambda: pytest.fail("measured again"))
    assert machine.current() == FAST


def test_constants_of_a_process_do_not_change(folder):
    assert machine.current() == FAST
    stored(folder).write_text(json.dumps({"schema": machine.SCHEMA}))
    assert machine.current() == FAST


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: text.replace('"cpu": "', '"cpu": "not '),
        lambda text: text.replace("68719476736.0", "NaN"),
        lambda text: text.replace("68719476736.0", "-1"),
        lambda text: text.replace("68719476736.0", '"fast"'),
        lambda text: text.replace("multiply_adds", "multiply"),
        lambda text: "[1, 2, 3]",
        lambda text: "null",
        lambda text: "\udcff",
    ],
)
def test_damaged_constants_are_measured_again(folder, damage):
    machine.current()
    path = stored(folder)
    text = path.read_text()
    changed = damage(text)
    assert changed != text
    path.write_bytes(changed.encode("utf-8", "surrogateescape"))
    machine.forget()
    assert machine.current() == FAST
    assert json.loads(path.read_text())["rates"] == FAST._asdict()


def test_constants_of_another_process_count(folder, monkeypatch):
    """It was faster: what it has stored is taken, so both choose alike."""
    machine.current()
    text = stored(folder).read_text()
    stored(folder).unlink()
    machine.forget()

    def late():
        stored_at = machine._path()
        stored_at.write_text(text)
        return FAST._replace(memory=2.0**33)

    monkeypatch.setattr(machine, "_measured", late)
    assert machine.current() == FAST


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_folder_that_others_may_write_is_not_believed(folder):
    folder.mkdir(mode=0o700)
    (folder / "machine").mkdir()
    others = FAST._replace(memory=2.0**33)
    record = {"schema": machine.SCHEMA, "cpu": machine.identity(), "rates": others._asdict()}
    machine._path().write_text(json.dumps(record))
    assert machine.current() == others
    folder.chmod(0o777)
    machine.forget()
    assert machine.current() == FAST


def test_folder_that_is_a_file_is_no_error(folder):
    folder.write_text("")
    assert machine.current() == FAST


def test_without_a_folder_the_defaults_hold(folder, monkeypatch):
    monkeypatch.setattr(_disk, "root", lambda: None)
    assert machine.current() == machine.default()
    assert machine.default().hertz() == 3e9


def test_machine_that_cannot_measure_has_the_defaults(folder, monkeypatch):
    def refuse(name):
        raise MemoryError("no memory for machine code")

    monkeypatch.undo()
    monkeypatch.setattr(_disk, "root", lambda: folder)
    monkeypatch.setattr(load, "load", lambda name: refuse if name == "calibration:measure" else original(name))
    machine.forget()
    assert machine.current() == machine.default()
    assert not folder.exists()


original = load.load


@pytest.mark.targets
def test_measured_constants_are_those_of_a_computer():
    rates = load.load("calibration:measure")()
    if rates is None:
        pytest.skip("the JIT is off")
    assert 1e8 < rates.multiply_adds < 1e13
    assert 1e8 < rates.memory < 1e13
    # Half of a noisy measurement's truth.
    assert rates.l1 > rates.memory / 2
    assert 1e3 < rates.calls < 1e7


def test_constants_are_rounded_to_steps():
    assert machine._rounded(2.0**30 * 1.08) == 2.0**30
    assert machine._rounded(2.0**30 * 1.1) == 2.0**30.25
