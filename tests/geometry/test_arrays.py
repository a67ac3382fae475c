import array
import warnings

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fastconv.errors import ArgumentTypeError, DtypeError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arrays import (
    address,
    as_input,
    check_out,
    common_dtype,
    dtype_of,
    element_dtype,
    usable_in_place,
    working_dtype,
)

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def convert(value):
    return as_input("conv2d", "input", value)


def unaligned(values):
    raw = np.empty(values.nbytes + 1, np.uint8)
    out = raw[1:].view(values.dtype).reshape(values.shape)
    out[...] = values
    return out


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


class Interface:
    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


class Dlpack:
    def __init__(self, values, device=(1, 0)):
        self.values, self.device = values, device

    def __dlpack__(self, **keywords):
        return self.values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.device


class Convertible:
    def __init__(self, result):
        self.result = result

    def __array__(self, dtype=None, copy=None):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class OnDevice:
    __cuda_array_interface__ = {"shape": (2,)}  # noqa: RUF012 - as the protocol has it


STRIDED = {
    "reversed": BASE[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "every second": np.repeat(BASE, 2, axis=2)[:, :, ::2],
    "fortran": np.asfortranarray(BASE),
    "transposed": np.ascontiguousarray(BASE.transpose(2, 0, 1)).transpose(1, 2, 0),
    "big endian": BASE.astype(">f4"),
    "unaligned": unaligned(BASE),
    "read-only": read_only(BASE),
    "list": BASE.tolist(),
    "tuple": tuple(map(tuple, BASE.tolist())),
    "interface": Interface(BASE),
    "dlpack": Dlpack(BASE),
    "__array__": Convertible(BASE),
    "memoryview": memoryview(BASE),
    "masked without mask": np.ma.array(BASE),
}


@pytest.mark.parametrize("name", STRIDED)
def test_as_input_normalises(name):
    result = convert(STRIDED[name])
    assert type(result) is np.ndarray
    assert result.flags.c_contiguous
    assert result.flags.aligned
    assert result.dtype.isnative
    assert np.array_equal(result, BASE)
    assert address(result) % result.itemsize == 0


def test_as_input_copies_only_what_it_must():
    for value in (BASE, read_only(BASE), BASE.astype(np.float64), BASE.astype(np.int16), np.empty((0, 3))):
        assert convert(value) is value or np.shares_memory(convert(value), value)
    for value in (memoryview(BASE), Interface(BASE), Dlpack(BASE), Convertible(BASE)):
        assert np.shares_memory(convert(value), BASE)


def test_as_input_returns_a_float_array_as_it_is():
    assert convert(BASE) is BASE


def test_as_input_of_a_broadcast_array_is_dense():
    result = convert(np.broadcast_to(np.float32([1, 2]), (3, 2)))
    assert result.flags.c_contiguous
    assert result.strides == (8, 4)


def test_as_input_takes_array_array():
    assert np.array_equal(convert(array.array("d", [1.0, 2.0])), [1.0, 2.0])


def test_as_input_takes_subclasses(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    mapped = np.memmap(tmp_path / "data", np.float32, "w+", shape=(3, 4))
    for value in (matrix, mapped):
        result = convert(value)
        assert type(result) is np.ndarray
        assert np.shares_memory(result, value)


def test_as_input_keeps_signed_zero_and_nan():
    result = convert(np.array([-0.0, np.nan, -np.inf], ">f8"))
    assert np.signbit(result[0])
    assert np.isnan(result[1])
    assert result[2] == -np.inf


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (None, "NoneType"),
        ({1, 2}, "set"),
        (np.array([1, None]), "ndarray"),
        (np.ones(3, bool), "bool"),
        ([True, False], "bool"),
        ("text", "<U4"),
        (["a"], "<U1"),
        (b"text", "S4"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64[D]"),
        (np.array([1], "m8[s]"), "timedelta64[s]"),
        (np.zeros(2, [("re", "f4"), ("im", "f4")]), "'re'"),
    ],
)
def test_as_input_refuses_what_holds_no_numbers(value, named):
    with pytest.raises(DtypeError) as caught:
        convert(value)
    text = str(caught.value)
    assert text.startswith("conv2d: input ")
    assert named in text
    assert "expected an array of numbers (float32, float64, " in text


def test_as_input_refuses_masked_elements():
    with pytest.raises(DtypeError, match=r"conv2d: input has masked elements"):
        convert(np.ma.array([1.0, 2.0], mask=[0, 1]))


@pytest.mark.parametrize("value", [3.0, 2, np.float32(1), np.array(1.0)])
def test_as_input_refuses_scalars(value):
    with pytest.raises(ShapeError, match=r"conv2d: input = .* is a scalar, expected an array"):
        convert(value)


def test_as_input_refuses_ragged_lists():
    with pytest.raises(ShapeError, match=r"conv2d: input of type list cannot be read as an array"):
        convert([[1.0, 2.0], [3.0]])


def test_as_input_refuses_device_memory():
    for value in (OnDevice(), Dlpack(BASE, device=(2, 0))):
        with pytest.raises(UnsupportedError, match=r"conv2d: input of type .* in device memory"):
            convert(value)


def test_as_input_reports_a_failed_conversion():
    with pytest.raises(DtypeError, match=r"conv2d: input of type Convertible cannot be read as an array: no way"):
        convert(Convertible(RuntimeError("no\nway")))
    with pytest.raises(MemoryError):
        convert(Convertible(MemoryError()))


def test_as_input_takes_torch_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0).reshape(2, 3)
    assert np.shares_memory(convert(tensor), tensor.numpy())
    assert np.array_equal(convert(tensor.T), [[0, 3], [1, 4], [2, 5]])
    assert np.array_equal(convert(tensor.clone().requires_grad_()), tensor.numpy())
    numbers = torch.tensor([1 + 2j, 3j])
    assert np.array_equal(convert(numbers.conj()), [1 - 2j, -3j])
    assert np.array_equal(convert(numbers.conj().imag), [-2, -3])


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("f4",), "f4"),
        (("f4", "f4", "f4"), "f4"),
        (("f4", "f8"), "f8"),
        (("f4", "i1"), "f4"),
        (("u1", "i1"), "i2"),
        (("u4", "i4"), "i8"),
        (("f4", "c8"), "c8"),
        (("f8", "c8"), "c16"),
        (("f4", "i4"), "f8"),
        (("f2", "f4"), "f4"),
    ],
)
def test_common_dtype_promotes_as_numpy(dtypes, expected):
    arrays = [np.zeros(2, dtype) for dtype in dtypes]
    assert common_dtype("conv2d", *arrays, None) == np.dtype(expected)


@pytest.mark.parametrize("dtype", ["u8", "g", "G", "?"])
def test_as_input_refuses_numbers_that_kernels_cannot_sum(dtype):
    with pytest.raises(DtypeError, match=f"^conv2d: input has dtype {np.dtype(dtype)}, expected .*uint32.*bfloat16"):
        convert(np.zeros(2, dtype))


@pytest.mark.parametrize("dtype", [None, "u8", "g", "text", object])
def test_dtype_of_says_what_is_supported(dtype):
    with pytest.raises(DtypeError, match=r"^conv2d: out_dtype = .*, expected float32, .*complex128"):
        dtype_of("conv2d", "out_dtype", dtype)


@pytest.mark.parametrize(
    ("dtype", "result", "work", "element"),
    [
        ("f4", "f4", "f4", "f4"),
        ("f2", "f2", "f2", "f4"),
        ("f2", "f8", "f8", "f8"),
        ("i2", "f2", "f4", "f4"),
        ("i4", "f2", "f8", "f8"),
        ("f8", "f4", "f8", "f8"),
        ("i1", "i1", "i1", "i2"),
        ("u1", "i4", "i4", "i4"),
        ("i8", "u1", "u1", "i2"),
        ("u4", "u4", "u4", "i4"),
        ("i2", "f4", "f4", "f4"),
        ("i4", "f4", "f8", "f8"),
        ("f4", "c8", "c8", "f4"),
        ("c16", "c8", "c16", "f8"),
    ],
)
def test_sums_lose_nothing(dtype, result, work, element):
    found = working_dtype("conv2d", np.dtype(dtype), np.dtype(result))
    assert found == np.dtype(work)
    assert element_dtype(found) == np.dtype(element)


@pytest.mark.parametrize(("dtype", "result"), [("f4", "i4"), ("c8", "f4"), ("c8", "i8")])
def test_results_keep_fractions_and_imaginary_parts(dtype, result):
    with pytest.raises(DtypeError, match=f"out_dtype = {np.dtype(result)} cannot hold .* {np.dtype(dtype)}"):
        working_dtype("conv2d", np.dtype(dtype), np.dtype(result))


def test_check_out_takes_any_strides():
    shape, dtype = (2, 3), np.dtype(np.float32)
    for out in (
        np.empty(shape, "f4"),
        np.empty((3, 2), "f4").T,
        np.empty((2, 6), "f4")[:, ::2],
        np.empty(shape, ">f4"),
    ):
        check_out("conv2d", out, shape, dtype)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((3, 2), "f4"), ShapeError, r"out has shape \(3, 2\), expected \(2, 3\)"),
        (np.empty((2, 3), "f8"), OptionError, "out has dtype float64, expected float32"),
        (read_only(np.empty((2, 3), "f4")), OptionError, "out is read-only, expected a writable array"),
        (np.ma.zeros((2, 3), "f4"), OptionError, "out is a MaskedArray"),
        ([[0.0] * 3] * 2, ArgumentTypeError, "out = .* is a list, expected an ndarray"),
    ],
)
def test_check_out_names_what_is_wrong(out, error, message):
    with pytest.raises(error, match=f"^conv2d: {message}"):
        check_out("conv2d", out, (2, 3), np.dtype(np.float32))


def test_check_out_errors_of_arrays_are_value_errors():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(OptionError, ValueError)


def test_usable_in_place_finds_every_overlap():
    memory = np.zeros(100)
    out = memory[10:20]
    for start in range(60):
        x = memory[start : start + 7]
        assert usable_in_place(out, x) == (not np.shares_memory(out, x))
    assert not usable_in_place(out, None, np.zeros(3), memory)
    assert usable_in_place(out, None, np.zeros(3))


def test_usable_in_place_wants_contiguous_native_aligned():
    assert usable_in_place(np.zeros((2, 3)))
    for out in (
        np.zeros((3, 2)).T,
        np.zeros(6)[::2],
        np.zeros(3, ">f8"),
        unaligned(np.zeros(3)),
        read_only(np.zeros(3)),
    ):
        assert not usable_in_place(out)


def test_address_is_that_of_the_first_element():
    values = np.arange(6.0)
    for view in (values, values[2:], values[::-1], values[:0], read_only(values), unaligned(values), np.zeros((0, 3))):
        assert address(view) == view.__array_interface__["data"][0] == view.ctypes.data
    assert address(as_strided(values, (3, 2), (8, 8))) == values.ctypes.data


def test_address_exports_nothing():
    values = np.arange(6.0)
    address(values)
    values.resize(12, refcheck=False)
    assert values.size == 12
