"""What MkDocs calls while it builds the site; see mkdocs.yml.

A line `<!-- code 2 -->` of a Korean page becomes the second block of the English page, with its output, and a line
`<!-- generated: name -->` what the function of that name returns.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
# MkDocs runs this file by its path.
sys.path.insert(0, str(ROOT))

from docs.making import blocks, reference, tables  # noqa: E402

ENGLISH, KOREAN = "tutorial/", "ko/"
CODE = re.compile(r"^<!-- code (\d+) -->$", re.MULTILINE)
GENERATED = re.compile(r"^<!-- generated: ([a-z_]+) -->$", re.MULTILINE)
NOTHING = re.compile(r'–\s*<div class="doc-md-description">\s*</div>')


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures and the pages of the reference."""
    from docs.making import pictures

    # As long as MkDocs may read them.
    config["fastconv_pictures"] = folder = tempfile.TemporaryDirectory()
    for path in pictures.draw(Path(folder.name)):
        files.append(File.generated(config, f"pictures/{path.name}", abs_src_path=str(path)))
    for name in tables.PICTURES:
        plot = ROOT / "bench" / "results" / f"{name}.svg"
        files.append(File.generated(config, f"pictures/{plot.name}", abs_src_path=str(plot)))
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in code and what is generated, and lead from one language to the other."""
    path = page.file.src_uri
    if path.startswith(KOREAN):
        source = Path(config["docs_dir"], ENGLISH, path.removeprefix(KOREAN))
        code = [block.markdown for block in blocks.blocks(source)]
        markdown = CODE.sub(lambda found: code[int(found[1]) - 1], markdown)
    markdown = GENERATED.sub(lambda found: getattr(tables, found[1])(), markdown)
    for here, there, language in ((ENGLISH, KOREAN, "한국어로 읽기"), (KOREAN, ENGLISH, "Read this in English")):
        if path.startswith(here):
            title, rest = markdown.split("\n", 1)
            markdown = f"{title}\n\n[{language}](../{there}{path.removeprefix(here)})\n{rest}"
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Leave out the dash before a description where there is none."""
    return NOTHING.sub("", html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Say which pages are in Korean: browsers choose fonts and line breaks by it."""
    if page.file.src_uri.startswith(KOREAN):
        return output.replace('<html lang="en"', '<html lang="ko"', 1)
    return output


def on_post_build(config: Any) -> None:
    """Remove the pictures that were copied."""
    config["fastconv_pictures"].cleanup()
