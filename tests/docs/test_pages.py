"""The pages of the documentation: code that runs as printed, two languages with the same code, names that exist."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path

import pytest

import fastconv
from docs.making import blocks, reference

DOCS = Path(__file__).resolve().parents[2] / "docs"
LESSONS = sorted(path.name for path in (DOCS / "tutorial").glob("*.md") if path.name != "index.md")
# The last reads machine code, as tests/kernels/test_assembly.py does at length.
OTHERS = (
    "index.md",
    "arrays.md",
    "reliability.md",
    pytest.param("numba.md", marks=pytest.mark.slow),
    pytest.param("microkernel.md", marks=pytest.mark.slow),
)
NAME = re.compile(r"`fc\.([\w.]+)")


@pytest.mark.parametrize("name", [*(f"tutorial/{lesson}" for lesson in LESSONS), *OTHERS])
def test_code_prints_what_the_page_says(name, tmp_path, monkeypatch, numba_extension):
    monkeypatch.chdir(tmp_path)
    assert any(blocks.blocks(DOCS / name))
    blocks.run(DOCS / name)


def test_tutorial_has_every_lesson_in_both_languages():
    assert len(LESSONS) == 15
    assert [path.name for path in sorted((DOCS / "ko").glob("*.md")) if path.name != "index.md"] == LESSONS


@pytest.mark.parametrize("lesson", LESSONS)
def test_korean_lesson_has_the_code_of_the_english_one(lesson):
    text = (DOCS / "ko" / lesson).read_text(encoding="utf-8")
    count = len(list(blocks.blocks(DOCS / "tutorial" / lesson)))
    assert re.findall(r"^<!-- code (\d+) -->$", text, re.MULTILINE) == [str(n + 1) for n in range(count)]
    assert "```python" not in text
    english = (DOCS / "tutorial" / lesson).read_text(encoding="utf-8")
    pictures = re.compile(r"\]\((\.\./pictures/[\w.-]+)\)")
    assert pictures.findall(text) == pictures.findall(english) != []


def test_names_on_pages_exist():
    pages = [DOCS / "coming-from.md", *DOCS.glob("tutorial/*.md"), *DOCS.glob("ko/*.md")]
    names = {name.rstrip(".") for page in pages for name in NAME.findall(page.read_text(encoding="utf-8"))}
    assert len(names) > 60
    for name in names:
        attrgetter(name)(fastconv)


def test_reference_has_every_public_name():
    listed = [name for found in reference.names().values() for name in found]
    assert len(listed) == len(set(listed))
    modules = set(reference.NAMESPACES)
    assert set(fastconv.__all__) - modules - {"__version__"} == {name for name in listed if "." not in name}
    for module in modules:
        public = attrgetter(module)(fastconv).__all__
        inner = {name.split(".")[1] for name in listed if name.startswith(f"{module}.")}
        assert set(public) - {"layers"} == inner


def test_a_block_that_prints_something_else_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nprint(1)\n```\n\n```text\n2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"page.md:4 prints\n1"):
        blocks.run(page)
