"""Results as pictures: which kinds there are, and the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastconv.benchmarks import plot_device, plot_layers, plot_savings, plot_sizes
from fastconv.errors import OptionError

__all__ = ["KINDS", "draw", "split"]

KINDS = {
    "floor": plot_layers.floor,
    "roofline": plot_layers.roofline,
    "savings": plot_savings.draw,
    "kernel-size": plot_sizes.draw,
    "device": plot_device.draw,
}


def split(text: str) -> tuple[str | None, str]:
    """Return kind and file of "KIND:FILE", or None and the file of "FILE"."""
    kind, colon, path = text.partition(":")
    return (kind, path) if colon and kind in KINDS else (None, text)


def kind_of(found: dict[str, Any]) -> str:
    """Return the kind of picture that suits a result."""
    if found.get("savings"):
        return "savings"
    if "cuda" in found:
        return "device"
    names = [record["name"] for record in found.get("results", ())]
    return "kernel-size" if names and all(plot_sizes.is_one(name) for name in names) else "floor"


def draw(found: dict[str, Any], text: str) -> None:
    """Write a picture of a result of `fastconv bench`.

    Parameters
    ----------
    found : dict
    text : str
        A file, or one of `KINDS`, a colon and a file.

    Raises
    ------
    OptionError
        The result holds nothing of the kind.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kind, path = split(text)
    kind = kind or kind_of(found)
    figure = KINDS[kind](found, plt)
    if figure is None:
        raise OptionError(f"--plot {text}: the result holds nothing for a picture of the kind {kind}")
    figure.tight_layout()
    figure.savefig(Path(path), metadata={"Date": None} if path.endswith(".svg") else None)
    plt.close(figure)
