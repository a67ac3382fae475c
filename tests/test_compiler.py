"""The shorter way through Numba: the same results and the same machine code as its own way."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest
from numba.core import config, types
from numba.core.registry import cpu_target

from fastconv import _jit as jit

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="needs the JIT")

SIGNATURE = (types.Array(types.int64, 1, "C"), types.int64)


@jit.helper
def wrapped(i, n):
    if i < 0:
        return i % n, -1
    return min(i, n - 1), max(i - n, 0)


@jit.inline
def inner(x, i, step):
    i, over = wrapped(i * step, 5)
    if over > 3:
        return x[0]
    return x[i] + over


@jit.inline
def outer(x, i):
    total = 0
    for j in range(2):
        total += inner(x, i, j - 1)
    return total - inner(x, i, 3)


def sums(x, n):
    """Call what is merged, twice and nested, in loops and branches."""
    total = 0
    for i in range(n):
        if i % 3:
            total += outer(x, i)
        else:
            total -= wrapped(0, n)[1] + inner(x, i, -2)
    while total > 1000:
        total //= 2
    return total


def plain_sums(x, n):
    """Return the same by Python."""
    names = {"outer": outer.py_func, "inner": inner.py_func, "wrapped": wrapped.py_func}
    functions = {name: type(sums)(f.__code__, names | {"min": min, "max": max}) for name, f in names.items()}
    for f in functions.values():
        f.__globals__.update(functions)
    return type(sums)(sums.__code__, functions)(x, n)


@pytest.mark.targets
@pytest.mark.parametrize("n", [0, 1, 7, 40])
def test_result_is_that_of_python(n):
    x = np.arange(5, dtype=np.int64) ** 3
    kernel = jit.njit()(sums)
    assert kernel(x, n) == plain_sums([int(v) for v in x], n)


def instructions(dispatcher):
    (text,) = dispatcher.inspect_asm().values()
    return re.findall(r"^\t([a-z]\w*)", text, re.M)


def test_machine_code_is_that_of_numbas_own_way():
    def kernel(x, n):
        total = 0
        for i in range(n):
            total += x[i] * (i % 3) if i < 100 else min(x[i], 7)
        return total

    # Of both, another name would be another order of symbols.
    ours = jit.njit(fastmath=False)(kernel)
    theirs = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(kernel)
    for dispatcher in (ours, theirs):
        dispatcher.compile(SIGNATURE)
    assert instructions(ours) == instructions(theirs)


def test_helper_is_compiled_for_integers_not_for_constants():
    @jit.helper
    def shifted(i, by):
        return i + by

    @jit.njit()
    def kernel(n):
        return shifted(0, 1) + shifted(n, 2) + shifted(n, n)

    assert kernel(5) == 1 + 7 + 10
    assert list(shifted.overloads) == [(types.int64, types.int64)]


def test_typing_is_left_as_it_was():
    @jit.njit()
    def wrong(x):
        return x + "text"

    with pytest.raises(numba.TypingError):
        wrong(3)
    assert "resolve_function_type" not in vars(cpu_target.typing_context)
    assert numba.njit(lambda x: min(x, 2) + x)(3) == 5
