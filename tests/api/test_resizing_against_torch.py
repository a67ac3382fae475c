"""Drawn unpoolings, interpolations, unfoldings and foldings against PyTorch: 12,000 in all.

Exact where elements are moved, where sums are of small integers, and for uint8; else up to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from tests.cases import LAYOUTS
from tests.resizing import integers

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

F = torch.nn.functional
SIZES = {1: (200,), 2: (40, 40), 3: (12, 12, 12)}
MODES = {
    1: ("nearest", "nearest-exact", "linear", "area"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
    3: ("nearest", "nearest-exact", "trilinear", "area"),
}
ALIGNED = ("linear", "bilinear", "trilinear", "bicubic")
MOVED = ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8")


@pytest.fixture(autouse=True)
def _one_torch_thread():
    # With more of them any of several equal indices may win in max_unpool.
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def shape_of(rng, axes):
    sizes = (int(rng.integers(1, most)) for most in SIZES[axes])
    return (int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 4, 5, 8, 17, 40])), *sizes)


def to_layout(array, layout):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "channels_last" else array


@pytest.mark.parametrize("seed", range(6))
def test_interpolate(seed):
    rng = np.random.default_rng(seed)
    for _ in range(1000):
        axes, layout = int(rng.integers(1, 4)), str(rng.choice(LAYOUTS))
        mode, dtype = str(rng.choice(MODES[axes])), str(rng.choice(["float32", "float64", "uint8"]))
        if mode in ("linear", "trilinear", "area") and dtype == "uint8":
            dtype = "float32"
        shape, keywords = shape_of(rng, axes), drawn_keywords(rng, mode, axes)
        factors = keywords.get("scale_factor")
        if factors is not None and min(int(n * f) for n, f in zip(shape[2:], factors, strict=True)) < 1:
            continue
        x = rng.integers(0, 256, shape) if dtype == "uint8" else rng.standard_normal(shape)
        x = x.astype(dtype)
        expected = F.interpolate(torch.from_numpy(x), mode=mode, **keywords).numpy()
        if expected.shape[-1] == 1 and mode[:2] == "bi" and (dtype == "uint8" or keywords["antialias"]):
            # PyTorch sums the wrong elements of a column.
            continue
        got = fc.interpolate(to_layout(x, layout), mode=mode, layout=layout, **keywords)
        text = f"{dtype}{shape} {mode} {layout} {keywords}"
        assert got.dtype == dtype, text
        if dtype == "uint8" or mode.startswith("nearest"):
            np.testing.assert_array_equal(got, to_layout(expected, layout), err_msg=text)
        else:
            error = 3e-6 if dtype == "float32" else 3e-14
            np.testing.assert_allclose(got, to_layout(expected, layout), rtol=0, atol=5 * error, err_msg=text)


def drawn_keywords(rng: Any, mode: str, axes: int) -> dict[str, Any]:
    keywords: dict[str, Any] = {}
    if rng.random() < 0.5:
        most = {1: 400, 2: 130, 3: 16}[axes]
        keywords["size"] = tuple(int(n) for n in rng.integers(1, most, axes))
    else:
        factors = rng.choice([2, 3, 0.5, 1.05, 2.05]) if rng.random() < 0.3 else rng.uniform(0.4, 3, axes)
        keywords["scale_factor"] = tuple(float(f) for f in np.broadcast_to(np.round(factors, 2), axes))
        keywords["recompute_scale_factor"] = [None, True, False][int(rng.integers(0, 3))]
    if mode in ALIGNED:
        keywords["align_corners"] = bool(rng.random() < 0.5)
    if mode in ("bilinear", "bicubic"):
        keywords["antialias"] = bool(rng.random() < 0.4)
    return keywords


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_every_source_of_nearest(mode):
    # Two axes of together up to 128 outputs go another way in PyTorch than more, and than one axis.
    for dtype in ("float32", "float64"):
        for n in range(1, 60):
            x = np.arange(n, dtype=dtype)
            for out in (*range(1, 75), 90, 129, 200):
                one = F.interpolate(torch.from_numpy(x[None, None]), out, mode=mode).numpy()
                np.testing.assert_array_equal(fc.interpolate(x[None, None], out, mode=mode), one, err_msg=f"{n} {out}")
                image = np.ascontiguousarray(np.broadcast_to(x, (1, 1, 2, n)))
                two = F.interpolate(torch.from_numpy(image), (2, out), mode=mode).numpy()
                np.testing.assert_array_equal(fc.interpolate(image, (2, out), mode=mode), two, err_msg=f"{n} {out}")


@pytest.mark.parametrize("mode", ["bilinear", "area"])
def test_special_values_spread_as_in_pytorch(mode):
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape, outs = shape_of(rng, 2), tuple(int(n) for n in rng.integers(1, 60, 2))
        x = rng.standard_normal(shape).astype("f4")
        for value in (np.nan, np.inf, -np.inf):
            x[rng.random(shape) < 0.01] = value
        outs = outs if rng.random() < 0.7 else (outs[0], shape[3])
        expected = F.interpolate(torch.from_numpy(x), outs, mode=mode).numpy()
        for layout in LAYOUTS:
            got = fc.interpolate(to_layout(x, layout), outs, mode=mode, layout=layout)
            np.testing.assert_allclose(got, to_layout(expected, layout), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_max_unpool(seed):
    rng = np.random.default_rng(seed)
    done = 0
    while done < 1000:
        axes, layout, dtype = int(rng.integers(1, 4)), str(rng.choice(LAYOUTS)), str(rng.choice(MOVED))
        shape = shape_of(rng, axes)
        kernel, stride = (tuple(int(k) for k in rng.integers(1, 4, axes)) for _ in range(2))
        pads = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        along = zip(shape[2:], kernel, stride, pads, strict=True)
        sizes = tuple((n - 1) * s + k - 2 * p for n, k, s, p in along)
        keywords = {}
        if min(sizes) < 1:
            continue
        if rng.random() < 0.4:
            near = zip(sizes, stride, strict=True)
            sizes = tuple(int(rng.integers(max(1, n - s + 1), max(2, n + s))) for n, s in near)
            keywords["output_size"] = sizes if rng.random() < 0.5 else (*shape[:2], *sizes)
        done += 1
        x, indices = integers(rng, shape, dtype), rng.integers(0, np.prod(sizes), shape)
        unpool = getattr(F, f"max_unpool{axes}d")
        given = torch.from_numpy(x.astype("f8")), torch.from_numpy(indices)
        expected = unpool(*given, kernel, stride, pads, **keywords).numpy().astype(dtype)
        arrays = (to_layout(x, layout), to_layout(indices, layout))
        if layout == "channels_last" and len(keywords.get("output_size", ())) > axes:
            keywords["output_size"] = (shape[0], *sizes, shape[1])
        got = getattr(fc, f"max_unpool{axes}d")(*arrays, kernel, stride, pads, layout=layout, **keywords)
        text = f"{dtype}{shape} {kernel} {stride} {pads} {layout} {keywords}"
        np.testing.assert_array_equal(got, to_layout(expected, layout), err_msg=text)


@pytest.mark.parametrize("seed", range(3))
def test_unfold_and_fold(seed):
    rng = np.random.default_rng(seed)
    done = 0
    while done < 1000:
        layout, dtype = str(rng.choice(LAYOUTS)), str(rng.choice(["float32", "float64", "float16", "complex64"]))
        shape = shape_of(rng, 2)
        kernel, stride = (tuple(int(k) for k in rng.integers(1, 5, 2)) for _ in range(2))
        dilation, pads = tuple(int(d) for d in rng.integers(1, 4, 2)), tuple(int(p) for p in rng.integers(0, 4, 2))
        along = zip(shape[2:], kernel, dilation, pads, strict=True)
        if any(n + 2 * p < d * (k - 1) + 1 for n, k, d, p in along):
            continue
        done += 1
        options = (kernel, dilation, pads, stride)
        x = integers(rng, shape, dtype)
        columns = F.unfold(torch.from_numpy(x), *options).numpy()
        text = f"{dtype}{shape} {options} {layout}"
        np.testing.assert_array_equal(fc.unfold(to_layout(x, layout), *options, layout=layout), columns, err_msg=text)
        y = integers(rng, columns.shape, dtype)
        folded = F.fold(torch.from_numpy(y), shape[2:], *options).numpy()
        got = fc.fold(y, shape[2:], *options, layout=layout)
        np.testing.assert_array_equal(got, to_layout(folded, layout), err_msg=text)


@pytest.mark.parametrize(
    ("name", "arguments", "keywords"),
    [
        ("interpolate", (), {}),
        ("interpolate", (2, 2), {}),
        ("interpolate", ((2, 2, 2),), {}),
        ("interpolate", ((2,),), {}),
        ("interpolate", (0,), {}),
        ("interpolate", (None, 0.1), {}),
        ("interpolate", (None, (2.0,)), {}),
        ("interpolate", (2,), {"mode": "linear"}),
        ("interpolate", (2,), {"mode": "trilinear"}),
        ("interpolate", (2,), {"mode": "cubic"}),
        ("interpolate", (2,), {"align_corners": True}),
        ("interpolate", (2,), {"mode": "area", "align_corners": False}),
        ("interpolate", (2,), {"antialias": True}),
        ("interpolate", (2,), {"recompute_scale_factor": True}),
        ("unfold", (5,), {}),
        ("unfold", (2,), {"padding": -1}),
        ("unfold", (2,), {"stride": 0}),
        ("fold", (4, 2), {}),
        ("max_unpool2d", (np.zeros((1, 2, 3, 5), int), 2), {}),
        ("max_unpool2d", (np.full((1, 2, 3, 4), 48), 2), {}),
        ("max_unpool2d", (np.full((1, 2, 3, 4), -1), 2), {}),
        ("max_unpool2d", (np.zeros((1, 2, 3, 4), int), 2), {"output_size": (8, 8)}),
        ("max_unpool2d", (np.zeros((1, 2, 3, 4), int), 2), {"output_size": (2, 6, 8)}),
    ],
)
def test_what_pytorch_refuses_is_refused(name, arguments, keywords):
    x = np.zeros((1, 2, 3, 4), "f4") if name != "fold" else np.zeros((1, 8, 5), "f4")
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in (x, *arguments)]
    with pytest.raises((ValueError, RuntimeError, NotImplementedError)):
        getattr(F, name)(*tensors, **keywords)
    with pytest.raises(fc.FastconvError) as caught:
        getattr(fc, name)(x, *arguments, **keywords)
    assert isinstance(caught.value, (ValueError, TypeError))
