"""Whatever the memory of an argument looks like, the result has the bits of the contiguous one."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests import cases

PROBLEMS = {
    "3x3": "n2ic4h9w10_oc4k3s1p1",
    "depthwise": "n2ic5h8w9_oc5k3s1p1g5",
    "1x1": "n2ic4h5w6_oc4k1s1p0",
}


def reversed_(array):
    return np.flip(np.flip(array).copy())


def fortran(array):
    return np.asfortranarray(array)


def stepped(array):
    wide = np.full([2 * n for n in array.shape], np.nan, array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def inner(array):
    wide = np.full([n + 3 for n in array.shape], np.nan, array.dtype)
    view = wide[tuple(slice(1, n + 1) for n in array.shape)]
    view[...] = array
    return view


def swapped(array):
    return array.astype(array.dtype.newbyteorder())


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = raw.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


class Subclass(np.ndarray):
    """An array of another type."""


def subclass(array):
    return array.copy().view(Subclass)


WRITABLE = (reversed_, fortran, stepped, inner, swapped, unaligned, subclass)
LAYOUTS = (*WRITABLE, read_only)


def arrays_of(text, layout):
    """Return normal numbers, whose sums round, so that equal bits mean the same computation."""
    a = cases.draw(text, layout)
    rng = np.random.default_rng(0)
    return cases.Arrays(*[rng.standard_normal(array.shape).astype("f4") for array in a[:4]], a.keywords)


def convolve(a, **more):
    return fc.conv2d(a.x, a.w, a.b, residual=a.r, **a.keywords, **more)


@pytest.mark.parametrize("change", LAYOUTS)
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", PROBLEMS.values(), ids=PROBLEMS)
def test_inputs_of_any_memory_give_the_same_bits(text, layout, change):
    a = arrays_of(text, layout)
    expected = convolve(a).tobytes()
    for name in "xwbr":
        other = a._replace(**{name: change(getattr(a, name))})
        copies = [array.copy() for array in other[:4]]
        assert convolve(other).tobytes() == expected, name
        for array, copy in zip(other[:4], copies, strict=True):
            np.testing.assert_array_equal(array, copy)
    assert convolve(a._replace(**{name: change(getattr(a, name)) for name in "xwbr"})).tobytes() == expected


@pytest.mark.parametrize("change", WRITABLE)
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_out_of_any_memory_gets_the_same_bits(layout, change):
    a = arrays_of(PROBLEMS["3x3"], layout)
    expected = convolve(a)
    out = change(cases.poisoned(expected))
    assert convolve(a, out=out) is out
    assert out.astype("f4").tobytes() == expected.tobytes()
    # A plan may take another algorithm than a call.
    plan = fc.plan_conv2d(a.x.shape, a.w, a.b, **a.keywords)
    expected = plan(a.x, residual=a.r)
    out[...] = np.nan
    assert plan(a.x, out, residual=a.r) is out
    assert out.astype("f4").tobytes() == expected.tobytes()


def test_out_as_a_view_leaves_the_rest_alone():
    a = arrays_of(PROBLEMS["3x3"], "channels_first")
    expected = convolve(a)
    wide = np.full([n + 2 for n in expected.shape], 7, "f4")
    middle = tuple(slice(1, -1) for _ in expected.shape)
    convolve(a, out=wide[middle])
    np.testing.assert_array_equal(wide[middle], expected)
    wide[middle] = 7
    assert (wide == 7).all()


def test_broadcast_inputs_with_zero_strides():
    x = np.broadcast_to(np.float32(3), (1, 2, 6, 7))
    w, b = np.broadcast_to(np.float32([1, 2, 3]), (4, 2, 3, 3)), np.broadcast_to(np.float32(1), (4,))
    expected = fc.conv2d(x.copy(), w.copy(), b.copy())
    assert fc.conv2d(x, w, b).tobytes() == expected.tobytes()
    assert (expected == 3 * 2 * 3 * 6 + 1).all()


def test_negative_strides_are_flips():
    a = arrays_of(PROBLEMS["3x3"], "channels_first")
    flipped = fc.conv2d(a.x[..., ::-1, ::-1], a.w[..., ::-1, ::-1], **a.keywords)
    np.testing.assert_allclose(flipped[..., ::-1, ::-1], fc.conv2d(a.x, a.w, **a.keywords), atol=1e-4)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memmap(tmp_path, mode):
    a = arrays_of(PROBLEMS["3x3"], "channels_first")
    a.x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", "f4", mode, shape=a.x.shape)
    assert convolve(a._replace(x=mapped)).tobytes() == convolve(a).tobytes()


def test_memmap_as_out(tmp_path):
    a = arrays_of(PROBLEMS["3x3"], "channels_first")
    expected = convolve(a)
    out = np.memmap(tmp_path / "out", "f4", "w+", shape=expected.shape)
    assert convolve(a, out=out) is out
    out.flush()
    assert (tmp_path / "out").read_bytes() == expected.tobytes()


def test_buffers_and_other_libraries():
    a = arrays_of(PROBLEMS["3x3"], "channels_first")
    expected = convolve(a).tobytes()
    assert convolve(a._replace(x=memoryview(a.x))).tobytes() == expected
    torch = pytest.importorskip("torch")
    tensors = a._replace(x=torch.from_numpy(a.x), w=torch.from_numpy(a.w), b=torch.from_numpy(a.b))
    assert convolve(tensors).tobytes() == expected


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("kind", ["the input", "shifted by a row", "shifted by an element", "reversed"])
def test_out_may_overlap_the_input(kind, layout):
    shape = (2, 5, 8, 8) if layout == "channels_first" else (2, 8, 8, 5)
    w = cases.integers(np.random.default_rng(0), (5, 5, 3, 3))
    size, shift = 2 * 5 * 8 * 8, {"shifted by a row": 8, "shifted by an element": 1}.get(kind, 0)
    memory = cases.integers(np.random.default_rng(1), (size + shift,))
    x, out = memory[:size].reshape(shape), memory[shift:].reshape(shape)
    out = out[:, ::-1] if kind == "reversed" else out
    expected = fc.conv2d(x.copy(), w, padding=1, layout=layout)
    assert fc.conv2d(x, w, padding=1, layout=layout, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_out_may_be_the_weight_the_bias_or_the_residual():
    rng = np.random.default_rng(0)
    x, w = cases.integers(rng, (3, 3, 5, 5)), cases.integers(rng, (3, 3, 3, 3))
    expected = fc.conv2d(x, w)
    np.testing.assert_array_equal(fc.conv2d(x, w, out=w), expected)
    r = cases.integers(rng, expected.shape)
    w, before = cases.integers(rng, (3, 3, 3, 3)), r.copy()
    expected = fc.conv2d(x, w, residual=before)
    np.testing.assert_array_equal(fc.conv2d(x, w, residual=r, out=r), expected)
    memory = cases.integers(rng, (3 * 3 * 3 * 3,))
    expected = fc.conv2d(x, w, memory[5:8].copy())
    np.testing.assert_array_equal(fc.conv2d(x, w, memory[5:8], out=memory.reshape(3, 3, 3, 3)), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (read_only, fc.OptionError, "out is read-only"),
        (lambda out: out[:1], fc.ShapeError, "out has shape"),
        (lambda out: out[0], fc.ShapeError, "out has shape"),
        (lambda out: out.astype("f8"), fc.OptionError, "out has dtype float64, expected float32"),
        (lambda out: out.view("i4"), fc.OptionError, "out has dtype int32, expected float32"),
        (lambda out: np.ma.MaskedArray(out, mask=True), fc.OptionError, "out is a MaskedArray"),
        (lambda out: out.tolist(), fc.ArgumentTypeError, "expected an ndarray"),
    ],
)
def test_wrong_out_raises_before_any_write(change, error, message):
    a = arrays_of(PROBLEMS["3x3"], "channels_first")
    out = change(np.full(a.r.shape, 7, "f4"))
    before = np.array(out)
    with pytest.raises(error, match=f"conv2d: {message}|{message}"):
        convolve(a, out=out)
    np.testing.assert_array_equal(np.array(out), before)


def test_wrong_arguments_raise_before_out_is_written():
    a = arrays_of(PROBLEMS["3x3"], "channels_first")
    out = np.full(a.r.shape, 7, "f4")
    for wrong in (a._replace(b=a.b[1:]), a._replace(r=a.r[:, 1:]), a._replace(w=a.w[:, 1:])):
        with pytest.raises(fc.ShapeError):
            convolve(wrong, out=out)
    assert (out == 7).all()
