"""The one door to SciPy's own functions, for arrays that no kernel takes."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_foreign(dtype: np.dtype, complex_too: bool = True) -> bool:
    """Return whether a dtype is not one of SciPy's filters: half precision, longdouble, objects, and no numbers.

    SciPy refuses nearly all of what is done with them, in many words.
    """
    kinds = "biufc" if complex_too else "biuf"
    return dtype.kind not in kinds or dtype.char in "egG"


def ask_scipy(name: str, *args: Any, **keywords: Any) -> Any:
    """Return what the function of this name in `scipy.ndimage` returns, or raise what it raises."""
    import scipy.ndimage

    return getattr(scipy.ndimage, name)(*args, **keywords)
