"""The Python blocks of a Markdown document: they run as written, and print what the `text` block behind them says."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
# In the order of numbers, spaces are not what is checked; `...` stands for what differs between machines.
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A block of code.

    Attributes
    ----------
    markdown : str
        The fenced code and the fenced output.
    code : str
    prints : str or None
        None: anything.
    line : int
        Of the document, on which the code starts.
    """

    markdown: str
    code: str
    prints: str | None
    line: int


def blocks(path: Path) -> Iterator[Block]:
    """Yield the Python blocks of a document."""
    text = path.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield Block(found[0], found[1], found[2], 1 + text.count("\n", 0, found.start(1)))


def run(path: Path) -> dict[str, Any]:
    """Run the Python blocks of a document in one namespace, and return it.

    Raises
    ------
    AssertionError
        One prints something else than the document says.
    """
    namespace: dict[str, Any] = {"__name__": "__document__"}
    for block in blocks(path):
        # Blank lines in front, so that a traceback has the line number of the document.
        code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        got = printed.getvalue()
        if block.prints is not None and not doctest.OutputChecker().check_output(block.prints, got, OPTIONS):
            raise AssertionError(f"{path.name}:{block.line} prints\n{got}instead of\n{block.prints}")
    return namespace
