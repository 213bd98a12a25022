"""Half precision: float16 between the first and the last layer, float32 at both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from salgan_edge.export.layers import Structure, drop_unused, floats

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["LARGEST", "to_half"]

LARGEST = 65504.0 / 8
"""Measured magnitude above which a tensor stays float32: an eighth of the largest float16."""

_FLOAT_OPERATORS = frozenset({"Resize", "Range", "CumSum", "TopK", "ConstantOfShape"})
"""Not in half: kernels for float16 are missing in some execution providers."""


def to_half(model: onnx.ModelProto, large: Collection[str] = ()) -> onnx.ModelProto:
    """A copy that computes inner layers in float16; inputs and outputs keep their types.

    onnxruntime has a converter of its own (``onnxruntime.transformers.float16``). It leaves nodes out
    of order, which the checker of ONNX refuses, and knows nothing of what to keep at the ends.

    Args:
        model: float32 weights (`restore_floats`).
        large: tensors whose values would overflow; their nodes stay in float32.
    """
    half = _Halver(model, large).convert()
    half = onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(half, full_check=True)
    return half


class _Halver:
    """Rewrites one graph, node by node."""

    def __init__(self, model: onnx.ModelProto, large: Collection[str]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._structure = Structure(self._model)
        self._floats = floats(self._model)
        self._large = set(large)
        self._last = _last_layers(self._structure)
        self._halves: set[str] = set()
        self._made: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def convert(self) -> onnx.ModelProto:
        graph = self._model.graph
        for original in graph.node:
            node = onnx.NodeProto.FromString(original.SerializeToString())
            chosen = self._is_half(node)
            for place, name in enumerate(node.input):
                if chosen and name in self._floats and name not in self._halves:
                    node.input[place] = self._cast(name, TensorProto.FLOAT16)
                # A shape has no precision.
                elif not chosen and name in self._halves and node.op_type != "Shape":
                    node.input[place] = self._cast(name, TensorProto.FLOAT)
            if chosen:
                self._halves.update(name for name in node.output if name in self._floats)
                for given in node.attribute:
                    if node.op_type == "Cast" and given.name == "to" and given.i == TensorProto.FLOAT:
                        given.i = TensorProto.FLOAT16
            self._nodes.append(node)
        del graph.node[:]
        graph.node.extend(self._nodes)
        drop_unused(self._model)
        del graph.value_info[:]
        return self._model

    def _is_half(self, node: onnx.NodeProto) -> bool:
        return (
            node.name in self._structure.inner
            and node.name not in self._last
            and node.op_type not in _FLOAT_OPERATORS
            and not self._floats.isdisjoint(node.output)
            and self._large.isdisjoint((*node.input, *node.output))
        )

    def _cast(self, name: str, kind: int) -> str:
        """Name of a tensor in another type; what makes it is added where it is not there yet."""
        wanted = f"{name}_fp16" if kind == TensorProto.FLOAT16 else f"{name}_fp32"
        if wanted in self._made:
            return wanted
        self._made.add(wanted)
        weight = self._structure.weights.get(name)
        if weight is None:
            self._nodes.append(helper.make_node("Cast", [name], [wanted], name=f"{wanted}_cast", to=kind))
        else:
            # Masks hold the least float32, which half precision would make infinite.
            values = np.clip(weight, -65504.0, 65504.0).astype(np.float16)
            self._model.graph.initializer.append(numpy_helper.from_array(values, wanted))
        return wanted


def _last_layers(structure: Structure) -> set[str]:
    """Weighted nodes behind which there is no other."""
    above: set[str] = set()
    last: set[str] = set()
    for node in reversed(structure.model.graph.node):
        reaches = bool(above.intersection(node.output))
        weighted = structure.is_weighted(node)
        if weighted and not reaches:
            last.add(node.name)
        if weighted or reaches:
            above.update(node.input)
    return last
