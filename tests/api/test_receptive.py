"""receptive_field against brute force: which inputs change which outputs of a chain of sums."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

import fastconv as fc

F = fc.ReceptiveField


def seen(chain, n):
    """Return a boolean array (output, input): what each output of 1-D layers (k, s, d, (before, after)) depends on."""
    depends = np.eye(n, dtype=bool)
    for k, s, d, (before, after) in chain:
        padded = np.zeros((max(before, 0) + len(depends) + max(after, 0), n), bool)
        padded[max(before, 0) : max(before, 0) + len(depends)] = depends
        padded = padded[max(-before, 0) : len(padded) - max(-after, 0)]
        starts = range(0, len(padded) - d * (k - 1), s)
        depends = np.array([padded[o : o + d * (k - 1) + 1 : d].any(axis=0) for o in starts])
    return depends


def window(field, i, n):
    """Return which of n inputs lie in the window of output i."""
    inputs = np.arange(n)
    first = i * field.stride + field.offset
    return (inputs >= first) & (inputs < first + field.size)


def ends(field, i):
    first = i * field.stride + field.offset
    return first, first + field.size - 1


def test_receptive_field_of_sizes_8_7_6_2_1():
    # Two convolutions 2, a pool 3 (or a convolution 4 of stride 2), and what sees both of its outputs.
    for third, stride in ((3, 3), (4, 2)):
        chain = [(2, 1), (2, 1), (third, stride), (2, 1)]
        full = [(k, s, 1, (0, 0)) for k, s in chain]
        assert [len(seen(full[:i], 8)) for i in range(5)] == [8, 7, 6, 2, 1]
        fields = fc.receptive_field(chain, input_size=8)
        for depth, field in enumerate(fields, 1):
            depends = seen(full[:depth], 8)
            for i, row in enumerate(depends):
                np.testing.assert_array_equal(row, window(field, i, 8))
        assert fields == [F(2, 1, 0), F(3, 1, 0), F(2 + third, stride, 0), F(8, stride, 0)]


def test_receptive_field_equals_brute_force():
    rng, n = np.random.default_rng(0), 1200
    for _ in range(60):
        chain = []
        for _ in range(rng.integers(1, 5)):
            pad = tuple(int(p) for p in rng.integers(-3, 5, 2))
            chain.append((int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 4)), pad))
        fields = fc.receptive_field([(k, s, (pad,), d) for k, s, d, pad in chain], input_size=n)
        for depth, field in enumerate(fields, 1):
            depends = seen(chain[:depth], n)
            # At the borders padding hides some inputs, in the middle none.
            for i in (0, len(depends) - 1):
                assert not (depends[i] & ~window(field, i, n)).any()
            middle = len(depends) // 2
            inputs = np.flatnonzero(depends[middle])
            assert (inputs[0], inputs[-1]) == ends(field, middle)


def test_receptive_field_equals_brute_force_in_two_dimensions():
    chain = [((3, 2), (2, 1), ((1, 0), (0, 2)), (1, 3)), ((2, 3), (1, 2), ((0, 0), (-1, 1)), (2, 1))]
    fields = fc.receptive_field(chain, input_size=(17, 16))
    x = np.eye(17 * 16).reshape(17 * 16, 1, 17, 16)
    for field, (kernel, stride, padding, dilation) in zip(fields, chain, strict=True):
        x = fc.testing.reference(x, np.ones((1, 1, *kernel)), None, stride, padding, dilation)
        oh, ow = (size // 2 for size in x.shape[2:])
        rows, columns = np.nonzero(x[:, 0, oh, ow].reshape(17, 16))
        found = (rows.min(), columns.min()), (rows.max(), columns.max())
        first = [o * s + start for o, s, start in zip((oh, ow), field.stride, field.offset, strict=True)]
        assert found[0] == tuple(first)
        assert found[1] == tuple(f + size - 1 for f, size in zip(first, field.size, strict=True))


# Five stages of convolutions 3x3, each with a pool.
VGG16 = [layer for convolutions in (2, 2, 3, 3, 3) for layer in [(3, 1, 1)] * convolutions + [(2, 2)]]


def test_receptive_field_of_vgg16():
    fields = fc.receptive_field(VGG16)
    pools = [field.size for field, layer in zip(fields, VGG16, strict=True) if layer == (2, 2)]
    assert pools == [6, 16, 44, 100, 212]
    assert fields[-1] == F(212, 32, -90)
    assert fc.receptive_field(VGG16, input_size=(224, 224)) == fields


def test_receptive_field_of_dilated_layers():
    assert fc.receptive_field([(3, 1, 0, 2)]) == [F(5, 1, 0)]
    assert [f.size for f in fc.receptive_field([(2, 1, 0, d) for d in (1, 2, 4, 8)])] == [2, 4, 8, 16]


def test_receptive_field_of_named_padding():
    assert fc.receptive_field([(3, 1, "same")]) == [F(3, 1, -1)]
    assert fc.receptive_field([(4, 1, "same")]) == [F(4, 1, -1)]
    assert fc.receptive_field([(4, 1, "same_lower")]) == [F(4, 1, -2)]
    assert fc.receptive_field([(4, 2, "valid")]) == [F(4, 2, 0)]
    assert fc.receptive_field([(3, 2, "full", 2)]) == [F(5, 2, -4)]
    assert fc.receptive_field([(3, 1, "causal", 4)]) == [F(9, 1, -8)]
    # The total is 0 or 1, and before the image nothing in both cases.
    assert fc.receptive_field([(2, 2, "same")]) == [F(2, 2, 0)]


@pytest.mark.parametrize("name", ["same", "same_lower"])
def test_receptive_field_of_same_padding_with_stride_follows_the_size(name):
    def pads(n, k, s):
        total = max(0, k - 1 - (n - 1) % s)
        pair = total // 2, total - total // 2
        return pair if name == "same" else pair[::-1]

    for n in range(9, 30):
        chain, size = [], n
        for k, s in ((3, 2), (5, 3), (4, 1)):
            chain.append((k, s, 1, pads(size, k, s)))
            size = -(-size // s)
        fields = fc.receptive_field([(k, s, name) for k, s, _, _ in chain], input_size=n)
        assert fields == fc.receptive_field([(k, s, (pad,)) for k, s, _, pad in chain])
        assert len(seen(chain, n)) == size


def test_receptive_field_of_pairs_and_crops():
    assert fc.receptive_field([(3, 1, ((2, 0),))]) == [F(3, 1, -2)]
    assert fc.receptive_field([(3, 2, ((-1, -4),)), (2, 1, ((1, 0),))]) == [F(3, 2, 1), F(5, 2, -1)]
    assert fc.receptive_field([(3, 1, ((-1, 0), (2, 0)))]) == [F((3, 3), (1, 1), (1, -2))]


def test_receptive_field_of_different_axes():
    chain = [((3, 1), 1, (1, 0)), (3, (1, 2)), 2 * [3]]
    expected = [F((3, 1), (1, 1), (-1, 0)), F((5, 3), (1, 2), (-1, 0)), F((7, 7), (3, 6), (-1, 0))]
    # A list is a layer too: kernel 3, stride 3.
    assert fc.receptive_field(chain) == expected
    assert fc.receptive_field([{"kernel_size": (2, 2, 2)}, (3,)])[-1] == F(4, 1, 0)
    assert fc.receptive_field([{"kernel_size": (2,)}, ((3, 1, 1),)])[-1] == F((4, 2, 2), (1, 1, 1), (0, 0, 0))


def test_receptive_field_counts_the_last_window_of_ceil_mode():
    # 8 -> 4 with ceil_mode, else 3: "same" then pads 1 and 2, or 2 and 2.
    pool = {"pool_size": 3, "stride": 2, "ceil_mode": True}
    rest = {"kernel": 5, "strides": 2, "padding": "same"}
    assert fc.receptive_field([pool, rest], input_size=8)[-1] == F(11, 4, -2)
    assert fc.receptive_field([pool | {"ceil_mode": False}, rest], input_size=8)[-1] == F(11, 4, -4)


def test_receptive_field_counts_windows_as_torch():
    torch = pytest.importorskip("torch")
    for n in range(2, 12):
        for k, s, p in ((2, 2, 0), (3, 2, 1), (2, 3, 0), (2, 3, 1), (3, 5, 1)):
            if n + 2 * p < k:
                continue
            layer = torch.nn.MaxPool1d(k, s, p, ceil_mode=True)
            size = layer(torch.zeros(1, 1, n)).shape[-1]
            # As many layers as shrink the output to 1 fit, no more.
            fc.receptive_field([layer, *[(2, 1)] * (size - 1)], input_size=n)
            with pytest.raises(fc.ShapeError):
                fc.receptive_field([layer, *[(2, 1)] * size], input_size=n)


def test_receptive_field_takes_every_form():
    expected = [F(3, 2, -1)]
    assert fc.receptive_field([(3, 2, 1)]) == expected
    assert fc.receptive_field(layer for layer in [[3, 2, 1]]) == expected
    assert fc.receptive_field([{"kernel_size": 3, "stride": 2, "padding": 1}]) == expected
    assert fc.receptive_field([{"pool_size": (3,), "strides": (2,), "padding": (1,)}]) == expected
    assert fc.receptive_field([{"kernel": np.int64(3), "stride": 2, "padding": 1, "dilation_rate": 1}]) == expected
    assert fc.receptive_field([{"stride": 2}]) == [F(1, 2, 0)]
    assert fc.receptive_field([{"kernel": 3, "stride": None}]) == fc.receptive_field([(3, None)]) == [F(3, 3, 0)]
    assert fc.receptive_field([]) == []


def test_receptive_field_names_its_numbers():
    (field,) = fc.receptive_field([(5, 3, 2)])
    assert (field.size, field.stride, field.offset) == (5, 3, -2)


def keras_like(kind, **attributes):
    """Return an object of a class of that name, as Keras has it."""
    return type(kind, (), attributes)()


def test_receptive_field_takes_keras_layers():
    layers = [
        keras_like("InputLayer"),
        keras_like("Conv2D", kernel_size=(3, 3), strides=(1, 1), padding="same", dilation_rate=(1, 1)),
        keras_like("BatchNormalization"),
        keras_like("Activation"),
        keras_like("SpatialDropout2D"),
        keras_like("MaxPooling2D", pool_size=(2, 2), strides=(2, 2), padding="valid"),
        keras_like("SeparableConv2D", kernel_size=(3, 3), strides=(2, 2), padding="valid", dilation_rate=(1, 1)),
    ]
    expected = [F(1, 1, 0), *[F(3, 1, -1)] * 4, F(4, 2, -1), F(8, 4, -1)]
    assert fc.receptive_field(layers) == expected
    assert fc.receptive_field(SimpleNamespace(layers=layers)) == expected


REFUSED = {
    "Conv2DTranspose": {"kernel_size": (3, 3), "strides": (2, 2), "padding": "same"},
    "ConvLSTM2D": {"kernel_size": (3, 3), "strides": (1, 1), "padding": "same"},
    "UpSampling2D": {"size": (2, 2)},
    "Dense": {"units": 10},
    "Flatten": {},
    "GlobalAveragePooling2D": {},
    "ZeroPadding2D": {"padding": ((1, 1), (1, 1))},
    "LayerNormalization": {},
    "Sequential": {"layers": []},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_receptive_field_refuses_other_keras_layers(kind):
    rule = f"is a {kind}, expected convolutions, pools and elementwise layers, one by one"
    with pytest.raises(fc.UnsupportedError, match=rf"^receptive_field: layers\[1\] {rule}$"):
        fc.receptive_field([(3,), keras_like(kind, **REFUSED[kind])])


def test_receptive_field_takes_torch_layers():
    nn = pytest.importorskip("torch").nn
    layers = [
        nn.Conv2d(3, 8, 7, 2, 3),
        nn.BatchNorm2d(8),
        *[nn.ReLU(), nn.LeakyReLU(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh()],
        *[nn.Mish(), nn.Softplus(), nn.Softmax2d(), nn.PReLU(), nn.Dropout2d(), nn.Identity(), nn.LogSigmoid()],
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, padding="same", dilation=2),
        nn.AvgPool2d(2),
    ]
    fields = fc.receptive_field(layers)
    assert fields == fc.receptive_field(nn.Sequential(*layers))
    assert fields[:-3] == [F(7, 2, -3)] * 17
    assert fields[-3:] == [F(11, 4, -5), F(27, 4, -13), F(31, 8, -13)]
    # Lp pools have no padding; a parametrization is no block.
    normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 1, (3,), (2,)))
    assert fc.receptive_field([nn.LPPool1d(2, 3), normed]) == [F(3, 3, 0), F(9, 6, 0)]
    assert fc.receptive_field([nn.MaxPool3d((1, 2, 2))]) == [F((1, 2, 2), (1, 2, 2), (0, 0, 0))]


def test_receptive_field_equals_the_gradient_of_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(2, 1)),
        nn.ELU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Conv2d(2, 1, 3, dilation=(1, 2)),
    )
    x = torch.ones(1, 1, 40, 60, requires_grad=True)
    y = model(x)
    oh, ow = (n // 2 for n in y.shape[2:])
    y[0, 0, oh, ow].backward()
    rows, columns = np.nonzero(x.grad[0, 0].numpy())
    field = fc.receptive_field(model, input_size=(40, 60))[-1]
    for o, axis, inputs in ((oh, 0, rows), (ow, 1, columns)):
        first = o * field.stride[axis] + field.offset[axis]
        assert (inputs.min(), inputs.max()) == (first, first + field.size[axis] - 1)


def test_receptive_field_refuses_other_torch_layers():
    nn = pytest.importorskip("torch").nn
    for layer in (
        *(nn.ConvTranspose2d(1, 1, 2), nn.MaxUnpool2d(2), nn.Unfold(3), nn.Fold(4, 3), nn.FractionalMaxPool2d(2, 3)),
        *(nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.ZeroPad2d(1), nn.Flatten(), nn.Linear(3, 3)),
        *(nn.AdaptiveAvgPool2d(1), nn.LayerNorm(3), nn.GRU(3, 3), nn.MultiheadAttention(4, 1)),
        nn.Sequential(nn.Conv2d(1, 1, 3)),
    ):
        with pytest.raises(fc.UnsupportedError, match=rf"layers\[0\] is a {type(layer).__name__}, expected convolut"):
            fc.receptive_field([layer])
    block = nn.Conv2d(1, 1, 3)
    block.inner = nn.Conv2d(1, 1, 5)
    with pytest.raises(fc.UnsupportedError, match="is a Conv2d"):
        fc.receptive_field([block])


TUPLE = "(kernel_size, stride, padding, dilation)"
NAMES = "kernel_size, kernel, pool_size, stride, strides, padding, dilation, dilation_rate, ceil_mode"

ERRORS = {
    "no list": (3, {}, fc.ArgumentTypeError, "layers = 3 is a int, expected a list of layers"),
    "one mapping": ({"kernel": 3}, {}, fc.ArgumentTypeError, "layers = {'kernel': 3} is a dict, expected a list of"),
    "text": ("conv", {}, fc.ArgumentTypeError, "layers = 'conv' is a str, expected a list of layers"),
    "one tuple": ((3, 2), {}, fc.ArgumentTypeError, f"layers[0] = 3 is a int, expected a tuple {TUPLE}, a mapping or"),
    "none": ([(3,), None], {}, fc.ArgumentTypeError, "layers[1] = None is a NoneType, expected a tuple"),
    "class": ([np.ndarray], {}, fc.ArgumentTypeError, "layers[0] = <class 'numpy.ndarray'> is a type, expected a"),
    "object": ([np.ones(2)], {}, fc.UnsupportedError, "layers[0] is a ndarray, expected convolutions, pools and"),
    "empty": ([()], {}, fc.OptionError, f"layers[0] = () has length 0, expected 1 to 4 of {TUPLE}"),
    "long": ([(1, 2, 3, 4, 5)], {}, fc.OptionError, "layers[0] = (1, 2, 3, 4, 5) has length 5, expected 1 to 4 of"),
    "key": ([{"size": 3}], {}, fc.OptionError, f"layers[0] has the key 'size', expected some of {NAMES}"),
    "twice": (
        [{"stride": 2, "strides": 1}],
        {},
        fc.OptionError,
        "layers[0] has stride = 2 and = 1, expected one of them",
    ),
    "kernel": ([(0,)], {}, fc.OptionError, "layers[0]: kernel_size = 0, expected an int or a tuple of 1 int, each"),
    "stride": ([(3, 1.5)], {}, fc.ArgumentTypeError, "layers[0]: stride = 1.5 is a float, expected an int or a"),
    "dilation": ([(3, 1, 0, -1)], {}, fc.OptionError, "layers[0]: dilation = -1, expected an int or a tuple of 1"),
    "padding": ([(3, 1, -1)], {}, fc.ShapeError, "layers[0]: padding = -1 is negative, expected ints of at least 0"),
    "name": ([(3, 1, "SAME")], {}, fc.OptionError, "layers[0]: padding = 'SAME', expected 'valid', 'same',"),
    "causal": ([((3, 3), 1, "causal")], {}, fc.OptionError, "layers[0]: padding = 'causal', expected 'valid',"),
    "axes": ([((3, 3),), ((3, 3, 3),)], {}, fc.OptionError, "layers[0]: kernel_size = (3, 3) has length 2, expected"),
    "size needed": (
        [(3, 1), (3, 2, "same")],
        {},
        fc.OptionError,
        "layers[1]: padding = 'same' with stride = 2 depends on the input's size, expected input_size=, or padding in",
    ),
    "size": ([(3,)], {"input_size": 0}, fc.OptionError, "input_size = 0, expected an int or a tuple of 1 int, each"),
    "kernel too large": (
        [(3,), (3, 1, 0, 4)],
        {"input_size": 10},
        fc.ShapeError,
        "layers[1]: kernel_size = 3, dilation = 4 exceed the padded input, size 8, padding (0, 0)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_receptive_field_error_says_what_is_wrong(name):
    layers, keywords, kind, text = ERRORS[name]
    with pytest.raises(kind, match=f"^receptive_field: {re.escape(text)}"):
        fc.receptive_field(layers, **keywords)


def test_receptive_field_reads_layers_once_and_leaves_them():
    layer = {"kernel": 3, "stride": None}
    fc.receptive_field([layer, (3,)])
    assert layer == {"kernel": 3, "stride": None}
    assert fc.receptive_field([{"padding": 0}]) == [F(1, 1, 0)]
