import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv.errors import FastconvError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.conv import conv2d_geometry
from fastconv.testing import assert_close, problem, reference

# The same examples on every run, and no time limit: a busy machine fails no test.
drawn = settings(deadline=None, derandomize=True)

ROOT = Path(__file__).resolve().parent.parent


def arrays(text, seed=0):
    """The arguments of a named problem, filled with small integers."""
    p = problem(text)
    generator = np.random.default_rng(seed)
    x, w = (generator.integers(-4, 5, shape).astype(p.dtype) for shape in (p.input_shape, p.weight_shape))
    return x, w, p.keywords


PROBLEMS = [
    "n1ic64h56w56_oc64k3s1p1",
    "n0ic2h5w5_oc4k3s1p0",
    "n2ic0h5w5_oc4k3s1p0",
    "n1ic8h5w6_oc6k3s2pt1pb1pl0pr1",
    "n1ic8h5w5_oc6kh1kw3s1p0d2g2",
    "n1ic8h5w5_oc6k3sh2sw1ph1pw0dh1dw2_f64",
    "n1ic8h5w5_oc8k3s1p-1g8_nhwc_f64",
]


@pytest.mark.parametrize("text", PROBLEMS)
def test_problem_is_the_inverse_of_the_notation(text):
    p = problem(text)
    g = conv2d_geometry("conv2d", p.input_shape, p.weight_shape, dtype=p.dtype, **p.keywords)
    assert g.problem == text


numbers = st.integers(1, 3)


@drawn
@given(st.tuples(*[numbers] * 8), st.tuples(*[st.integers(-1, 3)] * 4), st.booleans(), st.booleans())
def test_problem_inverts_any_geometry(sizes, pads, last, double):
    G, N, KH, KW, SH, SW, DH, DW = sizes
    x = (N, 20, 21, 2 * G) if last else (N, 2 * G, 20, 21)
    g = conv2d_geometry(
        "conv2d", x, (G, 2, KH, KW), stride=(SH, SW), padding=(pads[:2], pads[2:]), dilation=(DH, DW), groups=G,
        layout="channels_last" if last else "channels_first", dtype="float64" if double else "float32",
    )  # fmt: skip
    p = problem(g.problem)
    assert conv2d_geometry("conv2d", p.input_shape, p.weight_shape, dtype=p.dtype, **p.keywords) == g


def test_problem_ignores_a_label():
    text = "n1ic64h56w56_oc64k3s1p1"
    assert problem(f'{text}"resnet50.conv2*3"') == problem(text)


@pytest.mark.parametrize(
    "text",
    ["", "n1", "n1ic2h3w4_oc5", "n1ic2h3w4_oc5k3x1", "n1ic2h3w4_oc5k3k3", "n1ic2h3w4_oc5kh3", "n1ic2h3w4_oc5k3pt1",
     "n1ic2h3w4_oc5k3p1ph1pw1", "n1ic2h3w4_oc5k3_f32", "n1ic2h3w4_oc5k3kh3kw3", "n1ic2h3w4_oc5k3 "],
)  # fmt: skip
def test_problem_refuses_other_text(text):
    with pytest.raises(OptionError, match=rf"problem: text = {re.escape(repr(text))}, expected a name such as"):
        problem(text)


# Without those that torch refuses: uneven or negative padding, no input channels.
@pytest.mark.parametrize("text", [name for name in PROBLEMS if not re.search("p-|pt|ic0", name)])
def test_reference_equals_torch(text):
    torch = pytest.importorskip("torch")
    x, w, keywords = arrays(text)
    padding = tuple(before for before, _ in keywords.pop("padding"))
    keywords.pop("layout")
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=padding, **keywords)
    assert np.array_equal(reference(x, w, padding=padding, **keywords), expected.numpy())


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_reference_takes_an_input_without_batch(layout):
    x, w, keywords = arrays("n1ic4h5w6_oc4k3s1p1" + ("_nhwc" if layout == "channels_last" else ""))
    batched = reference(x, w, residual=x, activation="swish", **keywords)
    assert np.array_equal(reference(x[0], w, residual=x[0], activation="silu", **keywords), batched[0])


def test_reference_takes_positional_arguments_and_what_changes_nothing():
    x, w, _ = arrays("n1ic4h7w7_oc4k3s2p1d2g2")
    b = np.arange(4.0, dtype=np.float32)
    expected = reference(x, w, b, stride=2, padding=1, dilation=2, groups=2)
    assert np.array_equal(
        reference(x, w, b, 2, 1, 2, 2, algorithm="im2col", precision="strict", device="cpu"), expected
    )
    assert expected.dtype == np.float32
    assert reference(x, w.astype(np.float64), b, 2, 1, 2, 2).dtype == np.float64


def test_reference_validates():
    x, w, _ = arrays("n1ic4h7w7_oc4k3s1p0")
    with pytest.raises(ShapeError, match="reference: bias has shape"):
        reference(x, w, np.zeros(3))
    with pytest.raises(ShapeError, match="reference: residual has shape"):
        reference(x, w, residual=x)
    with pytest.raises(UnsupportedError, match="reference: padding_mode = 'reflect'"):
        reference(x, w, padding_mode="reflect")
    with pytest.raises(OptionError, match="reference: padding_mode = 'mirror', expected one of 'zeros'"):
        reference(x, w, padding_mode="mirror")
    with pytest.raises(FastconvError, match="reference: activation = 'mish'"):
        reference(x, w, activation="mish")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("terms", [1, 9, 4096])
def test_assert_close_accepts_rounding_in_any_order(dtype, terms):
    generator = np.random.default_rng(terms)
    products = generator.standard_normal((50, terms)).astype(dtype)
    exact = products.astype(np.longdouble).sum(1).astype(np.float64)
    one_by_one = np.cumsum(products, axis=1, dtype=dtype)[:, -1]
    magnitude = np.abs(products.astype(np.float64)).sum(1)
    for actual in (one_by_one, products.sum(1), products[:, ::-1].sum(1)):
        assert_close(actual, exact, terms=terms)
        assert_close(actual, exact, terms=terms, magnitude=magnitude, factor=1.0)


def test_assert_close_finds_one_missing_product():
    generator = np.random.default_rng(1)
    products = generator.standard_normal((50, 4096)).astype(np.float32)
    exact = products.astype(np.float64).sum(1)
    wrong = products.sum(1)
    wrong[17] -= 0.1
    with pytest.raises(AssertionError, match=r"^1 of 50 elements differ; the worst, at \(17,\), is .*bound"):
        assert_close(wrong, exact, terms=4096)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [(np.nan, 2), (2, np.nan), (np.inf, -np.inf), (np.inf, 2), (2, np.inf), (np.nan, np.inf)],
)
def test_assert_close_compares_special_values(actual, expected):
    same = np.array([1, np.nan, np.inf, -np.inf])
    assert_close(same, same, terms=1)
    with pytest.raises(AssertionError, match=r"1 of 2 elements differ; the worst, at \(1,\)"):
        assert_close(np.array([1.0, actual]), np.array([1.0, expected]), terms=3)


def test_assert_close_compares_shape_and_dtype():
    for actual, keywords in ((np.zeros((2, 1)), {}), (np.zeros(2), {"dtype": np.float32})):
        with pytest.raises(AssertionError, match=r"got shape .*expected shape"):
            assert_close(actual, np.zeros(2), terms=1, **keywords)


def test_assert_close_accepts_empty_arrays_and_zeros():
    assert_close(np.empty((0, 3), np.float32), np.empty((0, 3)), terms=9)
    assert_close(np.zeros(3, np.float32), np.zeros(3), terms=9)
    with pytest.raises(AssertionError):
        assert_close(np.full(3, 1e-30, np.float32), np.zeros(3), terms=9)


def test_testing_imports_no_compiler():
    code = "import sys, fastconv.testing; print(sorted({'numba', 'llvmlite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
