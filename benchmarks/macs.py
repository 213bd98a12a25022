"""How many multiplications a graph needs, and how many weights it has."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["count_macs", "count_parameters"]


def count_macs(path: Path) -> int:
    """Multiply-accumulate operations of the convolutions and matrix products of a graph.

    Dimensions that vary count as 1: one photo, one prompt. Only such products are counted whose
    operands' shapes are known, which are all but the resizing of the photo.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    shapes = {table.name: list(table.dims) for table in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = [max(1, axis.dim_value) for axis in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        result = prod(shapes.get(node.output[0], [0]))
        if node.op_type == "Conv":
            # (outputs, inputs / groups, height, width): each result sums over all but the first.
            total += result * prod(shapes[node.input[1]][1:])
        elif node.op_type in {"MatMul", "Gemm"}:
            left = shapes.get(node.input[0], [])
            transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
            total += result * (left[-2 if transposed else -1] if left else 0)
    return total


def count_parameters(path: Path) -> int:
    """Number of weights of a graph."""
    return sum(prod(table.dims) for table in onnx.load(path).graph.initializer)
