"""Questions about ONNX graphs that need neither PyTorch nor ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

__all__ = ["cut", "needed_tensors"]


def needed_tensors(graph: onnx.GraphProto, outputs: tuple[str, ...]) -> set[str]:
    """Names of all tensors that nodes compute on the way to `outputs`."""
    producers = {name: node for node in graph.node for name in node.output}
    needed: set[str] = set()
    pending = list(outputs)
    while pending:
        name = pending.pop()
        if name in producers and name not in needed:
            needed.add(name)
            pending.extend(producers[name].input)
    return needed


def cut(path: Path, outputs: tuple[str, ...], side: int) -> onnx.ModelProto:
    """A convolutional network up to some of its inner tensors, for square input of another size.

    Args:
        path: ONNX file with one input (1, channels, height, width).
        outputs: names of the tensors that become the outputs.
        side: height and width of the input in pixels.
    """
    import onnx  # noqa: PLC0415 - reading graphs is all that needs it

    model = onnx.load(path)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    del model.graph.output[:]
    del model.graph.value_info[:]
    needed = needed_tensors(model.graph, outputs)
    for node in [node for node in model.graph.node if node.output[0] not in needed]:
        model.graph.node.remove(node)
    for name in outputs:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model
