"""int8 text encoders: weights and embeddings as integers, computed in float.

Weights are stored as int8 with a factor for each output, and turned into float32 when onnxruntime
loads the graph and folds constants. A prompt so takes as long as in fp32, on every processor, and
no activation is rounded. (Dynamic int8 of onnxruntime rounds activations in every run; on a processor
with VNNI that saved less than a fifth of half a millisecond, and cost three to ten times the accuracy.)
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from salgan_edge.export.layers import Structure, attribute, drop_unused

__all__ = ["quantise_text_encoder"]

_SMALLEST = 4096
"""Entries below which a matrix stays as it is."""


def quantise_text_encoder(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with int8 weights (a factor for each output) and int8 embeddings (one for each row).

    Args:
        model: float32 weights (`restore_floats`); a table that is int8 already stays so.
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    structure = Structure(quantised)
    first: list[onnx.NodeProto] = []
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    # A column of factors, of rows that are int8 already, is no table.
    tables = {
        weight.name: weight
        for weight in quantised.graph.initializer
        if weight.data_type in _FLOATS and len(weight.dims) == 2 and weight.dims[1] > 1
    }
    for node in quantised.graph.node:
        copied = onnx.NodeProto.FromString(node.SerializeToString())
        nodes.append(copied)
        if structure.is_weighted(node):
            name = node.input[1]
            values = structure.weights[name]
            if values.size >= _SMALLEST:
                copied.input[1] = f"{name}_restored"
                if name not in done:
                    transposed = node.op_type == "Conv" or attribute(node, "transB", 0)
                    first += _weights(quantised, name, values, 0 if transposed else values.ndim - 1)
                    done.add(name)
        elif node.op_type == "Gather" and node.input[0] in tables and not attribute(node, "axis", 0):
            table = tables[node.input[0]]
            if np.prod(table.dims) >= _SMALLEST:
                nodes += _rows(quantised, copied, numpy_helper.to_array(table), table.name in done)
                done.add(table.name)
    del quantised.graph.node[:]
    quantised.graph.node.extend(first + nodes)
    drop_unused(quantised)
    del quantised.graph.value_info[:]
    quantised = onnx.shape_inference.infer_shapes(
        quantised, check_type=True, strict_mode=True, data_prop=True
    )
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def _weights(
    model: onnx.ModelProto, name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], axis: int
) -> list[onnx.NodeProto]:
    """Store weights as int8 with factors; the nodes that restore them."""
    rest = tuple(n for n in range(values.ndim) if n != axis)
    factors = np.maximum(np.abs(values).max(rest, keepdims=True) / 127, 1e-12).astype(np.float32)
    whole = np.rint(values / factors).clip(-127, 127).astype(np.int8)
    model.graph.initializer.extend(
        [numpy_helper.from_array(whole, f"{name}_q"), numpy_helper.from_array(factors, f"{name}_factors")]
    )
    return [
        helper.make_node("Cast", [f"{name}_q"], [f"{name}_whole"], name=f"{name}_cast", to=TensorProto.FLOAT),
        helper.make_node(
            "Mul", [f"{name}_whole", f"{name}_factors"], [f"{name}_restored"], name=f"{name}_restore"
        ),
    ]


def _rows(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    table: np.ndarray[tuple[int, ...], np.dtype[np.floating]],
    known: bool,
) -> list[onnx.NodeProto]:
    """Store a table as int8 rows with factors and point its look-up to them; the nodes behind it."""
    name, result, ids = node.input[0], node.output[0], node.input[1]
    half = table.dtype == np.float16
    if not known:
        values = table.astype(np.float32)
        factors = np.maximum(np.abs(values).max(-1, keepdims=True) / 127, 1e-12)
        whole = np.rint(values / factors).clip(-127, 127).astype(np.int8)
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(whole, f"{name}_q"),
                numpy_helper.from_array(factors.astype(np.float32), f"{name}_factors"),
            ]
        )
    node.input[0], node.output[0] = f"{name}_q", f"{result}_q"
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    behind = [
        helper.make_node(
            "Gather", [f"{name}_factors", ids], [f"{result}_factor"], name=f"{result}_factor", axis=0
        ),
        helper.make_node(
            "Cast", [f"{result}_q"], [f"{result}_whole"], name=f"{result}_whole", to=TensorProto.FLOAT
        ),
        helper.make_node(
            "Mul", [f"{result}_whole", f"{result}_factor"], [f"{result}_float" if half else result],
            name=f"{result}_product",
        ),
    ]  # fmt: skip
    if half:
        behind.append(helper.make_node("Cast", [f"{result}_float"], [result], name=f"{result}_cast", to=kind))
    return behind
