"""What all rivals of the benchmarks share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.benchmarks.problems import Layer

Arrays = tuple[np.ndarray, np.ndarray]


class Rival:
    """What the rivals share; `package` is what must be installed."""

    name = ""
    package = "numpy"
    # Whether its results are another library's, so that they can judge ours.
    independent = True

    def available(self) -> bool:
        """Return whether its package is installed."""
        return importlib.util.find_spec(self.package) is not None

    def refusal(self, layer: Layer) -> str | None:
        """Return why it cannot do the layer, or None."""
        return None

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """Return a call that convolves the arrays on so many threads."""
        raise NotImplementedError
