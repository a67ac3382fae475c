"""Whatever the memory of an array looks like, the bits are those of the contiguous one; inputs stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv.testing import reference
from tests import cases, guard
from tests.properties.strategies import CONVS, convolve, exactly, one_tile, problems, to_last


def fortran(array):
    return np.asfortranarray(array)


def negative(array):
    return np.flip(np.flip(array).copy())


def stepped(array):
    view = np.full([3 * n for n in array.shape], 99, array.dtype)[tuple(slice(1, None, 3) for _ in array.shape)]
    view[...] = array
    return view


def swapped(array):
    return array.astype(array.dtype.newbyteorder())


def unaligned(array):
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def part_of_more(array):
    view = np.full([n + 2 for n in array.shape], 99, array.dtype)[tuple(slice(1, n + 1) for n in array.shape)]
    view[...] = array
    return view


def constant(array):
    """Return the first element, or a zero, everywhere: all strides are 0."""
    return np.broadcast_to(array.ravel()[:1] if array.size else np.zeros(1, array.dtype), array.shape)


WRITABLE = st.sampled_from([fortran, negative, stepped, swapped, unaligned, part_of_more])
KINDS = st.sampled_from([fortran, negative, stepped, swapped, unaligned, part_of_more, read_only, constant])


def rounding(p: Any) -> Any:
    """Return the problem with fractions where the dtype has them: their sums round, so equal bits mean equal order."""
    third = [a if a.dtype.kind in "iu" else (a / a.dtype.type(3)).astype(a.dtype) for a in (p.x, p.w, p.b)]
    return p._replace(x=third[0], w=third[1], b=third[2])


@exactly
@given(problems(), st.tuples(KINDS, KINDS, KINDS))
def test_inputs_of_any_memory_give_the_same_bits(p, kinds):
    p = rounding(p)
    x, w, b = (kind(a) for kind, a in zip(kinds, (to_last(p.x, p.keywords["layout"]), p.w, p.b), strict=True))
    before = [array.tobytes() for array in (x, w, b)]
    expected = convolve(*(np.array(array, array.dtype.newbyteorder("=")) for array in (x, w, b)), **p.keywords)
    assert convolve(x, w, b, **p.keywords).tobytes() == expected.tobytes()
    assert [array.tobytes() for array in (x, w, b)] == before


@exactly
@given(problems(), WRITABLE)
def test_out_of_any_memory_gets_the_same_bits(p, kind):
    p = rounding(p)
    x = to_last(p.x, p.keywords["layout"])
    expected = convolve(x, p.w, p.b, **p.keywords)
    out = kind(np.full_like(expected, 77))
    around = None if out.base is None or out.base.dtype != out.dtype else out.base
    assert convolve(x, p.w, p.b, out=out, **p.keywords) is out
    assert out.astype(expected.dtype).tobytes() == expected.tobytes()
    if kind in (stepped, part_of_more) and around is not None:
        out[...] = 99
        assert (around == 99).all()


@exactly
@given(problems(), st.integers(0, 10**6), st.sampled_from("xwb"))
def test_out_may_overlap_an_input(p, offset, name):
    p = rounding(p)
    arrays = {"x": to_last(p.x, p.keywords["layout"]), "w": p.w, "b": p.b}
    expected = convolve(*arrays.values(), **p.keywords)
    given = arrays[name]
    memory = np.zeros(given.size + 2 * expected.size, given.dtype)
    middle = memory[expected.size :][: given.size].reshape(given.shape)
    middle[...] = given
    start = offset % (memory.size - expected.size + 1)
    out = memory[start : start + expected.size].reshape(expected.shape)
    rest = np.delete(memory, slice(start, start + expected.size))
    assert convolve(*(arrays | {name: middle}).values(), out=out, **p.keywords) is out
    assert out.tobytes() == expected.tobytes()
    assert np.delete(memory, slice(start, start + expected.size)).tobytes() == rest.tobytes()


@exactly
@given(problems())
def test_results_share_no_memory(p):
    x = to_last(p.x, p.keywords["layout"])
    one, two = (convolve(x, p.w, p.b, **p.keywords) for _ in range(2))
    assert not any(np.shares_memory(a, b) for a, b in ((one, two), (one, x), (one, p.w)))
    assert one.flags.c_contiguous
    assert one.flags.writeable
    assert one.flags.owndata


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_every_kind_of_problem_stays_inside_its_arrays():
    assert guard.run("from tests.properties import test_memory as t; t.check_inside()").split() == ["done"]


def check_inside():
    """Run `inside` in this process."""
    guard.guard_scratch()
    with one_tile():
        inside()
    print("done")


@exactly
@given(problems(), st.sampled_from(guard.SIDES))
def inside(p, side):
    """Run all algorithms beside closed pages; called in a process of its own."""
    x = to_last(p.x, p.keywords["layout"])
    expected = reference(x, p.w, p.b, **p.keywords)
    lines = fc.explain(CONVS[p.axes], x, p.w, **p.keywords).lines
    for algorithm in [line.algorithm for line in lines if line.refused is None and line.algorithm != "separable"]:
        with guard.Pages() as pages:
            arrays = [pages.copy(array, side) for array in (x, p.w, p.b)]
            out = pages.empty(expected.shape, expected.dtype, side)
            convolve(*arrays, out=out, algorithm=algorithm, **p.keywords)
            bound = 1e-4 * max(np.abs(expected).max(initial=0), 1) if algorithm in cases.ROUNDED else 0
            np.testing.assert_allclose(out, expected, rtol=0, atol=bound, err_msg=algorithm)
