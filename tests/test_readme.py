"""The Python examples of the documents at the root of the repository run as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_blocks(path: Path) -> int:
    """Run every ```python block of `path` in one namespace; return how many there are."""
    text = path.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__readme__"}
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        # Blank lines in front, so that a traceback has the line number of the document.
        source = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        exec(compile(source, str(path), "exec"), namespace)
    return len(blocks)


@pytest.mark.targets
def test_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_blocks(ROOT / "README.md") > 0


def test_contributing_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_blocks(ROOT / "CONTRIBUTING.md") > 0
