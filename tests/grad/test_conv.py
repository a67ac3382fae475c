"""Gradients of convolutions against their definition; what autograd of PyTorch says is in test_conv_against_torch."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import load
from fastconv.dispatch import weight_gradient as dispatched
from fastconv.errors import ArgumentTypeError, DtypeError, OptionError, ShapeError
from fastconv.geometry.conv import conv_geometry
from fastconv.kernels.reference.gradients import input_gradient, weight_gradient
from fastconv.testing import reference
from tests import cases, guard

NAMES = (*cases.FEW, "one image", "wide", "ic 1", "groups 4, whole vectors", "one pixel, padded")


def geometry(a, x_shape, w_shape):
    """Return the geometry of a drawn problem."""
    words = {"dtype": "float64", **a.keywords}
    return conv_geometry("test", 2, x_shape, w_shape, **words)


def check(a, place=np.asarray):
    """Compare the gradients of input, weight and bias with their definition; `place` puts arrays where they lie."""
    g = geometry(a, a.x.shape, a.w.shape)
    dy = cases.integers(np.random.default_rng(5), reference(a.x, a.w, **a.keywords).shape)
    arrays = [place(array) for array in (dy, a.x, a.w, a.b)]
    dx, dw, db = fc.grad.conv2d_vjp(*arrays, precision="strict", **a.keywords)
    np.testing.assert_array_equal(dw, weight_gradient(a.x, dy, g))
    np.testing.assert_array_equal(dx, input_gradient(a.w, dy, g))
    channel = 1 if g.layout == "channels_first" else 3
    np.testing.assert_array_equal(db, dy.sum(tuple({0, 1, 2, 3} - {channel})))
    assert dx.dtype == dw.dtype == db.dtype == np.float32
    return dx, dw, db


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_definition(name, layout):
    check(cases.draw(cases.CASES[name], layout))


@pytest.mark.targets
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_gradients_of_tiny_problems(name, layout):
    check(cases.draw(cases.TINY[name], layout))


def test_gradients_of_drawn_problems():
    rng = np.random.default_rng(3)
    for i in range(40):
        check(cases.draw(cases.random_problem(rng), cases.LAYOUTS[i % 2]))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "symmetric"])
@pytest.mark.parametrize("padding", [(2, 1), ((-1, 7), (3, 0)), ((0, -2), (9, 2))])
def test_gradients_know_padding_modes(mode, padding):
    a = cases.draw("n2ic3h6w5_oc4k3s1p1")
    check(a._replace(keywords=a.keywords | {"padding": padding, "padding_mode": mode, "stride": (1, 2)}))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_unbatched_arrays_know_padding_modes(layout):
    a = cases.draw("n1ic3h6w5_oc4k3s1p1", layout)
    keywords = a.keywords | {"padding": (2, 1), "padding_mode": "circular"}
    g = geometry(a._replace(keywords=keywords), a.x.shape, a.w.shape)
    dy = cases.integers(np.random.default_rng(5), reference(a.x, a.w, **keywords).shape)
    dx, dw, _ = fc.grad.conv2d_vjp(dy[0], a.x[0], a.w, a.b, **keywords)
    np.testing.assert_array_equal(dw, weight_gradient(a.x, dy, g))
    np.testing.assert_array_equal(dx, input_gradient(a.w, dy, g)[0])


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_arrays_that_must_be_there_are_named(missing):
    arrays: list = [np.ones((1, 1, 3, 3)), np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))]
    arrays[missing] = None
    with pytest.raises(DtypeError, match=f"conv2d_vjp: {('grad_output', 'input', 'weight')[missing]} = None"):
        fc.grad.conv2d_vjp(*arrays)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", ["n 0", "c 0"])
def test_arrays_without_elements(name, layout):
    a = cases.draw(cases.CASES[name], layout)
    dy = np.ones_like(reference(a.x, a.w, **a.keywords))
    dx, dw, db = fc.grad.conv2d_vjp(dy, a.x, a.w, a.b, **a.keywords)
    assert (dx.shape, dw.shape) == (a.x.shape, a.w.shape)
    assert not dw.any()
    np.testing.assert_array_equal(db, np.full(len(a.w), dy.size // len(a.w)))


def test_names_of_torch_give_the_same():
    a = cases.draw(cases.CASES["all"])
    dx, dw, _ = check(a)
    dy = cases.integers(np.random.default_rng(5), reference(a.x, a.w, **a.keywords).shape)
    np.testing.assert_array_equal(fc.grad.conv2d_input(a.x.shape, a.w, dy, precision="strict", **a.keywords), dx)
    np.testing.assert_array_equal(fc.grad.conv2d_weight(a.x, a.w.shape, dy, **a.keywords), dw)


def test_volumes_and_series():
    rng = np.random.default_rng(0)
    for sizes, kernel, name in (((5, 6, 7), (2, 3, 2), "conv3d"), ((23,), (4,), "conv1d")):
        for layout in cases.LAYOUTS:
            x, w = cases.integers(rng, (2, 6, *sizes)), cases.integers(rng, (8, 3, *kernel))
            x = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
            more = {"stride": 2, "padding": 1, "groups": 2, "layout": layout}
            g = conv_geometry("test", len(sizes), x.shape, w.shape, dtype="float64", **more)
            dy = cases.integers(rng, getattr(fc, name)(x, w, **more).shape)
            dx, dw, db = getattr(fc.grad, f"{name}_vjp")(dy, x, w, **more)
            np.testing.assert_array_equal(dw, weight_gradient(x, dy, g))
            np.testing.assert_array_equal(dx, input_gradient(w, dy, g))
            assert db is None


def differences(function, arrays, dy, step=1e-6):
    """Return the gradients of ``(function(*arrays) * dy).sum()`` by central differences."""
    found = []
    for i, array in enumerate(arrays):
        gradient = np.empty_like(array)
        for at in np.ndindex(array.shape):
            moved = [[a.copy() for a in arrays] for _ in range(2)]
            moved[0][i][at] += step
            moved[1][i][at] -= step
            up, down = (np.sum(function(*m) * dy) for m in moved)
            gradient[at] = (up - down) / (2 * step)
        found.append(gradient)
    return found


@pytest.mark.parametrize("activation", ["tanh", "swish"])
def test_activations_are_differentiated(activation):
    rng = np.random.default_rng(1)
    x, w, b = rng.standard_normal((1, 2, 4, 3)), rng.standard_normal((2, 2, 2, 2)), rng.standard_normal(2)
    r = rng.standard_normal((1, 2, 3, 2))

    def run(x, w, b, r):
        return fc.conv2d(x, w, b, residual=r, activation=activation)

    dy = rng.standard_normal(run(x, w, b, r).shape)
    got = fc.grad.conv2d_vjp(dy, x, w, b, residual=r, activation=activation)
    assert len(got) == 4
    for one, want in zip(got, differences(run, (x, w, b, r), dy), strict=True):
        np.testing.assert_allclose(one, want, atol=1e-7)


def test_factored_convolutions():
    rng = np.random.default_rng(2)
    x, dw, pw = rng.standard_normal((2, 4, 5)), rng.standard_normal((4, 1, 2, 3)), rng.standard_normal((3, 4))
    bias, inner = rng.standard_normal(3), rng.standard_normal(4)

    def separable(x, dw, pw, bias, inner):
        words = {"depthwise_bias": inner, "depthwise_activation": "tanh", "activation": "sigmoid"}
        return fc.separable_conv2d(x, dw, pw, bias, 1, 1, **words)

    dy = rng.standard_normal(separable(x, dw, pw, bias, inner).shape)
    words = {"depthwise_bias": inner, "depthwise_activation": "tanh", "activation": "sigmoid"}
    got = fc.grad.separable_conv2d_vjp(dy, x, dw, pw, bias, 1, 1, **words)
    for one, want in zip(got, differences(separable, (x, dw, pw, bias, inner), dy), strict=True):
        np.testing.assert_allclose(one, want, atol=1e-7)
    column, rows = rng.standard_normal(3), rng.standard_normal((2, 2))

    def factors(x, column, rows, bias):
        return fc.spatially_separable_conv2d(x, column, rows, bias, 2, 1)

    dy = rng.standard_normal(factors(x, column, rows, inner[:2]).shape)
    got = fc.grad.spatially_separable_conv2d_vjp(dy, x, column, rows, inner[:2], 2, 1)
    for one, want in zip(got, differences(factors, (x, column, rows, inner[:2]), dy), strict=True):
        np.testing.assert_allclose(one, want, atol=1e-7)


def test_transposed_convolutions():
    rng = np.random.default_rng(4)
    for layout in cases.LAYOUTS:
        x, w, b = (rng.standard_normal(shape) for shape in ((2, 4, 3, 4), (4, 2, 2, 3), (4,)))
        x = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
        words = {"stride": (2, 1), "padding": ((0, 1), (1, 0)), "output_padding": (1, 0), "groups": 2, "layout": layout}

        def run(x, w, b, words=words):
            return fc.conv_transpose2d(x, w, b, activation="leaky_relu", **words)

        dy = rng.standard_normal(run(x, w, b).shape)
        got = fc.grad.conv_transpose2d_vjp(dy, x, w, b, activation="leaky_relu", **words)
        for one, want in zip(got, differences(run, (x, w, b), dy), strict=True):
            np.testing.assert_allclose(one, want, atol=1e-7)


def test_dtypes_of_gradients_are_those_of_the_arrays():
    rng = np.random.default_rng(6)
    x, w, b = (cases.integers(rng, shape) for shape in ((1, 2, 4, 4), (3, 2, 2, 2), (3,)))
    dy = cases.integers(rng, (1, 3, 3, 3))
    wanted = fc.grad.conv2d_vjp(dy, x, w, b)
    half = fc.grad.conv2d_vjp(dy.astype("f2"), x.astype("f2"), w.astype("f2"), b.astype("f2"))
    assert [d.dtype for d in half] == [np.float16] * 3
    mixed = fc.grad.conv2d_vjp(dy, x.astype("i1"), w.astype("f8"), b)
    assert mixed[0] is None
    assert [d.dtype for d in mixed[1:]] == [np.float64, np.float32]
    for got, want in zip((*half, *mixed[1:]), (*wanted, *wanted[1:]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_complex_gradients_are_those_of_conjugates():
    rng = np.random.default_rng(7)

    def drawn(*shape):
        return cases.integers(rng, shape, "float64") + 1j * cases.integers(rng, shape, "float64")

    x, w, dy, b = drawn(1, 2, 4, 4), drawn(3, 2, 2, 2), drawn(1, 3, 3, 3), drawn(3)
    dx, dw, db = fc.grad.conv2d_vjp(dy, x, w, b)
    # <y, dy> = <x, dx> = <w, dw> for a bilinear y(x, w), with the conjugate of the second.
    product = np.vdot(dy, fc.conv2d(x, w))
    np.testing.assert_allclose([np.vdot(dx, x), np.vdot(dw, w)], [product, product])
    np.testing.assert_array_equal(db, dy.sum((0, 2, 3)))
    real = fc.grad.conv2d_vjp(dy, x.real, w, b)[0]
    np.testing.assert_array_equal(real, dx.real)


def test_every_number_of_threads_gives_the_same_bits():
    rng = np.random.default_rng(8)
    x, w = rng.standard_normal((4, 24, 24, 16), np.float32), rng.standard_normal((24, 16, 3, 3), np.float32)
    dy = rng.standard_normal((4, 24, 24, 24), np.float32)
    found = []
    for n in (1, 2, 3):
        with fc.threads(n):
            found.append(fc.grad.conv2d_vjp(dy, x, w, np.zeros(24, np.float32), padding=1, layout="channels_last"))
    for other in found[1:]:
        for one, want in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(one, want)


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_gradients_stay_inside_their_arrays():
    assert guard.run("from tests.grad import test_conv as t; t.check_pages()").split()[-1] == "done"


def check_pages():
    """Run the named problems beside closed pages; called in a process of its own."""
    guard.guard_scratch()
    for name in (
        "1x1",
        "3x3 two vectors",
        "oc 37",
        "depthwise whole tiles",
        "depthwise 5x5",
        "crop all",
        "wide",
        "all",
    ):
        for layout in cases.LAYOUTS:
            print(name, layout, flush=True)
            a = cases.draw(cases.CASES[name], layout)
            for side in guard.SIDES:
                with guard.Pages() as pages:
                    check(a, lambda array, pages=pages, side=side: pages.copy(array, side))
    print("done")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dy": np.ones((1, 3, 3, 2))}, ShapeError, "grad_output has shape (1, 3, 3, 2), expected (1, 3, 3, 3)"),
        ({"dy": np.ones((1, 3, 3, 3), complex)}, DtypeError, "grad_output has dtype complex128, expected real numbers"),
        ({"b": np.ones(2)}, ShapeError, "bias has shape (2,), expected (3,)"),
        ({"stride": 0}, OptionError, "stride = 0"),
        ({"groups": True}, ArgumentTypeError, "groups = True"),
        ({"residual": np.ones((1, 3, 3, 2))}, ShapeError, "residual has shape"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    words = {"dy": np.ones((1, 3, 3, 3)), "b": None} | arguments
    dy, b = words.pop("dy"), words.pop("b")
    with pytest.raises(error) as raised:
        fc.grad.conv2d_vjp(dy, np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2)), b, **words)
    assert str(raised.value).startswith("conv2d_vjp: ")
    assert message in str(raised.value)


def test_integers_have_no_gradient():
    ones = [np.ones(shape, int) for shape in ((1, 1, 1, 1), (1, 1, 2, 2), (1, 1, 2, 2))]
    with pytest.raises(DtypeError, match="conv2d_vjp: no array is of floats"):
        fc.grad.conv2d_vjp(*ones)


@pytest.mark.skipif(not load.target().matrix_unit, reason="this CPU has no matrix unit")
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_the_matrix_unit_gives_the_same(layout, monkeypatch):
    # Products and sums of small integers are exact there, too.
    monkeypatch.setattr(dispatched, "pays", lambda rounded, exact: True)
    dispatched.prepare_weight_gradient.cache_clear()
    for name in cases.FEW:
        a = cases.draw(cases.CASES[name], layout)
        g = geometry(a, a.x.shape, a.w.shape)
        dy = cases.integers(np.random.default_rng(5), reference(a.x, a.w, **a.keywords).shape)
        prepared = dispatched.prepare_weight_gradient(g._replace(dtype="float32"), "default")
        dbias = np.empty(g.OC, np.float32)
        np.testing.assert_array_equal(prepared.run(a.x, dy, dbias), weight_gradient(a.x, dy, g))
        np.testing.assert_array_equal(dbias, dy.sum((0, 2, 3) if layout == "channels_first" else (0, 1, 2)))
    dispatched.prepare_weight_gradient.cache_clear()


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", ["n1ic64h24w24_oc48k3s1p1", "n4ic32h13w13_oc32k3s1p0", "n1ic96h20w20_oc64k1s1p0"])
def test_weight_gradients_keep_their_bound(text, layout, monkeypatch):
    monkeypatch.setattr(dispatched, "pays", lambda rounded, exact: True)
    dispatched.prepare_weight_gradient.cache_clear()
    a, rng = cases.draw(text, layout), np.random.default_rng(11)
    x = rng.standard_normal(a.x.shape, np.float32)
    dy = rng.standard_normal(a.r.shape, np.float32)
    g = geometry(a, x.shape, a.w.shape)
    got = dispatched.prepare_weight_gradient(g._replace(dtype="float32"), "default").run(x, dy)
    want = weight_gradient(x, dy, g)
    dispatched.prepare_weight_gradient.cache_clear()
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spreads_as_in_the_definition(value):
    rng = np.random.default_rng(9)
    x, w = cases.integers(rng, (1, 40, 40, 64)), cases.integers(rng, (64, 64, 3, 3))
    dy = cases.integers(rng, (1, 40, 40, 64))
    x[0, 0, 39, 5] = value
    dw = fc.grad.conv2d_weight(x, w.shape, dy, padding=1, layout="channels_last")
    clean = x.copy()
    clean[0, 0, 39, 5] = 0
    g = conv_geometry("test", 2, x.shape, w.shape, padding=1, layout="channels_last", dtype="float64")
    want = weight_gradient(clean, dy, g)
    touched = np.zeros(w.shape, bool)
    # The first row is read by the lower two taps, the last column by the left two.
    touched[:, 5, :2, 1:] = True
    assert not np.isfinite(dw[touched]).all()
    np.testing.assert_array_equal(dw[~touched], want[~touched])
