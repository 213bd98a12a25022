"""Counts of a graph's work, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from salgan_edge.export.facts import count_macs, count_parameters  # noqa: E402

from salgan_edge.gaze.detector import cut  # noqa: E402


def table(name, *shape):
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


@pytest.fixture
def graph_file(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "depthwise"], ["a"], pads=[1, 1, 1, 1], group=4),
        helper.make_node("Conv", ["a", "pointwise", "bias"], ["b"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "matrix"], ["e"]),
        helper.make_node("Gemm", ["e", "dense"], ["y"], transB=1),
    ]
    tables = [
        table("depthwise", 4, 1, 3, 3), table("pointwise", 8, 4, 1, 1), table("bias", 8), table("matrix", 8, 10),
        table("dense", 5, 10),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])], tables,
    )  # fmt: skip
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_macs_by_hand(graph_file):
    depthwise = 4 * 16 * 16 * 9
    pointwise = 8 * 8 * 8 * 4
    assert count_macs(graph_file) == depthwise + pointwise + 10 * 8 + 5 * 10


def test_parameters_by_hand(graph_file):
    assert count_parameters(graph_file) == 36 + 32 + 8 + 80 + 50


def test_cut_keeps_what_the_outputs_need(graph_file):
    model = cut(graph_file, ("b",), 32)
    assert [node.output[0] for node in model.graph.node] == ["a", "b"]
    assert [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim][2:] == [32, 32]
    inferred = onnx.shape_inference.infer_shapes(model)
    assert [axis.dim_value for axis in inferred.graph.output[0].type.tensor_type.shape.dim][1:] == [8, 16, 16]
