"""PTX text of one kernel -> instructions, labels, registers, and the layout of its memory.

Reads what NVVM and nvJitLink write and the inline assembly of kernels: one entry, no calls.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from tests.cuda_tools.ptx_emulator.elements import Array, PTXError, dtype_of, size_of

_STATEMENT = re.compile(r"^(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*)$", re.DOTALL)
_LABEL = re.compile(r"^([$\w]+):\s*")
_ENTRY = r"\.entry\s+(%s)\s*\((.*?)\)\s*((?:\.\w+\s*[\d, ]*\s*)*)\{"
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+(?:\.ptr\s+[.\w\s]*?)?([\w$]+)(?:\[(\d+)\])?\s*(?:,|$)"
)
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+([^;]+);")
_VARIABLE = re.compile(
    r"(\.extern\s+)?\.(shared|local|global|const)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)"
    r"(?:\[(\d*)\])?(?:\s*=\s*\{([^}]*)\})?"
)
_ENDS_BLOCK = ("bra", "ret", "exit", "bar", "barrier")


class Instruction(NamedTuple):
    """One instruction: ``@negated predicate opcode operands``."""

    predicate: str | None
    negated: bool
    parts: tuple[str, ...]
    operands: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Its last suffix: the element type, where it has one."""
        return self.parts[-1]

    @property
    def text(self) -> str:
        """As PTX, without the predicate."""
        return f"{'.'.join(self.parts)} {', '.join(self.operands)}".strip()


class Parameter(NamedTuple):
    """One parameter of the entry; `length` of a byte array."""

    kind: str
    name: str
    length: int | None


def split_operands(text: str) -> tuple[str, ...]:
    """Split at the commas outside brackets and braces."""
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    if current.strip():
        parts.append(current.strip())
    return tuple(parts)


def vector(operand: str) -> list[str]:
    """Return the registers of ``{a, b}``, or of one alone."""
    return [name.strip() for name in operand.strip("{}").split(",")]


class Kernel:
    """A parsed entry.

    Parameters
    ----------
    ptx : str
        The module.
    entry : str, optional
        The kernel's name; the first one if not given.
    """

    def __init__(self, ptx: str, entry: str | None = None) -> None:
        ptx = re.sub(r"//[^\n]*|/\*.*?\*/", "", ptx, flags=re.DOTALL)
        head = re.search(_ENTRY % (re.escape(entry) if entry else r"[\w$]+"), ptx, re.DOTALL)
        if not head:
            raise PTXError(f"no entry {entry or ''} in the module".replace("  ", " "))
        self.name = head[1]
        self.parameters = [Parameter(p[1], p[2], int(p[3]) if p[3] else None) for p in _PARAMETER.finditer(head[2])]
        self.registers: dict[str, str] = {}
        # Offsets in the window of its space, and the size of the window.
        self.shared: dict[str, int] = {}
        self.local: dict[str, int] = {}
        self.shared_bytes = self.local_bytes = 0
        # Variables of the module, with their first values.
        self.data: dict[str, Array] = {}
        self.code: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self._declare(ptx[: head.start()])
        self._read(_body(ptx, head.end()))
        self.leaders = {0, *self.labels.values()}
        self.leaders |= {n + 1 for n, i in enumerate(self.code) if i.parts[0] in _ENDS_BLOCK}

    def granule(self, space: str) -> int:
        """Return the bytes of the smallest access that may be to `space`, at most 4: what a race is about."""
        others = {"param", "local", "const", "global", "shared"} - {space}
        accesses = [i for i in self.code if i.parts[0] in ("ld", "st", "atom", "red") and not others & set(i.parts)]
        return min([4, *(size_of(i.kind) for i in accesses)])

    def _read(self, body: str) -> None:
        # Inline assembly may open a scope; the braces of operand vectors stay.
        body = re.sub(r"\{(?!\s*%)(?=\s*(?:\.reg|\n|\w+\.))", " ", body)
        for statement in body.split(";"):
            text = statement.strip()
            while label := _LABEL.match(text):
                self.labels[label[1]] = len(self.code)
                text = text[label.end() :]
            text = text.lstrip("} \n\t")
            if text.startswith("."):
                self._declare(text + ";")
            elif text:
                self._add(text)

    def _add(self, text: str) -> None:
        match = _STATEMENT.match(text)
        if not match:
            raise PTXError(f"cannot read {text!r}")
        parts = tuple(part for part in match[3].replace("::", ".").split(".") if part)
        self.code.append(Instruction(match[2], bool(match[1]), parts, split_operands(match[4])))

    def _declare(self, text: str) -> None:
        for kind, names in _REGISTERS.findall(text):
            for name in names.split(","):
                many = re.match(r"(%?[\w$]+)<(\d+)>", name.strip())
                found = [f"{many[1]}{n}" for n in range(int(many[2]))] if many else [name.strip()]
                self.registers.update(dict.fromkeys(found, kind))
        for match in _VARIABLE.finditer(text):
            self._place(match)

    def _place(self, match: re.Match[str]) -> None:
        """Give a variable its offset, or its bytes; ``.extern .shared x[]`` is where dynamic memory starts."""
        _, space, alignment, kind, name, count, values = match.groups()
        length = 1 if count is None else int(count or 0)
        size, align = size_of(kind) * length, int(alignment or size_of(kind))
        if space == "shared":
            self.shared[name] = -(-self.shared_bytes // align) * align
            self.shared_bytes = self.shared[name] + size
        elif space == "local":
            self.local[name] = -(-self.local_bytes // align) * align
            self.local_bytes = self.local[name] + size
        else:
            first = np.zeros(length, dtype_of(kind))
            if values:
                numbers = [int(value, 0) for value in values.split(",")]
                first[: len(numbers)] = numbers
            self.data[name] = first.view(np.uint8)


def _body(ptx: str, start: int) -> str:
    """Return the text from `start`, behind an opening brace, to the brace that closes it."""
    depth, end = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(ptx[end], 0)
        end += 1
    return ptx[start : end - 1]
