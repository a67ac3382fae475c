"""The Python examples of the documents at the root of the repository run as printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.making import blocks

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.targets
def test_readme_examples_run(tmp_path, monkeypatch, numba_extension):
    monkeypatch.chdir(tmp_path)
    assert any(blocks.blocks(ROOT / "README.md"))
    blocks.run(ROOT / "README.md")


def test_contributing_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert any(blocks.blocks(ROOT / "CONTRIBUTING.md"))
    blocks.run(ROOT / "CONTRIBUTING.md")
