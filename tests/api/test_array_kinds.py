"""Every public operation takes arrays of every kind without a copy, and refuses the same kinds in the same words."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import fastconv as fc
from fastconv.geometry.arrays import as_input, on_device
from tests.exporters import REFUSED, SHARED, Dlpack
from tests.operations import OTHERS, operations

OPERATIONS = {operation.name: operation for operation in operations()}
# Whose kernels other tests compile, too.
SOME = ("conv2d", "max_pool2d", "signal.correlate2d", "ndimage.maximum_filter", "plan_conv2d")


def test_every_public_operation_is_here():
    functions = {name for name in fc.__all__ if callable(getattr(fc, name)) and name[0].islower()}
    functions |= {f"grad.{name}" for name in fc.grad.__all__} | {f"signal.{name}" for name in fc.signal.__all__}
    functions |= {f"ndimage.{name}" for name in fc.ndimage.__all__}
    functions |= {f"activations.{name}" for name in fc.activations.__all__}
    known = {name if "." in name or not name.endswith(("_input", "_weight")) else f"grad.{name}" for name in OPERATIONS}
    assert functions - known == OTHERS
    assert known - functions == {"nn.predict"}


@pytest.mark.parametrize("kind", SHARED)
def test_memory_is_shared(kind):
    values = np.arange(24, dtype="f4").reshape(2, 3, 4)
    exported, memory = SHARED[kind](values)
    assert not on_device(exported)
    taken = as_input("conv2d", "input", exported)
    assert type(taken) is np.ndarray
    assert np.shares_memory(taken, memory)
    np.testing.assert_array_equal(taken, values)


def peak(call, arrays):
    """Return the result of a call, and the most memory that it takes beyond what is there."""
    tracemalloc.start()
    try:
        result = call(*arrays)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bits(result):
    parts = result if isinstance(result, tuple) else (result,)
    assert all(type(part) in (np.ndarray, type(None), str) for part in parts)
    return [part.tobytes() if isinstance(part, np.ndarray) else part for part in parts]


def check_kind(name, kind):
    _, call, arrays = OPERATIONS[name]
    call(*arrays)
    expected, most = peak(call, arrays)
    exported = [SHARED[kind](array)[0] for array in arrays]
    before = [array.tobytes() for array in arrays]
    found, used = peak(call, exported)
    assert bits(found) == bits(expected)
    # The objects of a conversion take some hundred bytes, a copy of the smallest array 4096.
    assert used < most + 2500, f"{used} bytes, {most} for an ndarray"
    assert [array.tobytes() for array in arrays] == before


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("name", SOME)
def test_operation_takes_the_kind_without_a_copy(name, kind):
    check_kind(name, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in SOME])
def test_every_operation_takes_the_kind_without_a_copy(name, kind):
    check_kind(name, kind)


@pytest.mark.parametrize("kind", REFUSED)
def test_every_operation_refuses_the_kind(kind):
    make, message = REFUSED[kind]
    for name, call, arrays in OPERATIONS.values():
        given = [make(array) for array in arrays]
        with pytest.raises((fc.DtypeError, fc.UnsupportedError), match=message) as caught:
            call(*given)
        assert "\n" not in str(caught.value), name


def test_host_objects_with_dlpack_are_not_taken_for_device_arrays():
    x, w = np.ones((1, 1, 4, 4), "f4"), np.ones((1, 1, 3, 3), "f4")
    for device in ((1, 0), (3, 0), (11, 0)):
        assert not on_device(Dlpack(x, device))
    assert isinstance(fc.conv2d(Dlpack(x), Dlpack(w)), np.ndarray)
    assert on_device(Dlpack(x, (2, 0)))


# Other libraries.

X, W = np.arange(16, dtype="f4").reshape(1, 1, 4, 4), np.ones((1, 1, 3, 3), "f4")


def refused(value, message, error=fc.DtypeError, by_scipy=True):
    """Check that a value is refused; objects and what is no number are handed to SciPy by `fc.signal`."""
    calls = (fc.conv2d, fc.max_pool2d, fc.signal.convolve) if by_scipy else (fc.conv2d, fc.max_pool2d)
    for call in calls:
        with pytest.raises(error, match=message) as caught:
            call(value, 2 if call is fc.max_pool2d else W)
        assert "\n" not in str(caught.value)


def taken(value, like):
    """Check a value that NumPy knows nothing of against its elements."""
    found = fc.conv2d(value, W)
    assert type(found) is np.ndarray
    assert found.tobytes() == fc.conv2d(like, W).tobytes()


def test_sparse_arrays_of_scipy():
    sparse = pytest.importorskip("scipy.sparse")
    for kind in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array, sparse.dia_array, sparse.lil_array):
        refused(kind(np.eye(3)), f"of type {kind.__name__} is sparse, expected a dense array")


def test_lists_that_hold_masked_arrays():
    plain, masked = [[1.0, 2.0], [3.0, 4.0]], np.ma.MaskedArray([1.0, 2.0], [False, True])
    for nested in ([masked, masked], [plain[0], masked], [[[masked]]], ([plain], [[plain[0], masked]])):
        refused(nested, "has masked elements")
    assert as_input("conv2d", "input", [np.ma.MaskedArray([1.0]), np.ma.MaskedArray([2.0], [False])]).shape == (2, 1)
    endless = []
    endless.append(endless)
    refused(endless, "expected an array|cannot be read", fc.FastconvError, by_scipy=False)


def test_dtypes_that_are_not_of_numpys_numbers():
    refused(np.array([["a"]], np.dtypes.StringDType()), "has dtype StringDType", by_scipy=False)
    refused(np.rec.array([(1, 2.0)], dtype="i4,f4"), "has dtype .*record", by_scipy=False)
    assert as_input("conv2d", "input", X.view(np.recarray)).dtype == "f4"


def test_interface_is_asked_for_once():
    asked = []

    class Image:
        @property
        def __array_interface__(self):
            asked.append(X.copy())
            return asked[-1].__array_interface__ | {"data": asked[-1].tobytes()}

    found = as_input("conv2d", "input", Image())
    asked[0][...] = -1
    np.testing.assert_array_equal(found, X)
    assert len(asked) == 1


def test_out_with_a_mask_is_refused():
    out = np.ma.zeros((4, 4), "f4")
    with pytest.raises(fc.OptionError, match="out is a MaskedArray"):
        fc.max_pool2d(X, 1, out=out[None, None])
    with pytest.raises(fc.OptionError, match="output is a MaskedArray"):
        fc.ndimage.maximum_filter(X[0, 0], 3, output=out)


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X)

    class Named(torch.Tensor):
        """A subclass, of a module that is not PyTorch's."""

    for tensor in (x, torch.nn.Parameter(x), x.clone().requires_grad_() * 1, x.as_subclass(Named)):
        taken(tensor, X)
    taken(x.clone().requires_grad_().as_subclass(Named), X)
    taken(x.permute(0, 1, 3, 2), X.transpose(0, 1, 3, 2))
    taken(x.expand(2, 3, 4, 4)[:, :1], np.broadcast_to(X, (2, 1, 4, 4)))
    taken(torch._neg_view(x), -X)
    taken(torch.complex(x, 2 * x).conj(), X - 2j * X)
    assert not on_device(x)
    refused(x.to("meta"), "is on the device meta, expected an array on the CPU", fc.UnsupportedError)
    refused(x[0, 0].to_sparse(), "has the layout torch.sparse_coo, expected a dense one")
    refused(x.to_mkldnn(), "has the layout torch._mkldnn")
    refused(x.to(torch.float8_e5m2), "cannot be read as an array")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_of_pytorch_whose_kinds_are_in_beta():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X)
    for tensor in (x[0, 0].to_sparse_csr(), x[0, 0].to_sparse_csc()):
        assert not on_device(tensor)
        refused(tensor, "has the layout torch.sparse_cs[rc]")
    refused(torch.quantize_per_tensor(x, 1.0, 0, torch.quint8), "is quantized .torch.quint8., expected numbers")
    refused(torch.nested.nested_tensor([x[0, 0, 0], x[0, 0, 0, :2]]), "cannot be read as an array")
    masked = torch.masked.masked_tensor(x, x > 3)
    assert not on_device(masked)
    refused(masked, "of type MaskedTensor cannot be read as an array")


def test_bfloat16_of_pytorch_and_jax():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    torch = pytest.importorskip("torch")
    expected = fc.max_pool2d(X.astype(ml_dtypes.bfloat16), 2)
    tensor = torch.from_numpy(X).bfloat16().requires_grad_()
    assert np.shares_memory(as_input("conv2d", "input", tensor), tensor.detach().view(torch.int16).numpy())
    assert fc.max_pool2d(tensor, 2).tobytes() == expected.tobytes()
    jnp = pytest.importorskip("jax.numpy")
    found = fc.max_pool2d(jnp.asarray(X, jnp.bfloat16), 2)
    assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes())


def test_arrays_of_jax_inside_a_transformation_are_refused():
    jax = pytest.importorskip("jax")
    with pytest.raises(fc.DtypeError, match=r"cannot be read as an array: .*traced"):
        jax.jit(lambda x: fc.conv2d(x, W))(X)
    with pytest.raises(fc.DtypeError, match="is sparse"):
        fc.conv2d(pytest.importorskip("jax.experimental.sparse").BCOO.fromdense(np.eye(3)), W)


def test_tables_and_labelled_arrays():
    pandas, xarray = pytest.importorskip("pandas"), pytest.importorskip("xarray")
    image = X[0, 0].astype("f8")
    expected = fc.ndimage.correlate(image, W[0, 0]).tobytes()
    assert fc.ndimage.correlate(pandas.DataFrame(image), W[0, 0]).tobytes() == expected
    labelled = xarray.DataArray(image, dims=("y", "x"), coords={"x": [1, 2, 3, 4]})
    assert fc.ndimage.correlate(labelled, W[0, 0]).tobytes() == expected
    assert np.shares_memory(as_input("conv2d", "input", labelled), image)
    # Missing values are NaN, as these libraries have it.
    assert np.isnan(as_input("conv2d", "input", pandas.Series([1.0, None]))).tolist() == [False, True]
    refused(pandas.DataFrame({"a": [1.0], "b": ["x"]}), "is of type DataFrame, expected", by_scipy=False)
    refused(xarray.Dataset({"a": ("x", [1.0])}), "of type Dataset cannot be read")


def test_collections_of_dask_are_not_computed():
    da = pytest.importorskip("dask.array")

    def fail(block):
        raise AssertionError("computed")

    x = da.from_array(X, chunks=2).map_blocks(fail, dtype="f4", meta=X[:0])
    refused(x, "of type Array is a dask collection, .*compute it first, or see fastconv.integrations.dask")
    xarray = pytest.importorskip("xarray")
    refused(xarray.DataArray(x), "of type DataArray is a dask collection")
    taken(xarray.DataArray(X, coords={"label": (("dim_2",), da.arange(4))}), X)
