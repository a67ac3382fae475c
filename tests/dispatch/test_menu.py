"""The kernels that are compiled ahead of time are those that problems need."""

from __future__ import annotations

import pytest

from fastconv.dispatch import menu
from fastconv.dispatch.conv_table import TABLE
from fastconv.dispatch.plan import prepare
from fastconv.geometry.conv import conv_geometry
from fastconv.testing import problem
from tests import cases


@pytest.fixture(scope="module")
def kernels():
    return {id(kernel) for layout in cases.LAYOUTS for kernel, _ in menu.convolution_kernels("float32", layout)}


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_the_menu_of_bytes_has_what_they_need(layout):
    found = {id(kernel) for kernel, _ in menu.convolution_kernels("int8", layout, "int8")}
    for text in ("n1ic64h28w28_oc64k3s1p1", "n1ic64h56w56_oc64k1s1p0", "n1ic3h9w9_oc5k3s2p1"):
        p = problem(text)
        shape = p.input_shape if layout == "channels_first" else (1, *p.input_shape[2:], p.input_shape[1])
        g = conv_geometry("test", 2, shape, p.weight_shape, **p.keywords | {"layout": layout}, dtype="int8")
        for name in ("direct", "im2col"):
            program = prepare("test", g._replace(weight_dtype="int8"), None, name, "default").program
            kernels = [program, *program.packers, *(part.words for part in (program, *program.packers))]
            assert {id(part.kernel) for part in kernels} <= found


def test_the_menu_of_bytes_has_only_sums_of_several():
    names = {
        kernel.__name__
        for dtype in ("int8", "uint8")
        for kernel, _ in menu.convolution_kernels(dtype, "channels_first", "uint8")
    }
    assert names
    assert not any("depthwise" in name for name in names)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_every_kernel_of_the_named_problems_is_in_the_menu(kernels, layout):
    for text in cases.CASES.values():
        p = problem(text)
        shape = p.input_shape
        if layout == "channels_last":
            shape = (shape[0], *shape[2:], shape[1])
        keywords = p.keywords | {"layout": layout}
        g = conv_geometry("test", p.axes, shape, p.weight_shape, **keywords, dtype="float32")
        for row in TABLE:
            if row.unsupported(g) is None:
                program = prepare("test", g, None, row.name, "default").program
                if hasattr(program.kernel, "__self__"):
                    continue  # Python code around kernels
                assert id(program.kernel) in kernels, (text, row.name)
                assert {id(packer.kernel) for packer in program.packers} <= kernels, (text, row.name)
