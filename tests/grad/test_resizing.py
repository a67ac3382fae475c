"""Gradients of unpooling, interpolation, unfolding and folding by the transposed matrices of their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.kernels.reference import fold as folding
from fastconv.kernels.reference import resize as resizing
from fastconv.kernels.reference import unpool as unpooling
from fastconv.kernels.reference.grad import adjoint
from tests.cases import LAYOUTS
from tests.resizing import integers, matrix


def placed(array, layout):
    """Return an array in a layout."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "channels_last" else array


def check(name, forward, shape, arguments, error=0.0, dtype="float64", columns=(False, False), **keywords):
    """Compare the gradient with the transposed matrix of a definition; `columns`: which arrays have one layout."""
    rng = np.random.default_rng(0)
    x = integers(rng, shape, dtype)
    grad = integers(rng, forward(np.zeros(shape)).shape, dtype)
    parts = [grad.real, grad.imag] if grad.dtype.kind == "c" else [grad]
    want = [adjoint(forward, shape, part.astype("f8")) for part in parts]
    want = want[0] + 1j * want[1] if len(want) == 2 else want[0]
    for layout in LAYOUTS:
        arrays = [v if fixed else placed(v, layout) for v, fixed in zip((grad, x), columns, strict=True)]
        got = getattr(fc.grad, f"{name}_vjp")(*arrays, *arguments, layout=layout, **keywords)[0]
        assert got.dtype == dtype
        goal = want if columns[1] else placed(want, layout)
        np.testing.assert_allclose(got, goal, rtol=0, atol=error * np.abs(want).max(), err_msg=f"{name} {layout}")


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_interpolation(dtype):
    # Every mode, with axes that grow, shrink and stay.
    for mode, shape, outs in (
        ("nearest", (1, 2, 9), (4,)),
        ("nearest-exact", (1, 2, 3, 4), (7, 4)),
        ("linear", (2, 1, 7), (12,)),
        ("bilinear", (1, 2, 4, 6), (9, 5)),
        ("bilinear smooth", (1, 2, 7, 6), (3, 9)),
        ("bicubic", (1, 2, 4, 5), (6, 3)),
        ("bicubic smooth", (1, 1, 8, 5), (3, 5)),
        ("trilinear", (1, 2, 2, 3, 4), (3, 2, 6)),
        ("area", (1, 2, 5, 7), (3, 9)),
    ):
        for corners in (False, True) if "linear" in mode and "smooth" not in mode else (False,):
            matrices = [matrix(mode, n, out, corners) for n, out in zip(shape[2:], outs, strict=True)]
            name, _, smooth = mode.partition(" ")
            keywords = {"mode": name, "antialias": bool(smooth)} | ({"align_corners": True} if corners else {})
            error = 0 if name.startswith("nearest") else 1e-5
            forward = lambda x, m=matrices: resizing.resize(x, m)  # noqa: E731
            check("interpolate", forward, shape, (outs,), error, dtype, **keywords)


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex128"])
def test_unpooling(dtype):
    for factors in ((3,), (2, 3), (1, 2, 2)):
        shape, axes = (1, 2, 5, 3, 2)[: 2 + len(factors)], len(factors)
        check(
            f"nearest_unpool{axes}d",
            lambda x, f=factors: unpooling.nearest_unpool(x, f),
            shape,
            (factors,),
            1e-3,
            dtype,
        )
        check(
            f"bed_of_nails_unpool{axes}d",
            lambda x, f=factors: unpooling.bed_of_nails(x, f, 1),
            shape,
            (factors,),
            dtype=dtype,
            position=1,
        )


@pytest.mark.parametrize("duplicates", ["last", "sum", "max", "error"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_max_unpooling(duplicates, layout):
    rng = np.random.default_rng(0)
    for shape, sizes in (((2, 3, 5), (10,)), ((1, 3, 3, 4), (6, 8)), ((2, 1, 2, 3, 2), (4, 6, 4))):
        axes, count, places = len(sizes), np.prod(shape[2:]), np.prod(sizes)
        indices = np.array([rng.permutation(places)[:count] for _ in range(shape[0] * shape[1])]).reshape(shape)
        x, grad = integers(rng, shape, "float32"), integers(rng, (*shape[:2], *sizes), "float32")
        want = adjoint(lambda z, i=indices, s=sizes: unpooling.max_unpool(z, i, s), shape, grad)
        arrays = (placed(a, layout) for a in (grad, x, indices))
        call = getattr(fc.grad, f"max_unpool{axes}d_vjp")
        got, none = call(*arrays, 2, duplicates=duplicates, layout=layout)
        assert none is None
        np.testing.assert_array_equal(got, placed(want, layout))


def test_places_that_are_named_more_than_once():
    x, indices = [[1.0, 3.0, 3.0, np.nan, 0.0, np.nan, 5.0]], [[0, 0, 0, 2, 2, 2, 3]]
    grad = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
    for duplicates, want in (
        ("last", [[1, 1, 1, 3, 3, 3, 4]]),
        ("sum", [[1, 1, 1, 3, 3, 3, 4]]),
        ("max", [[0, 1, 0, 0, 0, 3, 4]]),
    ):
        got, _ = fc.grad.max_unpool1d_vjp(grad, x, indices, 1, duplicates=duplicates)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_unfolding_and_folding(dtype):
    for sizes, kernel, dilation, pads, stride in (
        ((4, 5), (2, 3), (1, 2), ((1, 0), (1, 2)), (2, 1)),
        ((2, 3, 4), (1, 2, 2), (1, 1, 2), ((0, 0), (0, 1), (1, 1)), (1, 2, 1)),
        ((3, 4), (2, 2), (1, 1), ((0, 0), (0, 0)), (9, 9)),
    ):
        shape, options = (1, 2, *sizes), (kernel, dilation, pads, stride)
        check("unfold", lambda x, o=options: folding.unfold(x, *o), shape, options, dtype=dtype, columns=(True, False))
        columns = folding.unfold(np.zeros(shape), *options).shape
        fold = lambda y, s=sizes, o=options: folding.fold(y, s, *o)  # noqa: E731
        check("fold", fold, columns, (sizes, *options), dtype=dtype, columns=(False, True))


def test_arrays_without_a_batch():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 6))
    for name, options, out in (
        ("nearest_unpool2d", (2,), (3, 8, 12)),
        ("bed_of_nails_unpool2d", (2,), (3, 8, 12)),
        ("unfold", (2,), (12, 15)),
    ):
        grad = rng.standard_normal(out)
        (got,), (batched,) = (
            getattr(fc.grad, f"{name}_vjp")(*arrays, *options) for arrays in ((grad, x), (grad[None], x[None]))
        )
        np.testing.assert_array_equal(got, batched[0])


def test_gradients_of_nothing():
    for shape in ((0, 2, 4, 6), (1, 0, 4, 6)):
        x = np.zeros(shape)
        assert fc.grad.interpolate_vjp(np.zeros((*shape[:2], 8, 3)), x, (8, 3))[0].shape == shape
        assert fc.grad.nearest_unpool2d_vjp(np.zeros((*shape[:2], 8, 12)), x, 2)[0].shape == shape
        assert fc.grad.bed_of_nails_unpool2d_vjp(np.zeros((*shape[:2], 8, 12)), x, 2)[0].shape == shape
        assert fc.grad.unfold_vjp(fc.unfold(x, 2), x, 2)[0].shape == shape
        indices = np.zeros(shape, int)
        assert fc.grad.max_unpool2d_vjp(np.zeros((*shape[:2], 8, 12)), x, indices, 2)[0].shape == shape


def test_integers_have_no_gradient():
    x = np.ones((1, 1, 2, 2), int)
    big = np.ones((1, 1, 4, 4), int)
    assert fc.grad.interpolate_vjp(big, x, 4) == (None,)
    assert fc.grad.nearest_unpool2d_vjp(big, x, 2) == (None,)
    assert fc.grad.bed_of_nails_unpool2d_vjp(big, x, 2) == (None,)
    assert fc.grad.max_unpool2d_vjp(big, x, x, 2) == (None, None)
    assert fc.grad.unfold_vjp(x.reshape(1, 4, 1), x, 2) == (None,)
    assert fc.grad.fold_vjp(x, x.reshape(1, 4, 1), 2, 2) == (None,)


def test_gradients_are_the_same_for_every_number_of_threads():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 20, 40, 50)).astype("f4")
    grad = rng.standard_normal((2, 20, 80, 100)).astype("f4")
    for call in (
        lambda: fc.grad.interpolate_vjp(grad, x, (80, 100), mode="bilinear"),
        lambda: fc.grad.nearest_unpool2d_vjp(grad, x, 2),
    ):
        results = []
        for count in (1, 3):
            with fc.threads(count):
                results.append(call()[0].tobytes())
        assert results[0] == results[1]
