"""The docstrings of the public names, as the reference shows them.

Those of families, such as the pullbacks of all pools, are filled in when the package is imported, so they are taken
from there. References become links, and a line of several parameters as many lines: with their own defaults.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import griffe

# mkdocstrings runs this file by its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import fastconv
from docs.making import reference

# A parameter may be explained once for several functions, and types stand in the docstring.
OPTIONS: Any = {"warn_unknown_params": False, "warn_missing_types": False}
LISTS = ("Parameters", "Attributes", "Returns", "Yields", "Raises")
_UNDERLINE = re.compile(r"-{3,}$")
_SEVERAL = re.compile(r"[*\w]+(, [*\w]+)+(?= : |$)")
_NAME = re.compile(r"(?<!`)`(fastconv\.[\w.]+)`(?!`)")
# What reStructuredText marks a note of literature with.
_NOTE = re.compile(r"\[(\d)\]_")


class Imported(griffe.Extension):
    """Replaces what reading the source tells of public names by what the imported ones say."""

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        """Look at every public name."""
        public = {f"fastconv.{name}" for found in reference.names().values() for name in found}
        for path in sorted(public):
            name = path.removeprefix("fastconv.")
            value = attrgetter(name)(fastconv)
            seen = _object(pkg, name, value)
            for each, text in ((seen, inspect.getdoc(value)), *_methods(seen)):
                if text:
                    each.docstring = griffe.Docstring(
                        readable(text, public), parent=each, parser="numpy", parser_options=OPTIONS
                    )


def _object(package: griffe.Module, name: str, value: Any) -> Any:
    """Return what griffe knows of a public name: of a function that is assigned, what Python knows."""
    seen: Any = None
    # One of several names of an assignment is not seen at all.
    with contextlib.suppress(griffe.AliasResolutionError):
        seen = package[name]
        seen = seen.final_target if seen.is_alias else seen
    if inspect.isfunction(value) and not isinstance(seen, griffe.Function):
        seen = griffe.Function(name.rpartition(".")[2], parameters=griffe.Parameters(*_parameters(value)))
        package.set_member(name, seen)
    return seen


def _methods(seen: Any) -> Iterator[tuple[Any, str]]:
    """Yield the public methods and properties of a class with their docstrings."""
    if isinstance(seen, griffe.Class):
        for name, member in seen.members.items():
            if not name.startswith("_") and not member.is_alias and member.docstring:
                yield member, member.docstring.value


def _parameters(function: Any) -> list[griffe.Parameter]:
    """Return a function's parameters as griffe has them."""
    return [
        griffe.Parameter(
            p.name,
            kind=griffe.ParameterKind[p.kind.name.lower()],
            default=None if p.default is p.empty else repr(p.default),
        )
        for p in inspect.signature(function).parameters.values()
    ]


def readable(text: str, public: set[str]) -> str:
    """Return a docstring with links to public names, and each parameter by itself."""
    # A type may go on in the next line.
    text = re.sub(r"^(\w+ : {.*,)\n *", r"\1 ", text, flags=re.MULTILINE)
    lines, section = text.splitlines(), ""
    out: list[str] = []
    for i, line in enumerate(lines):
        if i + 1 < len(lines) and _UNDERLINE.match(lines[i + 1]):
            section = line.strip()
        if section in LISTS and line and not line.startswith(" "):
            # The types of a result are code already.
            out.append(line.replace("`", ""))
        elif section == "Examples":
            out.append(line)
        else:
            line = _NOTE.sub(r"[\1]", line).replace(".. [", "[")
            out.append(_NAME.sub(lambda found: f"[{found[0]}][]" if found[1] in public else found[0], line))
    return "\n".join(_single(out))


def _single(lines: list[str]) -> Iterator[str]:
    """Yield the lines; those of an entry for several parameters once for each of them."""
    section, i = "", 0
    while i < len(lines):
        if i + 1 < len(lines) and _UNDERLINE.match(lines[i + 1]):
            section = lines[i]
        several = _SEVERAL.match(lines[i]) if section == "Parameters" else None
        end = i + 1
        while several and end < len(lines) and lines[end].startswith("    "):
            end += 1
        if several:
            for name in several[0].split(", "):
                yield from (name + lines[i][several.end() :], *lines[i + 1 : end])
        else:
            yield lines[i]
        i = end
