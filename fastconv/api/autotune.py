"""Measuring instead of predicting which algorithm is the fastest."""

from __future__ import annotations

from contextlib import AbstractContextManager

from fastconv.dispatch.measure import tuned


def autotune() -> AbstractContextManager[None]:
    """Let ``algorithm="auto"`` mean ``"measure"`` for the calls and plans of this thread inside a ``with`` block.

    The first call of a problem times the algorithms that may be the fastest, on one thread, which also compiles them:
    seconds for each. The winner is remembered for the process, and in the cache folder for all later ones; there
    "auto" follows it too. A process that runs goes on as before outside the block.

    Returns
    -------
    context manager
        Blocks may be nested. In asyncio it holds for the task.

    Notes
    -----
    What is stored counts for this CPU, this version of the package, the problem, its precision, and whether a call or a
    plan has asked; the activation and the values play no part. ``FASTCONV_DISABLE_CACHE=1`` keeps it off the disk. The
    idea of remembering is FFTW's wisdom.

    References
    ----------
    M. Frigo, S. G. Johnson, The design and implementation of FFTW3, Proc. IEEE 93, 2005, doi:10.1109/JPROC.2004.840301

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> with fc.autotune():
    ...     plan = fc.plan_conv2d((1, 2, 6, 6), np.ones((2, 1, 3, 3), np.float32), groups=2)
    >>> plan.algorithm in ("depthwise", "direct", "im2col")
    True
    """
    return tuned()
