"""Errors of the kinds that SciPy raises, with its texts, which are also this package's."""

from __future__ import annotations

import numpy as np

from fastconv.errors import OptionError, ShapeError

__all__ = ["AxisError", "FilterError", "FilterShapeError"]


class FilterError(OptionError, RuntimeError):
    """An argument that SciPy refuses with a RuntimeError."""


class FilterShapeError(ShapeError, RuntimeError):
    """Shapes that SciPy refuses with a RuntimeError."""


class AxisError(OptionError, np.exceptions.AxisError):
    """An axis that the array does not have."""
