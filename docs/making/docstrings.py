"""Docstrings that are filled in when the package is imported: those of families, such as the pullbacks of all pools."""

from __future__ import annotations

import contextlib
import inspect
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import griffe

# mkdocstrings runs this file by its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import fastconv  # noqa: E402
from docs.making import reference  # noqa: E402


class Imported(griffe.Extension):
    """Replaces what reading the source tells of public functions by what the imported ones say."""

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        """Look at every public name."""
        for found in reference.names().values():
            for name in found:
                value = attrgetter(name)(fastconv)
                if inspect.isfunction(value):
                    _document(pkg, name, value)


def _document(package: griffe.Module, name: str, value: Any) -> None:
    """Put a function's own parameters and docstring where the source has only an assignment or a template."""
    text, seen = inspect.getdoc(value) or "", None
    # One of several names of an assignment is not seen at all.
    with contextlib.suppress(griffe.AliasResolutionError):
        seen = package[name]
        seen = seen.final_target if seen.is_alias else seen
    if not isinstance(seen, griffe.Function):
        seen = griffe.Function(name.rpartition(".")[2], parameters=griffe.Parameters(*_parameters(value)))
        package.set_member(name, seen)
    if seen.docstring is None or seen.docstring.value != text:
        seen.docstring = griffe.Docstring(text, parent=seen)


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
