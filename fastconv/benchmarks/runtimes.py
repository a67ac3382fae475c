"""Runtimes of trained networks as rivals: ONNX Runtime and OpenVINO, each on a model of one convolution.

Their weight is constant, and brought into their own order before the clock starts: they are peers of a plan.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.benchmarks.problems import Layer
from fastconv.benchmarks.rival import Arrays, Rival


class _Runtime(Rival):
    """What runs an ONNX model."""

    def available(self) -> bool:
        """See `Rival`."""
        return super().available() and importlib.util.find_spec("onnx") is not None

    def refusal(self, layer: Layer) -> str | None:
        """See `Rival`."""
        problem = layer.problem
        if problem.dtype != "float32" or problem.keywords["layout"] != "channels_first":
            return "it is measured with float32 and channels first"
        even = all(number >= 0 for pair in problem.keywords["padding"] for number in pair)
        zeros = problem.keywords.get("padding_mode", "zeros") == "zeros"
        return None if even and zeros else "it pads with zeros, and does not crop"


def _model(layer: Layer, weight: np.ndarray) -> bytes:
    """Return a model of one Conv node."""
    from onnx import TensorProto, helper, numpy_helper

    k = layer.problem.keywords
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        strides=k["stride"],
        dilations=k["dilation"],
        group=k["groups"],
        pads=[before for before, _ in k["padding"]] + [after for _, after in k["padding"]],
    )
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", layer.problem.input_shape), ("y", None))
    ]
    graph = helper.make_graph([node], layer.name, values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


class OnnxRuntime(_Runtime):
    """onnxruntime.InferenceSession on the CPU."""

    name = package = "onnxruntime"

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        model = _model(layer, arrays[1])
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {"x": arrays[0]}
        return lambda: session.run(None, feed)[0]


class OpenVino(_Runtime):
    """OpenVINO on the CPU, in float32: by itself it would compute in bfloat16 where the CPU can."""

    name = package = "openvino"

    def make(self, layer: Layer, arrays: Arrays, threads: int) -> Callable[[], Any]:
        """See `Rival`."""
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        request = core.compile_model(core.read_model(_model(layer, arrays[1])), "CPU", settings).create_infer_request()
        return lambda: request.infer([arrays[0]], share_inputs=True, share_outputs=True)[0]
