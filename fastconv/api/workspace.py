"""The limit of scratch memory."""

from __future__ import annotations

import operator
from typing import Any

from fastconv.dispatch import workspace
from fastconv.errors import ArgumentTypeError, OptionError


def set_max_workspace(bytes: int | None) -> None:
    """Set how much scratch memory each thread of a convolution may use, for the whole process.

    Parameters
    ----------
    bytes : int or None
        At least 0; None, the default, means any. ``algorithm="auto"`` then chooses among the algorithms that keep the
        limit; one that is asked for by name and does not is refused. Plans that exist are not concerned.

    Raises
    ------
    OptionError, ArgumentTypeError
        Not an integer of at least 0.

    Notes
    -----
    It counts what `fastconv.explain` shows as scratch: strips and blocks of the input, tiles of the output, and in the
    gradient of a weight bands of both arrays. The result, a packed copy of the weight and converted inputs come on
    top, the buffer of 4 MB of a strided transposed convolution, and the partial sums of the gradient of a weight. Set
    it before work starts: calls that run at that moment end as they have begun.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.set_max_workspace(1 << 20)
    >>> fc.get_max_workspace()
    1048576
    >>> fc.set_max_workspace(None)
    """
    size: Any = bytes
    if size is None:
        workspace.set_limit(None)
        return
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise ArgumentTypeError(
            f"set_max_workspace: bytes is a {type(size).__name__}, expected an integer of at least 0 or None"
        )
    if operator.index(size) < 0:
        raise OptionError(f"set_max_workspace: bytes = {size}, expected an integer of at least 0 or None")
    workspace.set_limit(operator.index(size))


def get_max_workspace() -> int | None:
    """Return the bytes of scratch that each thread may use, or None for any."""
    return workspace.limit()
