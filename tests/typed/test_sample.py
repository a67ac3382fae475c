"""A user's program passes `mypy --strict`, and one with mistakes does not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("sample.py")
# What a user may get wrong, and a word of what mypy says.
MISTAKES = {
    "y: int = fc.conv2d([[[1.0]]], [[[[1.0]]]])": "Incompatible types in assignment",
    "a, b, c = fc.max_pool2d([[[1.0]]], 1, return_indices=True)": "too many values|Need more than 2 values",
    "fc.conv2d([[[1.0]]], [[[[1.0]]]], strides=2)": "Unexpected keyword argument",
    "fc.signal.correlate3d": "has no attribute",
    "fc.plan_conv2d((1, 1, 1), 'w')()": "Missing positional argument",
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_mypy")]


@pytest.fixture(scope="module")
def _mypy():
    pytest.importorskip("mypy")


def complaints(path, cache):
    """Return what mypy says of one file, and not of the package, where that is not installed but beside it."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file", "", str(path)]
    done = subprocess.run(
        [*command, "--cache-dir", str(cache)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert not done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    return [line for line in lines if Path(line.split(":")[0]).name == Path(path).name]


def test_program_of_a_user_is_strictly_typed(tmp_path):
    assert complaints(SAMPLE, tmp_path) == []
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import fastconv as fc\n" + "\n".join(MISTAKES) + "\n")
    found = complaints(wrong, tmp_path)
    assert len(found) == len(MISTAKES), found
    for line, word in zip(found, MISTAKES.values(), strict=True):
        assert re.search(word, line), line
