"""explain of every operation beside convolutions, its roofline, and how it prints."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import fastconv as fc
from fastconv.api.explain import EXPLAINERS
from fastconv.api.explanation import WIDTH, Explanation, Line
from fastconv.dispatch import machine
from fastconv.testing import problem
from tests import cases

X = (2, 8, 20, 18)
CALLS = {
    "conv1d": ((2, 8, 50), (4, 8, 3)),
    "conv2d": (X, (4, 8, 3, 3)),
    "conv3d": ((1, 4, 6, 7, 8), (4, 4, 3, 3, 3)),
    "conv_transpose2d": (X, (8, 4, 3, 3), None, 2),
    "conv_transpose3d": ((1, 4, 3, 4, 5), (4, 4, 3, 3, 3)),
    "depthwise_conv2d": (X, (8, 1, 3, 3)),
    "pointwise_conv2d": (X, (4, 8)),
    "separable_conv2d": (X, (8, 1, 3, 3), (4, 8)),
    "spatially_separable_conv2d": (X, (7,), (7,)),
    "max_pool1d": ((2, 8, 50), 3),
    "max_pool2d": (X, 3, 2, 1),
    "max_pool3d": ((1, 4, 6, 7, 8), 2),
    "avg_pool2d": (X, 3),
    "lp_pool2d": (X, 2, 3),
    "adaptive_avg_pool2d": (X, 7),
    "adaptive_max_pool3d": ((1, 4, 6, 7, 8), 3),
    "global_avg_pool": (X,),
    "global_max_pool": (X,),
    "interpolate": (X, None, 2, "bicubic"),
    "max_unpool2d": (X, X, 2),
    "nearest_unpool2d": (X, 2),
    "bed_of_nails_unpool3d": ((1, 4, 6, 7, 8), 2),
    "unfold": (X, 3),
    "fold": ((2, 72, 288), (18, 20), 3),
    "grad.conv1d_input": ((2, 8, 50), (4, 8, 3), (2, 4, 48)),
    "grad.conv2d_weight": (X, (4, 8, 3, 3), (2, 4, 18, 16)),
    "grad.conv2d_vjp": ((2, 4, 18, 16), X, (4, 8, 3, 3)),
}


def function(name):
    return getattr(fc.grad if name.startswith("grad.") else fc, name.removeprefix("grad."))


@pytest.mark.parametrize("name", CALLS)
def test_every_operation_is_explained(name):
    e = fc.explain(function(name), *CALLS[name])
    assert e.chosen
    for line in e.lines:
        assert (line.refused is None) == (line.ops is not None), line
        if line.chosen:
            assert line.predicted > 0
            assert line.roof_share > 0
            assert line.bytes_moved == line.ops.bytes_read + line.ops.bytes_written > 0
    assert json.loads(json.dumps(e.to_dict(), allow_nan=False))["chosen"] == e.chosen
    text = str(e)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert len([row for row in text.splitlines() if row.startswith("> ")]) == sum(line.chosen for line in e.lines)
    assert e._repr_html_().count("<tr>") == 1 + len(e.lines)


def test_calls_name_every_kind():
    kinds = {name.removeprefix("grad.").rstrip("123d").rstrip("_") for name in CALLS}
    missing = [name for name in EXPLAINERS if not any(name.startswith(kind[:6]) for kind in kinds)]
    assert not missing


def test_wrong_arguments_raise_what_the_call_would():
    with pytest.raises(fc.ShapeError, match="max_pool2d: kernel_size has effective size 9"):
        fc.explain(fc.max_pool2d, (1, 1, 4, 4), 9)
    with pytest.raises(fc.ShapeError, match="conv2d_vjp: grad_output has shape"):
        fc.explain(fc.grad.conv2d_vjp, (1, 1, 4, 4), (1, 1, 4, 4), (1, 1, 3, 3))
    with pytest.raises(fc.OptionError, match=r"^explain: function = .*expected one of conv1d.*max_pool2d"):
        fc.explain(fc.separate, (3, 3))
    with pytest.raises(fc.OptionError, match="count_ops: algorithm = 'winograd', expected"):
        fc.count_ops(fc.max_pool2d, (1, 1, 4, 4), 2, algorithm="winograd")


def test_values_of_a_kernel_tell_whether_it_is_separable():
    def line(w):
        return next(e for e in fc.explain(fc.conv2d, (1, 1, 40, 40), w, padding=1).lines if e.algorithm == "separable")

    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], "f4")[None, None]
    assert "kernels must have rank 1, kernel 0 has not" in line(laplacian).refused
    with pytest.raises(fc.UnsupportedError, match="kernels must have rank 1, kernel 0 has not"):
        fc.conv2d(np.ones((1, 1, 40, 40), "f4"), laplacian, algorithm="separable")
    assert line(np.ones((1, 1, 3, 3), "f4")).refused is None
    assert "these kernels have rank 1" in line(np.ones((1, 1, 3, 3), "f4")).note
    assert "which only their values tell" in line((1, 1, 3, 3)).note


def test_share_of_the_roofline():
    rates = machine.current()
    e = fc.explain(fc.conv2d, (1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    line = next(one for one in e.lines if one.algorithm == "direct")
    flops = line.ops.multiplies + line.ops.adds
    assert line.intensity == flops / line.bytes_moved
    assert line.peak == pytest.approx(2 * rates.multiply_adds)
    assert line.roof == min(line.peak, line.intensity * line.bandwidth) == line.peak
    assert line.roof_share == pytest.approx(flops / line.predicted / line.peak)
    assert line._replace(measured=2 * line.predicted).roof_share == pytest.approx(line.roof_share / 2)
    # Many bytes for few operations: memory is the roof.
    e = fc.explain(fc.pointwise_conv2d, (1, 1, 1024, 1024), (1, 1))
    line = next(one for one in e.lines if one.algorithm == "direct")
    assert line.roof == line.intensity * line.bandwidth < line.peak
    assert line.bandwidth == rates.memory
    wide = fc.explain(fc.pointwise_conv2d, np.ones((1, 1, 8, 8)), np.ones((1, 1))).lines[-1]
    assert wide.peak == rates.multiply_adds


def test_what_is_measured_is_of_one_thread_and_of_all():
    with fc.threads(2):
        e = fc.explain(fc.nearest_unpool2d, np.ones((1, 2, 8, 8), "f4"), 2, measure=True)
    (line,) = e.lines
    assert line.measured > 0
    assert (e.threads, e.seconds > 0) == (2, True)
    assert "for a call by copies on 2 threads" in str(e)
    assert fc.explain(fc.nearest_unpool2d, (1, 2, 8, 8), 2).seconds is None


def test_wide_tables_are_shortened():
    ops = fc.count_ops(fc.conv2d, (64, 512, 512, 512), (512, 512, 15, 15), padding=7)
    line = Line("direct", True, None, ops, 10**9, 1e3, 2e3, "", "", "", 1e11, 1e10, 1e-7)
    e = Explanation("x", ops, [line, line._replace(algorithm="another way", chosen=False)], 2, 1.0)
    assert f"{ops.multiplies / 1e12:.4g} T" in str(e)
    assert max(map(len, str(e).splitlines())) <= WIDTH


def test_parts_of_a_pullback_are_those_alone():
    both = fc.explain(fc.grad.conv2d_vjp, (2, 4, 18, 16), X, (4, 8, 3, 3))
    alone = {
        "input": fc.explain(fc.grad.conv2d_input, X, (4, 8, 3, 3), (2, 4, 18, 16)),
        "weight": fc.explain(fc.grad.conv2d_weight, X, (4, 8, 3, 3), (2, 4, 18, 16)),
    }
    assert both.chosen == f"input: {alone['input'].chosen} + weight: {alone['weight'].chosen}"
    assert both.direct.macs == sum(e.direct.macs for e in alone.values())
    ops = alone["weight"].direct
    # Each of 288 elements is a sum over 2 images of 18 x 16 pixels.
    assert (ops.multiplies, ops.adds) == (288 * 2 * 288, 288 * (2 * 288 - 1))
    strict = fc.explain(fc.grad.conv2d_weight, X, (4, 8, 3, 3), (2, 4, 18, 16), precision="strict")
    assert 'precision="strict" forbids' in next(e.refused for e in strict.lines if e.algorithm == "bf16x3")


def test_separable_beside_the_full_kernel():
    e = fc.explain(fc.separable_conv2d, (1, 64, 56, 56), (64, 1, 3, 3), (128, 64), padding=1)
    lines = {line.algorithm: line for line in e.lines}
    assert e.direct == fc.count_ops(fc.conv2d, (1, 64, 56, 56), (128, 64, 3, 3), padding=1)
    both = fc.count_ops(fc.separable_conv2d, (1, 64, 56, 56), (64, 1, 3, 3), (128, 64), padding=1)
    assert lines["passes"].ops == both
    middle = 4 * 64 * 56 * 56
    if lines["bands"].ops:
        assert lines["bands"].bytes_moved == lines["passes"].bytes_moved - 2 * middle


def test_unknown_functions_are_named():
    for wrong in (len, SimpleNamespace()):
        with pytest.raises(fc.OptionError, match="expected one of conv1d"):
            fc.explain(wrong, (1, 1, 3, 3))


def test_chosen_says_why():
    assert ", the least predicted time" in str(
        fc.explain(fc.conv2d, (1, 16, 30, 30), (16, 16, 3, 3), precision="strict")
    )
    text = str(fc.explain(fc.conv2d, (1, 16, 30, 30), (16, 16, 3, 3), algorithm="fft"))
    assert "fft: chosen, it was asked for" in text
    for text in cases.CASES.values():
        p = problem(text)
        e = fc.explain(fc.conv2d, p.input_shape, p.weight_shape, **p.keywords)
        (line,) = [line for line in e.lines if line.chosen]
        assert "asked for" not in line.why, text


@pytest.mark.parametrize(
    ("name", "arguments", "keywords"),
    [
        ("conv2d", ((0, 4, 9, 9), (4, 4, 3, 3)), {}),
        ("conv_transpose2d", ((0, 4, 9, 9), (4, 4, 3, 3)), {}),
        ("conv2d", ((1, 0, 9, 9), (4, 0, 3, 3)), {}),
        ("avg_pool2d", ((0, 4, 9, 9), 3), {}),
        ("interpolate", ((0, 4, 9, 9), 5), {"mode": "bilinear"}),
        ("interpolate", (np.ones((1, 2, 9, 9), "u1"), 5), {"mode": "bilinear"}),
        ("interpolate", (np.ones((1, 2, 9, 9), "c8"), 5), {"mode": "area"}),
        ("lp_pool2d", ((1, 4, 9, 9), float("inf"), 3), {}),
        ("max_pool2d", (np.ones((1, 9, 9, 4), "u1"), 3), {"layout": "channels_last", "return_indices": True}),
        ("max_pool2d", ((1, 1, 10**5, 10**5), 15), {}),
        ("conv2d", ((1, 1, 10**6, 10**6), (1, 1, 15, 15)), {}),
        ("conv2d", ((1, 1, 9, 9), np.zeros((1, 1, 3, 3), "f4")), {}),
        ("conv2d", ((1, 1, 9, 9), np.full((1, 1, 3, 3), np.nan, "f4")), {}),
        ("conv2d", (np.ones((1, 4, 9, 9), "u1"), np.ones((4, 4, 3, 3), "i1")), {"out_dtype": "int32"}),
        ("separable_conv2d", (np.ones((1, 4, 9, 9), "u1"), (4, 1, 3, 3), (4, 4)), {}),
        ("grad.conv2d_vjp", ((1, 4, 9, 9), (1, 4, 9, 9), (4, 4, 3, 3)), {"padding": 1, "padding_mode": "reflect"}),
    ],
)
def test_rare_problems_are_explained(name, arguments, keywords):
    e = fc.explain(function(name), *arguments, **keywords)
    assert e.chosen
    json.dumps(e.to_dict(), allow_nan=False)
    assert max(map(len, str(e).splitlines())) <= WIDTH
