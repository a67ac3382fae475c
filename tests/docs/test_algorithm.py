"""The worked example of docs/adding-an-algorithm.md, done to a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-an-algorithm.md"
TITLED = re.compile(r'^```python title="(.*?)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def put(text, before, new):
    assert text.count(before) == 1
    return text.replace(before, new + before)


@pytest.mark.slow
def test_worked_example_adds_an_algorithm(tmp_path):
    kernel, functions, row, program = TITLED.findall(PAGE.read_text(encoding="utf-8"))
    package = tmp_path / "fastconv"
    shutil.copytree(ROOT / "fastconv", package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / kernel[0]).write_text(kernel[1], encoding="utf-8")
    table = package / "dispatch" / "conv_table.py"
    text = table.read_text(encoding="utf-8")
    text = put(text, '    Algorithm(\n        "depthwise"', textwrap.indent(row[1].rstrip() + ",\n", "    "))
    text = put(text, "TABLE: tuple[Algorithm, ...]", functions[1])
    text = put(text, '"direct", "im2col", "pointwise", "depthwise", "separable"', '"plain", ')
    table.write_text(put(text, "\n\nimport numpy", ", NamedTuple"), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "FASTCONV_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program[1]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'algorithm "plain" refused: there must be no padding; ' in done.stdout
