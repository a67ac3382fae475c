"""What is released: pinned versions that the package allows, and an sdist with what its tests need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"
)


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def required(*extras):
    """Return the requirements of the package with these extras, which may name others."""
    project = PROJECT["project"]
    found = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        for each in map(Requirement, project["optional-dependencies"][extra]):
            found += required(*each.extras) if each.name == "fastconv" else [each]
    return found


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    assert len(PINS) > 40
    assert all(re.fullmatch(r"[a-z0-9-]+", name) and re.fullmatch(r"[\d.a-z]+", v) for name, v in PINS.items())
    for requirement in required("test", "all", "bench"):
        assert PINS[canonical(requirement.name)] in requirement.specifier, requirement


def test_sdist_has_every_folder_and_file_that_there_is():
    patterns = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    included = {path.relative_to(ROOT).parts[0] for pattern in patterns for path in ROOT.glob(pattern.lstrip("/"))}
    assert all(list(ROOT.glob(pattern.lstrip("/"))) for pattern in patterns)
    # Of what is not hidden, not generated, and needed by the tests.
    assert {"fastconv", "tests", "docs", "examples", "bench", "release"} < included
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "mkdocs.yml"} < included
    assert "constraints.txt" in included
    # The installed package is source and the mark of its types.
    kinds = {path.suffix or path.name for path in (ROOT / "fastconv").rglob("*") if path.is_file()}
    assert kinds - {".pyc", ".nbi", ".nbc"} == {".py", ".typed"}
