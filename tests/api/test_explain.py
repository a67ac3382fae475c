"""explain and count_ops: what is shown is what the planner does, and the counts are the formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch.conv_table import TABLE
from fastconv.testing import problem
from tests import cases


def explained(text, layout="channels_first"):
    a = cases.draw(text, layout)
    return fc.explain(fc.conv2d, a.x.shape, a.w.shape, **a.keywords), a


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_explain_chooses_the_cheapest_that_can(layout):
    for text in cases.CASES.values():
        e, _ = explained(text, layout)
        candidates = [line for line in e.lines if not line.refused]
        automatic = {row.name: row for row in TABLE if not row.automatic}
        able = [line for line in candidates if line.algorithm in automatic]
        best, exact = (
            min(some, key=lambda line: line.predicted)
            for some in (able, [line for line in able if automatic[line.algorithm].exact])
        )
        # What rounds more than direct summation must save a tenth of the time, and 50 microseconds.
        saved = exact.predicted - best.predicted
        assert e.chosen == (best if saved > max(5e-5, exact.predicted / 10) else exact).algorithm, text
        assert sum(line.chosen for line in e.lines) == 1
        assert all(line.predicted > 0 and line.scratch_bytes > 0 for line in candidates)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_explain_chooses_what_a_plan_uses(layout):
    for name in cases.FEW:
        a = cases.draw(cases.CASES[name], layout)
        plan = fc.plan_conv2d(a.x.shape, a.w, **a.keywords)
        assert plan.algorithm == plan.explain().chosen


def test_plans_do_not_pay_for_packing():
    """A weight much larger than the image: a call packs it each time, a plan has done so."""
    x, w = (1, 512, 4, 4), np.ones((512, 512, 3, 3), np.float32)
    call, plan = fc.explain(fc.conv2d, x, w, padding=1), fc.plan_conv2d(x, w, padding=1).explain()
    for one, other in zip(plan.lines, call.lines, strict=True):
        assert one.predicted is None or one.predicted < 0.9 * other.predicted


def test_explain_gives_a_reason_for_each_refusal():
    e, a = explained(cases.CASES["groups 2"])
    refused = {line.algorithm: line.refused for line in e.lines if line.refused}
    assert refused == {
        "depthwise": "groups must equal the input channels, got groups = 2, IC = 6",
        "separable": "groups must equal the input channels, got groups = 2, IC = 6",
        "pointwise": "kernel must be 1x1, got 3x3",
    }
    for name, reason in refused.items():
        with pytest.raises(fc.UnsupportedError, match=reason):
            fc.conv2d(a.x, a.w, algorithm=name, **a.keywords)


def test_explain_lists_every_row_once_with_its_source():
    e, _ = explained(cases.CASES["1x1"])
    assert [line.algorithm for line in e.lines] == [row.name for row in TABLE]
    assert all(line.source for line in e.lines)


def measured(e):
    """Return the algorithms with a time, but for those that only some CPUs have, or that take long to compile."""
    return {line.algorithm for line in e.lines if line.measured} - {"bf16x3", "winograd"}


def test_explain_measures_on_request():
    e, a = explained(cases.TINY["depthwise"])
    assert all(line.measured is None for line in e.lines)
    e = fc.explain(fc.conv2d, a.x, cases.draw(cases.TINY["depthwise"], separable=True).w, measure=True, **a.keywords)
    able = {line.algorithm for line in e.lines if not line.refused}
    assert {"depthwise", "separable", "im2col", "direct"} <= able
    assert {line.algorithm for line in e.lines if line.measured} == able
    # A kernel of rank 2 has no time by factors.
    w = np.broadcast_to(np.eye(3, dtype="f4"), (3, 1, 3, 3))
    e = fc.explain(fc.conv2d, a.x, w, measure=True, **a.keywords)
    assert {line.algorithm for line in e.lines if line.measured} == able - {"separable"}


def test_explain_takes_arrays_and_shapes_alike():
    a = cases.draw(cases.CASES["depthwise"])
    keywords = {name: value for name, value in a.keywords.items() if name != "groups"}
    one = fc.explain(fc.depthwise_conv2d, a.x, a.w, a.b, **keywords)
    two = fc.explain(fc.depthwise_conv2d, a.x.shape, a.w.shape, **keywords)
    for alone, other in zip(one.lines, two.lines, strict=True):
        # Only values tell whether a kernel is separable.
        assert alone == other or alone.algorithm == "separable"
    assert one.chosen == two.chosen
    assert fc.explain(fc.pointwise_conv2d, (1, 8, 5, 5), (3, 8)).problem == "n1ic8h5w5_oc3k1s1p0"
    assert fc.explain(fc.conv2d, a.x.astype("f8"), a.w.astype("f8"), **a.keywords).problem.endswith("_f64")
    assert fc.explain(fc.conv2d, a.x, a.w, np.zeros(len(a.w)), **a.keywords).problem.endswith("_f64")
    assert fc.explain(fc.spatially_separable_conv2d, (1, 8, 9, 9), (7,), (7,)).chosen == "separable"
    assert fc.explain(fc.spatially_separable_conv2d, a.x, np.ones(7), (7,)).problem.endswith("_f64")
    bounds = [
        max(line.error_bound or 0 for line in fc.explain(fc.separable_conv2d, a.x, a.w, (5, len(a.w)), **bias).lines)
        for bias in ({}, {"bias": np.zeros(5)}, {"depthwise_bias": np.zeros(len(a.w))})
    ]
    assert bounds[0] > 1e-8 > max(bounds[1:])
    assert fc.explain(fc.spatially_separable_conv2d, (1, 8, 5, 5), (3,), (3,)).chosen == "depthwise"


def test_explanation_as_dict_is_json():
    e, _ = explained(cases.CASES["groups 2"])
    d = json.loads(json.dumps(e.to_dict()))
    assert d["problem"] == e.problem == cases.CASES["groups 2"]
    assert d["direct"]["macs"] == e.direct.macs
    assert [line["algorithm"] for line in d["algorithms"]] == [row.name for row in TABLE]


def test_explanation_as_text_and_html():
    e, _ = explained(cases.CASES["groups 2"])
    text, page = str(e), e._repr_html_()
    assert text == repr(e)
    assert text.startswith(f"{e.problem}: {e.direct.macs:,} multiply-accumulates")
    for row in TABLE:
        assert row.name in text
        assert row.name in page
    assert f"> {e.chosen}" in text
    assert page.count("<tr>") == page.count("</tr>") == 1 + len(TABLE)
    # Whatever stands in a cell is text.
    assert "&gt; " in page


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_count_ops_follows_the_formulas(layout):
    for text in cases.CASES.values():
        p, a = problem(text), cases.draw(text, layout)
        outputs, terms = a.r.size, int(np.prod(p.weight_shape[1:]))
        read = 4 * (a.x.size + a.w.size)
        got = fc.count_ops(fc.conv2d, a.x.shape, a.w.shape, **a.keywords)
        macs = outputs * terms
        assert got == fc.OpCount(macs, macs, max(macs - outputs, 0), a.w.size, read, 4 * outputs)
        more = fc.count_ops(fc.conv2d, a.x.shape, a.w.shape, a.b.shape, **a.keywords)
        assert more == got._replace(adds=got.adds + outputs, params=a.w.size + a.b.size, bytes_read=read + 4 * a.b.size)


def test_count_ops_of_factored_convolutions():
    one = fc.count_ops(fc.spatially_separable_conv2d, (1, 3, 20, 30), (5,), (7,), padding=(2, 3))
    assert (one.macs, one.multiplies, one.adds) == (1800 * 12, 1800 * 12, 1800 * 10)
    assert one.params == 3 * (5 + 7)
    both = fc.count_ops(fc.separable_conv2d, (1, 8, 10, 10), (8, 1, 3, 3), (16, 8), padding=1)
    assert both.macs == 100 * 8 * 9 + 100 * 8 * 16
    assert both.params == 8 * 9 + 8 * 16
    last = fc.count_ops(fc.separable_conv2d, (1, 10, 10, 8), (8, 1, 3, 3), (16, 8), padding=1, layout="channels_last")
    assert last == both


def test_count_ops_by_algorithm():
    shapes = (1, 4, 9, 9), (4, 1, 3, 3)
    direct = fc.count_ops(fc.depthwise_conv2d, *shapes)
    assert fc.count_ops(fc.depthwise_conv2d, *shapes, algorithm="depthwise") == direct
    assert fc.count_ops(fc.depthwise_conv2d, *shapes, algorithm="auto") == direct
    assert fc.count_ops(fc.depthwise_conv2d, *shapes, algorithm="separable").macs == direct.macs // 9 * 6
    with pytest.raises(fc.UnsupportedError, match='count_ops: algorithm "pointwise" refused'):
        fc.count_ops(fc.depthwise_conv2d, *shapes, algorithm="pointwise")
    with pytest.raises(fc.OptionError, match=r"^count_ops: function = .*expected one of conv1d"):
        fc.count_ops(len, *shapes)


def test_explain_takes_arguments_by_keyword():
    x, w = np.ones((1, 4, 6, 6)), np.ones((2, 4, 3, 3))
    by_name = fc.explain(fc.conv2d, weight=w, input=x, padding=1, measure=True)
    assert by_name.problem == fc.explain(fc.conv2d, x, w, padding=1).problem == "n1ic4h6w6_oc2k3s1p1_f64"
    assert all((line.measured is not None) == (line.refused is None) for line in by_name.lines)


def test_explain_of_measure_starts_from_auto():
    shapes = (1, 4, 6, 6), (2, 4, 3, 3)
    measured = fc.explain(fc.conv2d, *shapes, algorithm="measure")
    assert measured.chosen == fc.explain(fc.conv2d, *shapes).chosen


def test_transposed_convolutions_are_explained_and_counted():
    x, w = (1, 64, 14, 14), (64, 32, 2, 2)
    explained = fc.explain(fc.conv_transpose2d, x, w, stride=2, measure=True)
    assert explained.problem == "n1ic64h14w14_oc32k2s2p0_transposed"
    assert explained.direct.macs == 64 * 14 * 14 * 32 * 4
    lines = {line.algorithm: line for line in explained.lines}
    assert lines["pointwise"].measured > 0
    assert "groups must equal the input channels" in lines["depthwise"].refused
    assert explained.chosen in ("pointwise", "im2col", "direct")
    ops = fc.count_ops(fc.conv_transpose2d, x, w, np.ones(32), stride=2, padding=1)
    # The definition's products; the result has 26 x 26 pixels.
    assert ops.macs == ops.multiplies == explained.direct.macs
    assert ops.params == 64 * 32 * 4 + 32
    assert ops.bytes_written == 4 * 32 * 26 * 26
    with pytest.raises(fc.UnsupportedError, match='algorithm "depthwise" refused'):
        fc.count_ops(fc.conv_transpose2d, x, w, algorithm="depthwise")
    assert fc.explain(fc.conv_transpose1d, (4, 9), (4, 1, 3), groups=4, algorithm="depthwise").chosen == "depthwise"
    assert fc.count_ops(fc.conv_transpose3d, (2, 3, 4, 5, 2), (2, 3, 1, 1, 1), layout="channels_last").macs == 720
