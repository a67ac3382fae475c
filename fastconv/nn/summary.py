"""The table of a model, as Keras prints it, with a column of MACs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastconv.nn.model import Sequential

TITLES = ("Layer (type)", "Output Shape", "Param #", "MACs")
WIDTHS = (31, 22, 13, 15)
_NUMBERS = (2, 3)
_UNITS = ("B", "KB", "MB", "GB", "TB")
# Each character of the frame in ASCII, for terminals that have no others.
_PLAIN = str.maketrans(dict.fromkeys("┏┳┓┡╇┩├┼┤└┴┘", "+") | dict.fromkeys("┃│", "|") | {"━": "=", "─": "-"})


def show(model: Sequential, print_fn: Callable[[str], object] | None) -> None:
    """Print the table."""
    lines = table(model)
    if print_fn is not None:
        print_fn(lines)
        return
    try:
        lines.encode(sys.stdout.encoding or "utf-8")
    except (AttributeError, LookupError, UnicodeEncodeError):
        lines = lines.translate(_PLAIN)
    print(lines)


def table(model: Sequential) -> str:
    """Return the text."""
    rows = [_row(model, i) for i in range(len(model.layers))]
    lines = [f'Model: "{model.name}"', _rule("┏", "━", "┳", "┓"), _cells(TITLES, "┃"), _rule("┡", "━", "╇", "┩")]
    for i, row in enumerate(rows):
        lines += [_rule("├", "─", "┼", "┤")] if i else []
        lines += _wrapped(row)
    lines.append(_rule("└", "─", "┴", "┘"))
    trainable = sum(p.value.nbytes for layer in model.layers for p in layer.trained())
    counts = sum(p.value.size for layer in model.layers for p in layer.trained())
    everything = [p.value for p in model.parameters]
    size, total = sum(a.nbytes for a in everything), sum(a.size for a in everything)
    lines.append(f" Total params: {total:,} ({_bytes(size)})")
    lines.append(f" Trainable params: {counts:,} ({_bytes(trainable)})")
    lines.append(f" Non-trainable params: {total - counts:,} ({_bytes(size - trainable)})")
    lines.append(f" Total MACs: {sum(layer.macs() for layer in model.layers if layer.built):,} per sample")
    return "\n".join(lines)


def _row(model: Sequential, i: int) -> tuple[str, str, str, str]:
    layer = model.layers[i]
    name = f"{layer.name} ({type(layer).__name__})"
    if not layer.built:
        return name, "?", "0 (unbuilt)", "?"
    return name, str(layer.output_shape), f"{layer.count_params():,}", f"{layer.macs():,}"


def _wrapped(row: Sequence[str]) -> list[str]:
    """Return the lines of a row whose cells may be too long for one."""
    cells = [textwrap.wrap(text, width) or [""] for text, width in zip(row, WIDTHS, strict=True)]
    height = max(map(len, cells))
    return [_cells([cell[i] if i < len(cell) else "" for cell in cells], "│") for i in range(height)]


def _cells(texts: Sequence[str], bar: str) -> str:
    each = enumerate(zip(texts, WIDTHS, strict=True))
    padded = [text.rjust(width) if i in _NUMBERS else text.ljust(width) for i, (text, width) in each]
    return f"{bar} " + f" {bar} ".join(padded) + f" {bar}"


def _rule(left: str, line: str, cross: str, right: str) -> str:
    return left + cross.join(line * (width + 2) for width in WIDTHS) + right


def _bytes(size: int) -> str:
    """Return a size in the largest unit that leaves a number of at least 1."""
    number, unit = float(size), 0
    while number >= 1024 and unit + 1 < len(_UNITS):
        number, unit = number / 1024, unit + 1
    return f"{number:.2f} {_UNITS[unit]}"
