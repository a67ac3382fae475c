"""Operations of fastconv inside the user's own ``@numba.njit`` functions.

Numba finds `init` by the package's entry point, so there is nothing to import: a jitted function may call
``fc.conv2d`` as any other function does. Nothing of fastconv is compiled into it: its machine code calls the public
function by name (`calls`), with the GIL, so that shapes, choice of algorithm, threads, caches and messages are those
of the plain call. What Numba must know beforehand, the dtype and the number of dimensions of the result, is in a table
(`rules`), with one line for each function.
"""

__all__ = ["init"]


def init() -> None:
    """Tell Numba about the functions of fastconv; what it was told before, it is not told again."""
    from fastconv import _namespaces
    from fastconv.integrations.numba.overloads import register, register_late

    for namespace in _namespaces.listen(register_late):
        register(namespace)
