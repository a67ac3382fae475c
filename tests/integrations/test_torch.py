"""Functions, modules and whole models of PyTorch through fastconv, against PyTorch itself."""

from __future__ import annotations

import copy
import doctest
import importlib

import numpy as np
import pytest

import fastconv

torch = pytest.importorskip("torch")
ours = importlib.import_module("fastconv.integrations.torch")
operation = importlib.import_module("fastconv.integrations.torch.operation")

nn, F = torch.nn, torch.nn.functional
FAMILIES = ("conv", "conv_transpose", "max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool")
FAMILIES += ("max_unpool",)
NAMES = [f"{family}{axes}d" for family in FAMILIES for axes in (1, 2, 3)] + ["interpolate", "unfold", "fold"]
SIZES = {1: 20, 2: 9, 3: 5}


def whole(rng, *shape):
    """Return small integers, no two of an image equal where there are few, so that maxima are unique."""
    return torch.from_numpy(rng.permutation(int(np.prod(shape))).reshape(shape) % 97 / 8 - 6.0)


def axes_of(name):
    return int(name[-2]) if name.endswith("d") and name[-2] in "123" else 2


def drawn(rng, name):
    """Return the tensors, float64, and the other arguments of a drawn call of a function."""
    axes = axes_of(name)
    kernel, stride = (tuple(rng.integers(1, 4, axes).tolist()) for _ in range(2))
    dilation = tuple(rng.integers(1, 3, axes).tolist())
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    N, G = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    C = 2 * G
    sizes = [2 * (k - 1) + 1 + int(rng.integers(0, SIZES[axes])) for k in kernel]
    x = whole(rng, N, C, *sizes)
    if name.startswith("conv_transpose"):
        extra = tuple(int(rng.integers(0, s)) for s in stride)
        padding = tuple(min(p, n) for p, n in zip(padding, sizes, strict=True))
        options = {"stride": stride, "padding": padding, "output_padding": extra, "groups": G, "dilation": dilation}
        return (x, whole(rng, C, 3, *kernel), whole(rng, 3 * G)), options
    if name.startswith("conv"):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": G}
        bias = whole(rng, 3 * G) if rng.integers(2) else None
        return (x, whole(rng, 3 * G, 2, *kernel), bias), options
    if name.startswith("max_pool"):
        more = {"padding": padding, "dilation": dilation, "ceil_mode": bool(rng.integers(2))}
        return (x,), {"kernel_size": kernel, "stride": stride, **more}
    if name.startswith("avg_pool"):
        more = {"padding": padding, "ceil_mode": bool(rng.integers(2)), "count_include_pad": bool(rng.integers(2))}
        return (x,), {"kernel_size": kernel, "stride": stride, **more}
    if name.startswith("lp_pool"):
        scalar = (kernel[0], stride[0]) if axes == 1 else (kernel, stride)
        return (x.abs() + 0.5,), {"norm_type": 2.0, "kernel_size": scalar[0], "stride": scalar[1]}
    if name.startswith("adaptive"):
        return (x,), {"output_size": tuple(rng.integers(1, 4, axes).tolist())}
    if name.startswith("max_unpool"):
        pooled, indices = getattr(F, f"max_pool{axes}d")(x, kernel, return_indices=True)
        return (pooled, indices), {"kernel_size": kernel, "output_size": sizes}
    if name == "interpolate":
        mode = ("nearest", "bilinear", "nearest-exact")[rng.integers(3)]
        return (x,), {"size": tuple(rng.integers(1, 12, 2).tolist()), "mode": mode}
    options = {"kernel_size": kernel, "dilation": dilation, "padding": padding, "stride": stride}
    if name == "fold":
        return (F.unfold(x, **options),), {"output_size": tuple(sizes), **options}
    return (x,), options


def formatted(tensors, images, axes, last):
    """Return the tensors, the first `images` of them channels_last where asked for."""
    if not last or axes == 1:
        return tensors
    memory = torch.channels_last if axes == 2 else torch.channels_last_3d
    first = [t.contiguous(memory_format=memory) if t.dim() == axes + 2 else t for t in tensors[:images]]
    return (*first, *tensors[images:])


def gradients(function, tensors, options, seed=1):
    """Return the result of a function, and the gradients of its float tensors."""
    leaves = [
        t if t is None or not t.is_floating_point() else t.detach().clone(memory_format=torch.preserve_format)
        for t in tensors
    ]
    floats = [t.requires_grad_() for t in leaves if t is not None and t.is_floating_point()]
    y = function(*leaves, **options)
    weights = torch.from_numpy(np.random.default_rng(seed).integers(-3, 4, tuple(y.shape)).astype("float64")).to(
        y.dtype
    )
    (y * weights).sum().backward()
    return y.detach(), [t.grad for t in floats]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_drawn_calls_equal_pytorch(name):
    rng = np.random.default_rng(NAMES.index(name))
    for i in range(60):
        tensors, options = drawn(rng, name)
        dtype = (torch.float32, torch.float64)[i % 2]
        tensors = tuple(t.to(dtype) if t is not None and t.is_floating_point() else t for t in tensors)
        tensors = formatted(tensors, 2 if "unpool" in name else 1, axes_of(name), rng.integers(2))
        want, dwant = gradients(getattr(F, name), tensors, options)
        got, dgot = gradients(getattr(ours, name), tensors, options)
        close = {"rtol": 1e-4, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-11}
        text = f"{dtype} {[t if t is None else tuple(t.shape) for t in tensors]} {options}"
        torch.testing.assert_close(got, want, **close, msg=lambda m, text=text: f"{text}: {m}")
        for one, other in zip(dgot, dwant, strict=True):
            torch.testing.assert_close(one, other, **close, msg=lambda m, text=text: f"{text}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name, last):
    rng = np.random.default_rng([7, NAMES.index(name)])
    tensors, options = drawn(rng, name)
    tensors = formatted(tensors, 2 if "unpool" in name else 1, axes_of(name), last)
    if "max_pool" in name:
        # No two elements are as near to each other as finite differences reach.
        tensors = (torch.from_numpy(rng.permutation(tensors[0].numel()) / 8).reshape(tensors[0].shape),)
        tensors = formatted(tensors, 1, axes_of(name), last)
    leaves = [t.requires_grad_() if t is not None and t.is_floating_point() else t for t in tensors]
    # Dense matrices of derivatives would be large; a random projection of them finds what is wrong as well.
    assert torch.autograd.gradcheck(lambda *t: getattr(ours, name)(*t, **options), leaves, fast_mode=True)


@pytest.fixture
def spy(monkeypatch):
    """Return a list of the arrays that fastconv.conv2d takes and gives."""
    seen, real = [], fastconv.conv2d

    def conv2d(x, *args, **keywords):
        result = real(x, *args, **keywords)
        seen.append((x, result, keywords["layout"]))
        return result

    monkeypatch.setattr(fastconv, "conv2d", conv2d)
    return seen


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_tensors_are_not_copied(spy, layout):
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=memory)
    y = ours.conv2d(x, torch.randn(4, 3, 3, 3), padding=1)
    ((array, result, given),) = spy
    assert given == layout
    assert array.flags.c_contiguous
    assert array.ctypes.data == x.data_ptr()
    assert result.ctypes.data == y.data_ptr()
    assert y.is_contiguous(memory_format=memory)


def test_gradients_have_the_memory_format_of_their_tensors():
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    ours.conv2d(x, torch.randn(4, 3, 3, 3)).square().sum().backward()
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("wanted", [(0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0)])
@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (4, 7, 6)])
def test_constants_have_no_gradient(wanted, shape):
    found = []
    for function in (F.conv2d, ours.conv2d):
        torch.manual_seed(0)
        tensors = [
            torch.randn(*s, requires_grad=bool(w)) for s, w in zip((shape, (6, 2, 3, 3), (6,)), wanted, strict=True)
        ]
        function(*tensors, stride=2, padding=(1, 0), groups=2).square().sum().backward()
        found.append([t.grad for t in tensors])
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_no_graph_without_gradients(spy):
    x, w = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.no_grad():
        assert not ours.conv2d(x, w).requires_grad
    with torch.inference_mode():
        assert not ours.conv2d(x, w).requires_grad
    assert ours.conv2d(x, w).requires_grad
    assert len(spy) == 3


def test_second_derivative_is_an_error():
    x = torch.randn(1, 1, 6, dtype=torch.float64, requires_grad=True)
    y = ours.conv1d(x, torch.ones(1, 1, 3, dtype=torch.float64))
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_changed_tensor_is_an_error():
    x = torch.ones(1, 1, 6, requires_grad=True)
    w = torch.ones(1, 1, 3)
    y = ours.conv1d(x, w)
    w.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_pool_with_indices_differentiates_its_values():
    x = torch.arange(8.0).reshape(1, 1, 8).requires_grad_()
    values, indices = ours.max_pool1d(x, 2, return_indices=True)
    assert not indices.requires_grad
    ours.max_unpool1d(values, indices, 2).sum().backward()
    assert x.grad.ravel().tolist() == [0, 1] * 4


class Subclass(torch.Tensor):
    pass


def others(w):
    """Yield tensors that fastconv does not compute, with a weight that fits."""
    x = torch.ones(1, 3, 6, 6)
    yield x.bfloat16(), w.bfloat16()
    yield x.to(torch.int64), w.to(torch.int64)
    yield x.to("meta"), w.to("meta")
    yield x.as_subclass(Subclass), w
    yield x.to(torch.complex64), w.to(torch.complex64)


def test_other_tensors_go_to_pytorch(spy):
    w = torch.ones(2, 3, 3, 3)
    for x, weight in others(w):
        want = F.conv2d(x, weight)
        got = ours.conv2d(x, weight)
        assert (type(got), got.dtype, got.device, got.shape) == (type(want), want.dtype, want.device, want.shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours.conv2d(torch.ones(1, 3, 6, 6), w).dtype == torch.bfloat16
    with pytest.raises(RuntimeError):
        ours.conv2d(torch.ones(1, 3, 6, 6).double(), w)
    assert not spy


# PyTorch's forward-mode derivatives script some functions at their first use.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_transforms_go_to_pytorch():
    x, w = torch.randn(5, 1, 3, 6, 6), torch.randn(2, 3, 3, 3)
    mapped = torch.vmap(lambda image: ours.conv2d(image, w))(x)
    torch.testing.assert_close(mapped, torch.stack([F.conv2d(image, w) for image in x]))
    torch.testing.assert_close(torch.func.grad(lambda k: ours.conv2d(x[0], k).sum())(w).shape, w.shape)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x[0], torch.ones_like(x[0]))
        tangent = torch.autograd.forward_ad.unpack_dual(ours.conv2d(dual, w)).tangent
    torch.testing.assert_close(tangent, F.conv2d(torch.ones_like(x[0]), w))


def network():
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 6, 3, padding="same", padding_mode="reflect"), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 8, 3, stride=2, groups=2), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3, stride=2)]
    layers += [nn.AvgPool2d(2, padding=1), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 3))


def trained(model, last, steps=6):
    """Return the losses of some steps of training."""
    torch.manual_seed(4)
    x, y = torch.randn(8, 1, 16, 16), torch.arange(8) % 3
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("last", [False, True])
def test_replaced_network_trains_as_before(last):
    theirs, mine = network(), network()
    if last:
        theirs, mine = (model.to(memory_format=torch.channels_last) for model in (theirs, mine))
    with ours.replace(mine) as replaced:
        assert list(replaced) == ["0", "3", "4", "6", "7", "8", "9"]
        losses = trained(mine, last)
    np.testing.assert_allclose(losses, trained(theirs, last), 1e-4)
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_replace_gives_back_what_it_took():
    model = network()
    before, state = [type(m) for m in model.modules()], copy.deepcopy(model.state_dict())
    replaced = ours.replace(model)
    assert type(model[0]) is ours.Conv2d
    assert isinstance(model[0], nn.Conv2d)
    assert len(ours.replace(model)) == 0
    model.load_state_dict(state)
    copied = copy.deepcopy(model)
    replaced.restore()
    assert [type(m) for m in model.modules()] == before
    assert type(copied[0]) is ours.Conv2d


def test_replace_leaves_what_it_cannot_do():
    class Mine(nn.Conv2d):
        pass

    own = nn.Conv2d(1, 1, 3)
    own.forward = lambda x: x
    parametrised = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 3))
    rest = [Mine(1, 1, 3), own, nn.Conv2d(1, 1, 3).half(), nn.Conv2d(1, 1, 3, device="meta"), parametrised]
    model = nn.Sequential(*rest, nn.Linear(2, 2), nn.LazyConv2d(3, 3))
    types = [type(m) for m in model.modules()]
    assert len(ours.replace(model)) == 0
    assert [type(m) for m in model.modules()] == types
    with pytest.raises(fastconv.ArgumentTypeError, match="model is a int"):
        ours.replace(3)


def test_replaced_module_moves_to_another_dtype():
    model = nn.Conv2d(3, 2, 3)
    with ours.replace(model):
        assert model.to(torch.bfloat16)(torch.ones(1, 3, 5, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16


MODULES = [
    *((f"Conv{n}d", (3, 4, 2), {"padding_mode": "circular", "padding": 1}, n) for n in (1, 2, 3)),
    *((f"ConvTranspose{n}d", (3, 4, 3), {"stride": 2, "padding": 1}, n) for n in (1, 2, 3)),
    *((f"MaxPool{n}d", (2,), {"padding": 1, "ceil_mode": True}, n) for n in (1, 2, 3)),
    *((f"AvgPool{n}d", (2,), {"padding": 1, "count_include_pad": False}, n) for n in (1, 2, 3)),
    *((f"LPPool{n}d", (2, 3), {}, n) for n in (1, 2, 3)),
    *((f"AdaptiveAvgPool{n}d", (3,), {}, n) for n in (1, 2, 3)),
    *((f"AdaptiveMaxPool{n}d", (3,), {}, n) for n in (1, 2, 3)),
    *((f"Upsampling{kind}2d", (), {"scale_factor": 2}, 2) for kind in ("Nearest", "Bilinear")),
    ("Upsample", (), {"scale_factor": 2.5, "mode": "trilinear", "align_corners": True}, 3),
    ("Unfold", (2,), {"stride": 2}, 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "args", "keywords", "axes"), MODULES, ids=[m[0] for m in MODULES])
def test_modules_equal_pytorch(name, args, keywords, axes):
    theirs = getattr(nn, name)(*args, **keywords)
    mine = getattr(ours, name)(*args, **keywords)
    mine.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, *(7, 6, 5)[:axes])
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-4, atol=1e-4)
    assert repr(mine) == repr(theirs)
    if "Transpose" in name:
        size = [2 * n for n in x.shape[2:]]
        torch.testing.assert_close(mine(x, output_size=size), theirs(x, size), rtol=1e-4, atol=1e-4)


def test_unpooling_and_folding_modules():
    values, indices = ours.MaxPool2d(2, return_indices=True)(torch.rand(1, 2, 4, 6))
    want = nn.MaxUnpool2d(2)(values, indices, output_size=[4, 6])
    assert torch.equal(ours.MaxUnpool2d(2)(values, indices, output_size=[4, 6]), want)
    columns = torch.rand(1, 8, 6)
    torch.testing.assert_close(ours.Fold((3, 4), 2)(columns), nn.Fold((3, 4), 2)(columns))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["functional", "modules", "replacement"])
def test_examples(module):
    names = vars(importlib.import_module(f"fastconv.integrations.torch.{module}"))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for name in ours.__all__:
        if ">>>" in (getattr(names.get(name), "__doc__", None) or ""):
            runner.run(doctest.DocTestParser().get_doctest(names[name].__doc__, {}, name, module, 0))
    assert runner.summarize().failed == 0
    assert runner.summarize().attempted
