"""Pools and the memory of their arguments: inputs of any kind, `out=`, threads, results that own their memory."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

import fastconv as fc
from tests import cases, pools
from tests.api.test_arrays import LAYOUTS as KINDS
from tests.api.test_arrays import WRITABLE, read_only, stepped

# One call of every public pool, by what follows its name.
CALLS = {
    "max_pool2d": {"kernel_size": 3, "stride": 2, "padding": 1},
    "max_pool2d indices": {"kernel_size": (2, 3), "stride": 1, "return_indices": True},
    "max_pool3d": {"kernel_size": 2, "return_indices": True},
    "avg_pool2d": {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    "avg_pool3d": {"kernel_size": 2},
    "lp_pool2d": {"norm_type": 2, "kernel_size": 2},
    "adaptive_avg_pool2d": {"output_size": (3, 4)},
    "adaptive_max_pool2d": {"output_size": (3, 4), "return_indices": True},
    "global_avg_pool": {},
    "global_max_pool": {"keepdims": False},
}
# Pools after which nothing has changed.
NOTHING = {
    "max_pool1d": {"kernel_size": 1},
    "max_pool2d": {"kernel_size": 1, "return_indices": True},
    "max_pool3d": {"kernel_size": 1},
    "avg_pool2d": {"kernel_size": 1},
    "avg_pool3d": {"kernel_size": 1},
    "lp_pool2d": {"norm_type": 1, "kernel_size": 1},
    "adaptive_avg_pool2d": {"output_size": None},
    "adaptive_max_pool1d": {"output_size": None},
    "adaptive_max_pool3d": {"output_size": None},
}


def draw(name, seed=0, dtype="float32"):
    """Return an input whose sums round, so that equal bits mean the same computation."""
    axes = 3 if "3d" in name else 1 if "1d" in name else 2
    x = np.random.default_rng(seed).random((2, 5, *(9, 11, 13)[-axes:]), "f4") * 100
    return x.astype(dtype)


def call(name, x, layout="channels_first", **more):
    """Return a tuple of results."""
    result = getattr(fc, name.split()[0])(x, layout=layout, **CALLS[name], **more)
    return result if isinstance(result, tuple) else (result,)


def bits(results):
    return [array.tobytes() for array in results]


@pytest.mark.parametrize("change", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_inputs_of_any_memory_give_the_same_bits(name, change):
    for layout in cases.LAYOUTS:
        x = draw(name)
        other = change(x)
        assert bits(call(name, other, layout)) == bits(call(name, x, layout))
        np.testing.assert_array_equal(other, x)


@pytest.mark.parametrize("name", CALLS)
def test_other_containers(name):
    x = draw(name)
    for other in (memoryview(x), np.broadcast_to(x, x.shape)):
        assert bits(call(name, other)) == bits(call(name, x))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "lp_pool2d", "global_max_pool"])
def test_lists(name):
    # Few planes: what is compiled for elements of eight bytes takes seconds.
    x = draw(name, dtype="float64")[:1, :3]
    got = call(name, x.tolist())
    assert got[0].dtype == np.float64
    assert bits(got) == bits(call(name, x))


@pytest.mark.parametrize("name", CALLS)
def test_torch_tensors(name):
    torch = pytest.importorskip("torch")
    x = draw(name)
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    assert bits(call(name, tensor)) == bits(call(name, x))
    assert all(type(array) is np.ndarray for array in call(name, tensor))


@pytest.mark.parametrize("change", WRITABLE)
@pytest.mark.parametrize("name", CALLS)
def test_out_of_any_memory_gets_the_same_bits(name, change):
    x = draw(name)
    want = call(name, x)
    out = change(cases.poisoned(want[0]))
    got = call(name, x, out=out)
    assert got[0] is out
    assert out.astype("f4").tobytes() == want[0].tobytes()
    assert bits(got[1:]) == bits(want[1:])
    if out.base is not None and change is stepped:
        out[...] = np.nan
        assert np.isnan(out.base).all()


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int64"])
def test_out_of_other_dtypes(dtype):
    for name in ("max_pool2d", "max_pool2d indices", "avg_pool2d", "global_avg_pool"):
        x = draw(name, dtype=dtype)[:1, :3]
        want = call(name, x)
        out = np.zeros_like(want[0])
        assert call(name, x, out=out)[0] is out
        np.testing.assert_array_equal(out, want[0])


@pytest.mark.parametrize("name", CALLS)
def test_out_may_overlap_the_input(name):
    x = draw(name)
    want = call(name, x)
    size = want[0].size
    for start in (0, 1, 7, x.size - size):
        memory = x.copy().ravel()
        out = memory[start : start + size].reshape(want[0].shape)
        got = call(name, memory.reshape(x.shape), out=out)
        assert got[0] is out
        assert bits(got) == bits(want)
        rest = np.delete(memory, slice(start, start + size))
        np.testing.assert_array_equal(rest, np.delete(x.ravel(), slice(start, start + size)))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (read_only, fc.OptionError, "out is read-only"),
        (lambda out: out[:1], fc.ShapeError, r"out has shape \(1, .*expected \(2, 5"),
        (lambda out: out[..., None], fc.ShapeError, "out has shape"),
        (lambda out: out.astype("f8"), fc.OptionError, "out has dtype float64, expected float32"),
        (lambda out: out.view("i4"), fc.OptionError, "out has dtype int32, expected float32"),
        (lambda out: np.ma.MaskedArray(out, mask=True), fc.OptionError, "out is a MaskedArray"),
        (lambda out: out.tolist(), fc.ArgumentTypeError, "out = .* is a list, expected an ndarray"),
    ],
)
def test_wrong_out_raises_before_any_write(name, change, error, message):
    x = draw(name)
    out = change(np.full(call(name, x)[0].shape, 7, "f4"))
    before = np.array(out)
    with pytest.raises(error, match=f"^{name.split()[0]}: {message}"):
        call(name, x, out=out)
    np.testing.assert_array_equal(np.array(out), before)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", NOTHING)
def test_a_pool_that_changes_nothing_is_a_copy(name, dtype):
    x = pools.values(np.random.default_rng(0), draw(name).shape, dtype)
    for layout in cases.LAYOUTS:
        got = getattr(fc, name)(x, layout=layout, **NOTHING[name])
        got = got if isinstance(got, tuple) else (got,)
        np.testing.assert_array_equal(got[0], x)
        for array in got:
            assert not np.shares_memory(array, x)
            assert array.flags.owndata
            assert array.flags.writeable
            assert array.flags.c_contiguous
        if len(got) > 1:
            sizes = x.shape[1:-1] if layout == "channels_last" else x.shape[2:]
            flat = np.arange(np.prod(sizes)).reshape(sizes)
            want = flat[..., None] if layout == "channels_last" else flat
            np.testing.assert_array_equal(got[1], np.broadcast_to(want, x.shape))


@pytest.mark.parametrize("name", CALLS)
def test_results_share_no_memory(name):
    x = draw(name)
    before = x.copy()
    one, two = call(name, x), call(name, x)
    arrays = [*one, *two, x]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[i + 1 :])
    assert bits(one) == bits(two)
    assert all(a.flags.owndata and a.flags.writeable and a.flags.c_contiguous for a in one)
    np.testing.assert_array_equal(x, before)


LONG = {
    "max_pool2d": {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True},
    "avg_pool2d": {"kernel_size": (31, 9), "stride": 1, "padding": (15, 4)},
    "max_pool3d": {"kernel_size": (2, 3, 3), "stride": 1, "return_indices": True},
    "adaptive_avg_pool2d": {"output_size": (37, 50)},
}


@pytest.mark.parametrize("planes", [2, 40])
@pytest.mark.parametrize("name", LONG)
def test_bits_are_the_same_for_every_number_of_threads(name, planes, monkeypatch):
    """Each task is handed out alone, however short it is."""
    engine, tasks = import_module("fastconv.threads"), []

    def one_by_one(count, seconds, threads):
        tasks.append(count)
        return 1

    monkeypatch.setattr(engine, "PARALLEL_SECONDS", 0)
    monkeypatch.setattr(engine, "_chunk", one_by_one)
    sizes = (12, 40, 60) if "3d" in name else (200, 300) if planes < 10 else (60, 30)
    x = np.random.default_rng(0).random((1, planes, *sizes), "f4")
    for layout in cases.LAYOUTS:
        shaped = pools.to_last(x) if layout == "channels_last" else x
        results = []
        for n in (1, 2, 5):
            with fc.threads(n):
                result = getattr(fc, name)(shaped, layout=layout, **LONG[name])
            results.append(bits(result if isinstance(result, tuple) else (result,)))
        assert results[0] == results[1] == results[2]
    assert max(tasks) > 1


def test_threads_share_a_call():
    from concurrent.futures import ThreadPoolExecutor

    x = draw("max_pool2d")
    want = [bits(call(name, x)) for name in ("max_pool2d", "avg_pool2d")]
    with ThreadPoolExecutor(4) as executor:
        for got in executor.map(lambda _: [bits(call(name, x)) for name in ("max_pool2d", "avg_pool2d")], range(24)):
            assert got == want
