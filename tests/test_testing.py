import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv.errors import DtypeError, FastconvError, OptionError, ShapeError
from fastconv.geometry.conv import PADDING_MODES, conv_geometry
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
    "n1ic16w100_oc8k9s1p4",
    "n2ic4w30_oc6k5s2pl8pr0d2g2_nhwc",
    "n1ic3d5h7w6_oc4k3s1p1",
    "n2ic4d9h8w7_oc6kd3kh1kw1sd1sh2sw2pd1ph0pw0dd1dh2dw2g2_f64",
    "n1ic2d5h4w3_oc2k2s1pf0pk1pt0pb1pl0pr1_nhwc_reflect",
    "n1ic2d9h8w7_oc2k2s1p0d3_i16",
    "n1ic2h5w6_oc2k3s1p2_i32_symmetric",
    "n1ic2w6_oc2k3s1p2_i64_circular",
    "n1ic2w6_oc2k3s1p2_replicate",
    "n1ic8h5w5_oc6k3s1p1_u8",
    "n1ic8h5w5_oc6k3s1p1_nhwc_i8",
]


@pytest.mark.parametrize("text", PROBLEMS)
def test_problem_is_the_inverse_of_the_notation(text):
    p = problem(text)
    g = conv_geometry("conv", p.axes, p.input_shape, p.weight_shape, dtype=p.dtype, **p.keywords)
    assert g.problem == text


numbers = st.integers(1, 3)


dtypes = st.sampled_from(["float32", "float64", "int16", "int32", "int64"])


@drawn
@given(
    st.sampled_from([1, 2, 3]), st.tuples(*[numbers] * 11), st.tuples(*[st.integers(-1, 3)] * 6), st.booleans(),
    dtypes, st.sampled_from(PADDING_MODES),
)  # fmt: skip
def test_problem_inverts_any_geometry(axes, sizes, pads, last, dtype, mode):
    (G, N), kernel, stride, dilation = sizes[:2], sizes[2:5], sizes[5:8], sizes[8:]
    image = (20, 21, 22)[:axes]
    x = (N, *image, 2 * G) if last else (N, 2 * G, *image)
    g = conv_geometry(
        "conv", axes, x, (G, 2, *kernel[:axes]), stride=stride[:axes], dilation=dilation[:axes], groups=G,
        padding=tuple(zip(pads[::2], pads[1::2], strict=True))[:axes], dtype=dtype, padding_mode=mode,
        layout="channels_last" if last else "channels_first",
    )  # fmt: skip
    p = problem(g.problem)
    assert conv_geometry("conv", p.axes, p.input_shape, p.weight_shape, dtype=p.dtype, **p.keywords) == g


def test_problem_ignores_a_label():
    text = "n1ic64h56w56_oc64k3s1p1"
    assert problem(f'{text}"resnet50.conv2*3"') == problem(text)


@pytest.mark.parametrize(
    "text",
    ["", "n1", "n1ic2h3w4_oc5", "n1ic2h3w4_oc5k3x1", "n1ic2h3w4_oc5k3k3", "n1ic2h3w4_oc5kh3", "n1ic2h3w4_oc5k3pt1",
     "n1ic2h3w4_oc5k3p1ph1pw1", "n1ic2h3w4_oc5k3_f32", "n1ic2h3w4_oc5k3kh3kw3", "n1ic2h3w4_oc5k3 ",
     "n1ic2d3w4_oc5k3", "n1ic2h4_oc5k3", "n1ic2w4_oc5kh3kw3", "n1ic2d3h3w4_oc5kh3kw3", "n1ic2w4_oc5k3pt0pb1pl0pr1",
     "n1ic2w4_oc5k3_zeros", "n1ic2w4_oc5k3_reflect_i16", "n1ic2w4_oc5k3_i9", "n1ic2w4_oc5k0", "n1ic2w4d3_oc5k3"],
)  # fmt: skip
def test_problem_refuses_other_text(text):
    with pytest.raises(OptionError, match=rf"problem: text = {re.escape(repr(text))}, expected a name such as"):
        problem(text)


# Without those that torch refuses: uneven or negative padding, no input channels, integers; and the modes.
@pytest.mark.parametrize("text", [name for name in PROBLEMS if not re.search("p-|pl|ic0|_i|_u|_r|_nhwc", name)])
def test_reference_equals_torch(text):
    torch = pytest.importorskip("torch")
    x, w, keywords = arrays(text)
    padding = tuple(before for before, _ in keywords.pop("padding"))
    keywords.pop("layout")
    function = getattr(torch.nn.functional, f"conv{w.ndim - 2}d")
    expected = function(torch.from_numpy(x), torch.from_numpy(w), padding=padding, **keywords)
    assert np.array_equal(reference(x, w, padding=padding, **keywords), expected.numpy())


@pytest.mark.parametrize("sizes", ["w6", "h5w6", "d4h5w6"])
@pytest.mark.parametrize("suffix", ["", "_nhwc"])
def test_reference_takes_an_input_without_batch(sizes, suffix):
    x, w, keywords = arrays(f"n1ic4{sizes}_oc4k3s1p1{suffix}")
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
    with pytest.raises(ShapeError, match="reference: weight has 2 dimensions, expected 3, 4 or 5"):
        reference(x, w[0, 0])
    for out_dtype in ("int32", np.int64):
        with pytest.raises(DtypeError, match=r"reference: out_dtype = int\d\d cannot hold results of arrays"):
            reference(x, w, out_dtype=out_dtype)
    with pytest.raises(DtypeError, match="reference: out_dtype = float64 cannot hold"):
        reference(x * 1j, w, out_dtype="float64")
    with pytest.raises(OptionError, match="reference: padding_mode = 'mirror', expected one of 'zeros'"):
        reference(x, w, padding_mode="mirror")
    with pytest.raises(FastconvError, match="reference: activation = 'mish'"):
        reference(x, w, activation="mish")


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_reference_pads_by_the_mode(mode):
    x, w, _ = arrays("n1ic2h5w6_oc3k3s1p0")
    names = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}
    padded = np.pad(x, ((0, 0), (0, 0), (7, 2), (0, 9)), names.get(mode, mode))
    expected = reference(padded, w)
    assert np.array_equal(reference(x, w, padding=((7, 2), (0, 9)), padding_mode=mode), expected)
    # Cropped first: what is cut away is not mirrored in.
    cropped = reference(x[:, :, 2:, :-1], w, padding=((0, 3), (2, 0)), padding_mode=mode)
    assert np.array_equal(reference(x, w, padding=((-2, 3), (2, -1)), padding_mode=mode), cropped)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_reference_of_integers_wraps(dtype):
    limits = np.iinfo(dtype)
    generator = np.random.default_rng(7)
    x = generator.integers(limits.min, limits.max, (1, 3, 9), dtype, endpoint=True)
    w = generator.integers(limits.min, limits.max, (2, 3, 2), dtype, endpoint=True)
    exact = np.zeros((1, 2, 8), object)
    for i in range(2):
        exact[0] += w[:, :, i].astype(object) @ x[0, :, i : i + 8].astype(object)
    for out_dtype in (None, "int64", "uint8"):
        result = reference(x, w, out_dtype=out_dtype)
        assert result.dtype == (dtype if out_dtype is None else out_dtype)
        assert np.array_equal(result, (exact % 2**64).astype(np.uint64).astype(result.dtype))


def test_reference_promotes_as_numpy():
    x, w = np.ones((1, 1, 4)), np.ones((1, 1, 2))
    for a, b in (
        ("int8", "uint8"),
        ("int32", "float32"),
        ("float16", "int8"),
        ("complex64", "float64"),
        ("int8", "f4"),
    ):
        assert reference(x.astype(a), w.astype(b)).dtype == np.result_type(np.dtype(a), np.dtype(b))
    assert reference(x.astype("int8"), w.astype("int8"), activation="gelu", out_dtype="float32")[0, 0, 0] > 1.9


def test_reference_of_float16_rounds_once():
    x, w = np.float16([[[2048, 1, 1]]]), np.ones((1, 1, 3), np.float16)
    result = reference(x, w)
    assert result.dtype == np.float16
    assert result.item() == 2050


def test_reference_of_bfloat16_rounds_once():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, w = np.array([[[256, 1, 1]]], bfloat16), np.ones((1, 1, 3), bfloat16)
    result = reference(x, w)
    assert result.dtype == bfloat16
    assert float(result.item()) == 258
    assert_close(result, np.float64([[[258.5]]]), terms=3)
    with pytest.raises(AssertionError):
        assert_close(result, np.float64([[[290]]]), terms=3)


def test_reference_of_complex_numbers_does_not_conjugate():
    x, w = np.complex64([[[1 + 2j, 3j]]]), np.complex64([[[1j, 2]]])
    result = reference(x, w, np.complex64([1 - 1j]))
    assert result.dtype == np.complex64
    assert result.item() == (1 + 2j) * 1j + 6j + 1 - 1j


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


def test_assert_close_compares_complex_numbers():
    expected = np.array([1 + 1j, 1e-9j, np.inf])
    close = np.complex64([1 + 1.0000001j, 0, np.inf])
    assert_close(close, expected, terms=1)
    close[1] += np.complex64(1e-5j)
    with pytest.raises(AssertionError, match=r"1 of 3 elements differ; the worst, at \(1,\), is .*error 1e-05"):
        assert_close(close, expected, terms=1)
    with pytest.raises(AssertionError, match="1 of 1 elements differ"):
        assert_close(np.complex128([np.inf]), np.complex128([1j]), terms=1)


def test_assert_close_compares_integers_exactly():
    huge = np.int64([2**62, 2**62 + 1, -3])
    assert_close(huge, huge.copy(), terms=9)
    with pytest.raises(AssertionError, match=r"2 of 3 elements differ; the worst, at .*bound 0"):
        assert_close(huge, huge + np.int64([1, 0, 2]), terms=9)
    with pytest.raises(AssertionError, match="got shape"):
        assert_close(huge, huge, terms=9, dtype=np.int32)


def test_testing_imports_no_compiler():
    code = "import sys, fastconv.testing; print(sorted({'numba', 'llvmlite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_reference_multiplies_infinity_by_zero():
    # One column of one row: a shape for which some BLAS take the product as zero.
    x = np.full((1, 1, 1, 16), np.inf, np.float32)
    assert np.isnan(reference(x, np.zeros((1, 1, 1, 1), np.float32))).all()
    x = np.where(np.arange(32).reshape(1, 32, 1, 1) == 3, np.float32("inf"), np.ones((1, 32, 16, 1), np.float32))
    expected = np.where(np.arange(32).reshape(1, 32, 1, 1) == 3, np.nan, np.zeros(x.shape))
    assert np.array_equal(reference(x, np.zeros((32, 1, 1, 1), np.float32), groups=32), expected, equal_nan=True)
