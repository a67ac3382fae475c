"""The site builds without a warning, and its pages have what they link to and load nothing from elsewhere."""

from __future__ import annotations

import html.parser
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from docs.making import reference

for package in ("mkdocs", "material", "mkdocstrings", "matplotlib", "PIL"):
    pytest.importorskip(package, exc_type=ImportError)

ROOT = Path(__file__).resolve().parents[2]


class Page(html.parser.HTMLParser):
    """The links of a page, what it loads, and the places in it that can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.places, self.texts = set(), set(), set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.places.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
        if found.get("src"):
            self.loads.add(found["src"])
        if tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.loads.add(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return {path.relative_to(folder).as_posix(): Page(path) for path in folder.rglob("*.html")}, folder


@pytest.mark.slow
def test_site(site, subtests):
    pages, folder = site
    assert len(pages) > 50
    for name, page in pages.items():
        # Its links start at the root of a server.
        if name == "404.html":
            continue
        with subtests.test(name):
            assert not [url for url in page.loads if "//" in url]
            for url in page.loads | page.links:
                path, _, place = unquote(url).partition("#")
                if "//" in path or path.startswith("mailto:"):
                    continue
                target = (folder / name).parent / path if path else folder / name
                target = Path(os.path.normpath(target))
                assert target.exists(), url
                key = target.relative_to(folder).as_posix()
                if place and key in pages:
                    assert place in pages[key].places, url


@pytest.mark.slow
def test_reference_documents_every_name(site):
    pages, _ = site
    for page, names in reference.names().items():
        missing = {f"fastconv.{name}" for name in names} - pages[f"reference/{page}.html"].places
        assert not missing, page


@pytest.mark.slow
def test_nothing_generated_is_left_out(site):
    _, folder = site
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<!-- code" not in text, path
        assert "<!-- generated" not in text, path
    assert '<html lang="ko"' in (folder / "ko" / "stride.html").read_text(encoding="utf-8")
    assert "vfmadd" in (text := (folder / "microkernel.html").read_text(encoding="utf-8")) or "fmla" in text
